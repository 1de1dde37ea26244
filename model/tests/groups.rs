//! Groups of series that are replaced together, shown in pages.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Batch, BatchHeader, BatchKind, BatchWriter, Epoch, ExposeRequest, FamilySpec, FamilyType,
    Format, GaugeMode, GaugeWrite, Labels, Limits, Point, Registry, RegistryError, Relocate,
    Replaced, Replacement, Session, SessionOptions, Stamp,
};
use support::{TestSource, labels, page};

const EPOCH: Epoch = Epoch(7);
const GAUGE: FamilyType = FamilyType::Gauge(GaugeMode::Sum);
const COUNTER: FamilyType = FamilyType::Counter;

/// Family, labels, value.
type Sample<'a> = (&'a str, FamilyType, &'a [(&'a str, &'a str)], f64);

fn registry() -> Registry {
    Registry::new(EPOCH, Limits::default(), 0)
}

fn at(now_ms: u64) -> Stamp {
    Stamp::at(now_ms, EPOCH)
}

/// One batch for each sample.
fn batches(samples: &[Sample<'_>], ttl_ms: u64) -> Vec<Vec<u8>> {
    let encode = |(number, (name, family_type, pairs, value)): (usize, &Sample<'_>)| {
        let mut writer = BatchWriter::new();
        let family = writer.family(&FamilySpec::new(name, *family_type));
        let point = Point::Scalar(*value);
        writer.define(
            family,
            ttl_ms,
            pairs.iter().copied(),
            "",
            None,
            &point,
            None,
        );
        writer.finish(BatchHeader {
            kind: if number == 0 {
                BatchKind::Full { forgotten_seq: 0 }
            } else {
                BatchKind::More
            },
            last: number + 1 == samples.len(),
            ..BatchHeader::FULL
        })
    };
    samples.iter().enumerate().map(encode).collect()
}

struct Group {
    labels: Labels,
    keeps_others: bool,
    ttl_ms: u64,
}

impl Group {
    fn of(pairs: &[(&str, &str)]) -> Self {
        Self {
            labels: labels(pairs),
            keeps_others: false,
            ttl_ms: 0,
        }
    }

    fn replace(
        &self,
        registry: &mut Registry,
        now_ms: u64,
        samples: &[Sample<'_>],
    ) -> Result<Replaced, RegistryError> {
        let bytes = batches(samples, self.ttl_ms);
        let batches: Vec<_> = bytes
            .iter()
            .map(|bytes| Batch::decode(bytes).unwrap())
            .collect();
        let before = registry.encode_snapshot();
        let replacement = Replacement {
            group: &self.labels,
            batches: &batches,
            keeps_others: self.keeps_others,
        };
        let checked = registry.check_group(&at(now_ms), &replacement);
        assert_eq!(
            registry.encode_snapshot(),
            before,
            "a check changes nothing"
        );
        let done = registry.replace_group(&at(now_ms), &replacement);
        let words = |error: &RegistryError| error.to_string();
        assert_eq!(
            checked.as_ref().map_err(words),
            done.as_ref().map_err(words)
        );
        if done.is_err() {
            assert_eq!(
                registry.encode_snapshot(),
                before,
                "a refusal changes nothing"
            );
        }
        let copy = Registry::decode_snapshot(&registry.encode_snapshot()).unwrap();
        assert_eq!(page(&copy, now_ms), page(registry, now_ms));
        assert_eq!(copy.encode_snapshot(), registry.encode_snapshot());
        done
    }
}

fn group_count(registry: &Registry) -> String {
    let info = registry.info(0);
    let groups = info.into_iter().find(|(name, _)| *name == "groups");
    groups.unwrap().1
}

#[test]
fn a_group_is_replaced_and_no_other() {
    let mut registry = registry();
    let (job, instance) = ([("job", "j")], [("instance", "a"), ("job", "j")]);
    let (one, two) = (Group::of(&job), Group::of(&instance));
    registry
        .inc(&at(1), "kept", &labels(&job), 5.0, None)
        .unwrap();
    for value in [3.0, 3.0, 1.0] {
        let samples = [
            ("http.requests_total", COUNTER, &job[..], value),
            ("since", GAUGE, &job[..], value),
        ];
        let done = one.replace(&mut registry, 2, &samples).unwrap();
        assert_eq!(done.series, 2);
        let other = [("since", GAUGE, &instance[..], 10.0 + value)];
        two.replace(&mut registry, 3, &other).unwrap();
        assert_eq!(
            page(&registry, 3),
            format!(
                "# TYPE http_requests_total counter\nhttp_requests_total{{job=\"j\"}} {value}\n\
                 # TYPE kept_total counter\nkept_total{{job=\"j\"}} 5\n\
                 # TYPE since gauge\nsince{{job=\"j\"}} {value}\n\
                 since{{instance=\"a\",job=\"j\"}} {}\n",
                10.0 + value
            )
        );
    }
    assert_eq!(group_count(&registry), "2");
    let done = one.replace(&mut registry, 4, &[]).unwrap();
    assert_eq!(
        done,
        Replaced {
            series: 0,
            removed: 2
        }
    );
    assert_eq!(
        page(&registry, 4),
        "# TYPE kept_total counter\nkept_total{job=\"j\"} 5\n\
         # TYPE since gauge\nsince{instance=\"a\",job=\"j\"} 11\n"
    );
    assert_eq!(group_count(&registry), "1");
}

#[test]
fn a_series_of_others_is_refused_whole_and_named() {
    let mut registry = registry();
    let job = [("job", "j")];
    let group = Group::of(&job);
    registry
        .inc(&at(1), "rows", &labels(&job), 5.0, None)
        .unwrap();
    let samples = [
        ("new", GAUGE, &job[..], 1.0),
        ("rows", COUNTER, &job[..], 2.0),
    ];
    let refused = group.replace(&mut registry, 2, &samples).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "series rows{job=\"j\"} belongs to an application, or was written by hand"
    );
    let wide = [("instance", "a"), ("job", "j")];
    Group::of(&wide)
        .replace(&mut registry, 3, &[("x", GAUGE, &wide, 1.0)])
        .unwrap();
    let refused = group.replace(&mut registry, 4, &[("x", GAUGE, &wide, 1.0)]);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "series x{instance=\"a\",job=\"j\"} belongs to the pushed group {instance=\"a\",job=\"j\"}"
    );
    // After its deletion the series has no owner.
    assert_eq!(registry.del(&at(5), "rows", Some(&labels(&job))), 1);
    group.replace(&mut registry, 6, &samples).unwrap();
}

#[test]
fn no_command_or_batch_adds_to_a_groups_series() {
    let mut registry = registry();
    let job = [("job", "j")];
    let group = Group::of(&job);
    let samples = [
        ("rows", COUNTER, &job[..], 2.0),
        ("x", GAUGE, &job[..], 3.0),
    ];
    group.replace(&mut registry, 1, &samples).unwrap();
    let before = page(&registry, 2);
    let refused = registry.inc(&at(2), "rows", &labels(&job), 1.0, None);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "series rows{job=\"j\"} belongs to the pushed group {job=\"j\"}"
    );
    let write = GaugeWrite {
        family: "x",
        labels: &labels(&job),
        value: 1.0,
        mode: None,
        writer: b"hand",
        lease_ms: None,
        ttl_ms: None,
    };
    registry.set(&at(2), &write).unwrap_err();
    let mut source = TestSource::default();
    source.add("rows", COUNTER, &job, Point::Scalar(7.0));
    source.add("rows", COUNTER, &[], Point::Scalar(8.0));
    let mut session = session();
    let left_out = flush(&mut registry, &mut session, &source, 3);
    assert_eq!(left_out, 1);
    let after = before.replace(
        "rows_total{job=\"j\"} 2\n",
        "rows_total{job=\"j\"} 2\nrows_total 8\n",
    );
    assert!(page(&registry, 4).starts_with(&after));
}

/// The writer's memory of a deleted series outlives the series, and must not write to a group's.
#[test]
fn a_writer_that_comes_back_does_not_write_into_a_group() {
    let mut registry = registry();
    let job = [("job", "j")];
    let mut source = TestSource::default();
    let rows = source.add("rows", COUNTER, &job, Point::Scalar(7.0));
    source.add("alive", COUNTER, &[], Point::Scalar(1.0));
    let mut session = session();
    flush(&mut registry, &mut session, &source, 1);
    registry.del(&at(2), "rows", Some(&labels(&job)));
    let group = Group::of(&job);
    let samples = [("rows", COUNTER, &job[..], 2.0)];
    // Its owner is alive, and may continue.
    group.replace(&mut registry, 3, &samples).unwrap_err();
    // It is silent for longer than its lease.
    registry
        .inc(&at(50_000), "other", &Labels::none(), 1.0, None)
        .unwrap();
    group.replace(&mut registry, 50_001, &samples).unwrap();
    source.set(rows, 9.0);
    flush(&mut registry, &mut session, &source, 50_002);
    source.set(rows, 11.0);
    flush(&mut registry, &mut session, &source, 50_003);
    let text = page(&registry, 50_004);
    assert!(text.contains("rows_total{job=\"j\"} 2\n"), "{text}");
    assert!(text.contains("alive_total 1\n"), "{text}");
}

#[test]
fn a_family_changes_its_type_with_its_only_owner() {
    let mut registry = registry();
    let job = [("job", "j")];
    let mut group = Group::of(&job);
    for keeps_others in [false, true] {
        group.keeps_others = keeps_others;
        group
            .replace(&mut registry, 1, &[("rows_total", GAUGE, &job, 1.0)])
            .unwrap();
        group
            .replace(&mut registry, 2, &[("rows", COUNTER, &job, 2.0)])
            .unwrap();
        assert_eq!(
            page(&registry, 2),
            "# TYPE rows_total counter\nrows_total{job=\"j\"} 2\n"
        );
    }
    registry
        .inc(&at(3), "rows", &Labels::none(), 1.0, None)
        .unwrap();
    let refused = group.replace(&mut registry, 4, &[("rows", GAUGE, &job, 1.0)]);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "family 'rows' is a counter, not a gauge in mode sum; 'rows' is not this group's alone: give the group's family another name or that type, or remove 'rows' with METRICS.DEL if nothing needs it any more"
    );
}

#[test]
fn a_groups_gauge_is_shown_in_a_family_of_any_mode() {
    for mode in [
        GaugeMode::All,
        GaugeMode::LiveMax,
        GaugeMode::MostRecent,
        GaugeMode::Min,
    ] {
        let mut registry = registry();
        let mut source = TestSource::with_pid("1");
        let point = match mode {
            GaugeMode::MostRecent => Point::Timed {
                value: 4.0,
                time: 1.0,
            },
            _ => Point::Scalar(4.0),
        };
        source.add("depth", FamilyType::Gauge(mode), &[], point);
        flush(&mut registry, &mut session(), &source, 1);
        let job = [("job", "j")];
        Group::of(&job)
            .replace(&mut registry, 2, &[("depth", GAUGE, &job, 5.0)])
            .unwrap();
        let text = page(&registry, 3);
        assert!(text.contains("depth{job=\"j\"} 5\n"), "{text}");
    }
}

#[test]
fn others_stay_when_they_are_kept() {
    let mut registry = registry();
    let job = [("job", "j")];
    let mut group = Group::of(&job);
    let both = [("a", GAUGE, &job[..], 1.0), ("b", GAUGE, &job[..], 2.0)];
    group.replace(&mut registry, 1, &both).unwrap();
    group.keeps_others = true;
    let done = group
        .replace(
            &mut registry,
            2,
            &[("a", GAUGE, &[("job", "j"), ("n", "1")], 3.0)],
        )
        .unwrap();
    assert_eq!(
        done,
        Replaced {
            series: 1,
            removed: 1
        }
    );
    assert_eq!(
        page(&registry, 2),
        "# TYPE a gauge\na{job=\"j\",n=\"1\"} 3\n# TYPE b gauge\nb{job=\"j\"} 2\n"
    );
}

/// A job whose runs have names and a TTL.
#[test]
fn a_group_that_has_expired_leaves_nothing() {
    let mut registry = registry();
    let mut largest = 0;
    for run in 0..300_u64 {
        let text = run.to_string();
        let pairs = [("job", "j"), ("run", &*text)];
        let mut group = Group::of(&pairs);
        group.ttl_ms = 60_000;
        group
            .replace(&mut registry, run * 60_000, &[("x", GAUGE, &pairs, 1.0)])
            .unwrap();
        if run == 10 {
            largest = registry.encode_snapshot().len();
        }
    }
    assert!(registry.encode_snapshot().len() <= largest + 20);
    assert!(group_count(&registry).parse::<u32>().unwrap() <= 3);
}

#[test]
fn limits_are_checked_before_anything_is_done() {
    let limits = Limits {
        max_series: 3,
        ..Limits::default()
    };
    let mut registry = Registry::new(EPOCH, limits, 0);
    let job = [("job", "j")];
    let group = Group::of(&job);
    let three = [
        ("a", GAUGE, &job[..], 1.0),
        ("b", GAUGE, &job[..], 1.0),
        ("c", GAUGE, &job[..], 1.0),
    ];
    group.replace(&mut registry, 1, &three).unwrap();
    // The removed series free the space for the new ones.
    let others = [
        ("d", GAUGE, &job[..], 1.0),
        ("e", GAUGE, &job[..], 1.0),
        ("c", GAUGE, &job[..], 1.0),
    ];
    group.replace(&mut registry, 2, &others).unwrap();
    let four = [others[0], others[1], others[2], three[0]];
    let refused = group.replace(&mut registry, 3, &four);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "1 new series, and metrics.max-series leaves room for 0"
    );
    let twice = [three[0], three[0]];
    let refused = group.replace(&mut registry, 3, &twice);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "series a{job=\"j\"} is defined twice"
    );
}

fn session() -> Session {
    let options = SessionOptions {
        registry_ttl_ms: 0,
        tombstone_retention_ms: 604_800_000,
    };
    Session::new(b"w".to_vec(), options)
}

/// Sends everything that is new; returns how many entries were left out.
fn flush(registry: &mut Registry, session: &mut Session, source: &TestSource, now_ms: u64) -> u64 {
    let mut left_out = 0;
    while let Some(push) = session.next(source, now_ms) {
        let batch = Batch::decode(&push.batch).unwrap();
        let writer = session.writer().to_vec();
        let reply = registry.push(&at(now_ms), &writer, push.seq, push.epoch, 15_000, &batch);
        left_out += reply.left_out;
        session.on_reply(&reply, now_ms);
    }
    left_out
}

/// `OpenMetrics` 1.0.0 reserves `x_created` for the start times of a counter `x`: there the counter
/// has unknown type. In every format both have their values.
#[test]
fn a_gauge_may_be_called_as_a_counters_start_time() {
    let mut registry = registry();
    let job = [("job", "j")];
    let samples = [
        ("x", COUNTER, &job[..], 3.0),
        ("x_created", GAUGE, &job[..], 7.0),
    ];
    Group::of(&job).replace(&mut registry, 1, &samples).unwrap();
    let rendered = |format| {
        let request = ExposeRequest {
            format,
            created: true,
            ..ExposeRequest::default()
        };
        let page = registry.expose(2, &request).unwrap();
        String::from_utf8(page.body).unwrap()
    };
    assert_eq!(
        rendered(Format::Text),
        "# TYPE x_total counter\nx_total{job=\"j\"} 3\n\
         # TYPE x_created gauge\nx_created{job=\"j\"} 7\n"
    );
    assert_eq!(
        rendered(Format::OpenMetrics),
        "# TYPE x_total unknown\nx_total{job=\"j\"} 3\n\
         # TYPE x_created gauge\nx_created{job=\"j\"} 7\n# EOF\n"
    );
}

/// Version 1 had no groups: its bytes end before them.
#[test]
fn a_snapshot_of_the_version_before_is_read() {
    let mut registry = registry();
    registry
        .inc(&at(1), "rows", &Labels::none(), 5.0, None)
        .unwrap();
    let mut bytes = registry.encode_snapshot();
    assert_eq!(bytes[0], 8);
    // Of version 2: nothing of who holds a declaration, at the end and in a family; no TTLs of whole families, at the end, in a family and before a series' value; no tombstones, what batches of their writers left out, and records of writers that
    // are gone, before exemplars and groups; no deadline of a series, before its other seven numbers; no
    // clock of leases, before its queue.
    assert_eq!(bytes.split_off(bytes.len() - 8), [0; 8]);
    bytes.extend([0; 2]);
    let value = 5_f64.to_le_bytes();
    let place = bytes.windows(8).position(|part| part == value).unwrap();
    assert_eq!(bytes.remove(place - 2), 0);
    assert_eq!(
        bytes.drain(place - 10..place - 8).collect::<Vec<_>>(),
        [0; 2]
    );
    let family = bytes.windows(4).position(|part| part == b"rows").unwrap() + 15;
    assert_eq!(bytes.drain(family..family + 3).collect::<Vec<_>>(), [0; 3]);
    let holders = bytes.drain(family..family + 6).collect::<Vec<_>>();
    assert_eq!(holders, [1, 0, 0, 0, 0, 0]);
    assert_eq!(bytes.drain(31..35).collect::<Vec<_>>(), [0; 4]);
    for version in [2, 1] {
        bytes[0] = version;
        let mut read = Registry::decode_snapshot(&bytes).unwrap();
        // The next command notes again that it was written by hand.
        read.inc(&at(1), "rows", &Labels::none(), 0.0, None)
            .unwrap();
        assert_eq!(read.encode_snapshot(), registry.encode_snapshot());
        // Version 1 has no groups.
        assert_eq!(bytes.pop(), Some(0));
    }
}

/// Gives each piece of memory another address, and counts the pieces.
#[derive(Default)]
struct Mover {
    texts: usize,
    ids: usize,
    stops: usize,
}

impl Relocate for Mover {
    fn text(&mut self, text: &mut Box<str>) {
        *text = text.to_owned();
        self.texts += 1;
    }

    fn boxed<T>(&mut self, _boxed: &mut Box<T>) {}

    fn slice<T>(&mut self, _slice: &mut Box<[T]>) {}

    fn vector<T>(&mut self, vector: &mut Vec<T>) {
        let mut moved = Vec::with_capacity(vector.len());
        moved.append(vector);
        if size_of::<T>() == size_of::<u32>() {
            self.ids += moved.len();
        }
        *vector = moved;
    }

    fn should_stop(&mut self) -> bool {
        self.stops += 1;
        true
    }
}

#[test]
fn the_labels_and_series_of_groups_are_moved() {
    let mut registry = registry();
    let numbers: Vec<String> = (0..700).map(|number| number.to_string()).collect();
    for job in ["a", "b", "c"] {
        let pairs: Vec<_> = numbers.iter().map(|n| [("job", job), ("n", n)]).collect();
        let samples: Vec<Sample<'_>> = pairs.iter().map(|of| ("x", GAUGE, &of[..], 1.0)).collect();
        let group = Group::of(&[("job", job)]);
        group.replace(&mut registry, 1, &samples).unwrap();
    }
    let before = registry.encode_snapshot();
    let mut mover = Mover::default();
    let mut from = Some(0);
    while let Some(at) = from {
        from = registry.relocate(at, &mut mover);
    }
    // The labels of each series once, those of each group twice; each set whole.
    assert_eq!((mover.texts, mover.ids), (2_100 + 6, 2_100));
    assert!(mover.stops > 3, "{}", mover.stops);
    assert_eq!(registry.encode_snapshot(), before);
    let removed = Group::of(&[("job", "b")]).replace(&mut registry, 2, &[]);
    assert_eq!(removed.unwrap().removed, 700);
}

//! What ends by time: compares the registry with a slow model that takes every step at its own
//! moment.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Aggregate, Batch, Epoch, FamilyType, Labels, Limits, Point, PushStatus, Registry, Session,
    SessionOptions, Stamp,
};
use proptest::prelude::*;
use support::{TestSource, labels};

const EPOCH: Epoch = Epoch(7);
const LEASE_MS: u64 = 15_000;
const RETENTION_MS: u64 = 60_000;
const SERIES: usize = 3;
/// TTLs; the first never expires.
const TTLS_MS: [u64; SERIES] = [0, 3_000, 20_000];

#[derive(Debug, Clone)]
enum Deed {
    Count {
        writer: usize,
        series: usize,
    },
    Heartbeat {
        writer: usize,
    },
    Retire {
        writer: usize,
        series: usize,
    },
    Leave {
        writer: usize,
    },
    Inc {
        series: usize,
    },
    Delete {
        series: usize,
    },
    DeleteAll,
    /// Not in the slow model: later definitions set TTLs again.
    Ttl {
        series: Option<usize>,
        ttl_ms: u64,
    },
    Wait {
        ms: u64,
    },
}

fn deed(writers: usize) -> impl Strategy<Value = Deed> {
    let (writer, series) = (0..writers, 0..SERIES);
    prop_oneof![
        8 => (writer.clone(), series.clone()).prop_map(|(writer, series)| Deed::Count { writer, series }),
        6 => writer.clone().prop_map(|writer| Deed::Heartbeat { writer }),
        1 => (writer.clone(), series.clone()).prop_map(|(writer, series)| Deed::Retire { writer, series }),
        1 => writer.prop_map(|writer| Deed::Leave { writer }),
        2 => series.clone().prop_map(|series| Deed::Inc { series }),
        1 => series.prop_map(|series| Deed::Delete { series }),
        1 => Just(Deed::DeleteAll),
        8 => prop_oneof![
            Just(1), Just(999), Just(3_000), 1_u64..20_000, 15_000_u64..40_000, Just(80_000)
        ].prop_map(|ms| Deed::Wait { ms }),
    ]
}

/// Also changes TTLs.
fn deed_or_ttl(writers: usize) -> impl Strategy<Value = Deed> {
    let ttl_ms = prop_oneof![Just(0), Just(1), Just(3_000), 1_u64..40_000, Just(1 << 40)];
    prop_oneof![
        6 => deed(writers),
        1 => (prop::option::of(0..SERIES), ttl_ms)
            .prop_map(|(series, ttl_ms)| Deed::Ttl { series, ttl_ms }),
    ]
}

/// A total in the slow model.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Total {
    value: f64,
    idle_since_ms: u64,
}

#[derive(Debug, Clone, Default)]
struct SlowWriter {
    lease_end_ms: Option<u64>,
    forgotten_ms: Option<u64>,
    /// The series that it has written and not given up.
    writes: [bool; SERIES],
}

/// Takes every step at its own moment.
#[derive(Debug, Default)]
struct Slow {
    totals: [Option<Total>; SERIES],
    writers: Vec<SlowWriter>,
}

impl Slow {
    fn advance(&mut self, now_ms: u64) {
        loop {
            let leases = self.writers.iter().filter_map(|writer| writer.lease_end_ms);
            let deadlines = (0..SERIES).filter_map(|series| self.deadline_ms(series));
            let Some(at_ms) = leases
                .chain(deadlines)
                .min()
                .filter(|at_ms| *at_ms <= now_ms)
            else {
                return;
            };
            for number in 0..self.writers.len() {
                if self.writers[number].lease_end_ms == Some(at_ms) {
                    self.end(number, at_ms);
                    self.writers[number].forgotten_ms = Some(at_ms + RETENTION_MS);
                }
            }
            for series in 0..SERIES {
                if self
                    .deadline_ms(series)
                    .is_some_and(|end_ms| end_ms <= at_ms)
                {
                    self.totals[series] = None;
                }
            }
        }
    }

    fn deadline_ms(&self, series: usize) -> Option<u64> {
        let owns = |writer: &SlowWriter| writer.lease_end_ms.is_some() && writer.writes[series];
        let total = self.totals[series]?;
        let is_idle = TTLS_MS[series] > 0 && !self.writers.iter().any(owns);
        is_idle.then_some(total.idle_since_ms + TTLS_MS[series])
    }

    fn end(&mut self, writer: usize, at_ms: u64) {
        self.writers[writer].lease_end_ms = None;
        for series in 0..SERIES {
            if self.writers[writer].writes[series] {
                self.disown(series, at_ms);
            }
        }
    }

    fn disown(&mut self, series: usize, at_ms: u64) {
        if let Some(total) = &mut self.totals[series] {
            total.idle_since_ms = total.idle_since_ms.max(at_ms);
        }
    }

    fn add(&mut self, series: usize, by: f64, now_ms: u64) {
        let value = self.totals[series].map_or(0.0, |total| total.value) + by;
        self.totals[series] = Some(Total {
            value,
            idle_since_ms: now_ms,
        });
    }

    /// Notes a message of a writer; true if it is a full state.
    fn hear(&mut self, writer: usize, now_ms: u64) {
        let writer = &mut self.writers[writer];
        writer.lease_end_ms = Some(now_ms + LEASE_MS);
        writer.forgotten_ms = None;
    }
}

struct Writer {
    source: TestSource,
    session: Session,
    /// The number of each series in the source.
    numbers: [Option<usize>; SERIES],
}

/// Sends the same commands to three registries: one that gets nothing else, one that settles all
/// the time, and one that is saved and loaded all the time.
struct World {
    registries: [Registry; 3],
    slow: Slow,
    writers: Vec<Writer>,
    now_ms: u64,
    next_id: u64,
}

impl World {
    fn new(writers: usize) -> Self {
        let limits = Limits {
            writer_retention_ms: RETENTION_MS,
            ..Limits::default()
        };
        let mut world = Self {
            registries: [(); 3].map(|()| Registry::new(EPOCH, limits, 0)),
            slow: Slow::default(),
            writers: Vec::new(),
            now_ms: 1_000_000,
            next_id: 0,
        };
        world.slow.writers = vec![SlowWriter::default(); writers];
        world.writers = (0..writers).map(|_| world.writer()).collect();
        world
    }

    fn writer(&mut self) -> Writer {
        self.next_id += 1;
        let options = SessionOptions {
            registry_ttl_ms: 0,
            tombstone_retention_ms: 604_800_000,
        };
        Writer {
            source: TestSource::default(),
            session: Session::new(format!("writer {}", self.next_id).into_bytes(), options),
            numbers: [None; SERIES],
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp::at(self.now_ms, EPOCH)
    }

    /// Sends everything that is new, or a heartbeat.
    fn flush(&mut self, number: usize) {
        let stamp = self.stamp();
        let Writer {
            source, session, ..
        } = &mut self.writers[number];
        let mut push = session.heartbeat(source, self.now_ms);
        while let Some(sent) = push {
            let batch = Batch::decode(&sent.batch).unwrap();
            let id = session.writer().to_vec();
            let replies = self
                .registries
                .each_mut()
                .map(|registry| registry.push(&stamp, &id, sent.seq, sent.epoch, LEASE_MS, &batch));
            assert_eq!(replies[0], replies[1]);
            assert_eq!(replies[0], replies[2]);
            session.on_reply(&replies[0], self.now_ms);
            push = session.next(source, self.now_ms);
        }
        self.slow.advance(self.now_ms);
        let forgotten_ms = self.slow.writers[number].forgotten_ms;
        if forgotten_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
            // It sends its full state.
            for series in 0..SERIES {
                if self.slow.writers[number].writes[series] {
                    self.slow.add(series, 0.0, self.now_ms);
                }
            }
        }
        self.slow.hear(number, self.now_ms);
    }

    fn count(&mut self, number: usize, series: usize) {
        let writer = &mut self.writers[number];
        let at = *writer.numbers[series].get_or_insert_with(|| {
            let label = series.to_string();
            let pairs = [("n", label.as_str())];
            writer
                .source
                .add("c", FamilyType::Counter, &pairs, Point::Scalar(0.0))
        });
        writer.source.series[at].ttl_ms = TTLS_MS[series];
        writer.source.series[at].is_retired = false;
        let value = writer.source.scalar(at);
        writer.source.set(at, value + 1.0);
        self.flush(number);
        self.slow.writers[number].writes[series] = true;
        self.slow.add(series, 1.0, self.now_ms);
    }

    fn leave(&mut self, number: usize) {
        self.flush(number);
        let stamp = self.stamp();
        let session = &mut self.writers[number].session;
        let id = session.writer().to_vec();
        for registry in &mut self.registries {
            // `None`: no registry has heard of it.
            let Some((seq, epoch)) = session.leave() else {
                continue;
            };
            let reply = registry.leave(&stamp, &id, seq, epoch);
            assert_eq!(reply.status, PushStatus::Ok);
            let again = registry.leave(&stamp, &id, seq, epoch);
            assert_eq!(again.status, PushStatus::Gone);
        }
        self.slow.end(number, self.now_ms);
        self.slow.writers[number] = SlowWriter::default();
        self.writers[number] = self.writer();
    }

    fn take(&mut self, deed: &Deed) {
        self.slow.advance(self.now_ms);
        let stamp = self.stamp();
        match *deed {
            Deed::Count { writer, series } => self.count(writer, series),
            Deed::Heartbeat { writer } => self.flush(writer),
            Deed::Retire { writer, series } => {
                if let Some(at) = self.writers[writer].numbers[series] {
                    self.writers[writer].source.series[at].is_retired = true;
                    let slow = &mut self.slow.writers[writer];
                    let is_forgotten = slow.forgotten_ms.is_some_and(|ms| ms <= self.now_ms);
                    let was_its_own = slow.writes[series] && !is_forgotten;
                    slow.writes[series] &= was_its_own;
                    self.flush(writer);
                    self.slow.writers[writer].writes[series] = false;
                    if was_its_own {
                        self.slow.disown(series, self.now_ms);
                    }
                }
            }
            Deed::Leave { writer } => self.leave(writer),
            Deed::Inc { series } => {
                let ttl_ms = Some(TTLS_MS[series]);
                for registry in &mut self.registries {
                    let labels = labels_of(series);
                    registry.inc(&stamp, "c", &labels, 1.0, ttl_ms).unwrap();
                }
                self.slow.add(series, 1.0, self.now_ms);
            }
            Deed::Delete { series } => {
                for registry in &mut self.registries {
                    registry.del(&stamp, "c", Some(&labels_of(series)));
                }
                self.slow.totals[series] = None;
            }
            Deed::DeleteAll => {
                for registry in &mut self.registries {
                    registry.del(&stamp, "c", None);
                }
                self.slow.totals = [None; SERIES];
            }
            Deed::Ttl { series, ttl_ms } => {
                let labels = series.map(labels_of);
                let touched = self
                    .registries
                    .each_mut()
                    .map(|registry| registry.set_ttl(&stamp, "c", labels.as_ref(), ttl_ms));
                assert_eq!(touched, [touched[0]; 3]);
            }
            Deed::Wait { ms } => self.now_ms += ms,
        }
        self.slow.advance(self.now_ms);
        let stamp = self.stamp();
        self.registries[1].settle(&stamp);
        let snapshot = self.registries[2].encode_snapshot();
        self.registries[2] = Registry::decode_snapshot(&snapshot).unwrap();
        assert_eq!(self.registries[2].encode_snapshot(), snapshot);
    }

    fn shown(&self, registry: &Registry, series: usize) -> Option<f64> {
        match registry.get(self.now_ms, "c", &labels_of(series)) {
            Some(Aggregate::Number(number)) => Some(number),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    fn series_counted(&self, registry: &Registry) -> usize {
        let info = registry.info(self.now_ms);
        let (_, count) = info.iter().find(|(name, _)| *name == "series").unwrap();
        count.parse().unwrap()
    }
}

fn labels_of(series: usize) -> Labels {
    labels(&[("n", &series.to_string())])
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: cases.and_then(|cases| cases.parse().ok()).unwrap_or(1000),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn with_few_writers_every_step_acts_as_of_its_own_moment(
        deeds in prop::collection::vec(deed(3), 1..60),
    ) {
        let mut world = World::new(3);
        for deed in deeds {
            world.take(&deed);
            let expected = world.slow.totals.map(|total| total.map(|total| total.value));
            for (at, registry) in world.registries.iter().enumerate() {
                let shown = [0, 1, 2].map(|series| world.shown(registry, series));
                prop_assert_eq!(shown, expected, "registry {} after {:?}", at, deed);
            }
            let count = expected.iter().flatten().count();
            prop_assert_eq!(world.series_counted(&world.registries[1]), count);
        }
        // A copy continues exactly like the original.
        prop_assert_eq!(
            world.registries[0].encode_snapshot(),
            world.registries[2].encode_snapshot()
        );
    }

    #[test]
    fn the_moment_when_a_ttl_change_is_settled_makes_no_difference(
        deeds in prop::collection::vec(deed_or_ttl(3), 1..60),
    ) {
        let mut world = World::new(3);
        for deed in deeds {
            world.take(&deed);
            let [as_it_comes, settled, copied] = &world.registries;
            for series in 0..SERIES {
                let expected = world.shown(settled, series);
                prop_assert_eq!(world.shown(as_it_comes, series), expected, "after {:?}", deed);
                prop_assert_eq!(world.shown(copied, series), expected, "after {:?}", deed);
            }
        }
        let [as_it_comes, _, copied] = &world.registries;
        prop_assert!(as_it_comes.encode_snapshot() == copied.encode_snapshot());
    }

    #[test]
    fn with_many_writers_no_series_is_hidden_too_early_and_shown_ones_continue(
        deeds in prop::collection::vec(deed(30), 1..120),
    ) {
        let mut world = World::new(30);
        for writer in 0..30 {
            world.count(writer, writer % SERIES);
        }
        for deed in deeds {
            world.take(&deed);
            for registry in &world.registries {
                for series in 0..SERIES {
                    let shown = world.shown(registry, series);
                    if let Some(total) = world.slow.totals[series] {
                        prop_assert!(shown >= Some(total.value), "{:?} after {:?}", shown, deed);
                    }
                }
            }
        }
    }
}

//! Left-out values are not acknowledged, and are sent until they are accepted.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Batch, BatchKind, Epoch, FamilyType, GaugeMode, Limits, Outcome, Point, Push, PushReply,
    PushStatus, Registry, RegistryError, Session, SessionOptions, SourceExemplar,
};
use support::{TestSource, labels, page};

const OPTIONS: SessionOptions = SessionOptions {
    registry_ttl_ms: 0,
    tombstone_retention_ms: 604_800_000,
};

/// A registry with its limits, and a writer of `c{n="0"}`, `c{n="1"}`, …
struct Pair {
    registry: Registry,
    limits: Limits,
    is_full: bool,
    session: Session,
    source: TestSource,
    now_ms: u64,
}

impl Pair {
    fn new(counters: usize) -> Self {
        let mut source = TestSource::default();
        for number in 0..counters {
            let number = number.to_string();
            let value = Point::Scalar(1.0);
            source.add("c", FamilyType::Counter, &[("n", &number)], value);
        }
        Self {
            registry: Registry::new(Epoch(1), Limits::default(), 0),
            limits: Limits::default(),
            is_full: false,
            session: Session::new(b"w".to_vec(), OPTIONS),
            source,
            now_ms: 1000,
        }
    }

    fn deliver(&mut self, push: &Push) -> PushReply {
        let stamp = self.registry.stamp(self.now_ms, &self.limits, self.is_full);
        let batch = Batch::decode(&push.batch).unwrap();
        self.registry
            .push(&stamp, b"w", push.seq, push.epoch, 15_000, &batch)
    }

    fn next(&mut self) -> Option<Push> {
        self.session.next(&self.source, self.now_ms)
    }

    /// Pushes until there is nothing to send now; returns the number of batches.
    fn settle(&mut self) -> usize {
        for count in 0..100 {
            let Some(push) = self.next() else {
                return count;
            };
            let reply = self.deliver(&push);
            assert_ne!(self.session.on_reply(&reply, self.now_ms), Outcome::Gone);
        }
        panic!("the session does not come to rest");
    }

    fn leave(&mut self) -> PushReply {
        let (seq, epoch) = self.session.leave().unwrap();
        let stamp = self.registry.stamp(self.now_ms, &self.limits, self.is_full);
        self.registry.leave(&stamp, b"w", seq, epoch)
    }

    /// Replaces the registry by an empty one, as after a loss.
    fn lose_all(&mut self) {
        self.registry = Registry::new(Epoch(2), self.limits, self.now_ms);
    }

    fn acked(&self) -> Vec<f64> {
        let acked = |number| match self.session.saved_point(number)?.acked {
            Point::Scalar(value) => Some(value),
            _ => None,
        };
        (0..self.source.series.len()).filter_map(acked).collect()
    }

    fn shown(&self, number: usize) -> f64 {
        let page = page(&self.registry, self.now_ms);
        let name = format!("c_total{{n=\"{number}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

#[test]
fn left_out_values_are_no_base_in_a_new_registry() {
    let mut pair = Pair::new(3);
    pair.limits.max_series = 2;
    pair.settle();
    assert_eq!(
        (pair.acked(), pair.session.left_out_count()),
        (vec![1.0, 1.0, 0.0], 1)
    );
    pair.lose_all();
    pair.limits = Limits::default();
    pair.source.set(0, 5.0);
    pair.settle();
    assert_eq!(
        (0..3).map(|n| pair.shown(n)).collect::<Vec<_>>(),
        [4.0, 0.0, 1.0]
    );
}

#[test]
fn a_lifted_limit_is_noticed_in_a_second() {
    let mut pair = Pair::new(1000);
    // The registry refuses this one for ever.
    let gauge = FamilyType::Gauge(GaugeMode::Max);
    pair.source.add("c", gauge, &[], Point::Scalar(1.0));
    pair.limits.max_series = 10;
    pair.settle();
    for _ in 0..100 {
        pair.now_ms += 250;
        // One series is tried each second, and an empty batch confirms what was left out of that
        // batch.
        assert!(pair.settle() <= 2);
    }
    assert_eq!(pair.session.left_out_count(), 991);

    pair.limits = Limits::default();
    for _ in 0..3 {
        pair.now_ms += 1000;
        pair.settle();
    }
    assert_eq!(pair.session.left_out_count(), 1);
    assert_eq!((0..1000).map(|n| pair.shown(n)).sum::<f64>(), 1000.0);
}

#[test]
fn a_series_goes_on_when_its_labels_become_longer_than_allowed() {
    let mut pair = Pair::new(2);
    pair.settle();
    pair.limits.max_label_bytes = 1;
    pair.source.set(0, 2.0);
    // Its successor sends the full state, in which each series is defined again.
    pair.session = Session::resume(b"w".to_vec(), OPTIONS, pair.session.saved());
    let new = [("n", "2")];
    pair.source
        .add("c", FamilyType::Counter, &new, Point::Scalar(1.0));
    pair.settle();
    assert_eq!(pair.session.left_out_count(), 1);
    assert_eq!([0, 1, 2].map(|number| pair.shown(number)), [2.0, 1.0, 0.0]);

    let stamp = pair.registry.stamp(pair.now_ms, &pair.limits, false);
    let mut inc = |n| {
        let labels = labels(&[("n", n)]);
        pair.registry.inc(&stamp, "c", &labels, 1.0, None)
    };
    assert_eq!(inc("1"), Ok(2.0));
    let refused = RegistryError::LabelBytes {
        found: 5,
        allowed: 1,
    };
    assert_eq!(inc("2"), Err(refused));
}

#[test]
fn everything_is_sent_again_every_thirty_seconds() {
    let mut pair = Pair::new(3);
    pair.limits.max_series = 2;
    pair.settle();
    let mut full_states = 0;
    for _ in 0..119 {
        pair.now_ms += 1000;
        while let Some(push) = pair.next() {
            let kind = Batch::decode(&push.batch).unwrap().header().kind;
            full_states += usize::from(matches!(kind, BatchKind::Full { .. }));
            let reply = pair.deliver(&push);
            pair.session.on_reply(&reply, pair.now_ms);
        }
    }
    assert_eq!(full_states, 3);
}

#[test]
fn a_lost_reply_is_repeated_with_what_was_left_out() {
    for (is_full, has_successor) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut pair = Pair::new(3);
        if !is_full {
            pair.settle();
        }
        let histogram = Point::Buckets {
            sum: 1.0,
            counts: vec![1, 0, 0],
        };
        pair.source
            .add("h", FamilyType::Histogram, &[], histogram.clone());
        let new = [("n", "long")];
        pair.source
            .add("c", FamilyType::Counter, &new, Point::Scalar(1.0));
        for number in 0..3 {
            pair.source.set(number, 2.0);
        }
        pair.limits.max_label_bytes = 6;
        if is_full {
            let hello = pair.next().unwrap();
            let reply = pair.deliver(&hello);
            pair.session.on_reply(&reply, pair.now_ms);
        }
        let push = pair.next().unwrap();
        pair.deliver(&push);
        if has_successor {
            pair.session = Session::resume(b"w".to_vec(), OPTIONS, pair.session.saved());
        }
        let again = pair.next().unwrap();
        let reply = pair.deliver(&again);
        let expected = if has_successor {
            PushStatus::Resync
        } else {
            PushStatus::Dup
        };
        assert_eq!(reply.status, expected);
        // In incremental batches, histograms come first.
        assert_eq!(
            reply.series_left_out.as_ref().unwrap().as_bytes(),
            [0b10000]
        );
        pair.session.on_reply(&reply, pair.now_ms);
        assert_eq!(pair.acked(), [2.0, 2.0, 2.0, 0.0]);
        assert_eq!(pair.session.saved_point(3).unwrap().acked, histogram);

        pair.lose_all();
        pair.limits = Limits::default();
        pair.now_ms += 1000;
        pair.settle();
        assert_eq!([0, 1, 2].map(|number| pair.shown(number)), [0.0; 3]);
        assert!(page(&pair.registry, pair.now_ms).contains("c_total{n=\"long\"} 1\n"));
    }
}

#[test]
fn a_late_copy_of_which_more_is_left_out_is_not_built_upon() {
    for leaves in [false, true] {
        let mut pair = Pair::new(2);
        let hello = pair.next().unwrap();
        let reply = pair.deliver(&hello);
        pair.session.on_reply(&reply, pair.now_ms);
        let copy = pair.registry.encode_snapshot();
        let full = pair.next().unwrap();
        let reply = pair.deliver(&full);
        pair.session.on_reply(&reply, pair.now_ms);

        pair.registry = Registry::decode_snapshot(&copy).unwrap();
        pair.is_full = true;
        assert_eq!(pair.deliver(&full).left_out, 2);
        pair.is_full = false;
        if leaves {
            let reply = pair.leave();
            assert_eq!(reply.status, PushStatus::Resync);
            assert!(!pair.session.on_leave_reply(&reply));
        } else {
            pair.source.set(0, 2.0);
        }
        pair.settle();
        assert_eq!((pair.shown(0), pair.shown(1)), (pair.source.scalar(0), 1.0));
        assert_eq!(pair.leave().status, PushStatus::Ok);
    }
}

#[test]
fn a_snapshot_has_what_was_left_out() {
    let mut pair = Pair::new(3);
    pair.limits.max_series = 1;
    let hello = pair.next().unwrap();
    let reply = pair.deliver(&hello);
    pair.session.on_reply(&reply, pair.now_ms);
    let full = pair.next().unwrap();
    let reply = pair.deliver(&full);
    pair.registry = Registry::decode_snapshot(&pair.registry.encode_snapshot()).unwrap();
    let again = pair.deliver(&full);
    assert_eq!(again.status, PushStatus::Dup);
    assert_eq!(again.series_left_out, reply.series_left_out);
    assert_eq!(again.series_left_out.unwrap().as_bytes(), [0b110]);
}

#[test]
fn an_exemplar_that_is_left_out_keeps_no_writer() {
    let mut pair = Pair::new(1);
    let exemplar = SourceExemplar {
        labels: vec![("x".repeat(200).into(), "y".into())],
        value: 1.0,
        time: 1.0,
    };
    pair.source.exemplars.push((0, exemplar));
    pair.settle();
    assert_eq!(pair.registry.rejected().count(), 1);
    assert_eq!(
        (pair.acked(), pair.session.left_out_count()),
        (vec![1.0], 0)
    );
    assert_eq!(pair.leave().status, PushStatus::Ok);
}

#[test]
fn another_programs_name_is_waited_for() {
    let mut pair = Pair::new(1);
    let none = labels(&[]);
    let write = |pair: &mut Pair, deletes| {
        let stamp = pair.registry.stamp(pair.now_ms, &pair.limits, false);
        if deletes {
            assert_eq!(pair.registry.del(&stamp, "c_count", None), 1);
        } else {
            pair.registry
                .inc(&stamp, "c_count", &none, 1.0, None)
                .unwrap();
        }
    };
    pair.source.series[0].name = "c_count";
    pair.source.series[0].family_type = FamilyType::Gauge(GaugeMode::Sum);
    write(&mut pair, false);
    pair.settle();
    assert_eq!(pair.session.left_out_count(), 1);
    write(&mut pair, true);
    pair.now_ms += 1000;
    pair.settle();
    assert_eq!(pair.session.left_out_count(), 0);
}

#[test]
fn an_older_registry_is_not_asked() {
    let mut pair = Pair::new(3);
    pair.limits.max_series = 2;
    let hello = pair.next().unwrap();
    assert!(Batch::decode(&hello.batch).unwrap().header().names_left_out);
    assert!(pair.session.on_unknown_question());
    assert!(!pair.session.on_unknown_question());
    let again = pair.next().unwrap();
    assert_eq!((again.seq, again.epoch), (hello.seq, hello.epoch));
    assert_eq!(again.batch, [1, 0, 0, 0, 0]);
    let reply = pair.deliver(&again);
    assert_eq!(reply.series_left_out, None);
    pair.session.on_reply(&reply, pair.now_ms);
    pair.settle();
    // Left-out values cannot be told from those that arrived.
    assert_eq!(
        (pair.acked(), pair.session.left_out_count()),
        (vec![1.0; 3], 0)
    );
    pair.limits = Limits::default();
    pair.now_ms += 30_000;
    pair.settle();
    assert_eq!((0..3).map(|n| pair.shown(n)).sum::<f64>(), 3.0);
}

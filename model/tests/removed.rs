//! A writer that makes series and removes them for ever is remembered for what is left of them.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Batch, BatchHeader, BatchKind, BatchWriter, Epoch, FamilySpec, FamilyType, GaugeMode, Limits,
    Point, PushReply, PushStatus, Registry, Session, SessionOptions,
};
use support::{TestSource, page};

const LEASE_MS: u64 = 15_000;
const OPTIONS: SessionOptions = SessionOptions {
    registry_ttl_ms: 0,
    tombstone_retention_ms: u64::MAX,
};

/// Returns an empty registry, and a writer that has no series yet.
fn begin() -> (Registry, Session, TestSource) {
    let registry = Registry::new(Epoch(7), Limits::default(), 0);
    let session = Session::new(b"w".to_vec(), OPTIONS);
    (registry, session, TestSource::default())
}

/// Sends the writer's next batch; `None` if there is nothing to send.
fn send(
    registry: &mut Registry,
    session: &mut Session,
    source: &TestSource,
    now_ms: u64,
) -> Option<PushReply> {
    let push = session.next(source, now_ms)?;
    let stamp = registry.stamp(now_ms, &Limits::default(), false);
    let batch = Batch::decode(&push.batch).unwrap();
    let reply = registry.push(&stamp, b"w", push.seq, push.epoch, LEASE_MS, &batch);
    assert_eq!(reply.left_out, 0);
    Some(reply)
}

#[test]
fn gauges_that_were_made_and_removed_leave_nothing_behind() {
    let (mut registry, mut session, mut source) = begin();
    let gauge = FamilyType::Gauge(GaugeMode::Sum);
    source.add("stays", gauge, &[], Point::Scalar(1.0));
    source.add("counts", FamilyType::Counter, &[], Point::Scalar(0.0));
    let (mut bytes, mut now_ms) = (Vec::new(), 1000);
    for round in 0..200_u32 {
        let first = source.series.len();
        for number in 0..100 {
            let label = format!("{round}-{number}");
            source.add("comes", gauge, &[("n", &label)], Point::Scalar(2.0));
        }
        source.set(1, f64::from(round + 1));
        for is_over in [false, true] {
            for series in &mut source.series[first..] {
                series.is_retired = is_over;
            }
            now_ms += 1000;
            while let Some(reply) = send(&mut registry, &mut session, &source, now_ms) {
                session.on_reply(&reply, now_ms);
            }
            let shown = page(&registry, now_ms).lines().count();
            assert_eq!(shown, if is_over { 4 } else { 105 });
        }
        // As a primary does it between writes.
        while registry
            .next_work_ms(now_ms)
            .is_some_and(|at_ms| at_ms <= now_ms)
        {
            let stamp = registry.stamp_of_settling(now_ms, &Limits::default());
            registry.settle(&stamp);
        }
        registry.measure();
        bytes.push(registry.memory_bytes());
        let snapshot = registry.encode_snapshot();
        let read = Registry::decode_snapshot(&snapshot).unwrap();
        assert!(snapshot == read.encode_snapshot());
        registry = read;
    }
    // A thousand removed ones, and what tables grow to, at most; 20,000 came.
    assert!(bytes.iter().all(|bytes| *bytes < 400_000), "{bytes:?}");
    assert!(registry.remembered_count() < 3000);
    assert!(page(&registry, now_ms).contains("counts_total 200\n"));
}

/// As an exporter does it with the records of a store: the number of a series that no registry has any
/// more is given to another one. Replies get lost, and the registry with all it has, once.
#[test]
fn the_number_of_a_removed_series_is_another_ones_with_a_value_of_its_own() {
    let (mut registry, mut session, mut source) = begin();
    let gauge = FamilyType::Gauge(GaugeMode::Sum);
    source.add("comes", gauge, &[("n", "first")], Point::Scalar(1.0));
    let (mut now_ms, mut sends, mut uses) = (1000, 0_u32, 0);
    for step in 0..600_u32 {
        now_ms += 1000;
        if step == 300 {
            registry = Registry::new(Epoch(8), Limits::default(), now_ms);
        }
        if step % 5 == 4 {
            source.series[0].is_retired = true;
        }
        if source.series[0].is_retired && session.may_forget(0) {
            session.forget(0);
            uses += 1;
            let label = uses.to_string();
            source.series[0].labels = vec![("n".into(), label.into())];
            source.series[0].is_retired = false;
            source.set(0, f64::from(uses));
        }
        for _ in 0..10 {
            let Some(reply) = send(&mut registry, &mut session, &source, now_ms) else {
                break;
            };
            sends += 1;
            if sends % 4 != 0 {
                session.on_reply(&reply, now_ms);
            }
        }
        let shown = page(&registry, now_ms);
        let shown = shown.lines().filter(|line| line.starts_with("comes"));
        let is_known = session.may_forget(0) || source.series[0].is_retired;
        if !is_known && uses > 0 && session.in_flight().is_none() {
            let expected = format!("comes{{n=\"{uses}\"}} {uses}");
            assert_eq!(shown.collect::<Vec<_>>(), [expected], "step {step}");
        }
    }
    assert!(uses > 90, "{uses}");
}

/// What a base says of a gauge is of one use of its record.
#[test]
fn a_gauge_that_comes_back_begins_at_its_new_base() {
    let limits = Limits::default();
    let mut registry = Registry::new(Epoch(7), limits, 0);
    let sum = FamilySpec::new("depth", FamilyType::Gauge(GaugeMode::Sum));
    let (mut seq, mut next_index) = (0, 0);
    let mut send = |kind: BatchKind, fill: &dyn Fn(&mut BatchWriter)| {
        let mut batch = BatchWriter::new();
        fill(&mut batch);
        let header = BatchHeader {
            kind,
            last: kind != BatchKind::Incremental,
            ..BatchHeader::FULL
        };
        let bytes = batch.finish(header);
        seq += 1;
        let (batch, stamp) = (
            Batch::decode(&bytes).unwrap(),
            registry.stamp(seq, &limits, false),
        );
        let reply = registry.push(&stamp, b"w", seq, Some(Epoch(7)), LEASE_MS, &batch);
        assert_eq!((reply.status, reply.left_out), (PushStatus::Ok, 0));
        page(&registry, seq)
    };
    let define = |batch: &mut BatchWriter, value: f64, base: Option<f64>| {
        let family = batch.family(&sum);
        let (point, base) = (Point::Scalar(value), base.map(Point::Scalar));
        let labels = std::iter::empty();
        batch.define(family, 0, labels, "", None, &point, base.as_ref());
    };
    let full = BatchHeader::FULL.kind;
    let shown = send(full, &|batch| define(batch, 7.0, Some(5.0)));
    assert!(shown.contains("depth 2\n"), "{shown}");
    for is_forgotten in [false, true] {
        send(BatchKind::Incremental, &|batch| batch.retire(next_index));
        if is_forgotten {
            send(full, &|_| {});
            next_index = 0;
        } else {
            next_index += 1;
        }
        let shown = send(BatchKind::Incremental, &|batch| define(batch, 3.0, None));
        assert!(shown.contains("depth 3\n"), "{shown}");
    }
}

/// What was counted before `remove()` is part of the total, whether the registry knew the series or not.
#[test]
fn what_was_counted_between_the_last_batch_and_the_removal_is_counted() {
    let (mut registry, mut session, mut source) = begin();
    let buckets = |counts: &[u64]| Point::Buckets {
        sum: 2.0,
        counts: counts.to_vec(),
    };
    source.add("known", FamilyType::Counter, &[], Point::Scalar(1.0));
    let mut now_ms = 1000;
    let mut flush = |session: &mut Session, source: &TestSource| {
        let mut sent = 0;
        while let Some(reply) = send(&mut registry, session, source, now_ms) {
            session.on_reply(&reply, now_ms);
            sent += 1;
        }
        now_ms += 1000;
        (page(&registry, now_ms), sent)
    };
    flush(&mut session, &source);
    source.set(0, 5.0);
    source.add("new", FamilyType::Counter, &[], Point::Scalar(3.0));
    source.add("h", FamilyType::Histogram, &[], buckets(&[1, 0, 2]));
    source.add("s", FamilyType::Summary, &[], buckets(&[4]));
    source.add("never", FamilyType::Counter, &[], Point::Scalar(0.0));
    let gauge = FamilyType::Gauge(GaugeMode::Sum);
    source.add("gone", gauge, &[], Point::Scalar(6.0));
    for series in &mut source.series {
        series.is_retired = true;
    }
    let (shown, _) = flush(&mut session, &source);
    for line in [
        "known_total 5\n",
        "new_total 3\n",
        "h_count 3\n",
        "s_count 4\n",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert!(
        !shown.contains("never") && !shown.contains("gone"),
        "{shown}"
    );
    // All have ended: nothing is sent any more, and no total falls or grows with a full state.
    assert_eq!(flush(&mut session, &source), (shown.clone(), 0));
    let mut session = Session::resume(b"w".to_vec(), OPTIONS, session.saved());
    assert_eq!(flush(&mut session, &source).0, shown);
    // One comes back, and is removed again within one interval.
    source.set(1, 4.0);
    let (shown, _) = flush(&mut session, &source);
    assert!(shown.contains("new_total 4\n"), "{shown}");
}

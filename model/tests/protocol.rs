//! PUSH under faults: batches are lost, repeated, late or rolled back, and the totals stay exact.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;
#[path = "protocol/world.rs"]
mod world;

use metrics_model::{
    Batch, BatchWriter, Epoch, FamilyType, Labels, Limits, Point, PushStatus, Registry, Saved,
    SavedPoint, Session,
};
use proptest::prelude::*;
use support::TestSource;
use world::{Fault, LEASE_MS, OPTIONS, Step, World, step, step_or_removal};

fn totals_are_exact(mut world: World, steps: &[Step]) {
    for step in steps {
        world.take(step);
    }
    world.all_back();
    let most = world
        .writers
        .iter()
        .map(|writer| writer.source.series.len())
        .max()
        .unwrap_or(0);
    let grown = (0..most.max(200))
        .map(|number| world.number("c", Some(number)))
        .sum::<f64>();
    assert_eq!(world.number("c", None) + grown, world.expected(0));
    assert_eq!(world.number("h", None), world.expected(1));
    assert_eq!(world.number("n", None), world.expected(2));
    let live = world
        .writers
        .iter()
        .map(|writer| writer.source.scalar(1))
        .sum::<f64>();
    assert_eq!(world.number("g", None), live);
}

/// More cases than usual, because schedules are cheap and the interesting ones rare.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(2000),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_is_lost_and_nothing_counted_twice(steps in prop::collection::vec(step(), 0..60)) {
        totals_are_exact(World::new(), &steps);
    }

    #[test]
    fn what_was_counted_before_a_removal_is_part_of_the_total(
        steps in prop::collection::vec(step_or_removal(), 0..60),
    ) {
        let mut world = World::new();
        world.with_removals = true;
        totals_are_exact(world, &steps);
    }
}

#[test]
fn applying_a_batch_again_changes_nothing() {
    let mut world = World::new();
    world.take(&Step::Count { writer: 0, by: 7 });
    world.settle(0);
    let state = world.registry.as_ref().unwrap().encode_snapshot();
    for pick in 0..world.sent.len() {
        world.take(&Step::Late { pick });
        assert_eq!(world.registry.as_ref().unwrap().encode_snapshot(), state);
    }
    assert_eq!(world.number("c", None), 7.0);
}

#[test]
fn a_full_state_larger_than_a_batch_is_a_run() {
    let mut world = World::new();
    let source = &mut world.writers[0].source;
    for number in 0..10_000 {
        let label = number.to_string();
        source.add(
            "c",
            FamilyType::Counter,
            &[("n", &label)],
            Point::Scalar(2.0),
        );
    }
    world.settle(0);
    assert_eq!(
        (0..10_000)
            .map(|number| world.number("c", Some(number)))
            .sum::<f64>(),
        20_000.0
    );
    // After an empty batch that asks for the epoch.
    assert_eq!(
        world.sent.len(),
        1 + 10_000_usize.div_ceil(BatchWriter::MAX_DEFINITIONS)
    );

    // The process dies in the middle of the next full state; the next one begins the full state
    // again.
    world.writers[0].succeed();
    world.push(0, Fault::None);
    world.writers[0].source.series[3].is_retired = true;
    world.writers[0].succeed();
    world.settle(0);
    assert_eq!(
        (0..10_000)
            .map(|number| world.number("c", Some(number)))
            .sum::<f64>(),
        20_000.0
    );
}

#[test]
fn a_loss_of_all_data_shows_only_what_is_new() {
    let mut world = World::new();
    world.take(&Step::Count { writer: 0, by: 90 });
    world.settle(0);
    assert_eq!(world.number("c", None), 90.0);
    world.take(&Step::LoseAll);
    world.take(&Step::Count { writer: 0, by: 5 });
    world.settle(0);
    assert_eq!(
        (world.number("c", None), world.number("g", None)),
        (5.0, 95.0)
    );
}

#[test]
fn a_forgotten_writer_goes_on_from_what_was_counted() {
    let mut world = World::new();
    world.take(&Step::Count { writer: 0, by: 10 });
    world.settle(0);
    world.take(&Step::Wait { ms: 4_000_000 });
    world.take(&Step::Count { writer: 0, by: 3 });
    let writer = &mut world.writers[0];
    let push = writer
        .session
        .heartbeat(&writer.source, world.now_ms)
        .unwrap();
    let id = writer.session.writer().to_vec();
    let reply = world.deliver(&id, push.seq, push.epoch, &push.batch);
    let reply = reply.unwrap();
    assert_eq!(reply.status, PushStatus::Forgotten);
    world.settle(0);
    assert_eq!(world.number("c", None), 13.0);
}

#[test]
fn a_page_waits_until_writers_are_back_after_a_rollback() {
    let limits = Limits {
        healing_time_ms: 5000,
        ..Limits::default()
    };
    let mut registry = Registry::new(Epoch(1), limits, 0);
    let mut source = TestSource::default();
    source.add("c", FamilyType::Counter, &[], Point::Scalar(10.0));
    let mut session = Session::new(b"w".to_vec(), OPTIONS);
    let flush = |registry: &mut Registry, session: &mut Session, source: &TestSource, now_ms| {
        while let Some(push) = session.next(source, now_ms) {
            let stamp = registry.stamp(now_ms, &limits, false);
            let batch = Batch::decode(&push.batch).unwrap();
            let reply = registry.push(&stamp, b"w", push.seq, push.epoch, LEASE_MS, &batch);
            session.on_reply(&reply, now_ms);
        }
    };
    flush(&mut registry, &mut session, &source, 1000);
    let copy = registry.encode_snapshot();
    source.set(0, 20.0);
    flush(&mut registry, &mut session, &source, 2000);

    let mut registry = Registry::decode_snapshot(&copy).unwrap();
    registry.rolled_back(60_000);
    let shown = |registry: &Registry, now_ms| match registry.expose(now_ms, &Default::default()) {
        Ok(page) => String::from_utf8(page.body).unwrap(),
        Err(error) => error.to_string(),
    };
    let healing = "the registry was rolled back and waits for its writers, try again soon";
    assert_eq!(shown(&registry, 60_000), healing);
    source.set(0, 21.0);
    flush(&mut registry, &mut session, &source, 61_000);
    assert_eq!(shown(&registry, 61_000), healing);
    assert_eq!(
        shown(&registry, 66_001),
        "# TYPE c_total counter\nc_total 21\n"
    );

    // It comes so late that its own batch is the write that ends the healing, and still counts as
    // back.
    let mut registry = Registry::decode_snapshot(&copy).unwrap();
    registry.rolled_back(60_000);
    let saved = |point| SavedPoint {
        family_type: FamilyType::Counter,
        base: Point::Scalar(0.0),
        acked: Point::Scalar(point),
        sent: Point::Scalar(point),
    };
    let points = vec![saved(20.0)];
    let epoch = Some(Epoch(1));
    let saved = Saved {
        seq: 9,
        sent_seq: 9,
        acked_seq: 9,
        acked_at_ms: 2000,
        epoch,
        points,
        sent_full: false,
        last_batch: vec![0],
    };
    let mut late = Session::resume(b"w".to_vec(), OPTIONS, saved);
    flush(&mut registry, &mut late, &source, 67_000);
    assert_eq!(
        shown(&registry, 67_000),
        "# TYPE c_total counter\nc_total 21\n"
    );

    // A writer that does not come back: its series restart, so that pages show no dip.
    let mut registry = Registry::decode_snapshot(&copy).unwrap();
    registry.rolled_back(60_000);
    for now_ms in [61_000, 67_000] {
        let stamp = registry.stamp(now_ms, &limits, false);
        registry
            .inc(&stamp, "other", &Labels::none(), 1.0, None)
            .unwrap();
    }
    assert_eq!(
        shown(&registry, 67_000),
        "# TYPE c_total counter\nc_total 0\n# TYPE other_total counter\nother_total 2\n"
    );
}

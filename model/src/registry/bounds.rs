//! Tests that every call takes a bounded number of steps, whatever has happened before. A step is a
//! series or writer that is touched; their containers count the steps.

use metrics_model::{
    Batch, BatchHeader, BatchWriter, FamilyType, GaugeMode, GaugeWrite, Point, PushStatus, Session,
    SessionOptions,
};
use support::{TestSource, labels};

use crate::slab::steps;
use world::{
    EPOCH, HEALING_MS, LEASE_MS, OF_A_WRITE, OF_DEFINITIONS, OF_SETTLING, RETENTION_MS, TTL_MS,
    World, many,
};

mod world;

#[path = "../../tests/support/mod.rs"]
mod support;

#[test]
fn a_write_is_little_work_where_nothing_has_happened() {
    let mut world = many(50);
    world.settle_all();
    steps::reset();
    world.heartbeat(0);
    assert!(steps::taken() < 100, "{}", steps::taken());
}

#[test]
fn mass_death_is_bounded_work_for_each_call() {
    let mut world = many(3_000);
    world.now_ms += LEASE_MS;
    world.check("the death of all");
    world.heartbeat(0);
    world.check("one came back");
    world.now_ms += TTL_MS;
    world.check("all TTLs");
    world.settle();
    world.check("some settling");
    world.now_ms += RETENTION_MS;
    world.check("all retentions");
    world.settle();
    world.check("some forgetting");
    world.now_ms += 2 * RETENTION_MS;
    world.check("the end of all tombstones");
    assert!(world.settle_all() < 3_000 * 12 / 100);
    assert_eq!(world.registry.series_count(), 0);
    assert_eq!(world.registry.remembered_count(), 0);
}

#[test]
fn many_writers_of_one_pid_are_bounded_work_for_each_call() {
    let mut world = World::new(1_000_000);
    for number in 0..2_000 {
        world.add_writer_of("7", number, 0, 12);
        steps::reset();
        world.heartbeat(0);
        assert!(steps::taken() < OF_A_WRITE, "{}", steps::taken());
    }
    world.check("many writers of one pid");
    for number in 0..1_000 {
        world.leave(number);
    }
    world.check("a thousand LEAVEs");
    world.settle_all();
    world.add_writer_of("7", 2_000, 0, 12);
    world.check("a restart");
}

#[test]
fn mass_return_is_bounded_work_for_each_call() {
    let mut world = many(1_000);
    world.now_ms += LEASE_MS + 1;
    for number in 0..1_000 {
        world.heartbeat(number);
    }
    world.check("the return of all");
    world.now_ms += LEASE_MS + 1;
    for number in 0..1_000 {
        world.heartbeat(number);
    }
    world.check("another return");
    world.settle_all();
    world.check("settling");
}

#[test]
fn mass_leave_and_deletion_are_bounded_work_for_each_call() {
    let mut world = many(2_000);
    for number in 0..1_000 {
        world.leave(number);
    }
    world.check("a thousand LEAVEs");
    let stamp = world.stamp();
    for family in ["c", "g", "m"] {
        world.registry.del(&stamp, family, None);
    }
    assert_eq!(world.registry.series_count(), 0);
    world.check("DEL of all families");
    world.settle_all();
    world.check("settling");
}

#[test]
fn mass_healing_is_bounded_work_for_each_call() {
    let mut world = many(2_000);
    world.rolled_back();
    world.check("a rollback");
    world.heartbeat(0);
    world.check("the begin of healing");
    world.now_ms += HEALING_MS;
    world.check("the time of healing");
    world.heartbeat(0);
    world.check("the end of healing");
    assert!(world.registry.is_healing(world.now_ms));
    world.settle_all();
    assert!(!world.registry.is_healing(world.now_ms));
    world.check("settling");
}

#[test]
fn a_ttl_of_a_hundred_thousand_series_is_bounded_work_for_each_call() {
    let mut world = World::new(1_000_000);
    for number in 0..100_000 {
        world.inc(&number.to_string());
    }
    for ttl_ms in [1_000_000, 1, 0, 500] {
        steps::reset();
        let stamp = world.stamp();
        let touched = world.registry.set_ttl(&stamp, "direct", None, ttl_ms);
        assert_eq!(touched, 100_000);
        assert!(steps::taken() < OF_A_WRITE, "{}", steps::taken());
        world.check("a TTL of a whole family");
    }
    world.now_ms += 499;
    assert_eq!(world.shown(), 100_000);
    world.now_ms += 1;
    world.check("the end of all");
    assert!(world.settle_all() < 1_000);
    assert_eq!(world.registry.series_count(), 0);
}

#[test]
fn a_full_state_that_names_none_of_many_series_is_bounded_work_for_each_call() {
    let mut world = World::new(1_000_000);
    world.add_writer(0, 60_000, 0);
    let (session, _) = &world.writers[0];
    let (id, seq) = (session.writer().to_vec(), session.seq());
    let bytes = BatchWriter::new().finish(BatchHeader::FULL);
    for more in 1..5 {
        let (batch, stamp) = (Batch::decode(&bytes).unwrap(), world.stamp());
        steps::reset();
        let reply = world
            .registry
            .push(&stamp, &id, seq + more, Some(EPOCH), LEASE_MS, &batch);
        assert_eq!(reply.status, PushStatus::Ok);
        assert!(steps::taken() < OF_SETTLING, "{}", steps::taken());
        world.check("a full state that names nothing");
    }
    assert!(world.settle_all() < 2 * 60_000 / 512);
    assert_eq!(world.registry.series_count(), 20_000);
    world.now_ms += TTL_MS;
    world.settle_all();
    assert_eq!(world.registry.series_count(), 0);
}

/// Memory that grows is moved one piece at a time.
#[test]
fn growing_is_bounded_work_for_each_call() {
    const COUNT: usize = 50_000;
    let mut world = World::new(1_000_000);
    let mut set = |family: &str, label: &str, writer: &[u8]| {
        let stamp = world.stamp();
        let write = GaugeWrite {
            family,
            labels: &labels(&[("n", label)]),
            value: 1.0,
            mode: Some(GaugeMode::Max),
            writer,
            lease_ms: Some(LEASE_MS),
            ttl_ms: None,
        };
        steps::reset();
        world.registry.set(&stamp, &write).unwrap();
        assert!(steps::taken() < OF_A_WRITE, "{}", steps::taken());
    };
    for number in 0..COUNT {
        let text = number.to_string();
        // The entries of one writer, and the values of one gauge, become many.
        set("many_series", &text, b"one writer");
        set("many_writers", "", text.as_bytes());
    }
    // A writer with an index table sends a full state and then changes.
    let mut source = TestSource::default();
    for number in 0..COUNT {
        let text = number.to_string();
        let point = Point::Buckets {
            sum: 1.0,
            counts: vec![1],
        };
        source.add("s", FamilyType::Summary, &[("n", &text)], point);
    }
    let options = SessionOptions {
        registry_ttl_ms: 0,
        tombstone_retention_ms: u64::MAX,
    };
    let mut session = Session::new(b"pushing".to_vec(), options);
    while let Some(push) = session.next(&source, world.now_ms) {
        steps::reset();
        world.send(&mut session, &push);
        assert!(steps::taken() < OF_DEFINITIONS, "{}", steps::taken());
    }
    assert_eq!(world.registry.series_count(), 2 * COUNT + 1);
}

#[test]
fn deleting_a_hundred_thousand_series_makes_room_at_once() {
    let mut world = World::new(100_000);
    for number in 0..100_000 {
        world.inc(&number.to_string());
    }
    world.check("as many series as there may be");
    steps::reset();
    let stamp = world.stamp();
    assert_eq!(world.registry.del(&stamp, "direct", None), 100_000);
    assert!(steps::taken() < OF_A_WRITE, "{}", steps::taken());
    world.check("their deletion");
    for number in 0..100_000 {
        let labels = labels(&[("m", &number.to_string())]);
        let stamp = world.stamp();
        let done = world.registry.inc(&stamp, "direct", &labels, 1.0, None);
        assert_eq!(done, Ok(1.0));
    }
}

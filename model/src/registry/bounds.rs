//! Tests that every call takes a bounded number of steps, whatever has happened before. A step is a
//! series or writer that is touched; their containers count the steps.

use metrics_model::{
    Batch, BatchHeader, BatchWriter, Epoch, ExposeRequest, FamilyType, GaugeMode, GaugeWrite,
    Labels, Limits, Point, Push, PushStatus, Registry, Session, SessionOptions, Stamp,
};
use support::{TestSource, labels};

use crate::slab::steps;

#[path = "../../tests/support/mod.rs"]
mod support;

const EPOCH: Epoch = Epoch(7);
const LEASE_MS: u64 = 15_000;
const TTL_MS: u64 = 30_000;
const RETENTION_MS: u64 = 60_000;
const HEALING_MS: u64 = 5_000;

/// Maximum number of steps of a write of one series, of a heartbeat, a LEAVE or a DEL: several for
/// each of the entries that a write settles.
const OF_A_WRITE: u64 = 5_000;
/// Maximum number of steps of a write to a full registry, and of SETTLE.
const OF_SETTLING: u64 = 50_000;
/// The same of a batch of as many new series as a writer of ours puts into one.
const OF_DEFINITIONS: u64 = OF_SETTLING + 100 * BatchWriter::MAX_DEFINITIONS as u64;
/// Maximum number of steps of a page, which ends after 10,000 values.
const OF_A_PAGE: u64 = 60_000;

/// A registry with many writers, and the largest number of steps of any call.
struct World {
    registry: Registry,
    writers: Vec<(Session, TestSource)>,
    now_ms: u64,
    limits: Limits,
}

impl World {
    fn new(max_series: u64) -> Self {
        let limits = Limits {
            writer_retention_ms: RETENTION_MS,
            tombstone_retention_ms: 2 * RETENTION_MS,
            healing_time_ms: HEALING_MS,
            max_series,
            ..Limits::default()
        };
        Self {
            registry: Registry::new(EPOCH, limits, 0),
            writers: Vec::new(),
            now_ms: 1_000_000,
            limits,
        }
    }

    fn stamp(&self) -> Stamp {
        self.registry.stamp(self.now_ms, &self.limits, false)
    }

    /// Adds a writer with `own` series of its own and `shared` series that all writers have.
    fn add_writer(&mut self, number: usize, own: usize, shared: usize) {
        self.add_writer_of(&number.to_string(), number, own, shared);
    }

    /// The same, with that text of the label `pid`.
    fn add_writer_of(&mut self, pid: &str, number: usize, own: usize, shared: usize) {
        let mut source = TestSource::with_pid(pid);
        for at in 0..own + shared {
            let text = if at < own {
                format!("{number}.{at}")
            } else {
                at.to_string()
            };
            let pairs = [("n", text.as_str())];
            let (name, family_type) = match at % 3 {
                0 => ("c", FamilyType::Counter),
                1 => ("g", FamilyType::Gauge(GaugeMode::LiveSum)),
                _ => ("m", FamilyType::Gauge(GaugeMode::All)),
            };
            let at = source.add(name, family_type, &pairs, Point::Scalar(1.0));
            source.series[at].ttl_ms = TTL_MS;
        }
        let options = SessionOptions {
            registry_ttl_ms: 1000,
            tombstone_retention_ms: u64::MAX,
        };
        let id = format!("writer {number}").into_bytes();
        let mut session = Session::new(id, options);
        while let Some(push) = session.next(&source, self.now_ms) {
            self.send(&mut session, &push);
        }
        self.writers.push((session, source));
    }

    fn send(&mut self, session: &mut Session, push: &Push) {
        let batch = Batch::decode(&push.batch).unwrap();
        let (stamp, id) = (self.stamp(), session.writer().to_vec());
        let reply = self
            .registry
            .push(&stamp, &id, push.seq, push.epoch, LEASE_MS, &batch);
        session.on_reply(&reply, self.now_ms);
    }

    fn heartbeat(&mut self, number: usize) {
        if self.writers.is_empty() {
            return;
        }
        let (mut session, source) = self.writers.swap_remove(number);
        if let Some(push) = session.heartbeat(&source, self.now_ms) {
            self.send(&mut session, &push);
        }
        self.writers.push((session, source));
        let last = self.writers.len() - 1;
        self.writers.swap(number, last);
    }

    fn leave(&mut self, number: usize) {
        let stamp = self.stamp();
        let Some((session, _)) = self.writers.get_mut(number) else {
            return;
        };
        if let Some((seq, epoch)) = session.leave() {
            let id = session.writer().to_vec();
            self.registry.leave(&stamp, &id, seq, epoch);
        }
    }

    fn inc(&mut self, text: &str) {
        let stamp = self.stamp();
        let labels = labels(&[("n", text)]);
        // Refused if there is no room, which may take work too.
        let _done = self
            .registry
            .inc(&stamp, "direct", &labels, 1.0, Some(TTL_MS));
    }

    fn settle(&mut self) {
        let stamp = self.registry.stamp_of_settling(self.now_ms, &self.limits);
        self.registry.settle(&stamp);
    }

    fn rolled_back(&mut self) {
        let snapshot = self.registry.encode_snapshot();
        self.registry = Registry::decode_snapshot(&snapshot).unwrap();
        self.registry.rolled_back(self.now_ms);
    }

    /// Makes one call of each kind and checks its steps.
    fn check(&mut self, what: &str) {
        let before = self.registry.clone();
        for (call, bound, act) in CALLS {
            self.registry = before.clone();
            steps::reset();
            act(self);
            let taken = steps::taken();
            assert!(taken <= bound, "{call} took {taken} steps after {what}");
        }
        self.registry = before;
    }

    /// Returns how many series of the family `direct` pages show.
    fn shown(&self) -> usize {
        let is_shown = |number: &usize| {
            let labels = labels(&[("n", &number.to_string())]);
            let value = self.registry.get(self.now_ms, "direct", &labels);
            value.is_some()
        };
        (0..100_000).filter(is_shown).count()
    }

    /// Settles until there is nothing left to do; returns the number of calls.
    fn settle_all(&mut self) -> usize {
        for times in 0..100_000 {
            let due_ms = self.registry.next_work_ms(self.now_ms);
            if due_ms.is_none_or(|at_ms| at_ms > self.now_ms) {
                return times;
            }
            steps::reset();
            self.settle();
            assert!(steps::taken() <= OF_SETTLING, "{}", steps::taken());
        }
        panic!("settling does not come to an end");
    }
}

type Call = (&'static str, u64, fn(&mut World));

const CALLS: [Call; 10] = [
    ("EXPOSE", OF_A_PAGE, |world| {
        let request = ExposeRequest {
            cursor: Some(b"0".to_vec()),
            ..ExposeRequest::default()
        };
        let _page = world.registry.expose(world.now_ms, &request);
    }),
    ("GET", OF_A_WRITE, |world| {
        let labels = labels(&[("n", "0")]);
        let _value = world.registry.get(world.now_ms, "c", &labels);
    }),
    ("INC", OF_SETTLING, |world| world.inc("one more")),
    ("the second INC", OF_SETTLING, |world| {
        world.inc("one more");
        world.inc("another one");
    }),
    ("a heartbeat", OF_SETTLING, |world| world.heartbeat(0)),
    ("LEAVE", OF_SETTLING, |world| world.leave(1)),
    ("DEL", OF_SETTLING, |world| {
        let stamp = world.stamp();
        world.registry.del(&stamp, "c", None);
    }),
    ("TTL", OF_SETTLING, |world| {
        let stamp = world.stamp();
        world.registry.set_ttl(&stamp, "m", None, 1);
    }),
    ("SET", OF_SETTLING, |world| {
        let stamp = world.stamp();
        let write = GaugeWrite {
            family: "set",
            labels: &Labels::none(),
            value: 1.0,
            mode: None,
            writer: b"direct",
            lease_ms: Some(1),
            ttl_ms: Some(1),
        };
        let _done = world.registry.set(&stamp, &write);
    }),
    ("SETTLE", OF_SETTLING, World::settle),
];

/// Makes a registry of many writers, with series of their own and shared ones.
fn many(writers: usize) -> World {
    let mut world = World::new(1_000_000);
    for number in 0..writers {
        world.add_writer(number, 6, 6);
    }
    world.check("many writers");
    world
}

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

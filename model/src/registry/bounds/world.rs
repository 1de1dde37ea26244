//! A registry with many writers, of which every call counts its steps.

use metrics_model::{
    Batch, BatchWriter, Epoch, ExposeRequest, FamilyType, GaugeMode, GaugeWrite, Labels, Limits,
    Point, Push, Registry, Session, SessionOptions, Stamp,
};

use super::support::{TestSource, labels};
use crate::slab::steps;

pub(super) const EPOCH: Epoch = Epoch(7);
pub(super) const LEASE_MS: u64 = 15_000;
pub(super) const TTL_MS: u64 = 30_000;
pub(super) const RETENTION_MS: u64 = 60_000;
pub(super) const HEALING_MS: u64 = 5_000;

/// Maximum number of steps of a write of one series, of a heartbeat, a LEAVE or a DEL: several for
/// each of the entries that a write settles.
pub(super) const OF_A_WRITE: u64 = 5_000;
/// Maximum number of steps of a write to a full registry, and of SETTLE.
pub(super) const OF_SETTLING: u64 = 50_000;
/// The same of a batch of as many new series as a writer of ours puts into one.
pub(super) const OF_DEFINITIONS: u64 = OF_SETTLING + 100 * BatchWriter::MAX_DEFINITIONS as u64;
/// Maximum number of steps of a page, which ends after 10,000 values.
pub(super) const OF_A_PAGE: u64 = 60_000;

/// A registry with many writers, and the largest number of steps of any call.
pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) writers: Vec<(Session, TestSource)>,
    pub(super) now_ms: u64,
    pub(super) limits: Limits,
}

impl World {
    pub(super) fn new(max_series: u64) -> Self {
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

    pub(super) fn stamp(&self) -> Stamp {
        self.registry.stamp(self.now_ms, &self.limits, false)
    }

    /// Adds a writer with `own` series of its own and `shared` series that all writers have.
    pub(super) fn add_writer(&mut self, number: usize, own: usize, shared: usize) {
        self.add_writer_of(&number.to_string(), number, own, shared);
    }

    /// The same, with that text of the label `pid`.
    pub(super) fn add_writer_of(&mut self, pid: &str, number: usize, own: usize, shared: usize) {
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

    pub(super) fn send(&mut self, session: &mut Session, push: &Push) {
        let batch = Batch::decode(&push.batch).unwrap();
        let (stamp, id) = (self.stamp(), session.writer().to_vec());
        let reply = self
            .registry
            .push(&stamp, &id, push.seq, push.epoch, LEASE_MS, &batch);
        session.on_reply(&reply, self.now_ms);
    }

    pub(super) fn heartbeat(&mut self, number: usize) {
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

    pub(super) fn leave(&mut self, number: usize) {
        let stamp = self.stamp();
        let Some((session, _)) = self.writers.get_mut(number) else {
            return;
        };
        if let Some((seq, epoch)) = session.leave() {
            let id = session.writer().to_vec();
            self.registry.leave(&stamp, &id, seq, epoch);
        }
    }

    pub(super) fn inc(&mut self, text: &str) {
        let stamp = self.stamp();
        let labels = labels(&[("n", text)]);
        // Refused if there is no room, which may take work too.
        let _done = self
            .registry
            .inc(&stamp, "direct", &labels, 1.0, Some(TTL_MS));
    }

    pub(super) fn settle(&mut self) {
        let stamp = self.registry.stamp_of_settling(self.now_ms, &self.limits);
        self.registry.settle(&stamp);
    }

    pub(super) fn rolled_back(&mut self) {
        let snapshot = self.registry.encode_snapshot();
        self.registry = Registry::decode_snapshot(&snapshot).unwrap();
        self.registry.rolled_back(self.now_ms);
    }

    /// Makes one call of each kind and checks its steps.
    pub(super) fn check(&mut self, what: &str) {
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
    pub(super) fn shown(&self) -> usize {
        let is_shown = |number: &usize| {
            let labels = labels(&[("n", &number.to_string())]);
            let value = self.registry.get(self.now_ms, "direct", &labels);
            value.is_some()
        };
        (0..100_000).filter(is_shown).count()
    }

    /// Settles until there is nothing left to do; returns the number of calls.
    pub(super) fn settle_all(&mut self) -> usize {
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

pub(super) type Call = (&'static str, u64, fn(&mut World));

pub(super) const CALLS: [Call; 10] = [
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
pub(super) fn many(writers: usize) -> World {
    let mut world = World::new(1_000_000);
    for number in 0..writers {
        world.add_writer(number, 6, 6);
    }
    world.check("many writers");
    world
}

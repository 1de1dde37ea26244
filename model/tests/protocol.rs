//! PUSH under faults: whatever is lost, repeated, late or rolled back, the totals are exact.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Aggregate, Batch, Epoch, FamilyType, GaugeMode, Labels, Limits, NativeHistogram, Point,
    PushReply, PushStatus, Registry, Saved, SavedPoint, Session, SessionOptions,
};
use proptest::prelude::*;
use support::TestSource;

const OPTIONS: SessionOptions = SessionOptions {
    registry_ttl_ms: 0,
    tombstone_retention_ms: 604_800_000,
};
const LEASE_MS: u64 = 15_000;
const WRITERS: usize = 3;

/// What may happen next. Writers are chosen by number.
#[derive(Debug, Clone)]
enum Step {
    Count {
        writer: usize,
        by: u32,
    },
    /// A new label set, so that there are definitions at any time.
    Grow {
        writer: usize,
    },
    Push {
        writer: usize,
        fault: Fault,
    },
    /// A copy of an old packet arrives.
    Late {
        pick: usize,
    },
    Backup,
    /// The server restarts with what it has.
    Restart,
    /// The server restarts with its last backup, or an older replica takes over.
    RollBack,
    /// FLUSHALL, or a restart without data.
    LoseAll,
    /// The process that pushes is killed; another goes on with what was saved.
    Successor {
        writer: usize,
    },
    /// The writer pushes what is left, leaves, and is started again as a new one.
    Leave {
        writer: usize,
    },
    Wait {
        ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    RequestLost,
    ReplyLost,
}

fn step() -> impl Strategy<Value = Step> {
    let writer = 0..WRITERS;
    let fault = prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::RequestLost),
        1 => Just(Fault::ReplyLost)
    ];
    prop_oneof![
        8 => (writer.clone(), 1_u32..100).prop_map(|(writer, by)| Step::Count { writer, by }),
        2 => writer.clone().prop_map(|writer| Step::Grow { writer }),
        12 => (writer.clone(), fault).prop_map(|(writer, fault)| Step::Push { writer, fault }),
        4 => any::<usize>().prop_map(|pick| Step::Late { pick }),
        2 => Just(Step::Backup),
        1 => Just(Step::Restart),
        1 => Just(Step::RollBack),
        1 => Just(Step::LoseAll),
        2 => writer.clone().prop_map(|writer| Step::Successor { writer }),
        1 => writer.prop_map(|writer| Step::Leave { writer }),
        // Within the lease, past it, and past the writer's retention.
        2 => prop_oneof![Just(100), Just(20_000), Just(4_000_000)].prop_map(|ms| Step::Wait { ms }),
    ]
}

struct Packet {
    writer: Vec<u8>,
    seq: u64,
    epoch: Option<Epoch>,
    bytes: Vec<u8>,
}

struct Writer {
    source: TestSource,
    session: Session,
    /// What a registry that lost everything had acknowledged.
    lost: Vec<f64>,
}

/// The families whose totals must be exact: a counter, a histogram, a native histogram.
const COUNTED: [&str; 3] = ["c", "h", "n"];

struct World {
    registry: Option<Registry>,
    backup: Option<Vec<u8>>,
    is_behind: bool,
    was_long: bool,
    writers: Vec<Writer>,
    sent: Vec<Packet>,
    /// What writers that have left had counted since the last loss.
    left: [f64; 3],
    now_ms: u64,
    next_id: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            registry: None,
            backup: None,
            is_behind: false,
            was_long: false,
            writers: Vec::new(),
            sent: Vec::new(),
            left: [0.0; 3],
            now_ms: 1_000_000,
            next_id: 0,
        };
        world.writers = (0..WRITERS).map(|_| world.writer()).collect();
        world
    }

    fn limits() -> Limits {
        // Totals are looked at only when all writers are back.
        Limits {
            healing_time_ms: u64::MAX,
            ..Limits::default()
        }
    }

    fn writer(&mut self) -> Writer {
        self.next_id += 1;
        let mut source = TestSource::default();
        source.add("c", FamilyType::Counter, &[], Point::Scalar(0.0));
        source.add(
            "g",
            FamilyType::Gauge(GaugeMode::LiveSum),
            &[],
            Point::Scalar(0.0),
        );
        source.add(
            "h",
            FamilyType::Histogram,
            &[],
            Point::Buckets {
                sum: 0.0,
                counts: vec![0; 3],
            },
        );
        let native = NativeHistogram::empty(3, 0.0);
        source.add(
            "n",
            FamilyType::NativeHistogram,
            &[],
            Point::Native(Box::new(native)),
        );
        let session = Session::new(format!("writer {}", self.next_id).into_bytes(), OPTIONS);
        Writer {
            source,
            session,
            lost: Vec::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Count { writer, by } => self.writers[writer].count(by),
            Step::Grow { writer } => {
                let source = &mut self.writers[writer].source;
                let number = source.series.len().to_string();
                source.add(
                    "c",
                    FamilyType::Counter,
                    &[("n", &number)],
                    Point::Scalar(1.0),
                );
            }
            Step::Push { writer, fault } => self.push(writer, fault),
            Step::Late { pick } => {
                if let Some(at) = pick.checked_rem(self.sent.len()) {
                    let Packet {
                        writer,
                        seq,
                        epoch,
                        bytes,
                    } = &self.sent[at];
                    let (writer, seq, epoch, bytes) = (writer.clone(), *seq, *epoch, bytes.clone());
                    self.deliver(&writer, seq, epoch, &bytes);
                }
            }
            Step::Backup => {
                // The same exception, the other way round.
                if std::mem::take(&mut self.was_long) {
                    self.all_back();
                }
                self.backup = self.registry.as_ref().map(Registry::encode_snapshot);
            }
            Step::Restart => {
                let snapshot = self.registry.as_ref().map(Registry::encode_snapshot);
                self.load(snapshot);
            }
            Step::RollBack => {
                if let Some(backup) = self.backup.clone() {
                    self.load(Some(backup));
                    self.is_behind = true;
                }
            }
            Step::LoseAll => {
                (self.registry, self.backup, self.left) = (None, None, [0.0; 3]);
                for writer in &mut self.writers {
                    writer.lost = writer.acked();
                }
            }
            Step::Successor { writer } => self.writers[writer].succeed(),
            Step::Leave { writer } => self.leave(writer),
            Step::Wait { ms } => {
                // A retention that runs out together with a failover: documented as not exact.
                if std::mem::take(&mut self.is_behind) {
                    self.all_back();
                }
                if ms > 1_000_000 {
                    self.was_long = true;
                    self.backup = None;
                }
                self.now_ms += ms;
            }
        }
    }

    fn load(&mut self, snapshot: Option<Vec<u8>>) {
        self.registry = snapshot.map(|bytes| Registry::decode_snapshot(&bytes).unwrap());
        if let Some(registry) = &mut self.registry {
            registry.rolled_back(self.now_ms);
        }
    }

    fn deliver(
        &mut self,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        bytes: &[u8],
    ) -> PushReply {
        self.now_ms += 1;
        self.next_id += 1;
        let fresh = Epoch(self.next_id);
        let registry = self
            .registry
            .get_or_insert_with(|| Registry::new(fresh, Self::limits(), self.now_ms));
        let stamp = registry.stamp(self.now_ms, &Self::limits(), false);
        registry.push(
            &stamp,
            writer,
            seq,
            epoch,
            LEASE_MS,
            &Batch::decode(bytes).unwrap(),
        )
    }

    fn push(&mut self, number: usize, fault: Fault) {
        let writer = &mut self.writers[number];
        let Some(push) = writer.session.heartbeat(&writer.source, self.now_ms) else {
            return;
        };
        let id = writer.session.writer().to_vec();
        if fault != Fault::RequestLost {
            let reply = self.deliver(&id, push.seq, push.epoch, &push.batch);
            if fault == Fault::None {
                self.writers[number].session.on_reply(&reply, self.now_ms);
            }
        }
        self.sent.push(Packet {
            writer: id,
            seq: push.seq,
            epoch: push.epoch,
            bytes: push.batch,
        });
    }

    /// Pushes until there is nothing new.
    fn settle(&mut self, number: usize) {
        for _ in 0..20 {
            let writer = &mut self.writers[number];
            if writer.session.next(&writer.source, self.now_ms).is_none() {
                return;
            }
            self.push(number, Fault::None);
        }
        panic!("a session does not come to rest");
    }

    fn leave(&mut self, number: usize) {
        loop {
            self.settle(number);
            let session = &mut self.writers[number].session;
            let Some((seq, epoch)) = session.leave() else {
                break;
            };
            let id = session.writer().to_vec();
            self.now_ms += 1;
            let Some(registry) = &mut self.registry else {
                break;
            };
            let stamp = registry.stamp(self.now_ms, &Self::limits(), false);
            let reply = registry.leave(&stamp, &id, seq, epoch);
            if self.writers[number].session.on_leave_reply(&reply) {
                break;
            }
        }
        // A copy from before it left no longer knows of it: the exception that is documented.
        self.backup = None;
        let gone = &self.writers[number];
        for (left, family) in self.left.iter_mut().zip(COUNTED) {
            *left += gone.counted(family);
        }
        self.writers[number] = self.writer();
    }

    fn all_back(&mut self) {
        // Twice: what is answered first may be a retry of something old.
        for number in (0..WRITERS).chain(0..WRITERS) {
            self.push(number, Fault::None);
            self.settle(number);
        }
    }

    fn expected(&self, family: usize) -> f64 {
        let of_writers = self.writers.iter().map(|w| w.counted(COUNTED[family]));
        self.left[family] + of_writers.sum::<f64>()
    }

    fn number(&self, family: &str, label: Option<usize>) -> f64 {
        let Some(registry) = &self.registry else {
            return 0.0;
        };
        let number = label.map(|number| number.to_string());
        let labels = Labels::new(number.as_deref().map(|number| ("n", number))).unwrap();
        match registry.get(self.now_ms, family, &labels) {
            Some(Aggregate::Number(number)) => number,
            Some(Aggregate::Buckets { count, .. }) => count as f64,
            None => 0.0,
        }
    }
}

impl Writer {
    fn count(&mut self, by: u32) {
        for number in 0..2 {
            let value = self.source.scalar(number);
            self.source.set(number, value + f64::from(by));
        }
        if let Point::Buckets { sum, counts } = &mut self.source.series[2].point {
            *sum += f64::from(by);
            counts[by as usize % 3] += u64::from(by);
        }
        if let Point::Native(native) = &mut self.source.series[3].point {
            observe(native, by);
        }
    }

    /// What was acknowledged of each series.
    fn acked(&self) -> Vec<f64> {
        let acked = |number| Some(size(&self.session.saved_point(number)?.acked));
        (0..self.source.series.len())
            .map(|number| acked(number).unwrap_or_default())
            .collect()
    }

    /// What all series of a family should have added since the last loss.
    fn counted(&self, family: &str) -> f64 {
        let is_it = |number: &usize| self.source.series[*number].name == family;
        let numbers = (0..self.source.series.len()).filter(is_it);
        let lost = |number: usize| self.lost.get(number).copied().unwrap_or(0.0);
        numbers
            .map(|number| size(&self.source.series[number].point) - lost(number))
            .sum()
    }

    fn succeed(&mut self) {
        let session = &self.session;
        let points = (0..self.source.series.len()).map_while(|n| session.saved_point(n).cloned());
        let saved = Saved {
            seq: session.seq(),
            sent_seq: session.sent_seq(),
            acked_seq: session.acked_seq(),
            acked_at_ms: session.acked_at_ms(),
            epoch: session.epoch(),
            points: points.collect(),
        };
        self.session = Session::resume(session.writer().to_vec(), OPTIONS, saved);
    }
}

/// How much a point counts.
fn size(point: &Point) -> f64 {
    match point {
        Point::Scalar(value) | Point::Timed { value, .. } => *value,
        Point::Buckets { counts, .. } => counts.iter().sum::<u64>() as f64,
        Point::Native(native) => native.count() as f64,
    }
}

/// So many observations in one bucket of a histogram that gets coarser now and then.
fn observe(native: &mut NativeHistogram, times: u32) {
    let number = times.cast_signed() % 7 - 3;
    match native
        .positive
        .binary_search_by_key(&number, |bucket| bucket.0)
    {
        Ok(at) => native.positive[at].1 += u64::from(times),
        Err(at) => native.positive.insert(at, (number, times.into())),
    }
    native.sum += f64::from(times);
    if times % 5 == 4 && native.schema > 0 {
        native.schema -= 1;
        let mut joined = Vec::<(i32, u64)>::new();
        for (number, count) in native.positive.drain(..) {
            let number = (number + 1) >> 1;
            match joined.last_mut() {
                Some((last, total)) if *last == number => *total += count,
                _ => joined.push((number, count)),
            }
        }
        native.positive = joined;
    }
}

fn totals_are_exact(steps: &[Step]) {
    let mut world = World::new();
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

/// More than usual, because schedules are cheap and the interesting ones rare.
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
        totals_are_exact(&steps);
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
    assert_eq!(world.sent.len(), 4);

    // Half way through the next run the process dies; its successor begins the run again.
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

    // So late that its own batch is the write that ends the healing: it is back all the same.
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
    };
    let mut late = Session::resume(b"w".to_vec(), OPTIONS, saved);
    flush(&mut registry, &mut late, &source, 67_000);
    assert_eq!(
        shown(&registry, 67_000),
        "# TYPE c_total counter\nc_total 21\n"
    );

    // A writer that does not come back: what it owned begins anew instead of showing a dip.
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

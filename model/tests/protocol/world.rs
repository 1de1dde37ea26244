//! A registry, its writers, and the network between them, under faults that a schedule names.

use metrics_model::{
    Aggregate, Batch, Epoch, FamilyType, GaugeMode, Labels, Limits, NativeHistogram, Point,
    PushReply, Registry, Session, SessionOptions,
};
use proptest::prelude::*;

use crate::support::TestSource;

pub(crate) const OPTIONS: SessionOptions = SessionOptions {
    registry_ttl_ms: 0,
    tombstone_retention_ms: 604_800_000,
};
pub(crate) const LEASE_MS: u64 = 15_000;
const WRITERS: usize = 3;

/// What may happen next. Writers are chosen by number.
#[derive(Debug, Clone)]
pub(crate) enum Step {
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
pub(crate) enum Fault {
    None,
    RequestLost,
    ReplyLost,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
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

pub(crate) struct Packet {
    writer: Vec<u8>,
    seq: u64,
    epoch: Option<Epoch>,
    bytes: Vec<u8>,
}

pub(crate) struct Writer {
    pub(crate) source: TestSource,
    pub(crate) session: Session,
    /// What a registry that lost everything had acknowledged.
    lost: Vec<f64>,
}

/// The families whose totals must be exact: a counter, a histogram, a native histogram.
const COUNTED: [&str; 3] = ["c", "h", "n"];

pub(crate) struct World {
    pub(crate) registry: Option<Registry>,
    backup: Option<Vec<u8>>,
    is_behind: bool,
    was_long: bool,
    pub(crate) writers: Vec<Writer>,
    pub(crate) sent: Vec<Packet>,
    /// What writers that have left had counted since the last loss.
    left: [f64; 3],
    pub(crate) now_ms: u64,
    next_id: u64,
}

impl World {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn take(&mut self, step: &Step) {
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

    pub(crate) fn deliver(
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

    pub(crate) fn push(&mut self, number: usize, fault: Fault) {
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
    pub(crate) fn settle(&mut self, number: usize) {
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

    pub(crate) fn all_back(&mut self) {
        // Twice: what is answered first may be a retry of something old.
        for number in (0..WRITERS).chain(0..WRITERS) {
            self.push(number, Fault::None);
            self.settle(number);
        }
    }

    pub(crate) fn expected(&self, family: usize) -> f64 {
        let of_writers = self.writers.iter().map(|w| w.counted(COUNTED[family]));
        self.left[family] + of_writers.sum::<f64>()
    }

    pub(crate) fn number(&self, family: &str, label: Option<usize>) -> f64 {
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

    pub(crate) fn succeed(&mut self) {
        let session = &self.session;
        self.session = Session::resume(session.writer().to_vec(), OPTIONS, session.saved());
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

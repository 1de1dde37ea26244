//! A registry, its writers, and the network between them, with the faults of a schedule.

use metrics_model::{
    Aggregate, Batch, Epoch, FamilyEntry, FamilyType, GaugeMode, Labels, Limits, NativeHistogram,
    Point, PushReply, Registry, Session, SessionOptions, Stamp,
};
use proptest::prelude::*;

use crate::support::{TestSeries, TestSource};

pub(crate) const OPTIONS: SessionOptions = SessionOptions {
    registry_ttl_ms: 0,
    tombstone_retention_ms: 604_800_000,
};
pub(crate) const LEASE_MS: u64 = 15_000;
const WRITERS: usize = 3;

/// An event of a schedule. Numbers stand for writers.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Count {
        writer: usize,
        by: u32,
    },
    /// A new label set, so that definitions occur at any time.
    Grow {
        writer: usize,
    },
    /// The application removes a series that counts; it comes back when it counts again.
    Remove {
        writer: usize,
        pick: usize,
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
    /// The server restarts with its present data.
    Restart,
    /// The server restarts with its last backup, or an older replica takes over.
    RollBack,
    /// FLUSHALL, or a restart without data.
    LoseAll,
    /// The pushing process is killed; another continues with the saved state.
    Successor {
        writer: usize,
    },
    /// The writer pushes the rest, leaves, and starts again as a new one.
    Leave {
        writer: usize,
    },
    Wait {
        ms: u64,
    },
    /// A limit is reached, or lifted.
    Limit(Limit),
    /// Ended writers that wait are merged into one that replaces them.
    CarryOver,
}

/// The reason why the registry leaves something out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    Nothing,
    Memory,
    Series,
    LabelBytes,
    /// Another program has declared the family's name, with another type.
    Conflict,
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
        3 => prop_oneof![
            3 => Just(Limit::Nothing),
            1 => Just(Limit::Memory),
            1 => Just(Limit::Series),
            1 => Just(Limit::LabelBytes),
            1 => Just(Limit::Conflict),
        ].prop_map(Step::Limit),
        1 => Just(Step::CarryOver),
    ]
}

/// Also removes series.
pub(crate) fn step_or_removal() -> impl Strategy<Value = Step> {
    let removal = (0..WRITERS, any::<usize>());
    prop_oneof![
        10 => step(),
        1 => removal.prop_map(|(writer, pick)| Step::Remove { writer, pick }),
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
    /// The values that a registry had acknowledged before it lost everything.
    lost: Vec<f64>,
}

/// The families whose totals must be exact: a counter, a histogram, a native histogram.
const COUNTED: [&str; 3] = ["c", "h", "n"];

pub(crate) struct World {
    pub(crate) registry: Option<Registry>,
    backup: Option<Vec<u8>>,
    /// Whether the schedule removes series.
    pub(crate) with_removals: bool,
    is_behind: bool,
    was_long: bool,
    pub(crate) writers: Vec<Writer>,
    /// Ended writers of which the registry has left something out.
    pub(crate) waiting: Vec<Writer>,
    limit: Limit,
    pub(crate) sent: Vec<Packet>,
    /// The counts, since the last loss, of writers that have left.
    left: [f64; 3],
    pub(crate) now_ms: u64,
    next_id: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            registry: None,
            backup: None,
            with_removals: false,
            is_behind: false,
            was_long: false,
            writers: Vec::new(),
            waiting: Vec::new(),
            limit: Limit::Nothing,
            sent: Vec::new(),
            left: [0.0; 3],
            now_ms: 1_000_000,
            next_id: 0,
        };
        world.writers = (0..WRITERS).map(|_| world.writer()).collect();
        world
    }

    fn limits(&self) -> Limits {
        let default = Limits::default();
        let is = |limit, low, usual| if self.limit == limit { low } else { usual };
        Limits {
            // Totals are compared only when all writers are back.
            healing_time_ms: u64::MAX,
            max_series: is(Limit::Series, 3, default.max_series),
            max_label_bytes: is(Limit::LabelBytes, 1, default.max_label_bytes),
            ..default
        }
    }

    fn stamp(&mut self) -> Stamp {
        self.now_ms += 1;
        self.next_id += 1;
        let (limits, fresh) = (self.limits(), Epoch(self.next_id));
        let registry = self
            .registry
            .get_or_insert_with(|| Registry::new(fresh, limits, self.now_ms));
        registry.stamp(self.now_ms, &limits, self.limit == Limit::Memory)
    }

    /// Reaches a limit, or lifts the present one.
    fn set_limit(&mut self, limit: Limit) {
        self.limit = limit;
        if self.registry.is_none() && limit != Limit::Conflict {
            return;
        }
        let stamp = self.stamp();
        let registry = self.registry.as_mut().unwrap();
        let (families, _) = registry.list_families(b"0").unwrap();
        let is_taken = |family: &FamilyEntry<'_>| {
            family.name == "h" && family.family_type == FamilyType::Counter
        };
        if limit == Limit::Conflict {
            // Refused if a writer has created the family first.
            let _ = registry.inc(&stamp, "h", &Labels::none(), 0.0, None);
        } else if families.iter().any(is_taken) {
            registry.del(&stamp, "h", None);
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
            Step::Remove { writer, pick } => {
                let series = &mut self.writers[writer].source.series;
                let pick = pick % series.len();
                series[pick].is_retired = series[pick].name != "g";
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
                // The same exception in reverse.
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
                self.end_full_states();
                if let Some(backup) = self.backup.clone() {
                    self.load(Some(backup));
                    self.is_behind = true;
                }
            }
            Step::LoseAll => {
                (self.registry, self.backup, self.left) = (None, None, [0.0; 3]);
                for writer in self.writers.iter_mut().chain(&mut self.waiting) {
                    writer.lost = writer.acked();
                }
            }
            Step::Successor { writer } => {
                // What a rollback has taken is not saved.
                if self.is_behind && self.with_removals {
                    self.all_back();
                }
                self.writers[writer].succeed();
            }
            Step::Leave { writer } => self.leave(writer),
            Step::Wait { ms } => {
                // A retention that ends together with a failover: documented as not exact.
                if std::mem::take(&mut self.is_behind) {
                    self.all_back();
                }
                if ms > 1_000_000 {
                    self.was_long = true;
                    self.backup = None;
                }
                self.now_ms += ms;
            }
            Step::Limit(limit) => self.set_limit(limit),
            Step::CarryOver => self.carry_over(),
        }
    }

    /// A full state does not name what was removed and acknowledged. A registry that is rolled back and
    /// then takes a full state from before does not show that it was: documented as not exact.
    fn end_full_states(&mut self) {
        if self.with_removals {
            self.all_back();
            self.sent.clear();
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
    ) -> Option<PushReply> {
        let stamp = self.stamp();
        let batch = Batch::decode(bytes).unwrap();
        let registry = self.registry.as_mut().unwrap();
        registry.check_writer(&stamp, writer).ok()?;
        Some(registry.push(&stamp, writer, seq, epoch, LEASE_MS, &batch))
    }

    pub(crate) fn push(&mut self, number: usize, fault: Fault) {
        let mut writer = self.writers.remove(number);
        self.push_of(&mut writer, fault);
        self.writers.insert(number, writer);
    }

    /// Pushes; false if the server refuses with an error for now.
    fn push_of(&mut self, writer: &mut Writer, fault: Fault) -> bool {
        let Some(push) = writer.session.heartbeat(&writer.source, self.now_ms) else {
            return true;
        };
        let id = writer.session.writer().to_vec();
        let mut is_accepted = true;
        if fault != Fault::RequestLost {
            let reply = self.deliver(&id, push.seq, push.epoch, &push.batch);
            is_accepted = reply.is_some();
            match reply {
                Some(reply) if fault == Fault::None => {
                    writer.session.on_reply(&reply, self.now_ms);
                }
                None if fault == Fault::None => writer.session.on_error(),
                _ => {}
            }
        }
        self.sent.push(Packet {
            writer: id,
            seq: push.seq,
            epoch: push.epoch,
            bytes: push.batch,
        });
        is_accepted
    }

    /// Pushes until nothing is new.
    pub(crate) fn settle(&mut self, number: usize) {
        let mut writer = self.writers.remove(number);
        let _refused = self.settle_of(&mut writer);
        self.writers.insert(number, writer);
    }

    fn settle_of(&mut self, writer: &mut Writer) -> bool {
        for _ in 0..100 {
            // First without an answer: the copy was sent and may still arrive.
            if writer.session.next(&writer.source, self.now_ms).is_none() {
                return true;
            }
            if !self.push_of(writer, Fault::None) {
                return false;
            }
        }
        panic!("a session does not come to rest");
    }

    /// Ends the process of a writer, and starts another.
    fn leave(&mut self, number: usize) {
        let new = self.writer();
        let mut gone = std::mem::replace(&mut self.writers[number], new);
        if !self.has_left(&mut gone) {
            self.waiting.push(gone);
        }
    }

    /// Lets an ended writer send the rest; it leaves if the registry has all of it.
    fn has_left(&mut self, gone: &mut Writer) -> bool {
        loop {
            if !self.settle_of(gone) || gone.session.left_out_count() > 0 {
                return false;
            }
            if self.says_leave(gone, gone.session.acked_seq()) {
                break;
            }
        }
        // A copy from before it left does not know that it left: the documented exception.
        self.backup = None;
        for (left, family) in self.left.iter_mut().zip(COUNTED) {
            *left += gone.counted(family);
        }
        true
    }

    fn says_leave(&mut self, gone: &mut Writer, seq: u64) -> bool {
        let Some((_, epoch)) = gone.session.leave() else {
            return true;
        };
        if self.registry.is_none() {
            return true;
        }
        let stamp = self.stamp();
        let registry = self.registry.as_mut().unwrap();
        let reply = registry.leave(&stamp, gone.session.writer(), seq, epoch);
        gone.session.on_leave_reply(&reply)
    }

    /// Moves the unapplied values of waiting writers to a new writer, and lets them leave.
    fn carry_over(&mut self) {
        if self.is_behind {
            // Acknowledged values that were lost are not carried over: documented as not exact.
            return;
        }
        let is_certain = |writer: &mut Writer| writer.session.is_certain();
        let merged: Vec<_> = self.waiting.extract_if(.., is_certain).collect();
        if merged.is_empty() {
            return;
        }
        let mut carrier = self.writer();
        for mut writer in merged {
            let acked = writer.acked();
            for (number, series) in writer.source.series.iter().enumerate() {
                let acked = writer.session.saved_point(number);
                carrier.carry(series, acked.map(|saved| &saved.acked));
            }
            for (left, family) in self.left.iter_mut().zip(COUNTED) {
                let of_family = |number: &usize| writer.source.series[*number].name == family;
                let lost = |number: usize| writer.lost.get(number).copied().unwrap_or(0.0);
                let numbers = (0..acked.len()).filter(of_family);
                *left += numbers
                    .map(|number| acked[number] - lost(number))
                    .sum::<f64>();
            }
            let seq = writer.session.seq();
            self.says_leave(&mut writer, seq);
        }
        // As for a writer that leaves.
        self.backup = None;
        self.waiting.push(carrier);
    }

    pub(crate) fn all_back(&mut self) {
        self.set_limit(Limit::Nothing);
        // Two rounds: the first answer may belong to a retry of an old batch.
        for _ in 0..2 {
            // After so much time a writer tries again what was left out.
            self.now_ms += 1000;
            for number in 0..WRITERS {
                self.push(number, Fault::None);
                self.settle(number);
            }
            let waiting = std::mem::take(&mut self.waiting);
            for mut writer in waiting {
                if !self.has_left(&mut writer) {
                    self.waiting.push(writer);
                }
            }
        }
        assert!(
            self.waiting.is_empty(),
            "all leave when nothing is left out"
        );
        for writer in &self.writers {
            assert_eq!(writer.session.left_out_count(), 0);
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
        for series in &mut self.source.series[..4] {
            series.is_retired = false;
        }
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

    /// Adds the part of another writer's series that was not acknowledged.
    fn carry(&mut self, of: &TestSeries, acked: Option<&Point>) {
        if of.family_type == FamilyType::Gauge(GaugeMode::LiveSum) {
            return;
        }
        let series = &mut self.source.series;
        let same = |series: &TestSeries| (series.name, &series.labels) == (of.name, &of.labels);
        let number = series.iter().position(same).unwrap_or_else(|| {
            series.push(TestSeries {
                point: of.point.zero(),
                ..of.clone()
            });
            series.len() - 1
        });
        match (&mut series[number].point, &of.point, acked) {
            (Point::Native(own), Point::Native(now), acked) => {
                let mut acked = match acked {
                    Some(Point::Native(acked)) => (**acked).clone(),
                    _ => NativeHistogram::empty(3, 0.0),
                };
                while acked.schema > now.schema {
                    coarsen(&mut acked);
                }
                while own.schema > now.schema {
                    coarsen(own);
                }
                let mut now = now.clone();
                while now.schema > own.schema {
                    coarsen(&mut now);
                    coarsen(&mut acked);
                }
                for (number, count) in now.positive {
                    let had = acked.positive.iter().find(|bucket| bucket.0 == number);
                    add_to_bucket(own, number, count - had.map_or(0, |bucket| bucket.1));
                }
            }
            (Point::Buckets { counts: own, .. }, Point::Buckets { counts, .. }, acked) => {
                for (at, (own, now)) in own.iter_mut().zip(counts).enumerate() {
                    *own += match acked {
                        Some(Point::Buckets { counts, .. }) => now - counts[at],
                        _ => *now,
                    };
                }
            }
            (Point::Scalar(own), Point::Scalar(now), acked) => {
                *own += now - acked.map_or(0.0, size)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Returns the acknowledged value of each series.
    fn acked(&self) -> Vec<f64> {
        let acked = |number| Some(size(&self.session.saved_point(number)?.acked));
        (0..self.source.series.len())
            .map(|number| acked(number).unwrap_or_default())
            .collect()
    }

    /// Returns what all series of a family should have added since the last loss.
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

/// Returns how much a point counts.
fn size(point: &Point) -> f64 {
    match point {
        Point::Scalar(value) | Point::Timed { value, .. } => *value,
        Point::Buckets { counts, .. } => counts.iter().sum::<u64>() as f64,
        Point::Native(native) => native.count() as f64,
    }
}

/// Adds so many observations to one bucket of a histogram that becomes coarser now and then.
fn observe(native: &mut NativeHistogram, times: u32) {
    add_to_bucket(native, times.cast_signed() % 7 - 3, times.into());
    native.sum += f64::from(times);
    if times % 5 == 4 && native.schema > 0 {
        coarsen(native);
    }
}

fn add_to_bucket(native: &mut NativeHistogram, number: i32, count: u64) {
    if count == 0 {
        return;
    }
    match native
        .positive
        .binary_search_by_key(&number, |bucket| bucket.0)
    {
        Ok(at) => native.positive[at].1 += count,
        Err(at) => native.positive.insert(at, (number, count)),
    }
}

fn coarsen(native: &mut NativeHistogram) {
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

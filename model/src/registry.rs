//! The registry: every family, series and writer behind one key, and what may happen to them.
//!
//! # How it works
//!
//! A *series* has a total. A *writer* has, for each series it writes, a memory of what it last sent;
//! a batch moves the total by the difference ([`push`]). Direct commands move totals without a
//! memory ([`direct`]). Reading ([`aggregate`], and the exposition) changes nothing.
//!
//! # Time
//!
//! Nothing here reads a clock. The primary decides the time of a command once
//! ([`Registry::stamp`]), and every server that repeats the command uses the same [`Stamp`]. So
//! replicas, AOF replays and restored copies go through exactly the same states. What ends by time
//! (leases, TTLs, retentions) is decided *as of* the moment when it ends, although a later write
//! does the work: see [`lifetime`].
//!
//! # What it costs
//!
//! A value of a known series is one step in the writer's memory and one in the series, both found
//! by number. An operation that could touch many series at once (a writer's end, the deletion of a
//! family) sets a mark in O(1). Later writes settle it, a few entries each; if no writes come,
//! [`Registry::settle`] does. Reading takes unsettled marks into account ([`ownership`]).

mod aggregate;
mod apply;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop here")]
mod bounds;
mod catalog;
mod deadlines;
mod declarations;
mod direct;
mod escaped;
mod exemplars;
mod groups;
mod healing;
mod layouts;
mod lifetime;
mod listing;
mod order;
mod ownership;
mod pids;
mod push;
mod relocate;
mod series;
mod state;
mod tombstones;
mod ttl;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hashbrown::DefaultHashBuilder;

use crate::id_table::IdTable;
use crate::ids::{FamilyId, SeriesId, WriterId};
use crate::labels::LabelError;
use crate::measured::Measured;
use crate::name::NameError;
use crate::slab::Slab;
use crate::{
    Epoch, ExemplarError, Limits, MAX_BUCKETS_OF_SERIES, MAX_LAYOUT_BOUNDS, MAX_LAYOUTS,
    MAX_LAYOUTS_OF_SERIES, Stamp,
};
pub use aggregate::Aggregate;
pub(crate) use aggregate::{BucketView, FamilyView, SeriesEntry, SeriesView};
use deadlines::Deadlines;
pub use direct::{Declaration, GaugeWrite, Observation};
use escaped::Escaped;
use exemplars::StoredExemplar;
use groups::Groups;
pub use groups::{Replaced, Replacement};
use healing::{Restart, Rollback};
use layouts::Layouts;
pub use listing::{FamilyEntry, Listing, WriterEntry, WriterState, WrongListCursor};
use order::Order;
pub use push::{PushReply, PushStatus};
pub use relocate::Relocate;
use series::{Family, Series};
use tombstones::Tombstones;
use ttl::Ttls;
use writer::Writer;

/// Maximum number of leases that are visited to count those that are over.
const COUNTED_LEASES: usize = 1000;

/// The state behind one key; see the [module](self).
#[derive(Debug, Clone)]
pub struct Registry {
    epoch: Epoch,
    limits: Limits,
    last_stamp_ms: u64,
    healing_since_ms: Option<u64>,
    /// When this server got a state that may be older than what pages have shown. Not part of the
    /// state.
    rollback: Option<Rollback>,

    families: Measured<FamilyId, Family>,
    by_name: BTreeMap<Box<str>, FamilyId>,
    /// Families that have ended while writers still remember their series, by name.
    ended: BTreeMap<Box<str>, Vec<FamilyId>>,
    /// Number of families whose name could be that of another family's start times.
    created_families: usize,
    layouts: Layouts,
    /// Exemplars of the few series that have any.
    exemplars: BTreeMap<SeriesId, Vec<StoredExemplar>>,
    groups: Groups,

    series: Slab<SeriesId, Series>,
    by_identity: IdTable<SeriesId>,
    escaped: Escaped,
    hasher: DefaultHashBuilder,
    last_created_no: u64,
    /// Number of series with a total.
    totals: usize,
    /// Times at which series without an owner have to be reviewed.
    deadlines: Deadlines,
    ttls: Ttls,
    /// Memory of label texts and totals outside the slab, in bytes.
    series_heap_bytes: usize,

    writers: Measured<WriterId, Writer>,
    by_writer: BTreeMap<Box<[u8]>, WriterId>,
    /// Ends of the leases of live writers, by the clock of leases; leases without end are not here.
    leases: BTreeSet<(u64, WriterId)>,
    /// Number of live writers whose lease has no end, not counting the writer without id.
    endless: u32,
    /// How far the clock of leases is behind: the total time in which rollbacks were not noticed.
    paused_ms: u64,
    /// End of the lease that ended last, as far as noted.
    latest_end_ms: u64,
    /// When writers whose lease is over will be forgotten.
    retirements: BTreeSet<(u64, WriterId)>,
    /// Writers with entries that do not agree with the writer's phase yet.
    unsettled: VecDeque<WriterId>,
    /// How many writers have entries that their last full state has not named, and are not marked yet.
    unnamed_writers: u32,
    /// Number of rollbacks so far.
    healing_no: u32,
    /// Number of leased writers that have sent nothing since the last rollback.
    missing: u32,
    restart: Option<Restart>,
    tombstones: Tombstones,
    /// Records of writers that are gone and settled, oldest first.
    gone: VecDeque<WriterId>,
    /// Series of families that were deleted whole, still to be removed.
    deleted: VecDeque<Order>,
    /// Families with a changed bucket layout, and the number of the last series that was updated.
    sweeps: VecDeque<(FamilyId, u64)>,

    rejected: [u64; Reason::EVERY.len()],
    expired: u64,
}

/// The reason why an entry of a batch was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The registry has as many series as its limit allows.
    SeriesLimit,
    /// A label text is longer than the limit allows.
    LabelBytes,
    /// A label name is wrong or reserved.
    Labels,
    /// A family name is wrong or reserved.
    Name,
    /// The family exists with another type, or its sample names belong to another.
    Conflict,
    /// Memory is full.
    Memory,
    /// A counter or bucket is lower than before.
    Decrease,
    /// The value does not fit the series.
    Value,
    /// The index was never defined, was retired, or was left out before.
    Index,
    /// A native histogram is coarser than its family allows.
    Schema,
    /// An exemplar's labels, value or time are wrong.
    Exemplar,
    /// The total would be too large for its type.
    Overflow,
    /// A text is too long, or there are too many buckets.
    Size,
}

impl Reason {
    /// Every reason.
    pub const EVERY: [Self; 13] = [
        Self::SeriesLimit,
        Self::LabelBytes,
        Self::Labels,
        Self::Name,
        Self::Conflict,
        Self::Memory,
        Self::Decrease,
        Self::Value,
        Self::Index,
        Self::Schema,
        Self::Exemplar,
        Self::Overflow,
        Self::Size,
    ];

    /// Returns the value of the label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SeriesLimit => "max_series",
            Self::LabelBytes => "max_label_bytes",
            Self::Labels => "labels",
            Self::Name => "name",
            Self::Conflict => "conflict",
            Self::Memory => "oom",
            Self::Decrease => "decrease",
            Self::Value => "value",
            Self::Index => "index",
            Self::Schema => "schema",
            Self::Exemplar => "exemplar",
            Self::Overflow => "overflow",
            Self::Size => "size",
        }
    }
}

/// The reason why a direct command is refused. It has changed nothing then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum RegistryError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Labels(#[from] LabelError),
    #[error("family '{family}' is a {found}, not a {expected}")]
    Type {
        family: String,
        found: String,
        expected: String,
    },
    #[error("family '{family}' would share the sample name '{sample}' with family '{other}'")]
    Conflict {
        family: String,
        sample: String,
        other: String,
    },
    #[error("the registry has {0} series, as many as metrics.max-series allows")]
    SeriesLimit(u64),
    #[error(
        "the registry remembers {0} series that have ended, for writers that may go on with them: four times as many as metrics.max-series allows"
    )]
    Remembered(u64),
    #[error("{found} bytes of labels, metrics.max-label-bytes allows {allowed}")]
    LabelBytes { found: usize, allowed: u64 },
    #[error("{what} of {found} bytes, at most {most} are allowed")]
    TextBytes {
        what: &'static str,
        found: usize,
        most: usize,
    },
    #[error(
        "the registry has {0} bucket layouts with {1} bounds, at most {MAX_LAYOUTS} with {MAX_LAYOUT_BOUNDS} are allowed"
    )]
    Layouts(usize, usize),
    #[error(
        "family '{0}' has a series with {MAX_LAYOUTS_OF_SERIES} bucket layouts or {MAX_BUCKETS_OF_SERIES} buckets, as many as are allowed"
    )]
    Buckets(String),
    #[error("label 'pid' is set by the registry in the modes all and liveall")]
    Pid,
    #[error("value {0} is not allowed: a counter grows by a finite number that is not negative")]
    CounterValue(f64),
    #[error("used memory > 'maxmemory', and the writer or its key is new: it has to wait")]
    NewWriter,
    #[error("family '{family}': {found} more would make {what} too large for its type")]
    Overflow {
        family: String,
        found: f64,
        what: &'static str,
    },
    #[error("an observation must be a number, not NaN")]
    Observation,
    #[error("a gauge in mode {0} can be set, but not added to")]
    AddToMostRecent(&'static str),
    #[error("writer '{0}' sends batches, so it cannot be written to directly")]
    PushWriter(String),
    #[error("BUCKETS only goes with a histogram, family '{family}' is a {found}")]
    NoBuckets { family: String, found: &'static str },
    #[error("EXEMPLAR does not go with a summary, and family '{0}' is one")]
    SummaryExemplar(String),
    #[error("family '{family}' is a {found}: it can be set, but not added to")]
    AddToFact { family: String, found: &'static str },
    #[error("value {value} is not allowed: {expected}")]
    Fact { value: f64, expected: &'static str },
    #[error("a series of stateset '{0}' needs a label of that name, which tells the state")]
    State(String),
    #[error(transparent)]
    Exemplar(#[from] ExemplarError),
    #[error("series {series} belongs to {owner}")]
    Owned { series: String, owner: String },
    #[error(
        "{reason}; '{family}' is not this group's alone: give the group's family another name or that type, or remove '{family}' with METRICS.DEL if nothing needs it any more"
    )]
    InTheWay { reason: Box<Self>, family: String },
    #[error("series {series}: {reason}")]
    Series { series: String, reason: Box<Self> },
    #[error("series {0} is defined twice")]
    SeriesTwice(String),
    #[error(
        "a group has counters, gauges in mode sum, histograms and summaries, without base and pid, found {0}"
    )]
    NotOfGroup(String),
    #[error(
        "batch {0} is out of order, expected a full batch, then more, and only the last one marked as last"
    )]
    NotARun(usize),
    #[error("a native histogram in schema {schema}, the lowest of its family is {floor}")]
    Schema { schema: i8, floor: i8 },
    #[error("{created} new series, and metrics.max-series leaves room for {room}")]
    Room { created: usize, room: u64 },
    #[error("more observations than 2^64 - 1")]
    Counts,
    #[error("used memory > 'maxmemory', and there are new series")]
    Memory,
}

impl RegistryError {
    /// Returns the same error about a group, with the family in its way and what to do about it.
    fn in_the_way(self, family: &str) -> Self {
        Self::InTheWay {
            reason: Box::new(self),
            family: family.to_owned(),
        }
    }

    /// Returns the same error, with the series that it is about.
    fn of_series(self, series: &str) -> Self {
        match self {
            named @ Self::Owned { .. } => named,
            reason => Self::Series {
                series: series.to_owned(),
                reason: Box::new(reason),
            },
        }
    }
}

impl Registry {
    /// Returns an empty registry.
    pub fn new(epoch: Epoch, limits: Limits, now_ms: u64) -> Self {
        Self {
            epoch,
            limits,
            last_stamp_ms: now_ms,
            healing_since_ms: None,
            rollback: None,
            families: Measured::default(),
            by_name: BTreeMap::new(),
            ended: BTreeMap::new(),
            created_families: 0,
            layouts: Layouts::default(),
            exemplars: BTreeMap::new(),
            groups: Groups::default(),
            series: Slab::default(),
            by_identity: IdTable::default(),
            escaped: Escaped::default(),
            hasher: DefaultHashBuilder::default(),
            last_created_no: 0,
            totals: 0,
            deadlines: Deadlines::default(),
            ttls: Ttls::default(),
            series_heap_bytes: 0,
            writers: Measured::default(),
            by_writer: BTreeMap::new(),
            leases: BTreeSet::new(),
            endless: 0,
            paused_ms: 0,
            latest_end_ms: 0,
            retirements: BTreeSet::new(),
            unsettled: VecDeque::new(),
            unnamed_writers: 0,
            healing_no: 0,
            missing: 0,
            restart: None,
            tombstones: Tombstones::default(),
            gone: VecDeque::new(),
            deleted: VecDeque::new(),
            sweeps: VecDeque::new(),
            rejected: Default::default(),
            expired: 0,
        }
    }

    /// Returns the epoch: which life of its key this registry is.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns the limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the time of the last write, in Unix milliseconds.
    pub fn last_stamp_ms(&self) -> u64 {
        self.last_stamp_ms
    }

    /// Returns a stamp that only repeats decisions of the last write. A write with this stamp can
    /// be replicated without it.
    pub fn last_stamp(&self) -> Stamp {
        Stamp::at(self.last_stamp_ms, self.epoch)
    }

    /// Returns the number of series with a total: `metrics.max-series` limits these.
    pub fn series_count(&self) -> usize {
        self.totals
    }

    /// Returns the number of series without a total. They are kept because a writer that may come
    /// back remembers them, or until a write removes them.
    pub fn remembered_count(&self) -> usize {
        self.series.len() - self.totals
    }

    /// Returns how many series have expired and were removed so far.
    pub fn expired_count(&self) -> u64 {
        self.expired
    }

    /// Returns how many entries of batches were left out, by reason.
    pub fn rejected(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::EVERY
            .into_iter()
            .zip(self.rejected)
            .filter(|(_, count)| *count > 0)
    }

    /// Adds to the number of entries left out for a reason; used for a page that joins several
    /// registries.
    pub fn count_rejected(&mut self, reason: Reason, count: u64) {
        let all = &mut self.rejected[reason as usize];
        *all = all.saturating_add(count);
    }

    /// Returns the reply of `METRICS.INFO`: names and values.
    pub fn info(&self, now_ms: u64) -> Vec<(&'static str, String)> {
        let due = self
            .leases
            .range(..=(self.lease_clock(now_ms), WriterId::NONE));
        let silent = self.retirements.len() + due.take(COUNTED_LEASES).count();
        let live = self.by_writer.len().saturating_sub(silent);
        let rejected = self
            .rejected()
            .map(|(reason, count)| format!("{}={count}", reason.name()));
        let limits = self.limits;
        vec![
            ("families", self.by_name.len().to_string()),
            ("series", self.shown_count(now_ms).to_string()),
            ("remembered", self.remembered_count().to_string()),
            ("groups", self.groups.len().to_string()),
            ("writers", live.to_string()),
            ("writers_silent", silent.to_string()),
            ("writers_gone", self.tombstones.len().to_string()),
            ("epoch", self.epoch.to_string()),
            ("bytes", self.memory_bytes().to_string()),
            ("healing", u8::from(self.is_healing(now_ms)).to_string()),
            ("last_write_ms", self.last_stamp_ms.to_string()),
            ("expired", self.expired.to_string()),
            ("rejected", rejected.collect::<Vec<_>>().join(",")),
            ("max_series", limits.max_series.to_string()),
            ("max_label_bytes", limits.max_label_bytes.to_string()),
            (
                "writer_retention_ms",
                limits.writer_retention_ms.to_string(),
            ),
            (
                "tombstone_retention_ms",
                limits.tombstone_retention_ms.to_string(),
            ),
            ("healing_time_ms", limits.healing_time_ms.to_string()),
            ("default_ttl_ms", limits.default_ttl_ms.to_string()),
        ]
    }

    /// Measures what the last write has changed, for [`memory_bytes`](Self::memory_bytes). Called
    /// after a write, at any interval.
    pub fn measure(&mut self) {
        self.families.measure();
        self.writers.measure();
    }

    /// Returns the bytes of memory, accurate enough for `MEMORY USAGE`. Walks only through what was
    /// written since the last [measurement](Self::measure).
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.families.bytes()
            + self.series.heap_bytes()
            + self.series_heap_bytes
            + self.by_identity.heap_bytes()
            + self.escaped.heap_bytes()
            + self.writers.bytes()
            + self.groups.heap_bytes()
            + self.layouts.heap_bytes()
            + self.tombstones.heap_bytes()
            + self.deadlines.heap_bytes()
            + self.ttls.heap_bytes()
    }

    fn reject(&mut self, reason: Reason) {
        self.rejected[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, BatchHeader, BatchWriter, FamilySpec, FamilyType, NativeHistogram, Point};

    const EPOCH: Epoch = Epoch(7);

    fn check(registry: &Registry) {
        for (_, writer) in registry.writers.iter() {
            assert_eq!(writer.memory_bytes, writer.walked_memory_bytes());
        }
        assert_eq!(registry.families.bytes(), registry.families.walked_bytes());
        assert_eq!(registry.writers.bytes(), registry.writers.walked_bytes());
    }

    fn push(registry: &mut Registry, now_ms: u64, writer: u64, seq: u64, histograms: usize) {
        let mut batch = BatchWriter::new();
        let summary = batch.family(&FamilySpec::new("s", FamilyType::Summary));
        let native = batch.family(&FamilySpec::new("n", FamilyType::NativeHistogram));
        for number in 0..histograms {
            let number = number.to_string();
            let labels = [("n", &*number)];
            let counts = vec![seq];
            let point = Point::Buckets { sum: 1.0, counts };
            batch.define(summary, 0, labels.into_iter(), "", None, &point, None);
            let mut histogram = NativeHistogram::empty(3, 0.0);
            histogram.positive = (0..seq as i32).map(|bucket| (bucket, seq)).collect();
            let point = Point::Native(Box::new(histogram));
            batch.define(native, 0, labels.into_iter(), "", None, &point, None);
        }
        let bytes = batch.finish(BatchHeader::FULL);
        let (stamp, id) = (Stamp::at(now_ms, EPOCH), writer.to_le_bytes());
        let batch = Batch::decode(&bytes).unwrap();
        registry.push(&stamp, &id, seq, Some(EPOCH), 100, &batch);
    }

    #[test]
    fn the_bytes_of_a_registry_are_known_without_a_walk() {
        let mut registry = Registry::new(EPOCH, Limits::default(), 0);
        for step in 0..400_u64 {
            let (writer, now_ms) = (step % 7, step * 30);
            push(
                &mut registry,
                now_ms,
                writer,
                step + 1,
                (step % 20) as usize,
            );
            if step % 11 == 0 {
                registry.leave(
                    &Stamp::at(now_ms, EPOCH),
                    &writer.to_le_bytes(),
                    step + 1,
                    Some(EPOCH),
                );
                registry.del(&Stamp::at(now_ms, EPOCH), "n", None);
            }
            check(&registry);
            if step % 3 == 0 {
                registry.measure();
                check(&registry);
            }
        }
        check(&Registry::decode_snapshot(&registry.encode_snapshot()).unwrap());
    }
}

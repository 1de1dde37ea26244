//! The registry: every family, series and writer behind one key, and what may happen to them.
//!
//! # How it works
//!
//! A *series* has a total. A *writer* has, for each series it writes, a memory of what it last sent;
//! a batch moves the total by the difference ([`push`]). Direct commands move totals without a
//! memory ([`direct`]). Reading ([`aggregate`], and the exposition) changes nothing.
//!
//! # Parts
//!
//! - [`catalog`]: families and series, their totals, the indexes by which they are found, the names
//!   they claim. It knows writers only as numbers.
//! - [`writers`]: leases, the phases of a writer's life, what each has sent, and what stays of one that
//!   has gone. They know series only as numbers.
//! - [`groups`]: series that are replaced together. A group knows its series as numbers.
//! - [`healing`]: whether pages may show less than before, and which writers are waited for.
//!
//! Each part states its invariants and checks them in tests (`check`), builds what follows from it
//! when it is decoded (`derive`), and changes only itself. What it needs of another part is an
//! argument of the method.
//!
//! The methods of [`Registry`] compose them: [`push`] accepts a batch and [`apply`] applies it, [`direct`]
//! does what single commands do, [`totals`] begins totals, frees series and counts owners, [`lifetime`]
//! settles what time has ended, [`ownership`] tells which writers own a series that is not settled, [`aggregate`] and
//! the exposition read, [`state`] writes and reads snapshots.
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
mod direct;
mod groups;
mod healing;
mod lifetime;
mod listing;
mod ownership;
mod pids;
mod push;
mod rejected;
mod relocate;
mod state;
mod totals;
mod writers;

use crate::ids::WriterId;
use crate::labels::LabelError;
use crate::name::NameError;
use crate::{
    Epoch, ExemplarError, FamilySpec, Limits, MAX_BUCKETS_OF_SERIES, MAX_LAYOUT_BOUNDS,
    MAX_LAYOUTS, MAX_LAYOUTS_OF_SERIES, Stamp,
};
pub use aggregate::Aggregate;
use catalog::Catalog;
pub(crate) use catalog::views::{BucketView, FamilyView, SeriesEntry, SeriesView};
pub use direct::{Declaration, GaugeWrite, Observation};
use groups::Groups;
pub use groups::{Replaced, Replacement};
use healing::Healing;
pub use listing::{FamilyEntry, Listing, WriterEntry, WriterState, WrongListCursor};
pub use push::{PushReply, PushStatus};
pub use rejected::Reason;
use rejected::Rejected;
pub use relocate::Relocate;
use writers::Writers;

/// Maximum number of leases that are visited to count those that are over.
const COUNTED_LEASES: usize = 1000;

/// The state behind one key; see the [module](self).
#[derive(Debug, Clone)]
pub struct Registry {
    epoch: Epoch,
    limits: Limits,
    last_stamp_ms: u64,
    catalog: Catalog,
    writers: Writers,
    groups: Groups,
    healing: Healing,
    rejected: Rejected,
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
            catalog: Catalog::default(),
            writers: Writers::default(),
            groups: Groups::default(),
            healing: Healing::default(),
            rejected: Rejected::default(),
        }
    }

    /// Returns the epoch: which life of its key this registry is.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns the catalogue: what a page shows needs nothing else to be found.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns the reason why a family of that name and type cannot be declared now, if another
    /// family has its name or one of its sample names.
    pub fn conflict(&self, spec: &FamilySpec<'_>) -> Option<RegistryError> {
        self.catalog.check_family(spec).err()
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
        self.catalog.totals
    }

    /// Returns the number of series without a total. They are kept because a writer that may come
    /// back remembers them, or until a write removes them.
    pub fn remembered_count(&self) -> usize {
        self.catalog.remembered_count()
    }

    /// Returns how many series have expired and were removed so far.
    pub fn expired_count(&self) -> u64 {
        self.catalog.expired
    }

    /// Returns how many entries of batches were left out, by reason.
    pub fn rejected(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.rejected.iter()
    }

    /// Adds to the number of entries left out for a reason; used for a page that joins several
    /// registries.
    pub fn count_rejected(&mut self, reason: Reason, count: u64) {
        self.rejected.add(reason, count);
    }

    /// Returns the reply of `METRICS.INFO`: names and values.
    pub fn info(&self, now_ms: u64) -> Vec<(&'static str, String)> {
        let due = self
            .writers
            .leases
            .range(..=(self.writers.lease_clock(now_ms), WriterId::NONE));
        let silent = self.writers.retirements.len() + due.take(COUNTED_LEASES).count();
        let live = self.writers.by_id.len().saturating_sub(silent);
        let rejected = self
            .rejected()
            .map(|(reason, count)| format!("{}={count}", reason.name()));
        let limits = self.limits;
        vec![
            ("families", self.catalog.by_name.len().to_string()),
            ("series", self.shown_count(now_ms).to_string()),
            ("remembered", self.catalog.remembered_count().to_string()),
            ("groups", self.groups.len().to_string()),
            ("writers", live.to_string()),
            ("writers_silent", silent.to_string()),
            ("writers_gone", self.writers.tombstones.len().to_string()),
            ("epoch", self.epoch.to_string()),
            ("bytes", self.memory_bytes().to_string()),
            ("healing", u8::from(self.is_healing(now_ms)).to_string()),
            ("last_write_ms", self.last_stamp_ms.to_string()),
            ("expired", self.catalog.expired.to_string()),
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
        self.catalog.families.measure();
        self.writers.table.measure();
    }

    /// Returns the bytes of memory, accurate enough for `MEMORY USAGE`. Walks only through what was
    /// written since the last [measurement](Self::measure).
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.catalog.heap_bytes()
            + self.writers.heap_bytes()
            + self.groups.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, BatchHeader, BatchWriter, FamilySpec, FamilyType, NativeHistogram, Point};

    const EPOCH: Epoch = Epoch(7);

    fn check(registry: &Registry) {
        registry.catalog.check();
        registry.writers.check();
        registry.healing.check(&registry.writers);
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
    fn the_parts_keep_their_invariants_and_know_their_bytes_without_a_walk() {
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

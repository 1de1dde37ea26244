//! PUSH and LEAVE: batches of absolute values, each applied exactly once.
//!
//! The rules are those of the section PUSH of `redis-module/README.md`; their numbers stand beside
//! the code. Whether a batch is accepted is decided before anything is touched
//! ([`Registry::admit`]): what is not applied changes nothing, not even the time.

use super::series::{Member, NONE, Total, is_countable};
use super::writer::{BucketMemory, Entry as Memory, Phase, Writer};
use super::{Reason, Registry, RegistryError, Stamp};
use crate::name::kept_name;
use crate::{
    Batch, BatchKind, BucketChanges, Define, Entry, Epoch, FamilySpec, FamilyType, Labels, Layout,
    Point,
};

/// How a registry answers a batch or a LEAVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushStatus {
    /// Applied.
    Ok,
    /// This seq, or a later one, was applied before.
    Dup,
    /// The registry does not know the state that the batch builds on: send the full state.
    Resync,
    /// The writer has left.
    Gone,
    /// The writer was silent for so long that only its last seq is known.
    Forgotten,
}

impl PushStatus {
    /// The word in the reply.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Dup => "DUP",
            Self::Resync => "RESYNC",
            Self::Gone => "GONE",
            Self::Forgotten => "FORGOTTEN",
        }
    }

    /// The status of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Ok,
            Self::Dup,
            Self::Resync,
            Self::Gone,
            Self::Forgotten,
        ]
        .into_iter()
        .find(|status| status.as_str() == word)
    }
}

/// The answer to a batch or a LEAVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushReply {
    /// What became of it; only [`PushStatus::Ok`] has changed anything.
    pub status: PushStatus,
    /// The registry's epoch.
    pub epoch: Epoch,
    /// The last seq of this writer that was applied; 0 if none is known.
    pub last_seq: u64,
    /// How many entries were left out.
    pub left_out: u64,
    /// When the whole key is to expire, in Unix milliseconds, if the batch says that it should.
    pub expire_at_ms: Option<u64>,
}

impl Registry {
    /// Applies one batch of a writer, or says why not.
    pub fn push(
        &mut self,
        stamp: &Stamp,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        lease_ms: u64,
        batch: &Batch<'_>,
    ) -> PushReply {
        let (status, last_seq) = self.admit(stamp, writer, seq, epoch, batch);
        if status != PushStatus::Ok {
            return self.reply(status, last_seq);
        }
        self.begin(stamp);
        let id = self.open_writer(writer);
        self.extend_lease(id, stamp.now_ms, Some(lease_ms));
        let header = batch.header();
        let writer = &mut self.writers[id];
        writer.seq = seq;
        match header.kind {
            BatchKind::Incremental => writer.is_healed = true,
            BatchKind::Full { .. } => {
                writer.index.clear();
                writer.run = Some(vec![false; writer.entries.len()]);
            }
            BatchKind::More => {}
        }
        let left_out = self.apply(stamp, id, batch);
        if header.last {
            self.end_run(id, stamp.now_ms);
        }
        let expire_at_ms = self.key_expiry(header.registry_ttl_ms);
        PushReply {
            left_out,
            expire_at_ms,
            ..self.reply(PushStatus::Ok, seq)
        }
    }

    /// Notes that a writer is gone for good.
    pub fn leave(
        &mut self,
        stamp: &Stamp,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
    ) -> PushReply {
        let known = self
            .by_writer
            .get(writer)
            .copied()
            .map(|id| (id, &self.writers[id]));
        // A writer that never sent a batch knows of no epoch.
        let is_direct = seq == 0 && known.is_some_and(|(_, writer)| writer.seq == 0);
        if !is_direct && epoch != Some(self.epoch) {
            return self.reply(
                PushStatus::Resync,
                known.map_or(0, |(_, writer)| writer.seq),
            );
        }
        let id = match known {
            None => return self.reply(PushStatus::Resync, 0),
            Some((_, writer)) if writer.phase == Phase::Closed => {
                return self.reply(PushStatus::Gone, writer.seq);
            }
            Some((_, writer)) if writer.seq != seq => {
                let forgotten = self.is_forgotten(writer, stamp);
                let status = if forgotten {
                    PushStatus::Forgotten
                } else {
                    PushStatus::Resync
                };
                return self.reply(status, writer.seq);
            }
            Some((id, _)) => id,
        };
        self.begin(stamp);
        // Beginning may have ended its tombstone's time: then it is as good as gone.
        let Some(writer) = self.writers.get(id) else {
            return self.reply(PushStatus::Ok, seq);
        };
        self.leases.remove(&(writer.lease_end_ms, id));
        self.schedule(
            id,
            stamp
                .now_ms
                .saturating_add(self.limits.tombstone_retention_ms),
        );
        let writer = &mut self.writers[id];
        if writer.phase == Phase::Live {
            writer.end_ms = stamp.now_ms;
        }
        (writer.phase, writer.gone_ms, writer.run) = (Phase::Closed, stamp.now_ms, None);
        self.unsettle(id);
        self.reply(PushStatus::Ok, seq)
    }

    /// The rules of acceptance, in their order.
    fn admit(
        &self,
        stamp: &Stamp,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        batch: &Batch<'_>,
    ) -> (PushStatus, u64) {
        let known = self.by_writer.get(writer).map(|id| &self.writers[*id]);
        let last_seq = known.map_or(0, |writer| writer.seq);
        let header = batch.header();
        let status = match known {
            // 1. A batch names the epoch it is meant for.
            _ if epoch != Some(self.epoch) => PushStatus::Resync,
            // 2. Who has left has left.
            Some(writer) if writer.phase == Phase::Closed => PushStatus::Gone,
            // 3. What was applied is not applied again.
            Some(writer) if seq <= writer.seq => PushStatus::Dup,
            // 4. Who was forgotten says what of it was counted: its base is the value at that seq.
            Some(writer) if self.is_forgotten(writer, stamp) => match header.kind {
                BatchKind::Full { forgotten_seq } if forgotten_seq == writer.seq => PushStatus::Ok,
                _ => PushStatus::Forgotten,
            },
            // 5. What builds on something needs it to be there.
            Some(writer) if header.kind == BatchKind::Incremental => {
                let follows = seq == writer.seq + 1 && writer.run.is_none() && writer.seq > 0;
                if follows {
                    PushStatus::Ok
                } else {
                    PushStatus::Resync
                }
            }
            Some(writer) if header.kind == BatchKind::More => {
                let follows = seq == writer.seq + 1 && writer.run.is_some();
                if follows {
                    PushStatus::Ok
                } else {
                    PushStatus::Resync
                }
            }
            None if !matches!(header.kind, BatchKind::Full { .. }) => PushStatus::Resync,
            // 6.
            _ => PushStatus::Ok,
        };
        (status, last_seq)
    }

    /// Whether a writer is forgotten at the time of the stamp, noted or not.
    fn is_forgotten(&self, writer: &Writer, stamp: &Stamp) -> bool {
        match writer.phase {
            Phase::Forgotten => true,
            Phase::Closed => false,
            Phase::Live | Phase::Ended => {
                // Where healing begins with this command, leases that were held run on from now.
                let was_held = writer.lease_end_ms > self.last_stamp_ms;
                let end = writer
                    .lease_end_ms
                    .saturating_add(self.limits.writer_retention_ms);
                end <= stamp.now_ms && !(stamp.healing_begins && was_held)
            }
        }
    }

    fn reply(&self, status: PushStatus, last_seq: u64) -> PushReply {
        PushReply {
            status,
            epoch: self.epoch,
            last_seq,
            left_out: 0,
            expire_at_ms: None,
        }
    }

    /// The writer of that id, alive.
    pub(super) fn open_writer(&mut self, writer: &[u8]) -> u32 {
        let Some(&id) = self.by_writer.get(writer) else {
            let id = self.writers.insert(Writer::new(writer));
            self.by_writer.insert(writer.into(), id);
            self.leases.insert((u64::MAX, id));
            return id;
        };
        if self.writers[id].phase != Phase::Live {
            if self.writers[id].is_gone() {
                // What it was is folded before it begins anew.
                self.settle_fully(id);
            }
            self.retirements.remove(&(self.writers[id].retires_ms, id));
            let writer = &mut self.writers[id];
            (writer.phase, writer.lease_end_ms) = (Phase::Live, u64::MAX);
            self.leases.insert((u64::MAX, id));
            self.unsettle(id);
        }
        id
    }

    pub(super) fn extend_lease(&mut self, id: u32, now_ms: u64, lease_ms: Option<u64>) {
        let writer = &mut self.writers[id];
        self.leases.remove(&(writer.lease_end_ms, id));
        writer.lease_end_ms = lease_ms.map_or(u64::MAX, |lease| now_ms.saturating_add(lease));
        self.leases.insert((writer.lease_end_ms, id));
    }

    fn key_expiry(&self, registry_ttl_ms: u64) -> Option<u64> {
        let (latest, _) = self.leases.last()?;
        let expires = registry_ttl_ms > 0 && *latest != u64::MAX;
        expires.then(|| latest.saturating_add(registry_ttl_ms))
    }

    /// What the full state did not name is no longer this writer's.
    fn end_run(&mut self, id: u32, now_ms: u64) {
        let writer = &mut self.writers[id];
        writer.is_healed = true;
        let Some(named) = writer.run.take() else {
            return;
        };
        for (at, _) in named.into_iter().enumerate().filter(|(_, named)| !named) {
            self.retire(id, at, now_ms);
        }
    }

    /// Applies every entry and returns how many were left out.
    fn apply(&mut self, stamp: &Stamp, id: u32, batch: &Batch<'_>) -> u64 {
        let now_ms = stamp.now_ms;
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        let mut left_out = 0;
        for entry in batch.entries() {
            let applied = match entry {
                Entry::Value { index, value } => self.value(id, index, value, 0.0, now_ms),
                Entry::Timed { index, value, time } => self.value(id, index, value, time, now_ms),
                Entry::Buckets {
                    index,
                    sum,
                    changes,
                } => self.buckets(id, index, sum, changes, now_ms),
                Entry::Retire { index } => match self.writers[id].indexed(index) {
                    Some(at) => {
                        self.writers[id].index[index as usize] = NONE;
                        self.retire(id, at, now_ms);
                        Ok(())
                    }
                    None => Err(Reason::Index),
                },
                Entry::Family(family) => {
                    families.push(family);
                    Ok(())
                }
                Entry::Layout(layout) => {
                    layouts.push(layout);
                    Ok(())
                }
                Entry::Define(define) => {
                    let defined = self.define(stamp, id, &define, &families, &layouts);
                    self.writers[id]
                        .index
                        .push(defined.map_or(NONE, |at| at as u32));
                    defined.map(|_| ())
                }
            };
            if let Err(reason) = applied {
                self.reject(reason);
                left_out += 1;
            }
        }
        left_out
    }

    /// Takes a gauge's value away; of anything else, the ownership.
    fn retire(&mut self, id: u32, at: usize, now_ms: u64) {
        self.set_owned(id, at, false, now_ms);
        let entry = &mut self.writers[id].entries[at];
        entry.set_retired(true);
        if let Total::Gauge(gauge) = &mut self.series[entry.series].total {
            gauge.remove(entry.place(), id);
        }
    }

    /// A scalar's new value. This is the hot path: everything else in this file is rare.
    #[inline]
    fn value(
        &mut self,
        id: u32,
        index: u32,
        value: f64,
        time: f64,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let at = self.writers[id].indexed(index).ok_or(Reason::Index)?;
        let entry = self.writers[id].entries[at];
        if !entry.is_owned() || !self.has_total(entry.series) {
            self.begin_total(entry.series, now_ms)?;
            self.set_owned(id, at, true, now_ms);
        }
        let entry = &mut self.writers[id].entries[at];
        let series = &mut self.series[entry.series];
        match &mut series.total {
            Total::Counter(sum) => {
                if !value.is_finite() {
                    return Err(Reason::Value);
                }
                if value < entry.last {
                    return Err(Reason::Decrease);
                }
                sum.add_difference(value, entry.last);
                entry.last = value;
            }
            Total::Gauge(gauge) => {
                // A clock that runs ahead would win for ever.
                let now = now_ms as f64 / 1000.0;
                let time = if time > now + 60.0 { now } else { time };
                let before = gauge.heap_bytes();
                entry.set_place(gauge.set(
                    entry.place(),
                    Member {
                        writer: id,
                        value: value - entry.last,
                        time,
                    },
                ));
                self.series_heap_bytes += gauge.heap_bytes() - before;
            }
            Total::Buckets(_) => return Err(Reason::Value),
        }
        series.idle_since_ms = now_ms;
        Ok(())
    }

    /// New counts of some buckets.
    fn buckets(
        &mut self,
        id: u32,
        index: u32,
        sum: f64,
        changes: BucketChanges<'_>,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let at = self.writers[id].indexed(index).ok_or(Reason::Index)?;
        let place = self.writers[id].entries[at].place() as usize;
        let memory = self.writers[id].buckets.get(place).ok_or(Reason::Value)?;
        let mut counts = memory.counts.clone();
        for (bucket, count) in changes {
            *counts.get_mut(bucket).ok_or(Reason::Value)? = count;
        }
        self.write_buckets(id, at, sum, &counts, now_ms)
    }

    fn write_buckets(
        &mut self,
        id: u32,
        at: usize,
        sum: f64,
        counts: &[u64],
        now_ms: u64,
    ) -> Result<(), Reason> {
        let entry = self.writers[id].entries[at];
        let memory = &self.writers[id].buckets[entry.place() as usize];
        if counts
            .iter()
            .zip(&memory.counts)
            .any(|(new, old)| new < old)
        {
            return Err(Reason::Decrease);
        }
        if !entry.is_owned() || !self.has_total(entry.series) {
            self.begin_total(entry.series, now_ms)?;
            self.set_owned(id, at, true, now_ms);
        }
        let memory = &mut self.writers[id].buckets[entry.place() as usize];
        let series = &mut self.series[entry.series];
        let before = series.total.heap_bytes();
        let Total::Buckets(total) = &mut series.total else {
            return Err(Reason::Value);
        };
        let part = total.part(memory.layout, counts.len());
        for ((total, new), old) in part.counts.iter_mut().zip(counts).zip(&mut memory.counts) {
            *total = total.wrapping_add(new - *old);
            *old = *new;
        }
        part.add_to_sum(sum, memory.sum);
        memory.sum = sum;
        series.idle_since_ms = now_ms;
        self.series_heap_bytes += series.total.heap_bytes() - before;
        Ok(())
    }

    /// A series of this writer, with its value: memory wins over base. Returns its entry.
    fn define(
        &mut self,
        stamp: &Stamp,
        id: u32,
        define: &Define<'_>,
        families: &[FamilySpec<'_>],
        layouts: &[Layout],
    ) -> Result<usize, Reason> {
        let spec = &families[define.family];
        let is_counter = spec.family_type == FamilyType::Counter;
        if is_counter && !define.base.iter().chain([&define.point]).all(is_countable) {
            return Err(Reason::Value);
        }
        let labels = Labels::new(define.labels).map_err(|_| Reason::Labels)?;
        self.check_labels(spec.family_type, &labels)
            .map_err(|e| Reason::of(&e))?;
        let family = match self.check_family(spec).map_err(|e| Reason::of(&e))? {
            None => self.ended_family(kept_name(spec).unwrap_or_default(), spec.family_type),
            family => family,
        };
        let known = family.and_then(|family| self.find_series(family, labels.as_str()));
        let memory = known.and_then(|series| self.writers[id].find(series));
        if memory.is_none() && stamp.refuse_definitions {
            return Err(Reason::Memory);
        }
        if known.is_none() {
            self.check_room().map_err(|e| Reason::of(&e))?;
        }
        let layout = match (define.layout, spec.family_type) {
            (Some(number), _) => Some(self.layout_for(&layouts[number])),
            (None, FamilyType::Summary) => Some(self.layout_for(&Layout::none())),
            (None, _) => None,
        };
        if let Some(at) = memory {
            self.check_memory(id, at, layout, &define.point)?;
        } else {
            check_base(is_counter, &define.point, define.base.as_ref())?;
        }

        let family = self.family_for(spec).map_err(|e| Reason::of(&e))?;
        let series = match known {
            Some(series) => series,
            None => self.create_series(family, labels.as_str()),
        };
        let at = match memory {
            Some(at) => at,
            None => self.remember(id, series, layout, define),
        };
        if !define.pid.is_empty() {
            self.writers[id].pid = define.pid.into();
        }
        self.set_series_ttl(series, define.ttl_ms);
        let writer = &mut self.writers[id];
        writer.entries[at].set_retired(false);
        if let Some(named) = &mut writer.run {
            named[at] = true;
        }
        let now_ms = stamp.now_ms;
        match &define.point {
            Point::Buckets { sum, counts } => self.write_buckets(id, at, *sum, counts, now_ms)?,
            point => {
                let (value, time) = match point {
                    Point::Timed { value, time } => (*value, *time),
                    Point::Scalar(value) => (*value, 0.0),
                    Point::Buckets { .. } => return Err(Reason::Value),
                };
                // The entry has no index yet: give it one for the length of this call.
                let index = self.writers[id].index.len() as u32;
                self.writers[id].index.push(at as u32);
                let written = self.value(id, index, value, time, now_ms);
                self.writers[id].index.pop();
                written?;
            }
        }
        Ok(at)
    }

    fn check_memory(
        &self,
        id: u32,
        at: usize,
        layout: Option<u32>,
        point: &Point,
    ) -> Result<(), Reason> {
        let writer = &self.writers[id];
        let entry = writer.entries[at];
        match (point, &self.series[entry.series].total) {
            (Point::Scalar(value), Total::Counter(_)) if *value < entry.last => {
                Err(Reason::Decrease)
            }
            (Point::Buckets { counts, .. }, _) => {
                let memory = writer
                    .buckets
                    .get(entry.place() as usize)
                    .ok_or(Reason::Value)?;
                if Some(memory.layout) != layout {
                    return Err(Reason::Conflict);
                }
                let decreases = counts
                    .iter()
                    .zip(&memory.counts)
                    .any(|(new, old)| new < old);
                if decreases {
                    Err(Reason::Decrease)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    /// Begins the memory of a series at its base.
    fn remember(
        &mut self,
        id: u32,
        series: u32,
        layout: Option<u32>,
        define: &Define<'_>,
    ) -> usize {
        let zero = define.point.zero();
        let base = define.base.as_ref().unwrap_or(&zero);
        self.series[series].memories += 1;
        let writer = &mut self.writers[id];
        let entry = match base {
            Point::Scalar(value) => Memory::new(series, *value),
            Point::Timed { .. } => Memory::new(series, 0.0),
            Point::Buckets { sum, counts } => {
                let layout = layout.unwrap_or(NONE);
                writer.buckets.push(BucketMemory {
                    layout,
                    sum: *sum,
                    counts: counts.as_slice().into(),
                });
                let mut entry = Memory::new(series, 0.0);
                entry.set_place((writer.buckets.len() - 1) as u32);
                entry
            }
        };
        writer.remember(entry)
    }
}

/// A base is something that was counted already, so it cannot be above the value.
fn check_base(is_counter: bool, point: &Point, base: Option<&Point>) -> Result<(), Reason> {
    let fits = match (point, base) {
        (Point::Scalar(value), Some(Point::Scalar(base))) if is_counter => base <= value,
        (Point::Buckets { counts, .. }, Some(Point::Buckets { counts: base, .. })) => {
            counts.iter().zip(base).all(|(value, base)| base <= value)
        }
        _ => true,
    };
    if fits { Ok(()) } else { Err(Reason::Decrease) }
}

impl Reason {
    fn of(error: &RegistryError) -> Self {
        match error {
            RegistryError::Name(_) => Self::Name,
            RegistryError::Labels(_) | RegistryError::Pid => Self::Labels,
            RegistryError::SeriesLimit(_) => Self::SeriesLimit,
            RegistryError::LabelBytes { .. } => Self::LabelBytes,
            RegistryError::Type { .. } | RegistryError::Conflict { .. } => Self::Conflict,
            _ => Self::Value,
        }
    }
}

//! Applying the entries of an accepted batch: the difference to what its writer sent before.

use super::series::{Member, NONE, Total, is_countable};
use super::writer::{BucketMemory, Entry as Memory};
use super::{Reason, Registry, RegistryError, Stamp};
use crate::footprint::push_tightly;
use crate::name::kept_name;
use crate::{
    Batch, BucketChanges, Define, Entry, Exemplar, FamilySpec, FamilyType, Labels, Layout,
    NativeHistogram, Pairs, Point,
};

impl Registry {
    /// Applies every entry and returns how many were left out.
    pub(super) fn apply(&mut self, stamp: &Stamp, id: u32, batch: &Batch<'_>) -> u64 {
        let now_ms = stamp.now_ms;
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        let mut left_out = 0;
        for entry in batch.entries() {
            let applied = match entry {
                Entry::Values(values) => {
                    let mut rest = values.iter();
                    while let Some((index, value)) = self.count_up(id, &mut rest, now_ms) {
                        if let Err(reason) = self.value(id, index, value, 0.0, now_ms) {
                            self.reject(reason);
                            left_out += 1;
                        }
                    }
                    Ok(())
                }
                Entry::Timed { index, value, time } => self.value(id, index, value, time, now_ms),
                Entry::Buckets {
                    index,
                    sum,
                    changes,
                } => self.buckets(id, index, sum, changes, now_ms),
                Entry::Native { index, histogram } => self.native(id, index, &histogram, now_ms),
                Entry::Exemplar {
                    index,
                    value,
                    time,
                    labels,
                } => self.exemplar(id, index, (value, time), labels, now_ms),
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

    /// What the full state did not name is no longer this writer's.
    pub(super) fn end_run(&mut self, id: u32, now_ms: u64) {
        let writer = &mut self.writers[id];
        let Some(named) = writer.run.take() else {
            return;
        };
        for (at, _) in named.into_iter().enumerate().filter(|(_, named)| !named) {
            self.retire(id, at, now_ms);
        }
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
        let writer = &mut self.writers[id];
        let at = writer.indexed(index).ok_or(Reason::Index)?;
        let entry = &mut writer.entries[at];
        let series = &mut self.series[entry.series];
        let family = &self.families[series.family];
        let has_total = series.created_no > family.deleted_up_to;
        if !entry.is_owned() || !has_total {
            self.own(id, at, now_ms)?;
            return self.value(id, index, value, time, now_ms);
        }
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
                if !family.family_type.allows(value) {
                    return Err(Reason::Value);
                }
                let time = not_ahead(time, now_ms);
                let before = gauge.heap_bytes();
                entry.set_place(gauge.set(
                    entry.place(),
                    Member {
                        writer: id,
                        is_live: true,
                        value: value - entry.last,
                        time,
                    },
                ));
                self.series_heap_bytes += gauge.heap_bytes() - before;
            }
            Total::Buckets(_) | Total::Native(_) => return Err(Reason::Value),
        }
        series.idle_since_ms = now_ms;
        Ok(())
    }

    /// Takes values as long as they are of counters that have grown, which is nearly always: the short
    /// way. Returns the first that [`value`](Self::value) has to look at.
    fn count_up(
        &mut self,
        id: u32,
        values: &mut impl Iterator<Item = (u32, f64)>,
        now_ms: u64,
    ) -> Option<(u32, f64)> {
        let writer = &mut self.writers[id];
        values.find(|(index, value)| {
            let entry = writer.indexed(*index).map(|at| &mut writer.entries[at]);
            let Some(entry) = entry.filter(|entry| entry.is_owned()) else {
                return true;
            };
            let series = &mut self.series[entry.series];
            let deleted_up_to = self.families[series.family].deleted_up_to;
            match &mut series.total {
                Total::Counter(sum)
                    if series.created_no > deleted_up_to
                        && value.is_finite()
                        && *value >= entry.last =>
                {
                    sum.add_difference(*value, entry.last);
                    entry.last = *value;
                    series.idle_since_ms = now_ms;
                    false
                }
                _ => true,
            }
        })
    }

    /// Makes sure that there is a total to write to, and that the writer counts as its owner.
    #[cold]
    fn own(&mut self, id: u32, at: usize, now_ms: u64) -> Result<(), Reason> {
        self.begin_total(self.writers[id].entries[at].series, now_ms)?;
        self.set_owned(id, at, true, now_ms);
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
            self.own(id, at, now_ms)?;
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
        part.sum.add(sum, memory.sum);
        memory.sum = sum;
        series.idle_since_ms = now_ms;
        self.series_heap_bytes += series.total.heap_bytes() - before;
        Ok(())
    }

    /// The new state of a native histogram.
    fn native(
        &mut self,
        id: u32,
        index: u32,
        now: &NativeHistogram,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let at = self.writers[id].indexed(index).ok_or(Reason::Index)?;
        self.write_native(id, at, now, now_ms)
    }

    fn write_native(
        &mut self,
        id: u32,
        at: usize,
        now: &NativeHistogram,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let entry = self.writers[id].entries[at];
        if now.schema < self.schema_floor(Some(self.series[entry.series].family)) {
            return Err(Reason::Schema);
        }
        let place = entry.place() as usize;
        let memory = self.writers[id].natives.get(place).ok_or(Reason::Value)?;
        let counted = now.since(memory).ok_or(Reason::Decrease)?;
        if !entry.is_owned() || !self.has_total(entry.series) {
            self.own(id, at, now_ms)?;
        }
        let series = &mut self.series[entry.series];
        let before = series.total.heap_bytes();
        let Total::Native(total) = &mut series.total else {
            return Err(Reason::Value);
        };
        let memory = &mut self.writers[id].natives[place];
        total.add(counted, memory.sum);
        memory.clone_from(now);
        series.idle_since_ms = now_ms;
        self.series_heap_bytes += series.total.heap_bytes();
        self.series_heap_bytes -= before;
        Ok(())
    }

    fn exemplar(
        &mut self,
        id: u32,
        index: u32,
        (value, time): (f64, f64),
        labels: Pairs<'_>,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let at = self.writers[id].indexed(index).ok_or(Reason::Index)?;
        let exemplar = Exemplar::new(labels, value, not_ahead(time, now_ms));
        let exemplar = exemplar.map_err(|_| Reason::Exemplar)?;
        let entry = self.writers[id].entries[at];
        let layout = match &self.series[entry.series].total {
            Total::Counter(_) | Total::Native(_) => None,
            Total::Buckets(_) => {
                let place = entry.place() as usize;
                let memory = self.writers[id].buckets.get(place).ok_or(Reason::Value)?;
                if self.layouts[memory.layout as usize].is_empty() {
                    // A summary has no place for it.
                    return Err(Reason::Exemplar);
                }
                Some(memory.layout)
            }
            Total::Gauge(_) => return Err(Reason::Exemplar),
        };
        if self.has_total(entry.series) {
            self.keep_exemplar(entry.series, layout, exemplar);
        }
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
        if matches!(define.point, Point::Scalar(value) if !spec.family_type.allows(value)) {
            return Err(Reason::Value);
        }
        let is_counter = spec.family_type == FamilyType::Counter;
        if is_counter && !define.base.iter().chain([&define.point]).all(is_countable) {
            return Err(Reason::Value);
        }
        let labels = Labels::new(define.labels).map_err(|_| Reason::Labels)?;
        self.check_labels(spec, &labels)
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
        } else if matches!(&define.point, Point::Native(now) if now.schema < self.schema_floor(family))
        {
            return Err(Reason::Schema);
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
            Point::Native(now) => self.write_native(id, at, now, now_ms)?,
            point => {
                let (value, time) = match point {
                    Point::Timed { value, time } => (*value, *time),
                    Point::Scalar(value) => (*value, 0.0),
                    Point::Buckets { .. } | Point::Native(_) => return Err(Reason::Value),
                };
                // The entry has no index yet: give it one for the length of this call.
                let index = self.writers[id].index.len() as u32;
                push_tightly(&mut self.writers[id].index, at as u32);
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
            (Point::Native(now), _) => {
                let memory = writer.natives.get(entry.place() as usize);
                let counted = memory.and_then(|memory| now.since(memory));
                counted.map(|_| ()).ok_or(Reason::Decrease)
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
            Point::Native(base) => {
                writer.natives.push((**base).clone());
                let mut entry = Memory::new(series, 0.0);
                entry.set_place((writer.natives.len() - 1) as u32);
                entry
            }
        };
        writer.remember(entry)
    }
}

/// A clock that runs ahead would win for ever.
fn not_ahead(time: f64, now_ms: u64) -> f64 {
    let now = now_ms as f64 / 1000.0;
    if time > now + 60.0 { now } else { time }
}

/// A base is something that was counted already, so it cannot be above the value.
fn check_base(is_counter: bool, point: &Point, base: Option<&Point>) -> Result<(), Reason> {
    let fits = match (point, base) {
        (Point::Scalar(value), Some(Point::Scalar(base))) if is_counter => base <= value,
        (Point::Buckets { counts, .. }, Some(Point::Buckets { counts: base, .. })) => {
            counts.iter().zip(base).all(|(value, base)| base <= value)
        }
        (Point::Native(value), Some(Point::Native(base))) => value.since(base).is_some(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(Reason::Decrease) }
}

impl Reason {
    fn of(error: &RegistryError) -> Self {
        match error {
            RegistryError::Name(_) => Self::Name,
            RegistryError::Labels(_) | RegistryError::Pid | RegistryError::State(_) => Self::Labels,
            RegistryError::SeriesLimit(_) => Self::SeriesLimit,
            RegistryError::LabelBytes { .. } => Self::LabelBytes,
            RegistryError::Type { .. } | RegistryError::Conflict { .. } => Self::Conflict,
            _ => Self::Value,
        }
    }
}

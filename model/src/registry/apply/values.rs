//! Applies new values of series that a writer has defined.

use crate::ids::{SeriesId, WriterId};
use crate::registry::catalog::series::{Buckets, Member, Native, Total};
use crate::registry::writers::Entry;
use crate::registry::{Reason, Registry};
use crate::sum::Sum;
use crate::{BucketChanges, NativeHistogram};

impl Registry {
    /// Applies values as long as they are of counters that have grown, which is nearly always so:
    /// the fast way. Returns the first value that needs [`value`](Self::value).
    pub(super) fn count_up(
        &mut self,
        id: WriterId,
        values: &mut impl Iterator<Item = (u32, f64)>,
        now_ms: u64,
    ) -> Option<(u32, f64)> {
        let writer = &mut self.writers[id];
        if writer.is_queued {
            // The entries may belong to an earlier life of the writer.
            return values.next();
        }
        values.find(|(index, value)| {
            let entry = writer.indexed(*index).map(|at| &mut writer.entries[at]);
            let Some(entry) = entry.filter(|entry| entry.is_owned()) else {
                return true;
            };
            let series = &mut self.catalog.series[entry.series];
            let deleted_up_to = self.catalog.families[series.family].deleted_up_to;
            match &mut series.total {
                Total::Counter(sum) if series.created_no > deleted_up_to => {
                    let counted = count(sum, entry, *value);
                    if counted.is_ok() {
                        series.idle_since_ms = now_ms;
                    }
                    counted.is_err()
                }
                _ => true,
            }
        })
    }

    /// Applies a new value of a counter or gauge.
    pub(super) fn value(
        &mut self,
        id: WriterId,
        index: u32,
        value: f64,
        time: f64,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let at = self.writers[id].indexed(index).ok_or(Reason::Index)?;
        self.write_value(id, at, value, time, now_ms)
    }

    pub(super) fn write_value(
        &mut self,
        id: WriterId,
        at: usize,
        value: f64,
        time: f64,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let entry = self.writers[id].entries[at];
        let series_id = entry.series;
        let series = &self.catalog.series[series_id];
        match &series.total {
            Total::Counter(_) => {
                let total = self.running_total(entry.series, now_ms);
                grown(counter_of(total), entry.last, value)?;
            }
            Total::Gauge(_) => {
                let family_type = self.catalog.families[series.family].family_type;
                if !family_type.allows(value) {
                    return Err(Reason::Value);
                }
                above_base(value, entry.last)?;
            }
            Total::Buckets(_) | Total::Native(_) => return Err(Reason::Value),
        }
        if !self.is_writable(id, at) {
            self.own(id, at, now_ms)?;
        }
        let entry = &mut self.writers[id].entries[at];
        let series = &mut self.catalog.series[entry.series];
        match &mut series.total {
            Total::Counter(sum) => count(sum, entry, value)?,
            Total::Gauge(_) => {
                let (series, place) = (entry.series, entry.place());
                let member = Member {
                    writer: id,
                    is_live: true,
                    value: above_base(value, entry.last)?,
                    time: not_ahead(time, now_ms),
                };
                let place = self.set_member(series, place, member);
                self.writers[id].entries[at].set_place(place);
            }
            Total::Buckets(_) | Total::Native(_) => return Err(Reason::Value),
        }
        self.catalog.series[series_id].idle_since_ms = now_ms;
        Ok(())
    }

    /// Returns the total that a write at that time continues; `None` if the write begins a new one.
    pub(in crate::registry) fn running_total(
        &self,
        series: SeriesId,
        now_ms: u64,
    ) -> Option<&Total> {
        let is_running = self.catalog.has_total(series) && !self.is_expired(series, now_ms);
        is_running.then(|| &self.catalog.series[series].total)
    }

    /// Returns whether an entry counts among the owners of a total that goes on.
    #[inline]
    fn is_writable(&self, id: WriterId, at: usize) -> bool {
        let writer = &self.writers[id];
        let entry = writer.entries[at];
        entry.is_owned() && !writer.is_queued && self.catalog.has_total(entry.series)
    }

    /// Makes sure that the series has a total to write to, and that the writer counts as its owner.
    #[cold]
    fn own(&mut self, id: WriterId, at: usize, now_ms: u64) -> Result<(), Reason> {
        let series = self.writers[id].entries[at].series;
        self.check_not_of_group(Some(series), now_ms)
            .map_err(|error| Reason::of(&error))?;
        self.catalog
            .check_total(Some(series), &self.limits)
            .map_err(|_| Reason::SeriesLimit)?;
        self.begin_total(series, now_ms)?;
        self.set_owned(id, at, true, now_ms);
        Ok(())
    }

    /// Applies new counts of some buckets, in ascending order.
    pub(super) fn buckets(
        &mut self,
        id: WriterId,
        index: u32,
        sum: f64,
        changes: BucketChanges<'_>,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let at = self.writers[id].indexed(index).ok_or(Reason::Index)?;
        self.write_buckets(id, at, sum, changes, now_ms)
    }

    pub(super) fn write_buckets(
        &mut self,
        id: WriterId,
        at: usize,
        sum: f64,
        changes: impl Iterator<Item = (usize, u64)> + Clone,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let entry = self.writers[id].entries[at];
        let place = entry.place() as usize;
        let memory = self.writers[id].buckets.get(place).ok_or(Reason::Value)?;
        let more = counted(changes.clone(), &memory.counts)?;
        let layout = (memory.layout, memory.counts.len());
        let part_sum = match self.running_total(entry.series, now_ms) {
            Some(Total::Buckets(total)) => total.sum_with(layout, more, sum, memory.sum)?,
            Some(_) => return Err(Reason::Value),
            None => Buckets::default().sum_with(layout, more, sum, memory.sum)?,
        };
        if !self.is_writable(id, at) {
            self.own(id, at, now_ms)?;
        }
        let memory = &mut self.writers[id].buckets[place];
        let series = &mut self.catalog.series[entry.series];
        let before = series.total.heap_bytes();
        let Total::Buckets(total) = &mut series.total else {
            return Err(Reason::Value);
        };
        total.count += more;
        let part = total.part(memory.layout, memory.counts.len());
        part.sum = part_sum;
        for (bucket, count) in changes {
            let old = std::mem::replace(&mut memory.counts[bucket], count);
            part.counts[bucket] += count - old;
        }
        memory.sum = sum;
        series.idle_since_ms = now_ms;
        self.catalog.series_heap_bytes += series.total.heap_bytes();
        self.catalog.series_heap_bytes -= before;
        Ok(())
    }

    /// Applies the new state of a native histogram.
    pub(super) fn native(
        &mut self,
        id: WriterId,
        index: u32,
        now: &NativeHistogram,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let at = self.writers[id].indexed(index).ok_or(Reason::Index)?;
        self.write_native(id, at, now, now_ms)
    }

    pub(super) fn write_native(
        &mut self,
        id: WriterId,
        at: usize,
        now: &NativeHistogram,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let entry = self.writers[id].entries[at];
        if now.schema
            < self
                .catalog
                .schema_floor(Some(self.catalog.series[entry.series].family))
        {
            return Err(Reason::Schema);
        }
        let place = entry.place() as usize;
        let memory = self.writers[id].natives.get(place).ok_or(Reason::Value)?;
        let counted = now.since(memory).ok_or(Reason::Decrease)?;
        let sum = match self.running_total(entry.series, now_ms) {
            Some(Total::Native(total)) => total.sum_with(&counted, memory.sum)?,
            Some(_) => return Err(Reason::Value),
            None => Native::default().sum_with(&counted, memory.sum)?,
        };
        if !self.is_writable(id, at) {
            self.own(id, at, now_ms)?;
        }
        let series = &mut self.catalog.series[entry.series];
        let before = series.total.heap_bytes();
        let Total::Native(total) = &mut series.total else {
            return Err(Reason::Value);
        };
        total.add(counted, sum);
        self.writers[id].replace_native(place, now);
        series.idle_since_ms = now_ms;
        self.catalog.series_heap_bytes += series.total.heap_bytes();
        self.catalog.series_heap_bytes -= before;
        Ok(())
    }
}

/// Returns a counter's total after a writer's value has grown.
///
/// # Errors
///
/// The value is not a number, is lower than before, or would make the total infinite. Such a value
/// changes neither the total nor what the registry remembers of the writer, so the writer's next
/// value counts as soon as it fits.
#[inline]
pub(super) fn grown(total: Sum, before: f64, value: f64) -> Result<Sum, Reason> {
    if !value.is_finite() {
        return Err(Reason::Value);
    }
    if value < before {
        return Err(Reason::Decrease);
    }
    total.plus_difference(value, before).ok_or(Reason::Overflow)
}

/// Returns a gauge's value minus its base, which must not be counted.
pub(super) fn above_base(value: f64, base: f64) -> Result<f64, Reason> {
    let above = value - base;
    let overflows = !above.is_finite() && value.is_finite() && base.is_finite();
    (!overflows).then_some(above).ok_or(Reason::Overflow)
}

/// Returns the total of a counter, zero if there is none.
pub(in crate::registry) fn counter_of(total: Option<&Total>) -> Sum {
    match total {
        Some(Total::Counter(sum)) => *sum,
        _ => Sum::default(),
    }
}

/// Returns the number of new observations.
pub(super) fn counted(
    mut changes: impl Iterator<Item = (usize, u64)>,
    before: &[u64],
) -> Result<u64, Reason> {
    changes.try_fold(0_u64, |sum, (bucket, now)| {
        let before = before.get(bucket).ok_or(Reason::Value)?;
        let more = now.checked_sub(*before).ok_or(Reason::Decrease)?;
        sum.checked_add(more).ok_or(Reason::Overflow)
    })
}

/// Adds to a counter's total the growth since the writer's last value.
#[inline]
fn count(total: &mut Sum, entry: &mut Entry, value: f64) -> Result<(), Reason> {
    *total = grown(*total, entry.last, value)?;
    entry.last = value;
    Ok(())
}

/// Limits a time to the present: a clock that runs ahead would win for ever.
pub(super) fn not_ahead(time: f64, now_ms: u64) -> f64 {
    let now = now_ms as f64 / 1000.0;
    if time > now + 60.0 { now } else { time }
}

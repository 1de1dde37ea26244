//! New values of series that a writer has defined.

use super::super::series::{Member, Total};
use super::super::writer::Entry;
use super::super::{Reason, Registry};
use crate::sum::Sum;
use crate::{BucketChanges, NativeHistogram};

impl Registry {
    /// Takes values as long as they are of counters that have grown, which is nearly always: the short
    /// way. Returns the first that [`value`](Self::value) has to look at.
    pub(super) fn count_up(
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

    /// A scalar's new value.
    pub(super) fn value(
        &mut self,
        id: u32,
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
        id: u32,
        at: usize,
        value: f64,
        time: f64,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let entry = self.writers[id].entries[at];
        if !entry.is_owned() || !self.has_total(entry.series) {
            self.own(id, at, now_ms)?;
        }
        let entry = &mut self.writers[id].entries[at];
        let series = &mut self.series[entry.series];
        match &mut series.total {
            Total::Counter(sum) => count(sum, entry, value)?,
            Total::Gauge(gauge) => {
                if !self.families[series.family].family_type.allows(value) {
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

    /// Makes sure that there is a total to write to, and that the writer counts as its owner.
    #[cold]
    fn own(&mut self, id: u32, at: usize, now_ms: u64) -> Result<(), Reason> {
        self.begin_total(self.writers[id].entries[at].series, now_ms)?;
        self.set_owned(id, at, true, now_ms);
        Ok(())
    }

    /// New counts of some buckets.
    pub(super) fn buckets(
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

    pub(super) fn write_buckets(
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
    pub(super) fn native(
        &mut self,
        id: u32,
        index: u32,
        now: &NativeHistogram,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let at = self.writers[id].indexed(index).ok_or(Reason::Index)?;
        self.write_native(id, at, now, now_ms)
    }

    pub(super) fn write_native(
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
}

/// Adds what a counter has grown by since its writer's entry.
#[inline]
fn count(total: &mut Sum, entry: &mut Entry, value: f64) -> Result<(), Reason> {
    if !value.is_finite() {
        return Err(Reason::Value);
    }
    if value < entry.last {
        return Err(Reason::Decrease);
    }
    total.add_difference(value, entry.last);
    entry.last = value;
    Ok(())
}

/// A clock that runs ahead would win for ever.
pub(super) fn not_ahead(time: f64, now_ms: u64) -> f64 {
    let now = now_ms as f64 / 1000.0;
    if time > now + 60.0 { now } else { time }
}

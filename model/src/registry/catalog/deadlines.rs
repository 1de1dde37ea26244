//! Times at which the registry reviews series, because they may have expired.
//!
//! A deadline may be too early, never too late. Writes do not move it; a series that is reviewed
//! too early gets a later one.

use std::collections::BTreeSet;

use super::Catalog;
use crate::ids::{DeadlineId, SeriesId};
use crate::slab::Slab;

/// Times, and the series to review then.
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct Deadlines {
    queue: BTreeSet<(u64, SeriesId)>,
    /// The deadline of each series that has one; the series stores its place here.
    times_ms: Slab<DeadlineId, u64>,
}

impl Deadlines {
    /// Adds a series that has no deadline; returns its place.
    pub(in crate::registry) fn insert(&mut self, at_ms: u64, series: SeriesId) -> DeadlineId {
        self.queue.insert((at_ms, series));
        self.times_ms.insert(at_ms)
    }

    pub(in crate::registry) fn remove(&mut self, place: DeadlineId, series: SeriesId) {
        if let Some(at_ms) = self.times_ms.remove(place) {
            self.queue.remove(&(at_ms, series));
        }
    }

    /// Returns the deadline at that place.
    pub(in crate::registry) fn at_ms(&self, place: DeadlineId) -> Option<u64> {
        self.times_ms.get(place).copied()
    }

    /// Returns the earliest deadline.
    pub(in crate::registry) fn first_ms(&self) -> Option<u64> {
        self.queue.first().map(|(at_ms, _)| *at_ms)
    }

    /// Returns the series with the earliest deadline, if that has come.
    pub(in crate::registry) fn due(&self, now_ms: u64) -> Option<SeriesId> {
        self.all_due(now_ms).next()
    }

    /// Returns every series whose deadline has come, earliest first.
    pub(in crate::registry) fn all_due(&self, now_ms: u64) -> impl Iterator<Item = SeriesId> {
        self.queue
            .range(..=(now_ms, SeriesId::NONE))
            .map(|(_, id)| *id)
    }

    pub(in crate::registry) fn heap_bytes(&self) -> usize {
        self.times_ms.heap_bytes() + self.queue.len() * 24
    }
}

impl Catalog {
    /// Sets a deadline for a total without an owner: when its TTL has passed.
    pub(in crate::registry) fn set_deadline(&mut self, id: SeriesId) {
        let (series, ttl_ms) = (&self.series[id], self.ttl_ms(id));
        if ttl_ms > 0 && series.owners == 0 && self.has_total(id) {
            self.put_deadline(id, series.idle_since_ms.saturating_add(ttl_ms));
        }
    }

    /// Makes sure that a series is reviewed no later than at that time.
    pub(in crate::registry) fn put_deadline(&mut self, id: SeriesId, at_ms: u64) {
        let series = &mut self.series[id];
        if self
            .deadlines
            .at_ms(series.deadline)
            .is_none_or(|known_ms| at_ms < known_ms)
        {
            self.deadlines.remove(series.deadline, id);
            series.deadline = self.deadlines.insert(at_ms, id);
        }
    }

    /// Removes the deadline of a series.
    pub(in crate::registry) fn take_deadline(&mut self, id: SeriesId) {
        let series = &mut self.series[id];
        self.deadlines.remove(series.deadline, id);
        series.deadline = DeadlineId::NONE;
    }
}

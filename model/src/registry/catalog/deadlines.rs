//! Times at which the registry reviews series, because they may have expired.
//!
//! A deadline may be too early, never too late. Writes do not move it; a series that is reviewed
//! too early gets a later one.

use std::collections::BTreeSet;

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

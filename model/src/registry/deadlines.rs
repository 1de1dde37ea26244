//! When series are to be looked at, because they may have expired.
//!
//! A deadline may be too early, never too late: writes do not move it, and a series that is looked at
//! too early gets a later one.

use std::collections::BTreeSet;

use crate::slab::Slab;

/// Times, and the series that are to be looked at then.
#[derive(Debug, Clone, Default)]
pub(super) struct Deadlines {
    queue: BTreeSet<(u64, u32)>,
    /// The time of each series that has one; the place is kept with the series.
    times_ms: Slab<u64>,
}

impl Deadlines {
    /// Adds a series that has none, and returns the place that it is known by.
    pub(super) fn insert(&mut self, at_ms: u64, series: u32) -> u32 {
        self.queue.insert((at_ms, series));
        self.times_ms.insert(at_ms)
    }

    pub(super) fn remove(&mut self, place: u32, series: u32) {
        if let Some(at_ms) = self.times_ms.remove(place) {
            self.queue.remove(&(at_ms, series));
        }
    }

    /// The deadline at that place.
    pub(super) fn at_ms(&self, place: u32) -> Option<u64> {
        self.times_ms.get(place).copied()
    }

    /// The earliest.
    pub(super) fn first_ms(&self) -> Option<u64> {
        self.queue.first().map(|(at_ms, _)| *at_ms)
    }

    /// The series with the earliest, if that has come.
    pub(super) fn due(&self, now_ms: u64) -> Option<u32> {
        self.all_due(now_ms).next()
    }

    /// Every series whose deadline has come, from the earliest on.
    pub(super) fn all_due(&self, now_ms: u64) -> impl Iterator<Item = u32> {
        self.queue.range(..=(now_ms, u32::MAX)).map(|(_, id)| *id)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.times_ms.heap_bytes() + self.queue.len() * 24
    }
}

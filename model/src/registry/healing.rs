//! After a rollback: a copy was promoted or loaded, and it may be behind what pages have shown.
//!
//! # How it works
//!
//! Leases that were held when the copy was last written run on from the first write after the
//! rollback, and for the healing time no page is shown: writers that are alive come back within
//! seconds with their full state, also those that the copy never knew, and the totals are what they
//! were, or more. When the time is over, the next write ends the healing: what belongs to a leased
//! writer that has not come back begins at zero with a new start time, which `rate()` and
//! `increase()` understand, and its memory stays, so that nothing is counted again.
//!
//! # What if
//!
//! Nobody writes: then nothing is known, and pages show neither a dip nor a reset of what leased
//! writers own, but leave it out until the first write. No writer in the copy has a lease: there is
//! nobody to wait for, and the copy is shown at once.

use super::series::Total;
use super::{Registry, Stamp};
use crate::Limits;

/// Of so many writers that have not come back it is asked which series they own; where there are
/// more, every series may be one.
const MAX_MISSED: usize = 16;

/// Not part of the state: that this server came by a state that may be behind what was shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rollback {
    at_ms: u64,
    /// A write has begun the healing.
    has_begun: bool,
}

impl Registry {
    /// What the primary decides for the next command: time never runs backwards, limits change with
    /// a write, and healing begins and ends with one.
    pub fn stamp(&self, clock_ms: u64, configured: &Limits, out_of_memory: bool) -> Stamp {
        let now_ms = clock_ms.max(self.last_stamp_ms);
        let has_begun = |rollback: &Rollback| rollback.has_begun;
        let healing_ends = self
            .healing_since()
            .is_some_and(|since| now_ms >= since.saturating_add(configured.healing_time_ms));
        Stamp {
            now_ms,
            epoch: self.epoch,
            refuse_definitions: out_of_memory,
            healing_begins: !self.rollback.as_ref().is_none_or(has_begun) && self.has_leases(),
            healing_ends,
            limits: (*configured != self.limits).then_some(*configured),
        }
    }

    /// This state was loaded, or this server was promoted, at that time: it may be behind what
    /// others have seen of it. Not part of the state, and never called on a replica.
    pub fn rolled_back(&mut self, clock_ms: u64) {
        self.rollback = Some(Rollback {
            at_ms: clock_ms,
            has_begun: false,
        });
    }

    /// Whether what a page would show may be behind what an earlier page has shown.
    pub fn is_healing(&self, now_ms: u64) -> bool {
        self.healing_since()
            .is_some_and(|since| now_ms < since.saturating_add(self.limits.healing_time_ms))
    }

    /// Whether a page leaves a series out: the time of healing is over, but no write has yet
    /// decided what becomes of it.
    #[inline]
    pub(super) fn is_undecided(&self, id: u32) -> bool {
        (self.rollback.is_some() || self.healing_since_ms.is_some())
            && self.series[id].owners > 0
            && !matches!(self.series[id].total, Total::Gauge(_))
            && self.is_missed(id)
    }

    /// Whether a leased writer of the series has not come back.
    #[cold]
    fn is_missed(&self, id: u32) -> bool {
        let has_begun = self.rollback.is_none_or(|rollback| rollback.has_begun);
        let mut missed = self
            .leases
            .iter()
            .map(|(_, writer)| &self.writers[*writer])
            .filter(|writer| !(has_begun && writer.is_healed));
        let few = missed.by_ref().take(MAX_MISSED);
        few.into_iter().any(|writer| writer.find(id).is_some()) || missed.next().is_some()
    }

    /// Since when pages are not shown; `None` where nothing has to heal.
    fn healing_since(&self) -> Option<u64> {
        match self.rollback {
            Some(rollback) if rollback.has_begun || self.has_leases() => Some(rollback.at_ms),
            _ => self.healing_since_ms,
        }
    }

    /// Whether writers held leases when the state was last written (an endless one is none).
    fn has_leases(&self) -> bool {
        self.leases
            .range((self.last_stamp_ms + 1, 0)..(u64::MAX, 0))
            .next()
            .is_some()
    }

    /// Leases held when the state was last written run on from now, and nobody is believed to be
    /// up to date until heard of.
    pub(super) fn begin_healing(&mut self, now_ms: u64) {
        let pause = now_ms.saturating_sub(self.last_stamp_ms);
        let held = self
            .leases
            .iter()
            .copied()
            .filter(|(end, _)| *end > self.last_stamp_ms);
        for (end, id) in held.collect::<Vec<_>>() {
            self.leases.remove(&(end, id));
            let writer = &mut self.writers[id];
            writer.lease_end_ms = end.saturating_add(pause);
            writer.is_healed = false;
            self.leases.insert((writer.lease_end_ms, id));
        }
        self.healing_since_ms = Some(now_ms);
    }

    /// What a write means for a rollback: it begins the healing, goes on with it or ends it, or
    /// finds nothing that has to heal.
    pub(super) fn end_rollback(&mut self, stamp: &Stamp) {
        self.rollback = match self.rollback {
            _ if stamp.healing_ends => None,
            Some(rollback) if stamp.healing_begins || rollback.has_begun => Some(Rollback {
                has_begun: true,
                ..rollback
            }),
            _ => None,
        };
    }

    /// What writers own that have not come back may be behind what was shown: it begins anew.
    pub(super) fn end_healing(&mut self, now_ms: u64) {
        self.healing_since_ms = None;
        let missing = self
            .leases
            .iter()
            .map(|(_, id)| *id)
            .filter(|id| !self.writers[*id].is_healed);
        for id in missing.collect::<Vec<_>>() {
            let owned = self.writers[id]
                .entries
                .iter()
                .filter(|entry| entry.is_owned());
            for series in owned.map(|entry| entry.series).collect::<Vec<_>>() {
                let is_gauge = matches!(self.series[series].total, Total::Gauge(_));
                if !is_gauge && self.has_total(series) && self.series[series].start_ms < now_ms {
                    self.drop_total(series);
                    // The family goes on: this series is its own successor.
                    let restarted = self.begin_total(series, now_ms);
                    debug_assert_eq!(restarted, Ok(()));
                }
            }
            self.writers[id].is_healed = true;
        }
    }
}

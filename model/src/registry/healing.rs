//! After a rollback: a copy was promoted or loaded, and it may be behind what pages have shown.
//!
//! # How it works
//!
//! Leases that were held when the copy was last written run on from the first write after the
//! rollback, and until it has healed no page is shown: writers that are alive come back within a
//! second or two with their full state, and the totals are what they were, or more. It has healed
//! when every leased writer has come back, but not before [`MIN_HEALING_MS`], which is the time that
//! writers get that the copy never knew; and at the latest after the healing time. The next write
//! ends the healing: what belongs to a leased
//! writer that has not come back begins at zero with a new start time, which `rate()` and
//! `increase()` understand, and its memory stays, so that nothing is counted again. That takes a
//! bounded number of series with each write, and pages are shown when it is done.
//!
//! # What if
//!
//! Nobody writes: then nothing is known, and pages show neither a dip nor a reset of what leased
//! writers own, but leave it out until the first write. No writer in the copy has a lease: there is
//! nobody to wait for, and the copy is shown at once.

use super::series::Total;
use super::writer::{Phase, Writer};
use super::{Registry, Stamp};
use crate::Limits;

/// Shortest time without pages after a rollback, in milliseconds, where the healing time is not
/// shorter. Exporters try again every half second, so writers that the copy does not know are back
/// by then.
const MIN_HEALING_MS: u64 = 2000;

/// Not part of the state: that this server came by a state that may be behind what was shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rollback {
    at_ms: u64,
    /// A write has begun the healing.
    has_begun: bool,
}

/// After a healing: which series begin anew that writers own that have not come back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Restart {
    /// Totals that began before this are to begin anew.
    pub(super) before_ms: u64,
    /// Where it goes on: a writer, and an entry of it.
    pub(super) writer: u32,
    pub(super) entry: u32,
}

impl Registry {
    /// What the primary decides for the next command: time never runs backwards, limits change with
    /// a write, and healing begins and ends with one.
    pub fn stamp(&self, clock_ms: u64, configured: &Limits, out_of_memory: bool) -> Stamp {
        let now_ms = clock_ms.max(self.last_stamp_ms);
        let has_begun = |rollback: &Rollback| rollback.has_begun;
        let healing_ends = self
            .healed_at(configured.healing_time_ms)
            .is_some_and(|healed_ms| now_ms >= healed_ms);
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
        self.restart.is_some() || self.healing_ends_at_ms().is_some_and(|end| now_ms < end)
    }

    /// When the healing ends; `None` where nothing has to heal.
    pub(super) fn healing_ends_at_ms(&self) -> Option<u64> {
        self.healed_at(self.limits.healing_time_ms)
    }

    /// When pages are shown again, as far as is known now; `None` where nothing has to heal.
    fn healed_at(&self, healing_time_ms: u64) -> Option<u64> {
        let since = self.healing_since()?;
        let is_unheard = self.rollback.is_some_and(|rollback| !rollback.has_begun);
        let wait_ms = if is_unheard || self.missing > 0 {
            healing_time_ms
        } else {
            healing_time_ms.min(MIN_HEALING_MS)
        };
        Some(since.saturating_add(wait_ms))
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

    /// Whether a leased writer of the series has not come back; of several writers, whether one may.
    #[cold]
    fn is_missed(&self, id: u32) -> bool {
        let has_begun = self.rollback.is_none_or(|rollback| rollback.has_begun);
        match self.series[id].only_writer() {
            _ if has_begun && self.missing == 0 => false,
            Some(writer) => {
                let writer = &self.writers[writer];
                self.is_missing(writer) || !has_begun && writer.phase == Phase::Live
            }
            None => true,
        }
    }

    /// Whether a writer has a lease and was not heard of since the last rollback.
    pub(super) fn is_missing(&self, writer: &Writer) -> bool {
        writer.phase == Phase::Live
            && writer.lease_end_ms != u64::MAX
            && writer.healed_in != self.healing_no
    }

    /// A writer was heard of, and is up to date.
    pub(super) fn heal(&mut self, id: u32) {
        self.missing -= u32::from(self.is_missing(&self.writers[id]));
        self.writers[id].healed_in = self.healing_no;
    }

    /// Whether the next write begins a healing: until then the time of the last write counts.
    pub(super) fn is_rolled_back(&self) -> bool {
        self.rollback.is_some_and(|rollback| !rollback.has_begun) && self.has_leases()
    }

    /// What the primary decides for a write that only [settles](Self::settle).
    pub fn stamp_of_settling(&self, clock_ms: u64, configured: &Limits) -> Stamp {
        Stamp {
            limits: (*configured != self.limits).then_some(*configured),
            ..Stamp::at(clock_ms.max(self.last_stamp_ms), self.epoch)
        }
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
        let last = self.leases.last();
        last.is_some_and(|(end_ms, _)| *end_ms > self.lease_clock(self.last_stamp_ms))
    }

    /// Leases held when the state was last written run on from now, and no writer is believed to be
    /// up to date until it is heard of.
    pub(super) fn begin_healing(&mut self, now_ms: u64) {
        self.paused_ms += now_ms.saturating_sub(self.last_stamp_ms);
        self.healing_no = self.healing_no.wrapping_add(1);
        self.missing = self.leases.len() as u32;
        (self.healing_since_ms, self.restart) = (Some(now_ms), None);
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
        self.restart = Some(Restart {
            before_ms: now_ms,
            ..Restart::default()
        });
    }

    /// Goes on with what begins anew.
    pub(super) fn restart_some(&mut self, budget: usize) {
        for _ in 0..budget {
            let Some(restart) = self.restart else { return };
            let at_end = restart.writer as usize >= self.writers.place_count();
            if self.missing == 0 || at_end {
                self.restart = None;
                return;
            }
            let next_writer = Some(Restart {
                writer: restart.writer + 1,
                entry: 0,
                ..restart
            });
            let writer = self.writers.get(restart.writer);
            let Some(writer) = writer.filter(|writer| self.is_missing(writer)) else {
                self.restart = next_writer;
                continue;
            };
            let Some(&entry) = writer.entries.get(restart.entry as usize) else {
                self.heal(restart.writer);
                self.restart = next_writer;
                continue;
            };
            if entry.is_owned() && !writer.is_given_up(restart.entry as usize) {
                self.restart_total(entry.series, restart.before_ms);
            }
            self.restart = Some(Restart {
                entry: restart.entry + 1,
                ..restart
            });
        }
    }

    fn restart_total(&mut self, id: u32, before_ms: u64) {
        let series = &self.series[id];
        let is_gauge = matches!(series.total, Total::Gauge(_));
        if !is_gauge && self.has_total(id) && series.start_ms < before_ms {
            self.drop_total(id);
            // The family goes on: this series is its own successor.
            let restarted = self.begin_total(id, self.last_stamp_ms);
            debug_assert_eq!(restarted, Ok(()));
        }
    }
}

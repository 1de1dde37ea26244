//! Heals after a rollback: a copy was promoted or loaded that may be older than what pages have
//! shown.
//!
//! # How it works
//!
//! Leases that were held when the copy was last written continue from the first write after the
//! rollback. Until the copy has healed, no page is shown. Live writers come back within a second or
//! two with their full state; then the totals are what they were, or more. The copy has healed when
//! every leased writer has come back. It waits for at least [`MIN_HEALING_MS`], so that writers
//! that the copy never knew can come back too, and for at most the healing time. The next write
//! ends the healing. Series of a leased writer that has not come back begin at zero with a new
//! start time, which `rate()` and `increase()` understand. The writer's memory stays, so that
//! nothing is counted again. Each write does this for a bounded number of series, and pages are
//! shown when it is done.
//!
//! What writers bring back is a part of loading the data: until the copy has healed, full memory is
//! no reason to leave it out. Otherwise a page would show a total without the values of the writers
//! that the copy does not know, or knows without that series, and with the start time of the total
//! that included them.
//!
//! # What if
//!
//! No writer writes: then the registry knows nothing new. After the healing time pages leave out
//! what leased writers own until the first write, so they show neither a dip nor a reset. No writer
//! in the copy has a lease: there is no writer to wait for, and the copy is shown at once.

use super::catalog::series::Total;
use super::writers::{Phase, Writer};
use super::{Registry, Stamp};
use crate::Limits;
use crate::ids::{Id, SeriesId, WriterId};
use crate::registry::writers::Writers;

/// Shortest time without pages after a rollback, in milliseconds, unless the healing time is
/// shorter. Exporters try again every half second, so writers that the copy does not know are back
/// by then.
const MIN_HEALING_MS: u64 = 2000;

/// The time at which this server got a state that may be older than what pages have shown. Not part
/// of the state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rollback {
    at_ms: u64,
    /// Whether a write has begun the healing.
    has_begun: bool,
}

/// After a healing: the progress in restarting series of writers that have not come back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Restart {
    /// Totals that began before this time have to restart.
    pub(super) before_ms: u64,
    /// The writer at which it continues, and below its entry.
    pub(super) writer: WriterId,
    pub(super) entry: u32,
}

/// Whether a registry heals after a rollback, and how far it has come; see the [module](self).
#[derive(Debug, Clone, Default)]
pub(super) struct Healing {
    /// Since when it heals.
    pub(super) since_ms: Option<u64>,
    /// When this server got a state that may be older than what pages have shown. Not part of the
    /// state.
    rollback: Option<Rollback>,
    /// Number of rollbacks so far.
    pub(super) no: u32,
    /// Number of leased writers that have sent nothing since the last rollback.
    pub(super) missing: u32,
    pub(super) restart: Option<Restart>,
}

impl Registry {
    /// Returns the primary's decisions for the next command. Time never runs backwards; a write
    /// changes the limits, and begins and ends a healing.
    pub fn stamp(&self, clock_ms: u64, configured: &Limits, out_of_memory: bool) -> Stamp {
        let now_ms = clock_ms.max(self.last_stamp_ms);
        let has_begun = |rollback: &Rollback| rollback.has_begun;
        let healed_ms = self.healed_at(configured.healing_time_ms);
        let healing_ends = healed_ms.is_some_and(|healed_ms| now_ms >= healed_ms);
        let is_healing = healed_ms.is_some() && !healing_ends;
        Stamp {
            now_ms,
            epoch: self.epoch,
            refuse_definitions: out_of_memory && !is_healing,
            healing_begins: !self.healing.rollback.as_ref().is_none_or(has_begun)
                && self.writers.has_leases(self.last_stamp_ms),
            healing_ends,
            limits: (*configured != self.limits).then_some(*configured),
        }
    }

    /// Notes that this server loaded the state or was promoted at that time, so the state may be
    /// older than what others have seen of it. This is not part of the state, and never called on a
    /// replica.
    pub fn rolled_back(&mut self, clock_ms: u64) {
        self.healing.rollback = Some(Rollback {
            at_ms: clock_ms,
            has_begun: false,
        });
    }

    /// Returns whether a page might show less than an earlier page has shown.
    pub fn is_healing(&self, now_ms: u64) -> bool {
        self.healing.restart.is_some() || self.healing_ends_at_ms().is_some_and(|end| now_ms < end)
    }

    /// Returns when the healing ends; `None` if nothing has to heal.
    pub(super) fn healing_ends_at_ms(&self) -> Option<u64> {
        self.healed_at(self.limits.healing_time_ms)
    }

    /// Returns when pages are shown again, as far as is known now; `None` if nothing has to heal.
    fn healed_at(&self, healing_time_ms: u64) -> Option<u64> {
        let since = self.healing_since()?;
        let is_unheard = self
            .healing
            .rollback
            .is_some_and(|rollback| !rollback.has_begun);
        let wait_ms = if is_unheard || self.healing.missing > 0 {
            healing_time_ms
        } else {
            healing_time_ms.min(MIN_HEALING_MS)
        };
        Some(since.saturating_add(wait_ms))
    }

    /// Returns whether a page leaves a series out: the healing time is over, but no write has yet
    /// decided what happens to the series.
    #[inline]
    pub(super) fn is_undecided(&self, id: SeriesId) -> bool {
        (self.healing.rollback.is_some() || self.healing.since_ms.is_some())
            && self.catalog.series[id].owners > 0
            && !matches!(self.catalog.series[id].total, Total::Gauge(_))
            && self.is_missed(id)
    }

    /// Returns whether a leased writer of the series has not come back; with several writers,
    /// whether one may not have.
    #[cold]
    fn is_missed(&self, id: SeriesId) -> bool {
        let has_begun = self
            .healing
            .rollback
            .is_none_or(|rollback| rollback.has_begun);
        match self.catalog.series[id].only_writer() {
            _ if has_begun && self.healing.missing == 0 => false,
            Some(writer) => {
                let writer = &self.writers[writer];
                self.healing.is_missing(writer) || !has_begun && writer.phase == Phase::Live
            }
            None => true,
        }
    }

    /// Notes that a writer is back and up to date.
    pub(super) fn heal(&mut self, id: WriterId) {
        self.healing.missing -= u32::from(self.healing.is_missing(&self.writers[id]));
        self.writers[id].healed_in = self.healing.no;
    }

    /// Returns whether the next write begins a healing: until then the time of the last write
    /// counts.
    pub(super) fn is_rolled_back(&self) -> bool {
        self.healing
            .rollback
            .is_some_and(|rollback| !rollback.has_begun)
            && self.writers.has_leases(self.last_stamp_ms)
    }

    /// Returns the primary's decisions for a write that only [settles](Self::settle).
    pub fn stamp_of_settling(&self, clock_ms: u64, configured: &Limits) -> Stamp {
        Stamp {
            limits: (*configured != self.limits).then_some(*configured),
            ..Stamp::at(clock_ms.max(self.last_stamp_ms), self.epoch)
        }
    }

    /// Returns since when no pages are shown; `None` if nothing has to heal.
    fn healing_since(&self) -> Option<u64> {
        match self.healing.rollback {
            Some(rollback) if rollback.has_begun || self.writers.has_leases(self.last_stamp_ms) => {
                Some(rollback.at_ms)
            }
            _ => self.healing.since_ms,
        }
    }

    /// Begins the healing: leases of the last write continue from now, and no writer counts as up
    /// to date until it sends something.
    pub(super) fn begin_healing(&mut self, now_ms: u64) {
        self.writers.paused_ms += now_ms.saturating_sub(self.last_stamp_ms);
        self.healing.no = self.healing.no.wrapping_add(1);
        self.healing.missing = self.writers.leases.len() as u32;
        (self.healing.since_ms, self.healing.restart) = (Some(now_ms), None);
    }

    /// Lets a write begin, continue or end the healing, or find that there is nothing to heal.
    pub(super) fn end_rollback(&mut self, stamp: &Stamp) {
        self.healing.rollback = match self.healing.rollback {
            _ if stamp.healing_ends => None,
            Some(rollback) if stamp.healing_begins || rollback.has_begun => Some(Rollback {
                has_begun: true,
                ..rollback
            }),
            _ => None,
        };
    }

    /// Ends the healing: series of writers that have not come back may be out of date, so they
    /// restart.
    pub(super) fn end_healing(&mut self, now_ms: u64) {
        self.healing.since_ms = None;
        self.healing.restart = Some(Restart {
            before_ms: now_ms,
            ..Restart::default()
        });
    }

    /// Continues to restart series.
    pub(super) fn restart_some(&mut self, budget: usize) {
        for _ in 0..budget {
            let Some(restart) = self.healing.restart else {
                return;
            };
            let at_end = restart.writer.number() as usize >= self.writers.table.place_count();
            if self.healing.missing == 0 || at_end {
                self.healing.restart = None;
                return;
            }
            let next_writer = Some(Restart {
                writer: WriterId::from_number(restart.writer.number() + 1),
                entry: 0,
                ..restart
            });
            let writer = self.writers.table.get(restart.writer);
            let Some(writer) = writer.filter(|writer| self.healing.is_missing(writer)) else {
                self.healing.restart = next_writer;
                continue;
            };
            let Some(&entry) = writer.entries.get(restart.entry as usize) else {
                self.heal(restart.writer);
                self.healing.restart = next_writer;
                continue;
            };
            if entry.is_owned() && !writer.is_given_up(restart.entry as usize) {
                self.restart_total(entry.series, restart.before_ms);
            }
            self.healing.restart = Some(Restart {
                entry: restart.entry + 1,
                ..restart
            });
        }
    }

    fn restart_total(&mut self, id: SeriesId, before_ms: u64) {
        let series = &self.catalog.series[id];
        let is_gauge = matches!(series.total, Total::Gauge(_));
        if !is_gauge && self.catalog.has_total(id) && series.start_ms < before_ms {
            self.drop_total(id);
            // The family goes on: this series continues under the same identity.
            let restarted = self.begin_total(id, self.last_stamp_ms);
            debug_assert_eq!(restarted, Ok(()));
        }
    }
}

impl Writers {
    /// Returns whether writers held leases when the state was last written (an endless one does not
    /// count).
    fn has_leases(&self, last_stamp_ms: u64) -> bool {
        let last = self.leases.last();
        last.is_some_and(|(end_ms, _)| *end_ms > self.lease_clock(last_stamp_ms))
    }
}

impl Healing {
    /// Returns whether a writer has a lease and has sent nothing since the last rollback.
    pub(super) fn is_missing(&self, writer: &Writer) -> bool {
        writer.phase == Phase::Live
            && writer.lease_end_ms != u64::MAX
            && writer.healed_in != self.no
    }
}

#[cfg(test)]
impl Healing {
    /// Panics if the writers that it waits for are not those that it counts.
    pub(super) fn check(&self, writers: &Writers) {
        let missing = writers.table.iter();
        let missing = missing.filter(|(_, writer)| self.is_missing(writer));
        assert_eq!(missing.count(), self.missing as usize);
    }
}

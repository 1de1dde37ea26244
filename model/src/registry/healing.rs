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
//!
//! # Invariants
//!
//! - The healing counts the writers that it waits for: those with a lease that have sent nothing since
//!   the last rollback. What changes a lease tells it so.
//! - It knows the catalogue only as numbers of series: the composition lets their totals restart.

use super::catalog::series::{Series, Total};
use super::writers::{Phase, Writer, Writers};
use super::{Registry, Stamp};
use crate::Limits;
use crate::ids::{Id, SeriesId, WriterId};

/// Shortest time without pages after a rollback, in milliseconds, unless the healing time is
/// shorter. Exporters try again every half second, so writers that the copy does not know are back
/// by then.
const MIN_HEALING_MS: u64 = 2000;

/// The time at which this server got a state that may be older than what pages have shown. Not part
/// of the state.
#[derive(Debug, Clone, Copy)]
struct Rollback {
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

/// The outcome of one step of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The total of this series has to restart, if it began before that time.
    Restart(SeriesId, u64),
    /// Nothing has to restart here.
    Nothing,
    /// There is nothing left to do.
    Done,
}

/// Whether a registry heals after a rollback, and how far it has come; see the [module](self).
#[derive(Debug, Clone, Default)]
pub(super) struct Healing {
    /// Since when it heals.
    since_ms: Option<u64>,
    /// When this server got a state that may be older than what pages have shown. Not part of the
    /// state.
    rollback: Option<Rollback>,
    /// Number of rollbacks so far.
    no: u32,
    /// Number of leased writers that have sent nothing since the last rollback.
    missing: u32,
    restart: Option<Restart>,
}

impl Healing {
    /// Returns the healing of a decoded registry, which waits for no writer yet.
    pub(super) fn decoded(since_ms: Option<u64>, restart: Option<Restart>) -> Self {
        Self {
            since_ms,
            restart,
            ..Self::default()
        }
    }

    /// Returns since when the registry heals, as far as a write has noted it.
    pub(super) fn since_ms(&self) -> Option<u64> {
        self.since_ms
    }

    /// Returns the progress in restarting series, if that is under way.
    pub(super) fn restart(&self) -> Option<Restart> {
        self.restart
    }

    /// Notes that this server got a state that may be older than what pages have shown.
    fn roll_back(&mut self, clock_ms: u64) {
        self.rollback = Some(Rollback {
            at_ms: clock_ms,
            has_begun: false,
        });
    }

    /// Returns whether a rollback was noted that no write has followed yet.
    fn is_unheard(&self) -> bool {
        self.rollback.is_some_and(|rollback| !rollback.has_begun)
    }

    /// Returns whether the next write begins a healing: until then the time of the last write
    /// counts.
    pub(super) fn is_rolled_back(&self, writers: &Writers, last_stamp_ms: u64) -> bool {
        self.is_unheard() && writers.has_leases(last_stamp_ms)
    }

    /// Returns when pages are shown again, as far as is known now; `None` if nothing has to heal.
    fn ends_at_ms(&self, writers: &Writers, last_stamp_ms: u64, limits: &Limits) -> Option<u64> {
        let since_ms = match self.rollback {
            Some(rollback) if rollback.has_begun || writers.has_leases(last_stamp_ms) => {
                Some(rollback.at_ms)
            }
            _ => self.since_ms,
        };
        let wait_ms = if self.is_unheard() || self.missing > 0 {
            limits.healing_time_ms
        } else {
            limits.healing_time_ms.min(MIN_HEALING_MS)
        };
        Some(since_ms?.saturating_add(wait_ms))
    }

    /// Begins the healing: leases of the last write continue from now, and no writer counts as up
    /// to date until it sends something.
    pub(super) fn begin(&mut self, writers: &mut Writers, now_ms: u64, last_stamp_ms: u64) {
        writers.paused_ms += now_ms.saturating_sub(last_stamp_ms);
        self.no = self.no.wrapping_add(1);
        self.missing = writers.leases.len() as u32;
        (self.since_ms, self.restart) = (Some(now_ms), None);
    }

    /// Lets a write begin, continue or end the healing, or find that there is nothing to heal.
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

    /// Ends the healing: series of writers that have not come back may be out of date, so they
    /// restart.
    pub(super) fn end(&mut self, now_ms: u64) {
        self.since_ms = None;
        self.restart = Some(Restart {
            before_ms: now_ms,
            ..Restart::default()
        });
    }

    /// Takes one step of the restart that follows.
    fn step(&mut self, writers: &mut Writers) -> Step {
        let Some(restart) = self.restart else {
            return Step::Done;
        };
        let at_end = restart.writer.number() as usize >= writers.table.place_count();
        if self.missing == 0 || at_end {
            self.restart = None;
            return Step::Done;
        }
        let next_writer = Some(Restart {
            writer: WriterId::from_number(restart.writer.number() + 1),
            entry: 0,
            ..restart
        });
        let writer = writers.table.get(restart.writer);
        let Some(writer) = writer.filter(|writer| self.is_missing(writer)) else {
            self.restart = next_writer;
            return Step::Nothing;
        };
        let Some(&entry) = writer.entries.get(restart.entry as usize) else {
            self.heal(&mut writers[restart.writer]);
            self.restart = next_writer;
            return Step::Nothing;
        };
        let is_owned = entry.is_owned() && !writer.is_given_up(restart.entry as usize);
        self.restart = Some(Restart {
            entry: restart.entry + 1,
            ..restart
        });
        if is_owned {
            Step::Restart(entry.series, restart.before_ms)
        } else {
            Step::Nothing
        }
    }

    /// Notes that a writer is back and up to date.
    pub(super) fn heal(&mut self, writer: &mut Writer) {
        self.stop_waiting(writer);
        self.mark_up_to_date(writer);
    }

    /// Marks a writer that is new or alive again: it has nothing to bring back.
    pub(super) fn mark_up_to_date(&self, writer: &mut Writer) {
        writer.healed_in = self.no;
    }

    /// Returns whether a writer has sent something since the last rollback.
    pub(super) fn is_up_to_date(&self, writer: &Writer) -> bool {
        writer.healed_in == self.no
    }

    /// Counts a writer that has a lease now, if it has to come back.
    pub(super) fn wait_for(&mut self, writer: &Writer) {
        self.missing += u32::from(self.is_missing(writer));
    }

    /// No longer counts a writer whose lease ends or changes, or which is back.
    pub(super) fn stop_waiting(&mut self, writer: &Writer) {
        self.missing -= u32::from(self.is_missing(writer));
    }

    /// Returns whether a writer has a lease and has sent nothing since the last rollback.
    fn is_missing(&self, writer: &Writer) -> bool {
        writer.phase == Phase::Live
            && writer.lease_end_ms != u64::MAX
            && !self.is_up_to_date(writer)
    }

    /// Returns whether a page may leave series out: there was a rollback, and not everything is
    /// decided since.
    #[inline]
    pub(super) fn may_leave_out(&self) -> bool {
        self.rollback.is_some() || self.since_ms.is_some()
    }

    /// Returns whether a page leaves a series out: the healing time is over, but no write has yet
    /// decided what happens to the series.
    #[inline]
    pub(super) fn is_undecided(&self, series: &Series, writers: &Writers) -> bool {
        self.may_leave_out()
            && series.owners > 0
            && !matches!(series.total, Total::Gauge(_))
            && self.is_missed(series, writers)
    }

    /// Returns whether a leased writer of the series has not come back; with several writers,
    /// whether one may not have.
    #[cold]
    fn is_missed(&self, series: &Series, writers: &Writers) -> bool {
        match series.only_writer() {
            _ if !self.is_unheard() && self.missing == 0 => false,
            Some(writer) => {
                let writer = &writers[writer];
                self.is_missing(writer) || self.is_unheard() && writer.phase == Phase::Live
            }
            None => true,
        }
    }
}

impl Registry {
    /// Returns the primary's decisions for the next command. Time never runs backwards; a write
    /// changes the limits, and begins and ends a healing.
    pub fn stamp(&self, clock_ms: u64, configured: &Limits, out_of_memory: bool) -> Stamp {
        let now_ms = clock_ms.max(self.last_stamp_ms);
        let (writers, last_stamp_ms) = (&self.writers, self.last_stamp_ms);
        let healed_ms = self.healing.ends_at_ms(writers, last_stamp_ms, configured);
        let healing_ends = healed_ms.is_some_and(|healed_ms| now_ms >= healed_ms);
        let is_healing = healed_ms.is_some() && !healing_ends;
        Stamp {
            now_ms,
            epoch: self.epoch,
            refuse_definitions: out_of_memory && !is_healing,
            healing_begins: self.healing.is_rolled_back(writers, last_stamp_ms),
            healing_ends,
            limits: (*configured != self.limits).then_some(*configured),
        }
    }

    /// Returns the primary's decisions for a write that only [settles](Self::settle).
    pub fn stamp_of_settling(&self, clock_ms: u64, configured: &Limits) -> Stamp {
        Stamp {
            limits: (*configured != self.limits).then_some(*configured),
            ..Stamp::at(clock_ms.max(self.last_stamp_ms), self.epoch)
        }
    }

    /// Notes that this server loaded the state or was promoted at that time, so the state may be
    /// older than what others have seen of it. This is not part of the state, and never called on a
    /// replica.
    ///
    /// ```
    /// use metrics_model::{Epoch, ExposeRequest, GaugeMode, GaugeWrite, Labels, Limits, Registry, Stamp};
    ///
    /// let mut registry = Registry::new(Epoch(1), Limits::default(), 0);
    /// let write = GaugeWrite {
    ///     family: "depth",
    ///     labels: &Labels::none(),
    ///     value: 4.0,
    ///     mode: Some(GaugeMode::Sum),
    ///     writer: b"writer",
    ///     lease_ms: Some(15_000),
    ///     ttl_ms: None,
    /// };
    /// registry.set(&Stamp::at(1_000, Epoch(1)), &write)?;
    ///
    /// let mut copy = Registry::decode_snapshot(&registry.encode_snapshot())?;
    /// copy.rolled_back(2_000);
    /// // The writer may have written more than the copy knows, so no page is shown yet.
    /// assert!(copy.is_healing(2_000));
    /// assert!(copy.expose(2_000, &ExposeRequest::default()).is_err());
    /// assert!(!copy.is_healing(2_000 + Limits::default().healing_time_ms));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rolled_back(&mut self, clock_ms: u64) {
        self.healing.roll_back(clock_ms);
    }

    /// Returns whether a page might show less than an earlier page has shown.
    pub fn is_healing(&self, now_ms: u64) -> bool {
        let (writers, last_stamp_ms) = (&self.writers, self.last_stamp_ms);
        let end_ms = self
            .healing
            .ends_at_ms(writers, last_stamp_ms, &self.limits);
        self.healing.restart.is_some() || end_ms.is_some_and(|end_ms| now_ms < end_ms)
    }

    /// Continues to restart series of writers that have not come back.
    pub(super) fn restart_some(&mut self, budget: usize) {
        for _ in 0..budget {
            match self.healing.step(&mut self.writers) {
                Step::Done => return,
                Step::Nothing => {}
                Step::Restart(series, before_ms) => self.restart_total(series, before_ms),
            }
        }
    }

    fn restart_total(&mut self, id: SeriesId, before_ms: u64) {
        let series = &self.catalog.series[id];
        let is_gauge = matches!(series.total, Total::Gauge(_));
        if !is_gauge && self.catalog.has_total(id) && series.start_ms < before_ms {
            self.catalog.drop_total(id, &mut self.groups);
            // The family goes on: this series continues under the same identity.
            let restarted = self.begin_total(id, self.last_stamp_ms);
            debug_assert_eq!(restarted, Ok(()));
        }
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

#[cfg(test)]
mod tests;

//! What ends by time: leases, writers, series.
//!
//! # How it works
//!
//! A *live* writer becomes *ended* when its lease is over, and *forgotten* after its retention.
//! LEAVE makes it *closed*. From a closed or forgotten writer only a [tombstone](super::writers::tombstones)
//! stays. Another writer with the same id begins anew, and the old record is removed step by step.
//! Each change of phase is one mark on the writer ([`Writers::catch_up`](super::writers::Writers::catch_up)).
//!
//! Each of its series follows later: the writer no longer counts as an owner, and its gauges are
//! folded. This *settling* takes a bounded number of entries with each write, and acts as of the
//! moment of the change of phase, so it does not matter when it happens. Until then the entry and
//! its writer disagree, and reading takes that into account: see [`ownership`](super::ownership). A
//! total is hidden from its deadline on, and a later write removes it ([`Registry::review`]).
//!
//! # What it costs
//!
//! A write takes at most [`WORK_PER_WRITE`] steps of each kind, and [`WORK_WHEN_FULL`] when the
//! registry is full, whatever has happened before. It first takes the due steps of its own writer,
//! which is O(1). If no writes come, the module calls [`Registry::settle`] as long as there is
//! [something to do](Registry::next_work_ms).

use super::catalog::series::{LeftValue, NONE, Total};
use super::writers::Phase;
use super::writers::tombstones::MAX_TOMBSTONES;
use super::{Registry, Stamp};
use crate::AfterLeave;
use crate::ids::{SeriesId, WriterId};

/// Maximum number of steps of each kind in one write: changes of phase, entries, deleted series,
/// deadlines.
pub(super) const WORK_PER_WRITE: usize = 64;
/// The same for a write to a registry that has no room, and for [`Registry::settle`].
const WORK_WHEN_FULL: usize = 512;
/// Time after which a total with an unknown deadline is reviewed again, in milliseconds.
const LOOK_AGAIN_MS: u64 = 1000;
/// Maximum number of deadlines that are visited to count the hidden series.
pub(super) const COUNTED_DEADLINES: usize = 1000;

impl Registry {
    /// Does what every write does first.
    pub(super) fn begin(&mut self, stamp: &Stamp) {
        self.begin_by(stamp, None);
    }

    /// The same for a write by which a writer shows that it is up to date.
    pub(super) fn begin_by(&mut self, stamp: &Stamp, healed: Option<WriterId>) {
        let is_full = self.catalog.totals as u64 >= self.limits.max_series;
        let budget = if is_full {
            WORK_WHEN_FULL
        } else {
            WORK_PER_WRITE
        };
        self.begin_with(stamp, healed, budget);
    }

    fn begin_with(&mut self, stamp: &Stamp, healed: Option<WriterId>, budget: usize) {
        if let Some(limits) = stamp.limits {
            self.limits = limits;
        }
        if stamp.healing_begins {
            self.healing
                .begin(&mut self.writers, stamp.now_ms, self.last_stamp_ms);
        }
        if let Some(writer) = healed {
            self.healing.heal(&mut self.writers[writer]);
        }
        self.healing.end_rollback(stamp);
        self.last_stamp_ms = stamp.now_ms;
        if stamp.healing_ends {
            self.healing.end(stamp.now_ms);
        }
        self.work(budget);
    }

    /// Finishes work that earlier writes and the passing of time have left, and nothing else: only
    /// a message from a writer decides about a rollback.
    pub fn settle(&mut self, stamp: &Stamp) {
        if let Some(limits) = stamp.limits {
            self.limits = limits;
        }
        self.last_stamp_ms = stamp.now_ms;
        self.work(WORK_WHEN_FULL);
    }

    /// Returns when [`settle`](Self::settle) has work: at once if that is not after `now_ms`;
    /// `None`: not before another write.
    pub fn next_work_ms(&self, now_ms: u64) -> Option<u64> {
        if self
            .healing
            .is_rolled_back(&self.writers, self.last_stamp_ms)
        {
            return None;
        }
        let is_under_way = self.healing.restart().is_some() || !self.catalog.ttls.walks.is_empty();
        let is_behind = is_under_way || !self.catalog.sweeps.is_empty();
        if is_behind || !self.writers.unsettled.is_empty() || !self.catalog.deleted.is_empty() {
            return Some(now_ms);
        }
        let lease = self.writers.leases.first();
        let lease = lease.map(|(end_ms, _)| end_ms.saturating_add(self.writers.paused_ms));
        let retirement = self.writers.retirements.first().map(|(at_ms, _)| *at_ms);
        let deadline = self.catalog.deadlines.first_ms();
        let tombstone = self.writers.tombstones.first_end_ms();
        [lease, retirement, deadline, tombstone]
            .into_iter()
            .flatten()
            .filter(|at_ms| *at_ms != u64::MAX)
            .min()
    }

    /// Settles until nothing is due at this time.
    #[cfg(test)]
    pub(super) fn settle_all(&mut self, stamp: &Stamp) {
        let is_due = |at_ms| at_ms <= stamp.now_ms;
        while self.next_work_ms(stamp.now_ms).is_some_and(is_due) {
            self.settle(stamp);
        }
    }

    /// Returns whether a write could free space in a registry that has none.
    pub fn may_make_room(&self, now_ms: u64) -> bool {
        self.catalog.totals as u64 >= self.limits.max_series
            && self
                .next_work_ms(now_ms)
                .is_some_and(|at_ms| at_ms <= now_ms)
    }

    fn work(&mut self, budget: usize) {
        let now_ms = self.last_stamp_ms;
        // Settles earlier phases first, so that entries see each phase in its order.
        self.settle_some(budget);
        self.writers
            .advance(now_ms, budget, &mut self.healing, self.epoch, &self.limits);
        self.settle_some(budget);
        self.restart_some(budget);
        self.walk_ttls(budget);
        self.review_some(now_ms, budget);
        self.clear_deleted(budget);
        self.sweep_some(budget);
        self.writers
            .tombstones
            .shrink(now_ms, MAX_TOMBSTONES, budget);
        self.writers.drop_records(now_ms, budget, &self.limits);
    }

    fn settle_some(&mut self, mut budget: usize) {
        while budget > 0
            && let Some(&id) = self.writers.unsettled.front()
        {
            if self.settle_writer(id, &mut budget) {
                self.writers.unsettled.pop_front();
            }
        }
    }

    /// Settles entries of a writer; returns true when all agree with its phase.
    fn settle_writer(&mut self, id: WriterId, budget: &mut usize) -> bool {
        while *budget > 0 {
            if self.writers[id].unnamed.is_some() {
                self.give_up_some(id, budget);
                continue;
            }
            *budget -= 1;
            let writer = &self.writers[id];
            if writer.is_gone() {
                if writer.entries.is_empty() {
                    self.writers[id].forget_all();
                    self.writers.gone.push_back(id);
                    return true;
                }
                self.drop_last_entry(id);
                continue;
            }
            let at = writer.settle_from as usize;
            if at >= writer.entries.len() {
                let writer = &mut self.writers[id];
                (writer.is_queued, writer.owed_from) = (false, NONE);
                return true;
            }
            if writer.phase == Phase::Live {
                self.own_again(id, at);
            } else {
                self.disown(id, at);
            }
            self.writers[id].settle_from += 1;
        }
        false
    }

    /// Settles one entry of a live writer at once.
    pub(super) fn settle_entry(&mut self, id: WriterId, at: usize) {
        let writer = &self.writers[id];
        if writer.is_queued && at >= writer.settle_from as usize {
            self.own_again(id, at);
        }
    }

    /// Makes an entry of a writer that is back count again, unless its total ended meanwhile.
    fn own_again(&mut self, id: WriterId, at: usize) {
        let writer = &self.writers[id];
        let entry = writer.entries[at];
        if entry.is_retired() || writer.id.is_empty() {
            return;
        }
        let back_ms = writer.back_ms;
        if self.catalog.has_total(entry.series) && self.is_expired(entry.series, back_ms) {
            self.expire(entry.series);
        }
        self.set_owned(id, at, true, 0);
    }

    /// Makes an entry of a writer that is not live no longer count.
    fn disown(&mut self, id: WriterId, at: usize) {
        let writer = &self.writers[id];
        let (entry, end_ms) = (writer.entries[at], writer.end_ms);
        if entry.is_owned() {
            self.set_owned(id, at, false, end_ms);
        } else if writer.is_owed(at) && !entry.is_retired() {
            let series = &mut self.catalog.series[entry.series];
            series.idle_since_ms = series.idle_since_ms.max(end_ms);
        }
    }

    /// Removes the last entry of a writer that is gone: folds its value and ends its memory.
    fn drop_last_entry(&mut self, id: WriterId) {
        let at = self.writers[id].entries.len() - 1;
        if self.writers[id].entries[at].is_hole() {
            self.writers[id].entries.pop();
            return;
        }
        self.disown(id, at);
        let Some(entry) = self.writers[id].entries.pop() else {
            return;
        };
        self.fold_gauge(id, entry.series, entry.place());
        let series = &mut self.catalog.series[entry.series];
        series.forget(id);
        self.writers[id].drop_memory(&series.total, entry.place());
        if self.catalog.is_empty_gauge(entry.series) {
            self.end_empty_gauge(entry.series);
        } else {
            self.free_series_if_unused(entry.series);
        }
    }

    fn fold_gauge(&mut self, writer: WriterId, id: SeriesId, place: u32) {
        let family_type = self.catalog.families[self.catalog.series[id].family].family_type;
        let Some(mode) = family_type.gauge_mode() else {
            return;
        };
        let Some(member) = self.remove_member(id, place, writer) else {
            return;
        };
        match mode.after_leave() {
            AfterLeave::Folded => {
                if let Total::Gauge(gauge) = &mut self.catalog.series[id].total {
                    gauge.retire(mode, member.value);
                }
            }
            AfterLeave::UntilTtl => {
                let stays_ms = match self.catalog.ttl_ms(id) {
                    0 => self.limits.writer_retention_ms,
                    ttl_ms => ttl_ms,
                };
                let writer = &self.writers[writer];
                let left = LeftValue {
                    writer_id: writer.id.clone(),
                    pid: writer.pid.clone(),
                    value: member.value,
                    time: member.time,
                    until_ms: writer.gone_ms.saturating_add(stays_ms),
                };
                self.leave_behind(id, left);
            }
            AfterLeave::Hidden => {}
        }
    }

    /// Removes some series of deleted families.
    fn clear_deleted(&mut self, budget: usize) {
        for _ in 0..budget {
            let Some(order) = self.catalog.deleted.front_mut() else {
                return;
            };
            let id = order.pop();
            if order.is_empty() {
                self.catalog.deleted.pop_front();
            }
            let Some(id) = id else { continue };
            // Another series may have the number by now.
            if self
                .catalog
                .series
                .get(id)
                .is_some_and(|series| series.created_no > 0)
                && !self.catalog.has_total(id)
            {
                self.catalog.drop_total(id, &mut self.groups);
                self.free_series_if_unused(id);
            }
        }
    }

    /// Reviews some series whose deadline may have passed.
    fn review_some(&mut self, now_ms: u64, budget: usize) {
        for _ in 0..budget {
            let Some(id) = self.catalog.deadlines.due(now_ms) else {
                return;
            };
            self.catalog.take_deadline(id);
            self.review(id, now_ms);
        }
    }

    /// Ends a total that has expired, or a gauge that is empty; otherwise sets the next deadline.
    fn review(&mut self, id: SeriesId, now_ms: u64) {
        if !self.catalog.has_total(id) {
            return;
        }
        if self.is_expired(id, now_ms) {
            self.catalog.expired += 1;
            self.end_total(id);
            return;
        }
        let (series, ttl_ms) = (&self.catalog.series[id], self.catalog.ttl_ms(id));
        if ttl_ms > 0 && series.owners == 0 {
            let at_ms = series.idle_since_ms.saturating_add(ttl_ms);
            // The deadline has passed but the total has not expired: a writer that is back owns it,
            // or may.
            let later_ms = now_ms.saturating_add(LOOK_AGAIN_MS);
            self.catalog
                .put_deadline(id, if at_ms > now_ms { at_ms } else { later_ms });
        }
        if self.catalog.is_empty_gauge(id) {
            self.end_empty_gauge(id);
        }
    }

    /// Returns the number of series with a total, minus those that are visibly expired.
    pub(super) fn shown_count(&self, now_ms: u64) -> usize {
        let due = self
            .catalog
            .deadlines
            .all_due(now_ms)
            .take(COUNTED_DEADLINES);
        let hidden = due.filter(|id| self.catalog.has_total(*id) && self.is_expired(*id, now_ms));
        self.catalog.totals - hidden.count()
    }
}

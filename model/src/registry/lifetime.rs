//! What ends by time: leases, writers, series.
//!
//! # How it works
//!
//! A *live* writer becomes *ended* when its lease is over, and *forgotten* after its retention.
//! LEAVE makes it *closed*. From a closed or forgotten writer only a [tombstone](super::writers::tombstones)
//! stays. Another writer with the same id begins anew, and the old record is removed step by step.
//! Each change of phase is one mark on the writer ([`Registry::catch_up`]).
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
use super::writers::tombstones::{Key, MAX_TOMBSTONES, Tombstone};
use super::writers::{Phase, Writer};
use super::{Registry, Stamp};
use crate::ids::{DeadlineId, SeriesId, WriterId};
use crate::pieces::Pieces;
use crate::{AfterLeave, GaugeMode};

/// Maximum number of steps of each kind in one write: changes of phase, entries, deleted series,
/// deadlines.
pub(super) const WORK_PER_WRITE: usize = 64;
/// The same for a write to a registry that has no room, and for [`Registry::settle`].
const WORK_WHEN_FULL: usize = 512;
/// Number of writers that are gone and can still be listed.
const LISTED_GONE: usize = 64;
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
            self.begin_healing(stamp.now_ms);
        }
        if let Some(writer) = healed {
            self.heal(writer);
        }
        self.end_rollback(stamp);
        self.last_stamp_ms = stamp.now_ms;
        if stamp.healing_ends {
            self.end_healing(stamp.now_ms);
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
        if self.is_rolled_back() {
            return None;
        }
        let is_under_way = self.healing.restart.is_some() || !self.catalog.ttls.walks.is_empty();
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
        self.advance(now_ms, budget);
        self.settle_some(budget);
        self.restart_some(budget);
        self.walk_ttls(budget);
        self.review_some(now_ms, budget);
        self.clear_deleted(budget);
        self.sweep_some(budget);
        self.writers
            .tombstones
            .shrink(now_ms, MAX_TOMBSTONES, budget);
        self.drop_records(now_ms, budget);
    }

    /// Removes records of writers that are gone, except the last few, which can still be listed.
    fn drop_records(&mut self, now_ms: u64, budget: usize) {
        for _ in 0..budget {
            let Some(&id) = self.writers.gone.front() else {
                return;
            };
            let gone_ms = self.writers[id].gone_ms;
            let until_ms = gone_ms.saturating_add(self.limits.tombstone_retention_ms);
            if self.writers.gone.len() <= LISTED_GONE && until_ms > now_ms {
                return;
            }
            self.writers.gone.pop_front();
            self.writers.table.remove(id);
        }
    }

    /// Takes some due steps of writers' lives.
    fn advance(&mut self, now_ms: u64, mut budget: usize) {
        while budget > 0
            && let Some(&(end_ms, id)) = self.writers.leases.first()
            && end_ms <= self.lease_clock(now_ms)
        {
            budget -= 1;
            self.end_writer(id);
        }
        while budget > 0
            && let Some(&(at_ms, id)) = self.writers.retirements.first()
            && at_ms <= now_ms
        {
            budget -= 1;
            self.forget_writer(id);
        }
    }

    /// Takes the due steps of one writer's life.
    pub(super) fn catch_up(&mut self, id: WriterId, now_ms: u64) {
        if self.writers[id].phase == Phase::Live && !self.is_live(&self.writers[id], now_ms) {
            self.end_writer(id);
        }
        let writer = &self.writers[id];
        if writer.phase == Phase::Ended && writer.retires_ms <= now_ms {
            self.forget_writer(id);
        }
    }

    /// Marks a writer whose lease is over.
    fn end_writer(&mut self, id: WriterId) {
        let end_ms = self.lease_end_ms(&self.writers[id]);
        self.take_lease(id);
        self.writers.latest_end_ms = self.writers.latest_end_ms.max(end_ms);
        let retires_ms = end_ms.saturating_add(self.limits.writer_retention_ms);
        let writer = &mut self.writers[id];
        (writer.phase, writer.end_ms, writer.retires_ms) = (Phase::Ended, end_ms, retires_ms);
        self.writers.retirements.insert((retires_ms, id));
        self.unsettle(id, true);
    }

    /// Forgets a writer that was silent for too long: only its last seq is kept.
    fn forget_writer(&mut self, id: WriterId) {
        let at_ms = self.writers[id].retires_ms;
        self.writers.retirements.remove(&(at_ms, id));
        self.bury(id, Phase::Forgotten, at_ms);
        self.unsettle(id, false);
    }

    /// Marks a writer that has left for good.
    pub(super) fn close_writer(&mut self, id: WriterId, now_ms: u64) {
        let was_live = self.writers[id].phase == Phase::Live;
        if was_live {
            self.take_lease(id);
            self.writers[id].end_ms = now_ms;
            self.writers.latest_end_ms = self.writers.latest_end_ms.max(now_ms);
        } else {
            self.writers
                .retirements
                .remove(&(self.writers[id].retires_ms, id));
        }
        self.bury(id, Phase::Closed, now_ms);
        self.unsettle(id, was_live);
    }

    fn bury(&mut self, id: WriterId, phase: Phase, gone_ms: u64) {
        let writer = &mut self.writers.table[id];
        (writer.phase, writer.gone_ms, writer.run) = (phase, gone_ms, None);
        writer.index = Pieces::default();
        writer.forget_holes();
        let until_ms = gone_ms.saturating_add(self.limits.tombstone_retention_ms);
        let tombstone = Tombstone::new(writer.seq, phase == Phase::Closed, until_ms);
        let left_out = std::mem::take(&mut writer.left_out);
        let key = Key::new(self.epoch, &writer.id);
        self.writers.by_id.remove(&writer.id);
        self.writers.tombstones.insert(key, tombstone);
        if phase == Phase::Forgotten {
            self.writers.tombstones.keep_left_out(key, left_out);
        }
    }

    /// Removes a writer's lease.
    fn take_lease(&mut self, id: WriterId) {
        let writer = &self.writers[id];
        let is_missing = self.is_missing(writer);
        if writer.lease_end_ms == u64::MAX {
            self.writers.endless -= u32::from(!writer.id.is_empty());
        } else {
            self.writers.leases.remove(&(writer.lease_end_ms, id));
        }
        self.healing.missing -= u32::from(is_missing);
    }

    /// Marks a writer that is new, or back after its lease was over.
    pub(super) fn revive(&mut self, id: WriterId, now_ms: u64) {
        let writer = &mut self.writers.table[id];
        self.writers.retirements.remove(&(writer.retires_ms, id));
        (writer.phase, writer.back_ms) = (Phase::Live, now_ms);
        (writer.lease_end_ms, writer.healed_in) = (u64::MAX, self.healing.no);
        self.writers.endless += u32::from(!writer.id.is_empty());
        self.unsettle(id, false);
    }

    /// Sets the end of a live writer's lease.
    pub(super) fn extend_lease(&mut self, id: WriterId, now_ms: u64, lease_ms: Option<u64>) {
        self.take_lease(id);
        let clock_ms = self.lease_clock(now_ms);
        let writer = &mut self.writers.table[id];
        writer.lease_end_ms = lease_ms.map_or(u64::MAX, |lease| clock_ms.saturating_add(lease));
        if writer.lease_end_ms == u64::MAX {
            self.writers.endless += u32::from(!writer.id.is_empty());
        } else {
            self.writers.leases.insert((writer.lease_end_ms, id));
        }
        self.healing.missing += u32::from(self.is_missing(&self.writers[id]));
    }

    /// Queues a writer for settling after its phase has changed. Entries that were not settled
    /// since a phase in which the writer owned its series count as owned until now.
    fn unsettle(&mut self, id: WriterId, was_live: bool) {
        let writer = &mut self.writers[id];
        if writer.is_queued {
            if was_live {
                writer.owed_from = writer.owed_from.min(writer.settle_from);
            }
        } else {
            writer.is_queued = true;
            self.writers.unsettled.push_back(id);
        }
        self.writers[id].settle_from = 0;
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
        if self.has_total(entry.series) && self.is_expired(entry.series, back_ms) {
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

    /// Makes an entry count among its series' owners, or (since `end_ms`) no longer.
    pub(super) fn set_owned(&mut self, writer: WriterId, at: usize, owned: bool, end_ms: u64) {
        let entry = &mut self.writers[writer].entries[at];
        if entry.is_owned() == owned {
            return;
        }
        // A writer that is back may find that a group has its series.
        if owned && self.groups.owner(entry.series).is_some() {
            return;
        }
        entry.set_owned(owned);
        let (id, place, help_side) = (entry.series, entry.place(), entry.help_side());
        let series = &mut self.catalog.series[id];
        let family_id = series.family;
        let family = &mut self.catalog.families[family_id];
        let layout = match &mut series.total {
            Total::Gauge(gauge) => {
                let mode = family.family_type.gauge_mode();
                if mode.is_some_and(GaugeMode::is_live) {
                    let before = gauge.heap_bytes();
                    gauge.set_live(place, writer, owned);
                    self.catalog.series_heap_bytes += gauge.heap_bytes();
                    self.catalog.series_heap_bytes -= before;
                }
                None
            }
            Total::Buckets(_) => self.writers[writer].layout_at(place),
            Total::Counter(_) | Total::Native(_) => None,
        };
        let must_sweep = family.count_holder(help_side, layout, owned);
        if owned {
            series.owners += 1;
        } else {
            series.owners -= 1;
            series.idle_since_ms = series.idle_since_ms.max(end_ms);
            self.set_deadline(id);
        }
        if must_sweep {
            self.sweep(family_id);
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
        if self.is_empty_gauge(entry.series) {
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
                let stays_ms = match self.ttl_ms(id) {
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

    /// Returns whether a series has the total of a gauge in which no writer has a value.
    pub(super) fn is_empty_gauge(&self, id: SeriesId) -> bool {
        match &self.catalog.series[id].total {
            Total::Gauge(gauge) => {
                gauge.members.is_empty() && gauge.retired.is_none() && self.has_total(id)
            }
            _ => false,
        }
    }

    /// Ends the total of such a gauge, which would show nothing for ever. Values of writers that
    /// have left are shown until their time is over.
    pub(super) fn end_empty_gauge(&mut self, id: SeriesId) {
        let Total::Gauge(gauge) = &self.catalog.series[id].total else {
            return;
        };
        let is_shown = |left_value: &&LeftValue| left_value.until_ms > self.last_stamp_ms;
        // The last one is nearly always the one that is shown longest.
        let last = gauge.left_values.last().filter(is_shown);
        match last.or_else(|| gauge.left_values.iter().find(is_shown)) {
            Some(left_value) => self.put_deadline(id, left_value.until_ms),
            None => self.end_total(id),
        }
    }

    /// Ends the total of a series, and the series too if no writer remembers it.
    pub(super) fn end_total(&mut self, id: SeriesId) {
        let family = self.catalog.series[id].family;
        self.drop_total(id);
        self.free_series_if_unused(id);
        if self.catalog.families.get(family).is_some() {
            self.end_family_if_empty(family);
        }
    }

    fn expire(&mut self, id: SeriesId) {
        self.catalog.expired += 1;
        // The series stays, because a caller has an entry of it.
        let family = self.catalog.series[id].family;
        self.drop_total(id);
        self.end_family_if_empty(family);
    }

    /// Returns whether every entry agrees with its writer at that time.
    #[inline]
    pub(super) fn is_settled_at(&self, now_ms: u64) -> bool {
        self.writers.unsettled.is_empty()
            && self
                .writers
                .leases
                .first()
                .is_none_or(|(end_ms, _)| *end_ms > self.lease_clock(now_ms))
            && self
                .writers
                .retirements
                .first()
                .is_none_or(|(at_ms, _)| *at_ms > now_ms)
    }

    /// Returns the time of the clock of leases, which stands still while writers do not know of a
    /// rollback.
    #[inline]
    pub(super) fn lease_clock(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.writers.paused_ms)
    }

    /// Returns when a lease ends, in Unix milliseconds.
    pub(super) fn lease_end_ms(&self, writer: &Writer) -> u64 {
        writer.lease_end_ms.saturating_add(self.writers.paused_ms)
    }

    /// Returns whether a writer's values count as live at that time.
    #[inline]
    pub(super) fn is_live(&self, writer: &Writer, now_ms: u64) -> bool {
        writer.phase == Phase::Live && writer.lease_end_ms > self.lease_clock(now_ms)
    }

    /// Returns the phase of a writer at that time, whether noted yet or not.
    pub(super) fn phase_at(&self, writer: &Writer, now_ms: u64) -> Phase {
        match writer.phase {
            Phase::Live if self.is_live(writer, now_ms) => Phase::Live,
            Phase::Live | Phase::Ended if self.forgotten_ms(writer) <= now_ms => Phase::Forgotten,
            Phase::Live => Phase::Ended,
            phase => phase,
        }
    }

    /// Returns when a writer that does not come back is forgotten.
    fn forgotten_ms(&self, writer: &Writer) -> u64 {
        if writer.phase == Phase::Live {
            let end_ms = self.lease_end_ms(writer);
            end_ms.saturating_add(self.limits.writer_retention_ms)
        } else {
            writer.retires_ms
        }
    }

    /// Returns when a writer left or was forgotten, if that was before that time, whether noted yet
    /// or not.
    pub(super) fn gone_ms(&self, writer: &Writer, now_ms: u64) -> Option<u64> {
        match self.phase_at(writer, now_ms) {
            Phase::Live | Phase::Ended => None,
            Phase::Forgotten if !writer.is_gone() => Some(self.forgotten_ms(writer)),
            Phase::Closed | Phase::Forgotten => Some(writer.gone_ms),
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
                && !self.has_total(id)
            {
                self.drop_total(id);
                self.free_series_if_unused(id);
            }
        }
    }

    /// Sets a deadline for a total without an owner: when its TTL has passed.
    pub(super) fn set_deadline(&mut self, id: SeriesId) {
        let (series, ttl_ms) = (&self.catalog.series[id], self.ttl_ms(id));
        if ttl_ms > 0 && series.owners == 0 && self.has_total(id) {
            self.put_deadline(id, series.idle_since_ms.saturating_add(ttl_ms));
        }
    }

    /// Makes sure that a series is reviewed no later than at that time.
    pub(super) fn put_deadline(&mut self, id: SeriesId, at_ms: u64) {
        let series = &mut self.catalog.series[id];
        if self
            .catalog
            .deadlines
            .at_ms(series.deadline)
            .is_none_or(|known_ms| at_ms < known_ms)
        {
            self.catalog.deadlines.remove(series.deadline, id);
            series.deadline = self.catalog.deadlines.insert(at_ms, id);
        }
    }

    /// Removes the deadline of a series.
    pub(super) fn take_deadline(&mut self, id: SeriesId) {
        let series = &mut self.catalog.series[id];
        self.catalog.deadlines.remove(series.deadline, id);
        series.deadline = DeadlineId::NONE;
    }

    /// Reviews some series whose deadline may have passed.
    fn review_some(&mut self, now_ms: u64, budget: usize) {
        for _ in 0..budget {
            let Some(id) = self.catalog.deadlines.due(now_ms) else {
                return;
            };
            self.take_deadline(id);
            self.review(id, now_ms);
        }
    }

    /// Ends a total that has expired, or a gauge that is empty; otherwise sets the next deadline.
    fn review(&mut self, id: SeriesId, now_ms: u64) {
        if !self.has_total(id) {
            return;
        }
        if self.is_expired(id, now_ms) {
            self.catalog.expired += 1;
            self.end_total(id);
            return;
        }
        let (series, ttl_ms) = (&self.catalog.series[id], self.ttl_ms(id));
        if ttl_ms > 0 && series.owners == 0 {
            let at_ms = series.idle_since_ms.saturating_add(ttl_ms);
            // The deadline has passed but the total has not expired: a writer that is back owns it,
            // or may.
            let later_ms = now_ms.saturating_add(LOOK_AGAIN_MS);
            self.put_deadline(id, if at_ms > now_ms { at_ms } else { later_ms });
        }
        if self.is_empty_gauge(id) {
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
        let hidden = due.filter(|id| self.has_total(*id) && self.is_expired(*id, now_ms));
        self.catalog.totals - hidden.count()
    }
}

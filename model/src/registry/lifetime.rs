//! What ends by time: leases, writers, series.
//!
//! # How it works
//!
//! A writer goes from *live* to *ended* when its lease is over, from there to *forgotten* after its
//! retention, and LEAVE makes it *closed*; closed and forgotten ones are unknown again when their
//! tombstone's time has passed. Such a step is one mark on the writer ([`Registry::advance`]).
//!
//! What follows for each of its series (it no longer counts as an owner; its gauges are folded) is
//! *settled* later, at most [`SETTLED_PER_WRITE`] entries with each write, as of the moment of the
//! step itself: so it does not matter when. Until then the entry and its writer disagree, and
//! reading asks the writers that may disagree ([`Registry::ownership_at`]).
//!
//! # What it costs
//!
//! Normally no writer is unsettled and the question is answered by two fields of the series.

use super::series::{Ghost, Total};
use super::writer::Phase;
use super::{Registry, Stamp};
use crate::{AfterLeave, GaugeMode};

/// So that no write does more than a bounded amount of other people's work.
const SETTLED_PER_WRITE: usize = 64;
/// How many series a write looks at in search of expired ones.
const PURGED_PER_WRITE: usize = 8;

impl Registry {
    /// What every write does first.
    pub(super) fn begin(&mut self, stamp: &Stamp) {
        self.begin_by(stamp, None);
    }

    /// The same for a write by which a writer shows that it is up to date.
    pub(super) fn begin_by(&mut self, stamp: &Stamp, healed: Option<u32>) {
        if let Some(limits) = stamp.limits {
            self.limits = limits;
        }
        if stamp.healing_begins {
            self.begin_healing(stamp.now_ms);
        }
        if let Some(writer) = healed {
            self.writers[writer].is_healed = true;
        }
        self.end_rollback(stamp);
        self.last_stamp_ms = stamp.now_ms;
        self.advance(stamp.now_ms);
        if stamp.healing_ends {
            self.end_healing(stamp.now_ms);
        }
        self.settle(SETTLED_PER_WRITE);
        self.clear_condemned(SETTLED_PER_WRITE);
        self.purge(PURGED_PER_WRITE, stamp.now_ms);
    }

    /// Takes every step of a writer's life that is due.
    fn advance(&mut self, now_ms: u64) {
        while let Some(&(end_ms, id)) = self.leases.first()
            && end_ms <= now_ms
        {
            self.leases.pop_first();
            let writer = &mut self.writers[id];
            (writer.phase, writer.end_ms) = (Phase::Ended, end_ms);
            self.schedule(id, end_ms.saturating_add(self.limits.writer_retention_ms));
            self.unsettle(id);
        }
        while let Some(&(at_ms, id)) = self.retirements.first()
            && at_ms <= now_ms
        {
            self.retirements.pop_first();
            let writer = &mut self.writers[id];
            if writer.phase == Phase::Ended {
                (writer.phase, writer.gone_ms) = (Phase::Forgotten, at_ms);
                self.schedule(id, at_ms.saturating_add(self.limits.tombstone_retention_ms));
                self.unsettle(id);
            } else {
                self.settle_fully(id);
                if let Some(writer) = self.writers.remove(id) {
                    self.by_writer.remove(&writer.id);
                }
            }
        }
    }

    /// Sets when a writer that is not live takes its next step.
    pub(super) fn schedule(&mut self, id: u32, at_ms: u64) {
        self.retirements.remove(&(self.writers[id].retires_ms, id));
        self.writers[id].retires_ms = at_ms;
        self.retirements.insert((at_ms, id));
    }

    /// A writer's phase has changed: its entries are to be brought into line.
    pub(super) fn unsettle(&mut self, id: u32) {
        let writer = &mut self.writers[id];
        writer.settle_from = 0;
        if !writer.is_queued {
            writer.is_queued = true;
            self.unsettled.push_back(id);
        }
    }

    fn settle(&mut self, mut budget: usize) {
        while budget > 0
            && let Some(&id) = self.unsettled.front()
        {
            if self.settle_some(id, &mut budget) {
                self.unsettled.pop_front();
                self.writers[id].is_queued = false;
            }
        }
    }

    /// Settles all of one writer now.
    pub(super) fn settle_fully(&mut self, id: u32) {
        if self.writers[id].is_queued {
            let mut all = usize::MAX;
            self.settle_some(id, &mut all);
            self.unsettled.retain(|queued| *queued != id);
            self.writers[id].is_queued = false;
        }
    }

    /// Brings entries of a writer into line with its phase; true when all are.
    fn settle_some(&mut self, id: u32, budget: &mut usize) -> bool {
        let now_ms = self.last_stamp_ms;
        while *budget > 0 {
            *budget -= 1;
            let writer = &self.writers[id];
            if writer.is_gone() {
                if writer.entries.is_empty() {
                    self.writers[id].forget_all();
                    return true;
                }
                self.drop_last_entry(id);
            } else {
                let at = writer.settle_from as usize;
                let Some(&entry) = writer.entries.get(at) else {
                    return true;
                };
                self.set_owned(id, at, writer.owns(entry, now_ms), writer.end_ms);
                self.writers[id].settle_from += 1;
            }
        }
        false
    }

    /// Makes an entry count among its series' owners, or (since `end_ms`) no longer.
    pub(super) fn set_owned(&mut self, writer: u32, at: usize, owned: bool, end_ms: u64) {
        let entry = &mut self.writers[writer].entries[at];
        if entry.is_owned() == owned {
            return;
        }
        // A writer that comes back finds its series given to a group.
        if owned && self.groups.owner(entry.series).is_some() {
            return;
        }
        entry.set_owned(owned);
        let place = entry.place();
        let series = &mut self.series[entry.series];
        if let Total::Gauge(gauge) = &mut series.total {
            let mode = self.families[series.family].family_type.gauge_mode();
            if mode.is_some_and(GaugeMode::is_live) {
                let before = gauge.heap_bytes();
                gauge.set_live(place, writer, owned);
                self.series_heap_bytes += gauge.heap_bytes();
                self.series_heap_bytes -= before;
            }
        }
        if owned {
            series.owners += 1;
        } else {
            series.owners -= 1;
            series.idle_since_ms = series.idle_since_ms.max(end_ms);
        }
    }

    /// The last entry of a writer that is gone: what it leaves behind is folded, its memory ends.
    fn drop_last_entry(&mut self, id: u32) {
        let at = self.writers[id].entries.len() - 1;
        self.set_owned(id, at, false, self.writers[id].end_ms);
        let Some(entry) = self.writers[id].entries.pop() else {
            return;
        };
        self.fold_gauge(id, entry.series, entry.place());
        self.series[entry.series].memories -= 1;
        self.free_series_if_unused(entry.series);
    }

    fn fold_gauge(&mut self, writer: u32, series: u32, place: u32) {
        let (writer_of, limits) = (&self.writers[writer], &self.limits);
        let id = series;
        let series = &mut self.series[id];
        let Some(mode) = self.families[series.family].family_type.gauge_mode() else {
            return;
        };
        let before = series.total.heap_bytes();
        let Total::Gauge(gauge) = &mut series.total else {
            return;
        };
        let Some(member) = gauge.remove(place, writer) else {
            return;
        };
        match mode.after_leave() {
            AfterLeave::Folded => gauge.retire(mode, member.value),
            AfterLeave::UntilTtl => {
                let stays = if series.ttl_ms > 0 {
                    series.ttl_ms
                } else {
                    limits.writer_retention_ms
                };
                let until_ms = writer_of.gone_ms.saturating_add(stays);
                gauge
                    .ghosts
                    .retain(|ghost| ghost.until_ms > self.last_stamp_ms);
                if until_ms > self.last_stamp_ms {
                    gauge.ghosts.push(Ghost {
                        writer_id: writer_of.id.clone(),
                        pid: writer_of.pid.clone(),
                        value: member.value,
                        time: member.time,
                        until_ms,
                    });
                }
            }
            AfterLeave::Hidden => {}
        }
        self.series_heap_bytes += series.total.heap_bytes();
        self.series_heap_bytes -= before;
    }

    /// Whether every entry agrees with its writer at that time.
    #[inline]
    pub(super) fn is_settled_at(&self, now_ms: u64) -> bool {
        self.unsettled.is_empty()
            && self
                .leases
                .first()
                .is_none_or(|(end_ms, _)| *end_ms > now_ms)
    }

    /// How many writers own a series at that time, and since when it has been idle if none does.
    fn ownership_at(&self, id: u32, now_ms: u64) -> (u32, u64) {
        let series = &self.series[id];
        let (mut owners, mut idle_since_ms) = (series.owners, series.idle_since_ms);
        let due = self
            .leases
            .range(..=(now_ms, u32::MAX))
            .map(|(_, writer)| *writer);
        let due = due.filter(|writer| !self.writers[*writer].is_queued);
        for writer_id in self.unsettled.iter().copied().chain(due) {
            let writer = &self.writers[writer_id];
            let Some(entry) = writer.find(id).map(|at| writer.entries[at]) else {
                continue;
            };
            match (entry.is_owned(), writer.owns(entry, now_ms)) {
                (true, false) => {
                    owners -= 1;
                    idle_since_ms = idle_since_ms.max(writer.end_at(now_ms));
                }
                (false, true) => owners += 1,
                _ => {}
            }
        }
        (owners, idle_since_ms)
    }

    /// Whether a series' total has ended at that time, though it may still be here.
    #[inline]
    pub(super) fn is_expired(&self, id: u32, now_ms: u64) -> bool {
        self.series[id].is_overdue(now_ms) && self.is_idle_for_too_long(id, now_ms)
    }

    /// Of a series that is overdue: whether nobody owns it either.
    #[cold]
    pub(super) fn is_idle_for_too_long(&self, id: u32, now_ms: u64) -> bool {
        let (owners, idle_since_ms) = self.ownership_at(id, now_ms);
        owners == 0 && now_ms >= idle_since_ms.saturating_add(self.series[id].ttl_ms)
    }

    /// Goes through series of deleted families.
    fn clear_condemned(&mut self, budget: usize) {
        for _ in 0..budget {
            let Some(id) = self.condemned.pop_front() else {
                return;
            };
            // The number may have been given to another series since.
            if self
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

    /// Looks at a few series in search of expired ones, and frees their memory.
    fn purge(&mut self, budget: usize, now_ms: u64) {
        let mut budget = if self.mortals == 0 { 0 } else { budget };
        // One round at most: what was looked at is not looked at again.
        for _ in 0..=self.by_name.len().min(budget) {
            if budget == 0 {
                return;
            }
            let (name, after) = &self.purge_from;
            let Some((next_name, &family_id)) = self.by_name.range(name.clone()..).next() else {
                self.purge_from = Default::default();
                continue;
            };
            let family = &self.families[family_id];
            let after = if next_name == name { *after } else { 0 };
            let next_name = next_name.clone();
            if family.mortals == 0 {
                self.purge_from = (just_after(&next_name), 0);
                continue;
            }
            let no_of = |id: u32| self.series[id].created_no;
            let some = family
                .order
                .after(after, no_of)
                .take(budget)
                .collect::<Vec<_>>();
            self.purge_from = match some.last() {
                Some(last) if some.len() == budget => (next_name, no_of(*last)),
                _ => (just_after(&next_name), 0),
            };
            budget -= some.len();
            for id in some {
                if self.is_expired(id, now_ms) {
                    self.expired += 1;
                    self.drop_total(id);
                    self.free_series_if_unused(id);
                }
            }
            if self.families.get(family_id).is_some() {
                self.end_family_if_empty(family_id);
            }
        }
    }
}

/// The least text above another.
fn just_after(name: &str) -> Box<str> {
    format!("{name}\0").into()
}

//! The phases of a writer's life: when each begins, and what marks it.
//!
//! Each change of phase is one mark on the writer. Its entries follow later: see
//! [`lifetime`](crate::registry::lifetime).

use super::tombstones::{Key, Tombstone};
use super::{Phase, Writer, Writers};
use crate::ids::WriterId;
use crate::pieces::Pieces;
use crate::registry::healing::Healing;
use crate::{Epoch, Limits};

/// Number of writers that are gone and can still be listed.
const LISTED_GONE: usize = 64;

impl Writers {
    /// Removes records of writers that are gone, except the last few, which can still be listed.
    pub(in crate::registry) fn drop_records(
        &mut self,
        now_ms: u64,
        budget: usize,
        limits: &Limits,
    ) {
        for _ in 0..budget {
            let Some(&id) = self.gone.front() else {
                return;
            };
            let gone_ms = self[id].gone_ms;
            let until_ms = gone_ms.saturating_add(limits.tombstone_retention_ms);
            if self.gone.len() <= LISTED_GONE && until_ms > now_ms {
                return;
            }
            self.gone.pop_front();
            self.table.remove(id);
        }
    }

    /// Takes some due steps of writers' lives.
    pub(in crate::registry) fn advance(
        &mut self,
        now_ms: u64,
        mut budget: usize,
        healing: &mut Healing,
        epoch: Epoch,
        limits: &Limits,
    ) {
        while budget > 0
            && let Some(&(end_ms, id)) = self.leases.first()
            && end_ms <= self.lease_clock(now_ms)
        {
            budget -= 1;
            self.end_writer(id, healing, limits);
        }
        while budget > 0
            && let Some(&(at_ms, id)) = self.retirements.first()
            && at_ms <= now_ms
        {
            budget -= 1;
            self.forget_writer(id, epoch, limits);
        }
    }

    /// Takes the due steps of one writer's life.
    pub(in crate::registry) fn catch_up(
        &mut self,
        id: WriterId,
        now_ms: u64,
        healing: &mut Healing,
        epoch: Epoch,
        limits: &Limits,
    ) {
        if self[id].phase == Phase::Live && !self.is_live(&self[id], now_ms) {
            self.end_writer(id, healing, limits);
        }
        let writer = &self[id];
        if writer.phase == Phase::Ended && writer.retires_ms <= now_ms {
            self.forget_writer(id, epoch, limits);
        }
    }

    /// Marks a writer whose lease is over.
    pub(in crate::registry) fn end_writer(
        &mut self,
        id: WriterId,
        healing: &mut Healing,
        limits: &Limits,
    ) {
        let end_ms = self.lease_end_ms(&self[id]);
        self.take_lease(id, healing);
        self.latest_end_ms = self.latest_end_ms.max(end_ms);
        let retires_ms = end_ms.saturating_add(limits.writer_retention_ms);
        let writer = &mut self[id];
        (writer.phase, writer.end_ms, writer.retires_ms) = (Phase::Ended, end_ms, retires_ms);
        self.retirements.insert((retires_ms, id));
        self.unsettle(id, true);
    }

    /// Forgets a writer that was silent for too long: only its last seq is kept.
    fn forget_writer(&mut self, id: WriterId, epoch: Epoch, limits: &Limits) {
        let at_ms = self[id].retires_ms;
        self.retirements.remove(&(at_ms, id));
        self.bury(id, Phase::Forgotten, at_ms, epoch, limits);
        self.unsettle(id, false);
    }

    /// Marks a writer that has left for good.
    pub(in crate::registry) fn close_writer(
        &mut self,
        id: WriterId,
        now_ms: u64,
        healing: &mut Healing,
        epoch: Epoch,
        limits: &Limits,
    ) {
        let was_live = self[id].phase == Phase::Live;
        if was_live {
            self.take_lease(id, healing);
            self[id].end_ms = now_ms;
            self.latest_end_ms = self.latest_end_ms.max(now_ms);
        } else {
            self.retirements.remove(&(self[id].retires_ms, id));
        }
        self.bury(id, Phase::Closed, now_ms, epoch, limits);
        self.unsettle(id, was_live);
    }

    fn bury(&mut self, id: WriterId, phase: Phase, gone_ms: u64, epoch: Epoch, limits: &Limits) {
        let writer = &mut self.table[id];
        (writer.phase, writer.gone_ms, writer.run) = (phase, gone_ms, None);
        writer.index = Pieces::default();
        writer.forget_holes();
        let until_ms = gone_ms.saturating_add(limits.tombstone_retention_ms);
        let tombstone = Tombstone::new(writer.seq, phase == Phase::Closed, until_ms);
        let left_out = std::mem::take(&mut writer.left_out);
        let key = Key::new(epoch, &writer.id);
        self.by_id.remove(&writer.id);
        self.tombstones.insert(key, tombstone);
        if phase == Phase::Forgotten {
            self.tombstones.keep_left_out(key, left_out);
        }
    }

    /// Removes a writer's lease.
    pub(in crate::registry) fn take_lease(&mut self, id: WriterId, healing: &mut Healing) {
        let writer = &self[id];
        healing.stop_waiting(writer);
        if writer.lease_end_ms == u64::MAX {
            self.endless -= u32::from(!writer.id.is_empty());
        } else {
            self.leases.remove(&(writer.lease_end_ms, id));
        }
    }

    /// Marks a writer that is new, or back after its lease was over.
    pub(in crate::registry) fn revive(&mut self, id: WriterId, now_ms: u64, healing: &Healing) {
        let writer = &mut self.table[id];
        self.retirements.remove(&(writer.retires_ms, id));
        (writer.phase, writer.back_ms) = (Phase::Live, now_ms);
        writer.lease_end_ms = u64::MAX;
        healing.mark_up_to_date(writer);
        self.endless += u32::from(!writer.id.is_empty());
        self.unsettle(id, false);
    }

    /// Sets the end of a live writer's lease.
    pub(in crate::registry) fn extend_lease(
        &mut self,
        id: WriterId,
        now_ms: u64,
        lease_ms: Option<u64>,
        healing: &mut Healing,
    ) {
        self.take_lease(id, healing);
        let clock_ms = self.lease_clock(now_ms);
        let writer = &mut self.table[id];
        writer.lease_end_ms = lease_ms.map_or(u64::MAX, |lease| clock_ms.saturating_add(lease));
        if writer.lease_end_ms == u64::MAX {
            self.endless += u32::from(!writer.id.is_empty());
        } else {
            self.leases.insert((writer.lease_end_ms, id));
        }
        healing.wait_for(&self[id]);
    }

    /// Returns whether writers held leases when the state was last written (an endless one does not
    /// count).
    pub(in crate::registry) fn has_leases(&self, last_stamp_ms: u64) -> bool {
        let last = self.leases.last();
        last.is_some_and(|(end_ms, _)| *end_ms > self.lease_clock(last_stamp_ms))
    }

    /// Queues a writer for settling after its phase has changed. Entries that were not settled
    /// since a phase in which the writer owned its series count as owned until now.
    pub(in crate::registry) fn unsettle(&mut self, id: WriterId, was_live: bool) {
        let writer = &mut self[id];
        if writer.is_queued {
            if was_live {
                writer.owed_from = writer.owed_from.min(writer.settle_from);
            }
        } else {
            writer.is_queued = true;
            self.unsettled.push_back(id);
        }
        self[id].settle_from = 0;
    }

    /// Returns whether every entry agrees with its writer at that time.
    #[inline]
    pub(in crate::registry) fn is_settled_at(&self, now_ms: u64) -> bool {
        self.unsettled.is_empty()
            && self
                .leases
                .first()
                .is_none_or(|(end_ms, _)| *end_ms > self.lease_clock(now_ms))
            && self
                .retirements
                .first()
                .is_none_or(|(at_ms, _)| *at_ms > now_ms)
    }

    /// Returns the time of the clock of leases, which stands still while writers do not know of a
    /// rollback.
    #[inline]
    pub(in crate::registry) fn lease_clock(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.paused_ms)
    }

    /// Returns when a lease ends, in Unix milliseconds.
    pub(in crate::registry) fn lease_end_ms(&self, writer: &Writer) -> u64 {
        writer.lease_end_ms.saturating_add(self.paused_ms)
    }

    /// Returns whether a writer's values count as live at that time.
    #[inline]
    pub(in crate::registry) fn is_live(&self, writer: &Writer, now_ms: u64) -> bool {
        writer.phase == Phase::Live && writer.lease_end_ms > self.lease_clock(now_ms)
    }

    /// Returns the phase of a writer at that time, whether noted yet or not.
    pub(in crate::registry) fn phase_at(
        &self,
        writer: &Writer,
        now_ms: u64,
        limits: &Limits,
    ) -> Phase {
        match writer.phase {
            Phase::Live if self.is_live(writer, now_ms) => Phase::Live,
            Phase::Live | Phase::Ended if self.forgotten_ms(writer, limits) <= now_ms => {
                Phase::Forgotten
            }
            Phase::Live => Phase::Ended,
            phase => phase,
        }
    }

    /// Returns when a writer that does not come back is forgotten.
    fn forgotten_ms(&self, writer: &Writer, limits: &Limits) -> u64 {
        if writer.phase == Phase::Live {
            let end_ms = self.lease_end_ms(writer);
            end_ms.saturating_add(limits.writer_retention_ms)
        } else {
            writer.retires_ms
        }
    }

    /// Returns when a writer left or was forgotten, if that was before that time, whether noted yet
    /// or not.
    pub(in crate::registry) fn gone_ms(
        &self,
        writer: &Writer,
        now_ms: u64,
        limits: &Limits,
    ) -> Option<u64> {
        match self.phase_at(writer, now_ms, limits) {
            Phase::Live | Phase::Ended => None,
            Phase::Forgotten if !writer.is_gone() => Some(self.forgotten_ms(writer, limits)),
            Phase::Closed | Phase::Forgotten => Some(writer.gone_ms),
        }
    }
}

//! The writers of a registry: who they are, how long they live, and what is left to settle of them.
//!
//! # Invariants
//!
//! - An id has at most one writer that is neither closed nor forgotten.
//! - A live writer has a lease: one with an end is in `leases`, one without is counted. A writer whose
//!   lease is over has a time at which it is forgotten.
//! - A writer whose entries may disagree with its phase is queued for settling, once. One that is gone
//!   is queued for settling or for removal.
//! - The writers know series only as numbers, and of a healing only what their methods are given.

mod derive;
mod entry;
mod lifetime;
pub(super) mod tombstones;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Index, IndexMut};

use super::catalog::series::Series;
use crate::ids::WriterId;
use crate::measured::Measured;
use crate::{Epoch, LeftOut};
pub(super) use entry::{BucketMemory, Entry};
use tombstones::{Key, Tombstones};
pub(super) use writer::{Phase, Writer};

/// The writers of a registry; see the [module](self).
#[derive(Debug, Clone, Default)]
pub(super) struct Writers {
    pub(super) table: Measured<WriterId, Writer>,
    pub(super) by_id: BTreeMap<Box<[u8]>, WriterId>,
    /// Ends of the leases of live writers, by the clock of leases; leases without end are not here.
    pub(super) leases: BTreeSet<(u64, WriterId)>,
    /// Number of live writers whose lease has no end, not counting the writer without id.
    pub(super) endless: u32,
    /// How far the clock of leases is behind: the total time in which rollbacks were not noticed.
    pub(super) paused_ms: u64,
    /// End of the lease that ended last, as far as noted.
    pub(super) latest_end_ms: u64,
    /// When writers whose lease is over will be forgotten.
    pub(super) retirements: BTreeSet<(u64, WriterId)>,
    /// Writers with entries that do not agree with the writer's phase yet.
    pub(super) unsettled: VecDeque<WriterId>,
    /// How many writers have entries that their last full state has not named, and are not marked yet.
    pub(super) unnamed: u32,
    pub(super) tombstones: Tombstones,
    /// Records of writers that are gone and settled, oldest first.
    pub(super) gone: VecDeque<WriterId>,
}

impl Writers {
    /// Returns the bytes of memory, without its own.
    pub(super) fn heap_bytes(&self) -> usize {
        self.table.bytes() + self.tombstones.heap_bytes()
    }

    /// Returns the series that the last batch of a writer has left out, if there are any.
    pub(super) fn left_out_of(&self, writer: &[u8], epoch: Epoch) -> Option<&LeftOut> {
        let left_out = match self.by_id.get(writer) {
            Some(id) => Some(&self[*id].left_out),
            None => self.tombstones.left_out(Key::new(epoch, writer)),
        };
        left_out.filter(|left_out| !left_out.is_empty())
    }

    /// Returns whether a writer that sends batches remembers a series.
    pub(super) fn remember(&self, series: &Series) -> bool {
        match series.only_writer() {
            Some(only) => !self[only].is_direct(),
            None => series.memories > 0,
        }
    }
}

impl Index<WriterId> for Writers {
    type Output = Writer;

    #[inline]
    fn index(&self, id: WriterId) -> &Writer {
        &self.table[id]
    }
}

impl IndexMut<WriterId> for Writers {
    #[inline]
    fn index_mut(&mut self, id: WriterId) -> &mut Writer {
        &mut self.table[id]
    }
}

#[cfg(test)]
impl Writers {
    /// Panics if an invariant of the [module](self) does not hold.
    pub(super) fn check(&self) {
        for (id, number) in &self.by_id {
            let writer = &self[*number];
            assert!(writer.id == *id && !writer.is_gone());
        }
        let all = || self.table.iter();
        let present = all().filter(|(_, writer)| !writer.is_gone());
        assert_eq!(present.count(), self.by_id.len());

        let live = || all().filter(|(_, writer)| writer.phase == Phase::Live);
        let is_endless = |writer: &Writer| writer.lease_end_ms == u64::MAX;
        let leased = live().filter(|(_, writer)| !is_endless(writer));
        let leases = leased.map(|(id, writer)| (writer.lease_end_ms, id));
        assert_eq!(leases.collect::<BTreeSet<_>>(), self.leases);
        let endless = live().filter(|(_, writer)| is_endless(writer) && !writer.id.is_empty());
        assert_eq!(endless.count(), self.endless as usize);
        let ended = all().filter(|(_, writer)| writer.phase == Phase::Ended);
        let retirements = ended.map(|(id, writer)| (writer.retires_ms, id));
        assert_eq!(retirements.collect::<BTreeSet<_>>(), self.retirements);

        let queued = all().filter(|(_, writer)| writer.is_queued);
        let queued = queued.map(|(id, _)| id).collect::<BTreeSet<_>>();
        assert_eq!(queued.len(), self.unsettled.len());
        assert!(self.unsettled.iter().all(|id| queued.contains(id)));
        let gone = all().filter(|(_, writer)| writer.is_gone() && !writer.is_queued);
        let gone = gone.map(|(id, _)| id).collect::<BTreeSet<_>>();
        assert_eq!(gone, self.gone.iter().copied().collect());
        let unnamed = all().filter(|(_, writer)| writer.unnamed.is_some());
        assert_eq!(unnamed.count(), self.unnamed as usize);

        for (_, writer) in all() {
            assert_eq!(writer.memory_bytes, writer.walked_memory_bytes());
        }
        assert_eq!(self.table.bytes(), self.table.walked_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use crate::registry::healing::Healing;

    #[test]
    fn a_writer_goes_through_its_phases() {
        let (epoch, limits) = (Epoch(1), Limits::default());
        let (mut writers, mut healing) = (Writers::default(), Healing::default());
        let id = writers.table.insert(Writer::new(b"one"));
        writers.by_id.insert((*b"one").into(), id);
        writers.endless += 1;
        writers.check();
        writers.extend_lease(id, 0, Some(10), &mut healing);
        writers.check();
        assert!(writers.is_live(&writers[id], 9) && !writers.is_live(&writers[id], 10));

        writers.advance(10, 8, &mut healing, epoch, &limits);
        writers.check();
        assert_eq!(writers[id].phase, Phase::Ended);
        writers.revive(id, 20, &healing);
        writers.extend_lease(id, 20, Some(10), &mut healing);
        writers.check();
        assert_eq!(writers[id].phase, Phase::Live);

        let late_ms = 40 + limits.writer_retention_ms;
        writers.advance(late_ms, 8, &mut healing, epoch, &limits);
        writers.check();
        assert_eq!(writers[id].phase, Phase::Forgotten);
        assert!(writers.tombstone_of(b"one", late_ms, epoch).is_some());
        healing.check(&writers);
    }
}

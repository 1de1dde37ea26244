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

mod lifetime;
pub(super) mod tombstones;
mod writer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Index, IndexMut};

use crate::ids::WriterId;
use crate::measured::Measured;
use tombstones::Tombstones;
pub(super) use writer::{BucketMemory, Entry, Phase, Writer};

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

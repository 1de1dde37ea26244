//! Slots: the numbers of workers. They are limited, and used again.

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use crate::control::AT_SLOTS;
use crate::{Control, Process, StoreError};

/// Maximum number of workers of an instance at a time, including those that are ending.
pub const MAX_SLOTS: usize = 1024;

impl Control {
    /// Takes the lowest slot without a live owner. The arbiter takes it for itself before the fork,
    /// and [gives](Self::give_slot) it to the worker afterwards.
    ///
    /// # Errors
    ///
    /// Running processes have all slots.
    pub fn take_slot(&self, owner: Process) -> Result<u32, StoreError> {
        for (slot, word) in self.slot_words().iter().enumerate() {
            let taken = word.load(Acquire);
            if Process::unpack(taken).is_some_and(Process::is_alive) {
                continue;
            }
            if word
                .compare_exchange(taken, owner.pack(), AcqRel, Acquire)
                .is_ok()
            {
                return Ok(slot as u32);
            }
        }
        Err(StoreError::Slots { limit: MAX_SLOTS })
    }

    /// Passes a slot from `from` to `to`; returns whether `from` had it.
    pub fn give_slot(&self, slot: u32, from: Process, to: Process) -> bool {
        self.swap(slot, from.pack(), to.pack())
    }

    /// Frees a slot if `owner` has it. Called at its end, so that the arbiter need not check
    /// whether it lives.
    pub fn free_slot(&self, slot: u32, owner: Process) -> bool {
        self.swap(slot, owner.pack(), 0)
    }

    /// Returns the owner of a slot, which may be gone.
    pub fn slot_owner(&self, slot: u32) -> Option<Process> {
        Process::unpack(self.slot_words().get(slot as usize)?.load(Acquire))
    }

    fn swap(&self, slot: u32, from: u64, to: u64) -> bool {
        self.slot_words()
            .get(slot as usize)
            .is_some_and(|word| word.compare_exchange(from, to, AcqRel, Acquire).is_ok())
    }

    fn slot_words(&self) -> &[std::sync::atomic::AtomicU64] {
        &self.words[AT_SLOTS..AT_SLOTS + MAX_SLOTS]
    }
}

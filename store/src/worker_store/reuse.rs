//! The record of a gauge that was removed is used again.
//!
//! # How it works
//!
//! Labels that are made and removed for ever would fill a store for ever. So a record goes through these
//! states, which are the lower half of its flags; the upper half counts the uses.
//!
//! ```text
//! live ─▶ RETIRED ─▶ RETURNED ─▶ releasing ─▶ FREE ─▶ writing ─▶ live, with one use more
//! worker: removed    no handle   exporter     exporter  worker     worker
//! ```
//!
//! Only gauges, infos and statesets: a registry goes on from what it remembers of a counter.
//!
//! # Why no value is taken for that of another series
//!
//! 1. *Nothing writes a returned record.* Handles are counted, and `RETURNED` is set when none is left.
//!    From there two steps lead on, the exporter's release and the worker's `take_back`. Both are a
//!    compare-and-swap, so one of them happens.
//! 2. *Nothing refers to a released record.* The exporter releases when each registry has answered that
//!    the series is removed, or has never heard of it, and no batch waits for an answer. No batch that may
//!    still arrive has a value of it, and the push state in the record is zero before it is `FREE`.
//! 3. *Labels and value are of one use.* A reader keeps the number of uses with the labels. Where the
//!    record has another number, the series of those labels counts as removed, until the reader has read
//!    the labels again. The exporter releases at the end of its turn, so a record that it has seen live
//!    in a turn is not given to another series in that turn.
//! 4. *Labels are whole.* The worker marks the record, then writes it, then publishes the new number of
//!    uses. The reader looks at the flags before and after, and takes no labels where they differ.
//!
//! # What if
//!
//! - A worker is killed while it writes: the record stays marked, is removed for every reader, and is
//!   never used again. Killed before it counts the use in the header: the exporter looks through all
//!   records once more when the process has ended.
//! - An exporter is killed while it releases: the record stays as it is, removed, and is never used
//!   again. Killed later: its successor finds a push state of zero, as of a series that was never sent,
//!   and begins with a full state, so that a registry gives up what it does not name.
//! - Two arbiters (USR2): their exporters have the same stores, and the lock in the control memory lets
//!   one of them act. The other may read labels just then, which point 4 is for.
//! - File mode: readers of copies see single moments and could miss that a record was free. So the
//!   exporter of an instance in file mode releases nothing.

use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::fence;

use super::{Family, Inner, Known, Slot};
use crate::layout::{AT_FLAGS, AT_REUSED, RETIRED, STATE, WRITING};
use crate::record;

impl Inner {
    pub(super) fn give_back(&mut self, family: Family, labels: record::Labels) {
        let key = (family.number, labels);
        let Some(known) = self.series.get_mut(&key) else {
            return;
        };
        // Without a handle it is not the worker's to change.
        let Some(handles) = known.handles.checked_sub(1) else {
            return;
        };
        known.handles = handles;
        if known.handles > 0 {
            // Another thread has made it again, or another object has the same labels.
            return;
        }
        known.series.retire();
        let family_type = self.families[family.number as usize].family_type;
        if family_type.gauge_mode().is_some() {
            known.series.give_back();
            if std::mem::replace(&mut known.is_listed, true) {
                return;
            }
            let (number, words) = (known.series.number(), known.words);
            let returned = self.returned.entry((family.number, words)).or_default();
            returned.push_back((key, number));
        }
    }

    pub(super) fn drop_handle(&mut self, family: Family, labels: record::Labels) {
        if let Some(known) = self.series.get_mut(&(family.number, labels)) {
            known.handles = known.handles.saturating_sub(1);
        }
    }

    /// The record of a series that was given back and is released: nothing knows the series from now
    /// on.
    pub(super) fn free_record(&mut self, family: u32, words: usize) -> Option<Known> {
        let returned = self.returned.get_mut(&(family, words))?;
        for _ in 0..returned.len() {
            let (key, number) = returned.front()?;
            let known = self.series.get_mut(key);
            let known = known.filter(|known| known.series.number() == *number);
            match known {
                Some(known) if known.series.is_free() => {
                    known.is_listed = false;
                    let (key, _) = returned.pop_front()?;
                    return self.series.remove(&key);
                }
                Some(known) if known.series.is_waiting() => return None,
                Some(known) if known.series.is_being_released() => returned.rotate_left(1),
                Some(known) => {
                    // It came back.
                    known.is_listed = false;
                    returned.pop_front();
                }
                // Its key has another record.
                None => {
                    returned.pop_front();
                }
            }
        }
        None
    }

    /// Puts another series into a record. A reader takes it once the number of uses is another.
    pub(super) fn write_over(&self, free: &Known, words: &[u64]) {
        let Slot(place) = self.slot_at(free.at, free.words);
        let flags = &place[AT_FLAGS];
        let uses = flags.load(Relaxed) & !STATE;
        flags.store(uses | RETIRED | WRITING, Relaxed);
        fence(Release);
        for (cell, word) in place.iter().zip(words).skip(AT_FLAGS + 1) {
            cell.store(*word, Relaxed);
        }
        flags.store(uses.wrapping_add(STATE + 1), Release);
        let reused = &self.segments[0][AT_REUSED];
        reused.store(reused.load(Relaxed).wrapping_add(1), Release);
    }
}

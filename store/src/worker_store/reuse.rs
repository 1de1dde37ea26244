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
use std::sync::atomic::{AtomicU64, fence};

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
        mark(place);
        write(place, words);
        publish(place);
        self.count_reuse();
    }

    fn count_reuse(&self) {
        let reused = &self.segments[0][AT_REUSED];
        reused.store(reused.load(Relaxed).wrapping_add(1), Release);
    }
}

fn mark(record: &[AtomicU64]) {
    let flags = &record[AT_FLAGS];
    let uses = flags.load(Relaxed) & !STATE;
    flags.store(uses | RETIRED | WRITING, Relaxed);
    fence(Release);
}

fn write(record: &[AtomicU64], words: &[u64]) {
    for (cell, word) in record.iter().zip(words).skip(AT_FLAGS + 1) {
        cell.store(*word, Relaxed);
    }
}

fn publish(record: &[AtomicU64]) {
    let flags = &record[AT_FLAGS];
    let uses = flags.load(Relaxed) & !STATE;
    flags.store(uses.wrapping_add(STATE + 1), Release);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop here")]
mod tests {
    use std::os::fd::AsFd;

    use metrics_model::{FamilySpec, FamilyType, GaugeMode, Point};

    use super::*;
    use crate::{Identity, Role, StoreFile, StoreReader};

    /// A series that readers show, with its value.
    fn shown(reader: &StoreReader) -> Option<(String, Point)> {
        let label = || reader.series(0).labels[0].1.to_string();
        (!reader.is_retired(0)).then(|| (label(), reader.point(0)))
    }

    #[test]
    fn a_worker_that_is_killed_in_any_step_of_a_reuse_leaves_no_value_under_other_labels() {
        for steps in 0..=5 {
            let file = StoreFile::create(&Identity {
                role: Role::Worker,
                number: 1,
                slot: 0,
                name: "w".to_owned(),
            })
            .unwrap();
            let copy = || file.as_fd().try_clone_to_owned().unwrap();
            let (of_reader, of_later) = (copy(), copy());
            let store = file.adopt().unwrap();
            let gauge = FamilySpec::new("depth", FamilyType::Gauge(GaugeMode::Sum));
            let family = store.family(&gauge, None).unwrap();
            let labels = [("queue", "a")];
            store.series(&family, &labels).unwrap().set(0, 1.0);
            let mut reader = StoreReader::open(of_reader).unwrap();
            assert_eq!(shown(&reader), Some(("a".into(), Point::Scalar(1.0))));
            store.give_back(&family, &labels);
            assert!(reader.is_returned(0) && reader.release(0));

            let mut inner = store.lock();
            let pairs = [("queue", "b")].into_iter();
            let words = record::series(0, family.shape, pairs).unwrap();
            let free = inner.free_record(0, words.len()).unwrap();
            let Slot(place) = inner.slot_at(free.at, free.words);
            let acts: [&dyn Fn(); 5] = [
                &|| mark(place),
                &|| write(place, &words),
                &|| publish(place),
                &|| inner.count_reuse(),
                &|| free.series.set(0, 2.0),
            ];
            for (done, act) in acts.iter().take(steps).enumerate() {
                act();
                // The labels that the reader has are those of before.
                assert_eq!(shown(&reader), None, "after {done}");
            }
            let mut later = StoreReader::open(of_later).unwrap();
            reader.refresh().unwrap();
            reader.read_again();
            let value = if steps == 5 { 2.0 } else { 0.0 };
            let expected = (steps >= 3).then(|| ("b".to_owned(), Point::Scalar(value)));
            assert_eq!(shown(&reader), expected, "{steps} steps");
            later.refresh().unwrap();
            assert_eq!(shown(&later), expected, "{steps} steps");
            assert!(!reader.release(0), "{steps} steps");
        }
    }
}

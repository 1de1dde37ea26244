//! Applies the entries of an accepted batch: the differences to what its writer sent before.

mod checks;
mod define;
mod unnamed;
mod values;

use super::catalog::series::{NONE, Total};
use super::{Reason, Registry, Stamp};
use crate::ids::WriterId;
use crate::{Batch, Entry, Exemplar, FamilySpec, Layout, LeftOut, Pairs};
pub(super) use unnamed::Unnamed;
pub(super) use values::counter_of;
use values::not_ahead;

/// What a batch has declared so far; definitions refer to it by number.
#[derive(Default)]
struct Declared<'a> {
    families: Vec<FamilySpec<'a>>,
    layouts: Vec<Layout>,
}

impl Registry {
    /// Applies every entry; returns how many were left out, and which series.
    pub(super) fn apply(
        &mut self,
        stamp: &Stamp,
        id: WriterId,
        batch: &Batch<'_>,
    ) -> (u64, LeftOut) {
        let mut declared = Declared::default();
        let (mut left_out, mut series_left_out) = (0, LeftOut::default());
        let mut position = 0;
        for entry in batch.entries() {
            let series_count = entry.series_count();
            position += series_count;
            let applied = match entry {
                Entry::Values(values) => {
                    let mut rest = values.iter();
                    let now_ms = stamp.now_ms;
                    while let Some((index, value)) = self.count_up(id, &mut rest, now_ms) {
                        if let Err(reason) = self.value(id, index, value, 0.0, now_ms) {
                            self.rejected.add(reason, 1);
                            left_out += 1;
                            series_left_out.insert(position - rest.len() - 1);
                        }
                    }
                    Ok(())
                }
                entry => self.apply_entry(stamp, id, entry, &mut declared),
            };
            if let Err(reason) = applied {
                self.rejected.add(reason, 1);
                left_out += 1;
                if series_count == 1 {
                    series_left_out.insert(position - 1);
                }
            }
        }
        (left_out, series_left_out)
    }

    /// Applies an entry of one series, or notes what later entries refer to.
    fn apply_entry<'a>(
        &mut self,
        stamp: &Stamp,
        id: WriterId,
        entry: Entry<'a>,
        declared: &mut Declared<'a>,
    ) -> Result<(), Reason> {
        let now_ms = stamp.now_ms;
        match entry {
            Entry::Timed { index, value, time } => self.value(id, index, value, time, now_ms),
            Entry::Buckets {
                index,
                sum,
                changes,
            } => self.buckets(id, index, sum, changes, now_ms),
            Entry::Native { index, histogram } => self.native(id, index, &histogram, now_ms),
            Entry::Exemplar {
                index,
                value,
                time,
                labels,
            } => self.exemplar(stamp, id, index, (value, time), labels),
            Entry::Retire { index } => {
                let at = self.writers[id].indexed(index).ok_or(Reason::Index)?;
                self.writers[id].index[index as usize] = NONE;
                self.retire(id, at, now_ms);
                Ok(())
            }
            // Plain values come many at a time; only the series of groups have start times.
            Entry::Values(_) | Entry::Start { .. } => Err(Reason::Value),
            Entry::Family(family) => {
                // Leaves out a text that is too long, but not the family's series.
                let kept = family.without_long_texts();
                let fits = kept == family;
                declared.families.push(kept);
                fits.then_some(()).ok_or(Reason::Size)
            }
            Entry::Layout(layout) => {
                declared.layouts.push(layout);
                Ok(())
            }
            Entry::Define(define) => {
                let defined = self.define(stamp, id, &define, declared);
                let place = defined.map_or(NONE, |at| at as u32);
                self.writers[id].index.push(place);
                defined.map(|_| ())
            }
        }
    }

    fn exemplar(
        &mut self,
        stamp: &Stamp,
        id: WriterId,
        index: u32,
        (value, time): (f64, f64),
        labels: Pairs<'_>,
    ) -> Result<(), Reason> {
        let at = self.writers[id].indexed(index).ok_or(Reason::Index)?;
        let exemplar = Exemplar::new(labels, value, not_ahead(time, stamp.now_ms));
        let exemplar = exemplar.map_err(|_| Reason::Exemplar)?;
        let entry = self.writers[id].entries[at];
        let layout = match &self.catalog.series[entry.series].total {
            Total::Counter(_) | Total::Native(_) => None,
            Total::Buckets(_) => {
                let place = entry.place() as usize;
                let memory = self.writers[id].buckets.get(place).ok_or(Reason::Value)?;
                if self.catalog.layouts[memory.layout].is_empty() {
                    // A summary has no exemplars.
                    return Err(Reason::Exemplar);
                }
                Some(memory.layout)
            }
            Total::Gauge(_) => return Err(Reason::Exemplar),
        };
        if stamp.refuse_definitions {
            // It would need memory, and the next exemplar is just as useful.
            return Ok(());
        }
        if self.catalog.has_total(entry.series) && self.group_of(entry.series).is_none() {
            self.catalog.keep_exemplar(entry.series, layout, exemplar);
        }
        Ok(())
    }
}

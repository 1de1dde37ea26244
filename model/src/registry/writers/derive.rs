//! Rebuilds decoded writers: their indexes, queues and counts, which are not among the bytes.

use super::tombstones::{Key, Tombstone};
use super::{BucketMemory, Entry, Phase, Writer, Writers};
use crate::ids::WriterId;
use crate::registry::catalog::Catalog;
use crate::registry::catalog::series::{NONE, Total};
use crate::registry::healing::Healing;
use crate::{Epoch, GaugeMode};

impl Writers {
    /// Rebuilds what follows from the writers, and what they add to the series' owners; the error
    /// names the part that does not agree with the others.
    pub(in crate::registry) fn derive(
        &mut self,
        catalog: &mut Catalog,
        healing: &mut Healing,
    ) -> Result<(), &'static str> {
        self.derive_phases(healing)?;
        for (id, writer) in self.table.iter_mut() {
            writer.check_index()?;
            writer.derive_holes()?;
            for at in 0..writer.entries.len() {
                let entry = writer.entries[at];
                if !entry.is_free() {
                    let shows_pid = own_series(catalog, id, writer, entry)?;
                    writer.with_pid += u32::from(shows_pid);
                }
            }
            if !writer.index_entries() {
                return Err("series of a writer");
            }
        }
        self.check_buckets(catalog)?;
        self.derive_queue()?;
        self.check_gone()?;
        let mut settled = self.table.iter().filter(|(_, writer)| !writer.is_queued);
        if settled.all(|(_, writer)| writer.is_settled()) {
            Ok(())
        } else {
            Err("writer that is settled")
        }
    }

    fn check_buckets(&self, catalog: &Catalog) -> Result<(), &'static str> {
        let fits = |memory: &BucketMemory| catalog.fits_layout(memory.layout, memory.counts.len());
        let mut all = self.table.iter().flat_map(|(_, writer)| &writer.buckets);
        if all.all(fits) {
            Ok(())
        } else {
            Err("buckets of a writer")
        }
    }

    /// Converts writers of versions without tombstones, which kept gone writers whole.
    pub(in crate::registry) fn make_tombstones(&mut self, epoch: Epoch) {
        let gone = self.table.iter().filter(|(_, writer)| writer.is_gone());
        let gone = gone.map(|(id, writer)| (writer.retires_ms, id));
        let mut gone = gone.collect::<Vec<_>>();
        gone.sort_unstable();
        for (until_ms, id) in gone {
            let writer = &self.table[id];
            let has_left = writer.phase == Phase::Closed;
            let tombstone = Tombstone::new(writer.seq, has_left, until_ms);
            self.tombstones
                .insert(Key::new(epoch, &writer.id), tombstone);
            if writer.entries.is_empty() && !self.unsettled.contains(&id) {
                self.table.remove(id);
            }
        }
        let ends_ms = self.table.iter().map(|(_, writer)| writer.end_ms);
        self.latest_end_ms = ends_ms.max().unwrap_or(0);
    }

    /// Fills the index by id, the leases and the retirements.
    fn derive_phases(&mut self, healing: &mut Healing) -> Result<(), &'static str> {
        for (id, writer) in self.table.iter() {
            if !writer.is_gone() && self.by_id.insert(writer.id.clone(), id).is_some() {
                return Err("id of a writer");
            }
            match writer.phase {
                Phase::Ended => {
                    self.retirements.insert((writer.retires_ms, id));
                }
                Phase::Live if writer.lease_end_ms == u64::MAX => {
                    self.endless += u32::from(!writer.id.is_empty());
                }
                Phase::Live => {
                    self.leases.insert((writer.lease_end_ms, id));
                }
                Phase::Closed | Phase::Forgotten => {}
            }
            healing.wait_for(writer);
            self.unnamed += u32::from(writer.unnamed.is_some());
        }
        Ok(())
    }

    fn derive_queue(&mut self) -> Result<(), &'static str> {
        for id in &self.unsettled {
            if self.table.get(*id).is_none() {
                return Err("writer that is not settled");
            }
            let writer = &mut self.table[*id];
            if std::mem::replace(&mut writer.is_queued, true) {
                return Err("writer that is not settled");
            }
        }
        Ok(())
    }

    /// Checks that each writer that is gone is queued for settling or for removal.
    fn check_gone(&self) -> Result<(), &'static str> {
        let mut listed = self.gone.iter().copied().collect::<Vec<_>>();
        listed.sort_unstable();
        let is_listed = |id: WriterId| listed.binary_search(&id).is_ok();
        let is_gone = |id: &WriterId| self.table.get(*id).is_some_and(Writer::is_gone);
        let is_once = listed.is_sorted_by(|one, other| one < other);
        let mut gone = self.table.iter().filter(|(_, writer)| writer.is_gone());
        if is_once
            && listed.iter().all(is_gone)
            && gone.all(|(id, writer)| writer.is_queued != is_listed(id))
        {
            Ok(())
        } else {
            Err("writer that is gone")
        }
    }
}

impl Writer {
    fn check_index(&self) -> Result<(), &'static str> {
        let run = self.run.as_ref();
        let mut places = self.index.iter().filter(|at| **at != NONE);
        let is_nothing = |at: &u32| self.entries.get(*at as usize).is_none_or(Entry::is_hole);
        if run.is_some_and(|named| named.len() != self.entries.len()) || places.any(is_nothing) {
            return Err("index table of a writer");
        }
        let unnamed = self.unnamed.as_ref();
        if unnamed.is_some_and(|unnamed| unnamed.done.len() > self.entries.len()) {
            return Err("entries of a run");
        }
        Ok(())
    }

    fn derive_holes(&mut self) -> Result<(), &'static str> {
        let holes = self.entries.iter().filter(|entry| entry.is_hole()).count();
        // A writer that is gone never defines another series.
        let findable = if self.is_gone() { 0 } else { holes as u32 };
        if !self.finds_holes(findable) {
            return Err("entries of a writer");
        }
        self.holes = findable;
        Ok(())
    }

    /// Returns whether its entries agree with its phase, as those of a writer that is not queued do.
    fn is_settled(&self) -> bool {
        self.unnamed.is_none()
            && match self.phase {
                Phase::Live => self.owed_from == NONE,
                Phase::Ended => self.owed_from == NONE && !self.entries.iter().any(Entry::is_owned),
                Phase::Closed | Phase::Forgotten => self.entries.is_empty(),
            }
    }
}

impl Entry {
    /// Returns whether it is a place for another entry.
    fn is_free(&self) -> bool {
        self.is_hole() && self.is_retired() && !self.is_owned()
    }
}

/// Counts a writer's entry at its series and family; returns whether the series shows its writers'
/// `pid`.
fn own_series(
    catalog: &mut Catalog,
    id: WriterId,
    writer: &Writer,
    entry: Entry,
) -> Result<bool, &'static str> {
    let series = catalog.series.get_mut(entry.series);
    let series = series.ok_or("series of a writer")?;
    series.remember(id);
    series.owners += u32::from(entry.is_owned());
    let place = entry.place() as usize;
    let (has_memory, layout) = match series.total {
        Total::Buckets(_) => (
            place < writer.buckets.len(),
            writer.layout_at(entry.place()),
        ),
        Total::Native(_) => (place < writer.natives.len(), None),
        Total::Counter(_) | Total::Gauge(_) => (true, None),
    };
    if !has_memory {
        return Err("buckets of a writer");
    }
    let family = &mut catalog.families[series.family];
    if entry.is_owned() {
        family.holders.count(entry.help_side(), layout, true);
    }
    let mode = family.family_type.gauge_mode();
    Ok(mode.is_some_and(GaugeMode::is_per_writer))
}

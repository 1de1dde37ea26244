//! Derives indexes, counts and queues from the decoded state, and checks that its parts agree.

use std::collections::BTreeSet;

use super::WITH_DEADLINES;
use crate::footprint::allocated;
use crate::ids::{DeadlineId, Id, LayoutId, SeriesId, WriterId};
use crate::registry::Registry;
use crate::registry::catalog::Catalog;
use crate::registry::catalog::exemplars;
use crate::registry::catalog::order::Order;
use crate::registry::catalog::series::{NONE, Total};
use crate::registry::writers::tombstones::{Key, Tombstone};
use crate::registry::writers::{BucketMemory, Entry, Phase, Writer};
use crate::{FamilyType, GaugeMode};

impl Registry {
    /// Rebuilds what follows from the rest; the error names the part that does not agree.
    pub(super) fn derive(&mut self, version: u8) -> Result<(), &'static str> {
        let ids = self
            .catalog
            .families
            .iter()
            .map(|(id, _)| id)
            .collect::<Vec<_>>();
        let walked = self
            .catalog
            .ttls
            .walks
            .iter()
            .copied()
            .collect::<BTreeSet<_>>();
        for id in ids {
            let family = &self.catalog.families[id];
            if family.ttl.walk.is_some() && !walked.contains(&id) {
                return Err("TTL of a family");
            }
            if family
                .layout
                .is_some_and(|layout| layout.number() as usize >= self.catalog.layouts.len())
            {
                return Err("layout of a family");
            }
            if family.deleted_up_to > self.catalog.last_created_no {
                return Err("deletion of a family");
            }
            if !family.is_ended {
                if self.catalog.by_name.contains_key(&family.name) {
                    return Err("name of a family");
                }
                self.catalog.begin_family(id);
            } else if !self.catalog.note_ended(id) {
                return Err("name of a family that has ended");
            }
        }
        self.derive_series()?;
        if version < WITH_DEADLINES {
            self.make_tombstones();
        }
        self.derive_writers()?;
        self.derive_members()?;
        self.derive_pids();
        if version < WITH_DEADLINES {
            self.derive_deadlines();
        }
        Ok(())
    }

    fn derive_series(&mut self) -> Result<(), &'static str> {
        let ids = self
            .catalog
            .series
            .iter()
            .map(|(id, _)| id)
            .collect::<Vec<_>>();
        let mut with_total = 0;
        for id in ids {
            let series = &self.catalog.series[id];
            let family = self
                .catalog
                .families
                .get(series.family)
                .ok_or("family of a series")?;
            if series.created_no > self.catalog.last_created_no {
                return Err("number of a series");
            }
            let fits = match (&series.total, family.family_type) {
                (Total::Counter(_), FamilyType::Counter)
                | (Total::Native(_), FamilyType::NativeHistogram) => true,
                (Total::Gauge(_), family_type) => family_type.gauge_mode().is_some(),
                (Total::Buckets(buckets), FamilyType::Histogram | FamilyType::Summary) => buckets
                    .parts
                    .iter()
                    .all(|part| self.catalog.fits_layout(part.layout, part.counts.len())),
                _ => false,
            };
            if !fits {
                return Err("total of a series");
            }
            if self
                .catalog
                .find_series(series.family, &series.labels)
                .is_some()
            {
                return Err("labels of a series");
            }
            let (ttl, is_behind) = (&family.ttl, series.ttl_no != family.ttl.no());
            let is_walked = ttl
                .walk
                .is_some_and(|walk| walk.is_ahead(series.created_no));
            if series.ttl_no > ttl.no() || is_behind && self.catalog.has_total(id) && !is_walked {
                return Err("TTL of a series");
            }
            let hash = self.catalog.hash_of(series.family, &series.labels);
            let has_total = self.catalog.has_total(id);
            with_total += usize::from(has_total);
            let of = series.family;
            self.catalog.series_heap_bytes +=
                allocated(series.labels.len()) + series.total.heap_bytes();
            self.catalog.families[of].identities += 1;
            self.catalog.series[id].hash = hash;
            self.catalog.index_series(id);
        }
        let mut in_order = 0;
        for (family_id, family) in self.catalog.families.iter_mut() {
            let (mut order, mut above) = (Order::default(), family.deleted_up_to);
            for id in family.order.ids() {
                let series = self.catalog.series.get(id).ok_or("order of a family")?;
                if series.family != family_id || series.created_no <= above {
                    return Err("order of a family");
                }
                above = series.created_no;
                order.push(above, id);
            }
            if family.is_ended && (family.is_declared || !order.is_empty()) {
                return Err("family that has ended");
            }
            in_order += order.len();
            family.order = order;
        }
        if in_order != with_total {
            return Err("order of a family");
        }
        self.catalog.totals = with_total;
        let of_sweeps = self.catalog.sweeps.iter().map(|(family, _)| *family);
        let mut of_sweeps = of_sweeps.collect::<Vec<_>>();
        of_sweeps.sort_unstable();
        if !of_sweeps.is_sorted_by(|one, other| one < other) {
            return Err("families with changed layouts");
        }
        let mut all = self.catalog.series.iter().map(|(_, series)| series);
        if all.any(|series| series.created_no == 0 && series.deadline != DeadlineId::NONE) {
            return Err("deadline of a series without a total");
        }
        for (id, kept) in &self.catalog.exemplars {
            let series = self.catalog.series.get(*id);
            if series.is_none_or(|series| series.created_no == 0) || kept.is_empty() {
                return Err("exemplars of a series");
            }
            self.catalog.series_heap_bytes += exemplars::heap_bytes(kept);
        }
        Ok(())
    }

    /// Converts writers of versions without tombstones, which kept gone writers whole.
    fn make_tombstones(&mut self) {
        let gone = self
            .writers
            .table
            .iter()
            .filter(|(_, writer)| writer.is_gone());
        let mut gone = gone
            .map(|(id, writer)| (writer.retires_ms, id))
            .collect::<Vec<_>>();
        gone.sort_unstable();
        for (until_ms, id) in gone {
            let writer = &self.writers.table[id];
            let has_left = writer.phase == Phase::Closed;
            let tombstone = Tombstone::new(writer.seq, has_left, until_ms);
            self.writers
                .tombstones
                .insert(Key::new(self.epoch, &writer.id), tombstone);
            if writer.entries.is_empty() && !self.writers.unsettled.contains(&id) {
                self.writers.table.remove(id);
            }
        }
        let ends_ms = self.writers.table.iter().map(|(_, writer)| writer.end_ms);
        self.writers.latest_end_ms = ends_ms.max().unwrap_or(0);
    }

    fn derive_writers(&mut self) -> Result<(), &'static str> {
        for (id, writer) in self.writers.table.iter_mut() {
            if !writer.is_gone() && self.writers.by_id.insert(writer.id.clone(), id).is_some() {
                return Err("id of a writer");
            }
            if writer.phase == Phase::Ended {
                self.writers.retirements.insert((writer.retires_ms, id));
            } else if writer.phase == Phase::Live && writer.lease_end_ms != u64::MAX {
                self.writers.leases.insert((writer.lease_end_ms, id));
                self.healing.missing += u32::from(writer.healed_in != self.healing.no);
            } else if writer.phase == Phase::Live {
                self.writers.endless += u32::from(!writer.id.is_empty());
            }
            if writer
                .run
                .as_ref()
                .is_some_and(|named| named.len() != writer.entries.len())
                || writer
                    .index
                    .iter()
                    .filter(|at| **at != NONE)
                    .any(|at| writer.entries.get(*at as usize).is_none_or(Entry::is_hole))
            {
                return Err("index table of a writer");
            }
            if let Some(unnamed) = &writer.unnamed {
                if unnamed.done.len() > writer.entries.len() {
                    return Err("entries of a run");
                }
                self.writers.unnamed += 1;
            }
            let holes = writer.entries.iter().filter(|entry| entry.is_hole());
            let holes = holes.count() as u32;
            // A writer that is gone never defines another series.
            let findable = if writer.is_gone() { 0 } else { holes };
            if !writer.finds_holes(findable) {
                return Err("entries of a writer");
            }
            writer.holes = findable;
            for entry in &writer.entries {
                if entry.is_hole() && entry.is_retired() && !entry.is_owned() {
                    continue;
                }
                if self.catalog.series.get(entry.series).is_none() {
                    return Err("series of a writer");
                }
                let series = &mut self.catalog.series[entry.series];
                series.remember(id);
                let mode = self.catalog.families[series.family]
                    .family_type
                    .gauge_mode();
                writer.with_pid += u32::from(mode.is_some_and(GaugeMode::is_per_writer));
                series.owners += u32::from(entry.is_owned());
                let place = entry.place() as usize;
                let has_memory = match series.total {
                    Total::Buckets(_) => place < writer.buckets.len(),
                    Total::Native(_) => place < writer.natives.len(),
                    Total::Counter(_) | Total::Gauge(_) => true,
                };
                if !has_memory {
                    return Err("buckets of a writer");
                }
                if entry.is_owned() {
                    let layout = match series.total {
                        Total::Buckets(_) => writer.layout_at(entry.place()),
                        _ => None,
                    };
                    let family = &mut self.catalog.families[series.family];
                    family.holders.count(entry.help_side(), layout, true);
                }
            }
            if !writer.index_entries() {
                return Err("series of a writer");
            }
        }
        for (_, writer) in self.writers.table.iter() {
            let fits = |memory: &BucketMemory| {
                self.catalog.fits_layout(memory.layout, memory.counts.len())
            };
            if !writer.buckets.iter().all(fits) {
                return Err("buckets of a writer");
            }
        }
        for id in &self.writers.unsettled {
            if self.writers.table.get(*id).is_none() {
                return Err("writer that is not settled");
            }
            let writer = &mut self.writers.table[*id];
            if std::mem::replace(&mut writer.is_queued, true) {
                return Err("writer that is not settled");
            }
        }
        let mut listed = self.writers.gone.iter().copied().collect::<Vec<_>>();
        listed.sort_unstable();
        let is_listed = |id: WriterId| listed.binary_search(&id).is_ok();
        let is_known = |id: &WriterId| self.writers.table.get(*id).is_some_and(Writer::is_gone);
        if !listed.iter().all(is_known) || !listed.is_sorted_by(|one, other| one < other) {
            return Err("writer that is gone");
        }
        for (id, writer) in self.writers.table.iter() {
            if writer.is_queued == is_listed(id) && writer.is_gone() {
                return Err("writer that is gone");
            }
        }
        for (_, writer) in self
            .writers
            .table
            .iter()
            .filter(|(_, writer)| !writer.is_queued)
        {
            let is_settled = writer.unnamed.is_none()
                && match writer.phase {
                    Phase::Live => writer.owed_from == NONE,
                    Phase::Ended => {
                        writer.owed_from == NONE && !writer.entries.iter().any(Entry::is_owned)
                    }
                    Phase::Closed | Phase::Forgotten => writer.entries.is_empty(),
                };
            if !is_settled {
                return Err("writer that is settled");
            }
        }
        Ok(())
    }

    fn derive_members(&mut self) -> Result<(), &'static str> {
        let mut remembered = 0_usize;
        for (id, writer) in self.writers.table.iter() {
            for entry in writer.entries.iter().filter(|entry| !entry.is_hole()) {
                let series = &mut self.catalog.series[entry.series];
                let mode = self.catalog.families[series.family]
                    .family_type
                    .gauge_mode();
                if let Total::Gauge(gauge) = &mut series.total
                    && gauge.is_member(entry.place(), id)
                {
                    remembered += 1;
                    let is_live = entry.is_owned() || writer.id.is_empty();
                    gauge.members[entry.place() as usize].is_live =
                        is_live || !mode.is_some_and(GaugeMode::is_live);
                }
            }
        }
        let mut shown = 0;
        for (_, series) in self.catalog.series.iter_mut() {
            if let Total::Gauge(gauge) = &mut series.total {
                shown += gauge.present().count();
                gauge.count_members();
            }
        }
        // A value must be one that its writer remembers, so that it ends with the writer.
        if shown == remembered {
            Ok(())
        } else {
            Err("writer of a value")
        }
    }

    /// Sets the deadlines of a snapshot from before there were any: for each total that may expire,
    /// and each gauge that shows only writers that have left.
    fn derive_deadlines(&mut self) {
        let ids = self
            .catalog
            .series
            .iter()
            .map(|(id, _)| id)
            .collect::<Vec<_>>();
        for id in ids {
            if self
                .catalog
                .deadlines
                .at_ms(self.catalog.series[id].deadline)
                .is_none()
            {
                self.catalog.set_deadline(id);
                if self.catalog.is_empty_gauge(id) {
                    self.catalog.put_deadline(id, self.last_stamp_ms);
                }
            }
        }
    }

    /// Adds the series of the groups.
    pub(super) fn derive_groups(
        &mut self,
        groups: &[(&str, Vec<SeriesId>)],
    ) -> Result<(), &'static str> {
        if !groups.is_sorted_by(|one, other| one.0 < other.0) {
            return Err("order of the groups");
        }
        for (labels, series) in groups {
            if series.is_empty() || !series.is_sorted_by(|one, other| one < other) {
                return Err("series of a group");
            }
            for id in series {
                let known = self.catalog.series.get(*id);
                let is_free =
                    known.is_some_and(|series| series.created_no > 0 && series.owners == 0);
                if !is_free || self.groups.owner(*id).is_some() {
                    return Err("series of a group");
                }
                self.join_group(labels, *id);
            }
        }
        Ok(())
    }
}

impl Catalog {
    fn fits_layout(&self, layout: LayoutId, buckets: usize) -> bool {
        self.layouts
            .get(layout)
            .is_some_and(|layout| layout.len() + 1 == buckets)
    }
}

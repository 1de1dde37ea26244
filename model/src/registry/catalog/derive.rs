//! Rebuilds a decoded catalogue: its indexes and counts, which are not among the bytes.

use std::collections::BTreeSet;

use super::exemplars;
use super::order::Order;
use super::series::{Family, Series, Total};
use super::{Catalog, DeadlineId};
use crate::FamilyType;
use crate::footprint::allocated;
use crate::ids::{Id, LayoutId};

impl Catalog {
    /// Rebuilds what follows from the families and series; the error names the part that does not
    /// agree with the others.
    pub(in crate::registry) fn derive(&mut self) -> Result<(), &'static str> {
        self.derive_families()?;
        self.derive_series()?;
        self.derive_orders()?;
        self.check_sweeps()?;
        self.check_deadlines()?;
        self.count_exemplars()
    }

    fn derive_families(&mut self) -> Result<(), &'static str> {
        let walked = self.ttls.walks.iter().copied().collect::<BTreeSet<_>>();
        for id in self.families.ids() {
            let family = &self.families[id];
            if family.ttl.walk.is_some() && !walked.contains(&id) {
                return Err("TTL of a family");
            }
            if family
                .layout
                .is_some_and(|layout| layout.number() as usize >= self.layouts.len())
            {
                return Err("layout of a family");
            }
            if family.deleted_up_to > self.last_created_no {
                return Err("deletion of a family");
            }
            if !family.is_ended {
                if self.by_name.contains_key(&family.name) {
                    return Err("name of a family");
                }
                self.begin_family(id);
            } else if !self.note_ended(id) {
                return Err("name of a family that has ended");
            }
        }
        Ok(())
    }

    fn derive_series(&mut self) -> Result<(), &'static str> {
        for id in self.series.ids() {
            let series = &self.series[id];
            let of = series.family;
            let family = self.families.get(of).ok_or("family of a series")?;
            if series.created_no > self.last_created_no {
                return Err("number of a series");
            }
            if !self.fits_family(series, family) {
                return Err("total of a series");
            }
            if self.find_series(of, &series.labels).is_some() {
                return Err("labels of a series");
            }
            if !Self::fits_ttl(series, family) {
                return Err("TTL of a series");
            }
            let hash = self.hash_of(of, &series.labels);
            self.totals += usize::from(self.has_total(id));
            self.series_heap_bytes += allocated(series.labels.len()) + series.total.heap_bytes();
            self.families[of].identities += 1;
            self.series[id].hash = hash;
            self.index_series(id);
        }
        Ok(())
    }

    /// Returns whether a total is one of its family's type, with layouts that exist.
    fn fits_family(&self, series: &Series, family: &Family) -> bool {
        match (&series.total, family.family_type) {
            (Total::Counter(_), FamilyType::Counter)
            | (Total::Native(_), FamilyType::NativeHistogram) => true,
            (Total::Gauge(_), family_type) => family_type.gauge_mode().is_some(),
            (Total::Buckets(buckets), FamilyType::Histogram | FamilyType::Summary) => {
                let mut parts = buckets.parts.iter();
                parts.all(|part| self.fits_layout(part.layout, part.counts.len()))
            }
            _ => false,
        }
    }

    /// Returns whether a walk has yet to bring a series the changes of its family's TTL that it
    /// lacks.
    fn fits_ttl(series: &Series, family: &Family) -> bool {
        let ttl = &family.ttl;
        let has_total = series.created_no > family.deleted_up_to;
        let is_behind = has_total && series.ttl_no != ttl.no();
        let is_walked = ttl
            .walk
            .is_some_and(|walk| walk.is_ahead(series.created_no));
        series.ttl_no <= ttl.no() && (!is_behind || is_walked)
    }

    /// Fills the families' orders, which were decoded as numbers alone.
    fn derive_orders(&mut self) -> Result<(), &'static str> {
        let mut in_order = 0;
        for (family_id, family) in self.families.iter_mut() {
            let (mut order, mut above) = (Order::default(), family.deleted_up_to);
            for id in family.order.ids() {
                let series = self.series.get(id).ok_or("order of a family")?;
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
        if in_order == self.totals {
            Ok(())
        } else {
            Err("order of a family")
        }
    }

    fn check_sweeps(&self) -> Result<(), &'static str> {
        let families = self.sweeps.iter().map(|(family, _)| *family);
        let mut families = families.collect::<Vec<_>>();
        families.sort_unstable();
        if families.is_sorted_by(|one, other| one < other) {
            Ok(())
        } else {
            Err("families with changed layouts")
        }
    }

    fn check_deadlines(&self) -> Result<(), &'static str> {
        let mut all = self.series.iter().map(|(_, series)| series);
        if all.any(|series| series.created_no == 0 && series.deadline != DeadlineId::NONE) {
            return Err("deadline of a series without a total");
        }
        Ok(())
    }

    fn count_exemplars(&mut self) -> Result<(), &'static str> {
        for (id, kept) in &self.exemplars {
            let series = self.series.get(*id);
            if series.is_none_or(|series| series.created_no == 0) || kept.is_empty() {
                return Err("exemplars of a series");
            }
            self.series_heap_bytes += exemplars::heap_bytes(kept);
        }
        Ok(())
    }

    /// Sets the deadlines of a snapshot from before there were any: for each total that may expire,
    /// and each gauge that shows only writers that have left.
    pub(in crate::registry) fn derive_deadlines(&mut self, now_ms: u64) {
        for id in self.series.ids() {
            let deadline_ms = self.deadlines.at_ms(self.series[id].deadline);
            if deadline_ms.is_none() {
                self.set_deadline(id);
                if self.is_empty_gauge(id) {
                    self.put_deadline(id, now_ms);
                }
            }
        }
    }

    /// Returns whether a layout exists and has so many buckets.
    pub(in crate::registry) fn fits_layout(&self, layout: LayoutId, buckets: usize) -> bool {
        self.layouts
            .get(layout)
            .is_some_and(|layout| layout.len() + 1 == buckets)
    }
}

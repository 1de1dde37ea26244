//! The life of totals: how one begins, counts its owners, and ends.
//!
//! What a total needs of the other parts is an argument: whether a writer remembers its series, and
//! the groups, because a series leaves its group with its total.

use super::Catalog;
use super::series::{Gauge, Total};
use crate::footprint::allocated;
use crate::ids::{LayoutId, SeriesId, WriterId};
use crate::registry::groups::Groups;
use crate::registry::{Reason, RegistryError};
use crate::{GaugeMode, Limits};

/// How many series without a total a registry remembers, as a multiple of its series limit. Writers
/// may go on with them.
const MOST_REMEMBERED: u64 = 4;

impl Catalog {
    /// Returns whether a series has the total of a gauge in which no writer has a value.
    pub(in crate::registry) fn is_empty_gauge(&self, id: SeriesId) -> bool {
        match &self.series[id].total {
            Total::Gauge(gauge) => {
                gauge.members.is_empty() && gauge.retired.is_none() && self.has_total(id)
            }
            _ => false,
        }
    }

    /// Returns whether a series has a total.
    #[inline]
    pub(in crate::registry) fn has_total(&self, id: SeriesId) -> bool {
        let series = &self.series[id];
        series.created_no > self.families[series.family].deleted_up_to
    }

    /// Returns whether the values of a series are shown under their writers' `pid`.
    pub(in crate::registry) fn shows_pids(&self, id: SeriesId) -> bool {
        let mode = self.families[self.series[id].family]
            .family_type
            .gauge_mode();
        mode.is_some_and(GaugeMode::is_per_writer)
    }

    /// Returns the total of a gauge.
    pub(in crate::registry) fn gauge_mut(&mut self, id: SeriesId) -> &mut Gauge {
        match &mut self.series[id].total {
            Total::Gauge(gauge) => gauge,
            _ => unreachable!("only gauges have values of writers"),
        }
    }

    /// Returns whether a series is one of a gauge.
    pub(in crate::registry) fn is_gauge(&self, id: SeriesId) -> bool {
        matches!(self.series[id].total, Total::Gauge(_))
    }

    /// Checks whether a series without a total may get one.
    pub(in crate::registry) fn check_total(
        &self,
        known: Option<SeriesId>,
        limits: &Limits,
    ) -> Result<(), RegistryError> {
        if known.is_some_and(|id| self.has_total(id)) {
            Ok(())
        } else {
            self.check_room(0, limits)
        }
    }

    /// Checks whether there is room for one more after so many totals are removed.
    pub(in crate::registry) fn check_room(
        &self,
        freed: usize,
        limits: &Limits,
    ) -> Result<(), RegistryError> {
        let count = (self.totals - freed) as u64;
        if count >= limits.max_series {
            return Err(RegistryError::SeriesLimit(count));
        }
        let remembered = self.remembered_count() as u64;
        if remembered >= limits.max_series.saturating_mul(MOST_REMEMBERED) {
            return Err(RegistryError::Remembered(remembered));
        }
        Ok(())
    }

    /// Begins the total of a series without one, at zero and with a new start time.
    ///
    /// # Errors
    ///
    /// Its family has ended, and another family has its name now.
    pub(in crate::registry) fn start_total(
        &mut self,
        id: SeriesId,
        now_ms: u64,
        is_remembered: bool,
        groups: &mut Groups,
        limits: &Limits,
    ) -> Result<(), Reason> {
        let family_id = self.series[id].family;
        if self.families[family_id].is_ended {
            let family = &self.families[family_id];
            if self.by_name.contains_key(&family.name)
                || self.check_claims(&family.name, family.family_type).is_err()
            {
                return Err(Reason::Conflict);
            }
            self.begin_family(family_id);
        }
        if is_remembered {
            self.settle_ttl(id);
        } else {
            // As for a new series: earlier writes may or may not have removed the old total yet.
            self.put_own_ttl(
                id,
                self.new_ttl_ms(family_id, limits),
                self.families[family_id].ttl.no(),
            );
        }
        self.last_created_no += 1;
        self.totals += 1;
        let family = &mut self.families[family_id];
        family.order.push(self.last_created_no, id);
        let series = &mut self.series[id];
        series.created_no = self.last_created_no;
        series.start_ms = now_ms;
        series.idle_since_ms = now_ms;
        self.clear_total(id, groups);
        self.set_deadline(id);
        Ok(())
    }

    /// Removes the total of a series. Writers' memories stay; the series is freed with the last of
    /// them.
    ///
    /// This does not end the family, although it may have been its last series: a caller that
    /// writes nothing new calls [`end_family_if_empty`](Self::end_family_if_empty).
    pub(in crate::registry) fn drop_total(&mut self, id: SeriesId, groups: &mut Groups) {
        if self.has_total(id) {
            let (all, families) = (&self.series, &mut self.families);
            let series = &all[id];
            let family = &mut families[series.family];
            family
                .order
                .remove(series.created_no, |other| all[other].created_no);
            self.totals -= 1;
        }
        self.take_deadline(id);
        self.series[id].created_no = 0;
        self.clear_total(id, groups);
    }

    fn clear_total(&mut self, id: SeriesId, groups: &mut Groups) {
        self.leave_group(id, groups);
        self.drop_exemplars(id);
        let series = &mut self.series[id];
        let zero = Total::zero(self.families[series.family].family_type);
        self.series_heap_bytes -= series.total.heap_bytes();
        self.series_heap_bytes += zero.heap_bytes();
        series.total = zero;
    }

    /// Removes a series from its group.
    pub(in crate::registry) fn leave_group(&mut self, id: SeriesId, groups: &mut Groups) {
        if groups.owner(id).is_some() {
            self.families[self.series[id].family].holders.grouped -= 1;
            groups.remove(id);
        }
    }

    /// Adds a series to a group.
    pub(in crate::registry) fn join_group(
        &mut self,
        group: &str,
        id: SeriesId,
        groups: &mut Groups,
    ) {
        if groups.owner(id).is_none() {
            self.families[self.series[id].family].holders.grouped += 1;
        }
        groups.add(group, id);
    }

    /// Counts a writer among the owners of a series, or (since `end_ms`) no longer. `layout` is that
    /// of the writer's histogram, `place` its place in a gauge.
    pub(in crate::registry) fn count_owner(
        &mut self,
        id: SeriesId,
        (writer, place): (WriterId, u32),
        (help_side, layout): (bool, Option<LayoutId>),
        owned: bool,
        end_ms: u64,
    ) {
        let series = &mut self.series[id];
        let family_id = series.family;
        let family = &mut self.families[family_id];
        if let Total::Gauge(gauge) = &mut series.total {
            let mode = family.family_type.gauge_mode();
            if mode.is_some_and(GaugeMode::is_live) {
                let before = gauge.heap_bytes();
                gauge.set_live(place, writer, owned);
                self.series_heap_bytes += gauge.heap_bytes();
                self.series_heap_bytes -= before;
            }
        }
        let must_sweep = family.count_holder(help_side, layout, owned);
        if owned {
            series.owners += 1;
        } else {
            series.owners -= 1;
            series.idle_since_ms = series.idle_since_ms.max(end_ms);
            self.set_deadline(id);
        }
        if must_sweep {
            self.sweep(family_id);
        }
    }

    /// Removes a series that has no total and that no writer remembers.
    pub(in crate::registry) fn remove_series(&mut self, id: SeriesId) {
        self.by_identity.remove(self.series[id].hash, id);
        self.forget_own_ttl(id);
        self.forget_labels(id);
        if let Some(series) = self.series.remove(id) {
            self.series_heap_bytes -= allocated(series.labels.len()) + series.total.heap_bytes();
            self.families[series.family].identities -= 1;
            self.end_family_if_empty(series.family);
        }
    }
}

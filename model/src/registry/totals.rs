//! The life of totals where it concerns all parts: a total is found expired, a series is freed, an
//! entry counts among its owners. The rest is in [`catalog`](super::catalog).

use super::catalog::series::{LeftValue, Total};
use super::{Reason, Registry};
use crate::ids::{SeriesId, WriterId};

impl Registry {
    /// Makes sure that a series has a total to write to: one that is missing or has expired begins
    /// at zero, with a new start time.
    ///
    /// # Errors
    ///
    /// Its family has ended, and another family has its name now.
    pub(super) fn begin_total(&mut self, id: SeriesId, now_ms: u64) -> Result<(), Reason> {
        if self.catalog.has_total(id) {
            if !self.is_expired(id, now_ms) {
                return Ok(());
            }
            self.catalog.expired += 1;
            self.catalog.drop_total(id, &mut self.groups);
        }
        let is_remembered = self.writers.remember(&self.catalog.series[id]);
        self.catalog
            .start_total(id, now_ms, is_remembered, &mut self.groups, &self.limits)
    }

    /// Frees a series that has no total and that no writer remembers. The memory of a writer that
    /// sends no batches does not count: without a total it has no meaning.
    pub(super) fn free_series_if_unused(&mut self, id: SeriesId) {
        let series = &self.catalog.series[id];
        if series.created_no > 0 || self.writers.remember(series) {
            return;
        }
        if let Some(only) = series.only_writer() {
            if let Some(at) = self.writers[only].find(id) {
                self.set_owned(only, at, false, 0);
            }
            self.writers[only].with_pid -= u32::from(self.catalog.shows_pids(id));
            self.writers[only].forget(id);
            self.catalog.series[id].forget(only);
        }
        self.catalog.remove_series(id);
    }

    /// Makes an entry count among its series' owners, or (since `end_ms`) no longer.
    pub(super) fn set_owned(&mut self, writer: WriterId, at: usize, owned: bool, end_ms: u64) {
        let entry = &mut self.writers[writer].entries[at];
        if entry.is_owned() == owned {
            return;
        }
        // A writer that is back may find that a group has its series.
        if owned && self.groups.owner(entry.series).is_some() {
            return;
        }
        entry.set_owned(owned);
        let (id, place, help_side) = (entry.series, entry.place(), entry.help_side());
        let layout = match self.catalog.series[id].total {
            Total::Buckets(_) => self.writers[writer].layout_at(place),
            Total::Counter(_) | Total::Gauge(_) | Total::Native(_) => None,
        };
        let (member, holder) = ((writer, place), (help_side, layout));
        self.catalog.count_owner(id, member, holder, owned, end_ms);
    }

    /// Ends the total of such a gauge, which would show nothing for ever. Values of writers that
    /// have left are shown until their time is over.
    pub(super) fn end_empty_gauge(&mut self, id: SeriesId) {
        let Total::Gauge(gauge) = &self.catalog.series[id].total else {
            return;
        };
        let is_shown = |left_value: &&LeftValue| left_value.until_ms > self.last_stamp_ms;
        // The last one is nearly always the one that is shown longest.
        let last = gauge.left_values.last().filter(is_shown);
        match last.or_else(|| gauge.left_values.iter().find(is_shown)) {
            Some(left_value) => self.catalog.put_deadline(id, left_value.until_ms),
            None => self.end_total(id),
        }
    }

    /// Ends the total of a series, and the series too if no writer remembers it.
    pub(super) fn end_total(&mut self, id: SeriesId) {
        let family = self.catalog.series[id].family;
        self.catalog.drop_total(id, &mut self.groups);
        self.free_series_if_unused(id);
        if self.catalog.families.get(family).is_some() {
            self.catalog.end_family_if_empty(family);
        }
    }

    /// Ends a total that has expired. The series stays, because a caller has an entry of it.
    pub(super) fn expire(&mut self, id: SeriesId) {
        self.catalog.expired += 1;
        let family = self.catalog.series[id].family;
        self.catalog.drop_total(id, &mut self.groups);
        self.catalog.end_family_if_empty(family);
    }
}

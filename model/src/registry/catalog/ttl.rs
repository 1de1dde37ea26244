//! The idle time after which a series expires, and `METRICS.TTL`, which sets it.
//!
//! # How it works
//!
//! `METRICS.TTL` on a whole family is one mark, whatever its size. The family counts its changes,
//! and a series stores the number of the last change that its own TTL includes. If the family's
//! number is higher, the family's TTL is the series' TTL ([`Catalog::ttl_ms`]). Later writes walk
//! through the series, a few each: they store the TTL in the series, and set an earlier review if
//! it may expire sooner ([`Registry::walk_ttls`]).
//!
//! A total that had expired before a change stays expired, even if no write has removed it yet:
//! each change keeps its time until the walk is over. Of more than [`MAX_CHANGES`] in one walk the
//! oldest are lost; then such a total may be shown again.
//!
//! # What it costs
//!
//! Eight bytes per series. A TTL that does not fit into four bytes is stored beside the series;
//! nearly none is longer than 49 days. While no walk is under way, reading looks only at the
//! series.

use std::collections::{BTreeMap, VecDeque};

use super::series::Series;
use crate::Labels;
use crate::Limits;
use crate::Stamp;
use crate::ids::{FamilyId, SeriesId};
use crate::registry::Registry;
use crate::registry::catalog::Catalog;
use crate::registry::lifetime::COUNTED_DEADLINES;

/// Maximum number of changes of one family's TTL that are stored.
pub(in crate::registry) const MAX_CHANGES: usize = 8;
/// Stands for a TTL of at least this length, which is in [`Ttls::long_ms`].
const LONG: u32 = u32::MAX;

/// The TTL that `METRICS.TTL` has set for a whole family.
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct FamilyTtl {
    /// The last changes, in their order. Those before the last one stay until the walk is over.
    pub(in crate::registry) changes: Vec<TtlChange>,
    /// The walk through series that may have a TTL from before the last change.
    pub(in crate::registry) walk: Option<TtlWalk>,
}

/// One `METRICS.TTL` on a whole family.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct TtlChange {
    /// Number of the change, counted from 1 for each family.
    pub(in crate::registry) no: u32,
    pub(in crate::registry) at_ms: u64,
    pub(in crate::registry) ttl_ms: u64,
}

/// Progress of the walk through a family's series since its TTL was changed.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct TtlWalk {
    /// The creation number of the last series that was walked past.
    pub(in crate::registry) after_no: u64,
    /// The creation number of the last series that the walk has to go to.
    pub(in crate::registry) until_no: u64,
    /// The TTL was changed during the walk, so another walk follows.
    pub(in crate::registry) again: bool,
}

/// TTLs of a registry that are not stored in a series or family.
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct Ttls {
    /// TTLs of the series with a long one.
    long_ms: BTreeMap<SeriesId, u64>,
    /// Families with a walk; those that have ended meanwhile are skipped.
    pub(in crate::registry) walks: VecDeque<FamilyId>,
}

impl Ttls {
    pub(in crate::registry) fn heap_bytes(&self) -> usize {
        self.long_ms.len() * 24 + self.walks.capacity() * size_of::<FamilyId>()
    }
}

impl FamilyTtl {
    /// Returns the number of the last change; 0 = there was none.
    pub(in crate::registry) fn no(&self) -> u32 {
        self.changes.last().map_or(0, |change| change.no)
    }

    fn change(&mut self, at_ms: u64, ttl_ms: u64) {
        let no = self.no().saturating_add(1);
        let most = if self.walk.is_some() {
            MAX_CHANGES - 1
        } else {
            0
        };
        let too_many = self.changes.len().saturating_sub(most);
        self.changes.drain(..too_many);
        self.changes.push(TtlChange { no, at_ms, ttl_ms });
    }

    fn end_walk(&mut self) {
        self.walk = None;
        self.changes.drain(..self.changes.len().saturating_sub(1));
    }
}

impl TtlWalk {
    /// Returns whether the walk has yet to pass the series with that creation number.
    pub(in crate::registry) fn is_ahead(&self, created_no: u64) -> bool {
        self.again || (created_no > self.after_no && created_no <= self.until_no)
    }
}

impl Series {
    /// Returns whether the last write may be longer ago than the series' own TTL. True for every
    /// long TTL, of which there are hardly any.
    #[inline]
    fn may_be_overdue(&self, now_ms: u64) -> bool {
        self.ttl != 0 && now_ms >= self.idle_since_ms.saturating_add(self.ttl.into())
    }
}

impl Registry {
    /// Sets the TTL of a series, or (in O(1), whatever its size) of a family and all its series;
    /// returns the number of series.
    pub fn set_ttl(
        &mut self,
        stamp: &Stamp,
        family: &str,
        labels: Option<&Labels>,
        ttl_ms: u64,
    ) -> u64 {
        let Some(family_id) = self.catalog.family_named(family) else {
            return 0;
        };
        let Some(labels) = labels else {
            self.begin(stamp);
            // The start of this write may have ended the family.
            let family_id = self.catalog.family_named(family);
            return family_id.map_or(0, |id| self.set_family_ttl(id, ttl_ms));
        };
        let found = self.catalog.find_series(family_id, labels.as_str());
        let Some(id) = found.filter(|id| self.catalog.has_total(*id)) else {
            return 0;
        };
        self.begin(stamp);
        // The start of this write may have found it expired.
        if self.catalog.series.get(id).is_none() || self.running_total(id, stamp.now_ms).is_none() {
            return 0;
        }
        self.catalog.set_series_ttl(id, ttl_ms);
        1
    }

    fn set_family_ttl(&mut self, id: FamilyId, ttl_ms: u64) -> u64 {
        let (now_ms, last_no) = (self.last_stamp_ms, self.catalog.last_created_no);
        let due = self
            .catalog
            .deadlines
            .all_due(now_ms)
            .take(COUNTED_DEADLINES);
        let hidden = due.filter(|series| {
            let is_its =
                self.catalog.series[*series].family == id && self.catalog.has_total(*series);
            is_its && self.is_expired(*series, now_ms)
        });
        let hidden = hidden.count();
        let family = &mut self.catalog.families[id];
        family.ttl_ms = Some(ttl_ms);
        if family.order.is_empty() && family.identities == 0 {
            return 0;
        }
        family.ttl.change(now_ms, ttl_ms);
        if let Some(walk) = &mut family.ttl.walk {
            walk.again = true;
        } else {
            family.ttl.walk = Some(TtlWalk {
                after_no: 0,
                until_no: last_no,
                again: false,
            });
            self.catalog.ttls.walks.push_back(id);
        }
        (family.order.len() - hidden) as u64
    }

    /// For a series that may be overdue: returns whether its total has expired, by its TTL or by an
    /// earlier one.
    #[cold]
    pub(in crate::registry) fn is_idle_for_too_long(&self, id: SeriesId, now_ms: u64) -> bool {
        let series = &self.catalog.series[id];
        let changes = &self.catalog.families[series.family].ttl.changes;
        let (mut ttl_ms, mut no) = (self.catalog.own_ttl_ms(id), series.ttl_no);
        for change in changes.iter().filter(|change| change.no > series.ttl_no) {
            let is_next = change.no == no.saturating_add(1);
            if is_next && self.was_idle_for(id, ttl_ms, change.at_ms.min(now_ms)) {
                return true;
            }
            (ttl_ms, no) = (change.ttl_ms, change.no);
        }
        self.was_idle_for(id, ttl_ms, now_ms)
    }

    /// Walks through some series of families whose TTL was changed.
    pub(in crate::registry) fn walk_ttls(&mut self, mut budget: usize) {
        while budget > 0
            && let Some(&id) = self.catalog.ttls.walks.front()
        {
            budget -= 1;
            let Some(walk) = self
                .catalog
                .families
                .get(id)
                .and_then(|family| family.ttl.walk)
            else {
                self.catalog.ttls.walks.pop_front();
                continue;
            };
            let series = self.catalog.series_after(id, walk.after_no);
            let series = series.take_while(|series| series.no() <= walk.until_no);
            let series = series.take(budget).map(|series| (series.no(), series.id));
            let series = series.collect::<Vec<_>>();
            budget -= series.len();
            if series.is_empty() && budget > 0 {
                self.catalog.end_walk(id, walk);
            }
            for (no, of) in series {
                self.walk_past(of);
                if let Some(family) = self.catalog.families.get_mut(id)
                    && let Some(walk) = &mut family.ttl.walk
                {
                    walk.after_no = no;
                }
            }
        }
    }

    fn walk_past(&mut self, id: SeriesId) {
        if self.is_expired(id, self.last_stamp_ms) {
            self.catalog.expired += 1;
            self.end_total(id);
        } else {
            self.catalog.settle_ttl(id);
            self.catalog.set_deadline(id);
        }
    }
}

impl Catalog {
    /// Returns the idle time after which a series expires, in milliseconds; 0 = never.
    pub(in crate::registry) fn ttl_ms(&self, id: SeriesId) -> u64 {
        let series = &self.series[id];
        match self.families[series.family].ttl.changes.last() {
            Some(change) if change.no != series.ttl_no => change.ttl_ms,
            _ => self.own_ttl_ms(id),
        }
    }

    /// Returns the TTL that is stored for a series, although its family may have another by now.
    pub(in crate::registry) fn own_ttl_ms(&self, id: SeriesId) -> u64 {
        match self.series[id].ttl {
            LONG => self.ttls.long_ms.get(&id).copied().unwrap_or(LONG.into()),
            ttl_ms => ttl_ms.into(),
        }
    }

    /// Returns the TTL of a new series of a family, in milliseconds; 0 = never.
    pub(in crate::registry) fn new_ttl_ms(&self, family: FamilyId, limits: &Limits) -> u64 {
        let of_family = self.families[family].ttl_ms;
        of_family.unwrap_or(limits.default_ttl_ms)
    }

    /// Sets the TTL of one series.
    pub(in crate::registry) fn set_series_ttl(&mut self, id: SeriesId, ttl_ms: u64) {
        let no = self.families[self.series[id].family].ttl.no();
        self.put_own_ttl(id, ttl_ms, no);
        self.set_deadline(id);
    }

    /// Stores the TTL of a series, and the number of the last change of the family that it
    /// includes.
    pub(in crate::registry) fn put_own_ttl(&mut self, id: SeriesId, ttl_ms: u64, no: u32) {
        self.forget_own_ttl(id);
        let series = &mut self.series[id];
        series.ttl_no = no;
        series.ttl = u32::try_from(ttl_ms).unwrap_or(LONG);
        if series.ttl == LONG {
            self.ttls.long_ms.insert(id, ttl_ms);
        }
    }

    /// Removes the TTL of a series that ends.
    pub(in crate::registry) fn forget_own_ttl(&mut self, id: SeriesId) {
        if self.series[id].ttl == LONG {
            self.ttls.long_ms.remove(&id);
        }
    }

    /// Stores the TTL that applies to a series as its own.
    pub(in crate::registry) fn settle_ttl(&mut self, id: SeriesId) {
        let series = &self.series[id];
        let no = self.families[series.family].ttl.no();
        if series.ttl_no != no {
            self.put_own_ttl(id, self.ttl_ms(id), no);
        }
    }

    /// Returns whether the last write to a series may be longer ago than its TTL;
    /// [`is_idle_for_too_long`](Registry::is_idle_for_too_long) gives the exact answer.
    #[inline]
    pub(in crate::registry) fn may_be_overdue(&self, series: &Series, now_ms: u64) -> bool {
        series.may_be_overdue(now_ms) || !self.ttls.walks.is_empty()
    }

    fn end_walk(&mut self, id: FamilyId, walk: TtlWalk) {
        self.ttls.walks.pop_front();
        if walk.again {
            self.ttls.walks.push_back(id);
            self.families[id].ttl.walk = Some(TtlWalk {
                after_no: 0,
                until_no: self.last_created_no,
                again: false,
            });
        } else {
            self.families[id].ttl.end_walk();
        }
    }
}

#[cfg(test)]
mod tests;

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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Declaration, Epoch, FamilySpec, FamilyType, Limits};

    const EPOCH: Epoch = Epoch(7);
    /// More than one write walks through.
    const SERIES: usize = 300;

    #[derive(Debug, Clone)]
    enum Deed {
        Inc { series: usize, ttl_ms: Option<u64> },
        Ttl { series: Option<usize>, ttl_ms: u64 },
        Delete { series: Option<usize> },
        Wait { ms: u64 },
        Settle,
        Copy,
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let ttl_ms = prop_oneof![Just(0), Just(u64::MAX), Just(5_000_000_000), 1..100_u64];
        let series = 0..SERIES;
        prop_oneof![
            3 => (series.clone(), prop::option::of(ttl_ms.clone()))
                .prop_map(|(series, ttl_ms)| Deed::Inc { series, ttl_ms }),
            3 => ttl_ms.clone().prop_map(|ttl_ms| Deed::Ttl { series: None, ttl_ms }),
            3 => (series.clone(), ttl_ms)
                .prop_map(|(series, ttl_ms)| Deed::Ttl { series: Some(series), ttl_ms }),
            1 => series.prop_map(|series| Deed::Delete { series: Some(series) }),
            1 => Just(Deed::Delete { series: None }),
            5 => prop_oneof![Just(1), 1..50_u64, Just(5_000_000_000)]
                .prop_map(|ms| Deed::Wait { ms }),
            1 => Just(Deed::Settle),
            1 => Just(Deed::Copy),
        ]
    }

    /// A series under the same rules when everything is done at once.
    #[derive(Debug, Clone, Copy)]
    struct Slow {
        value: f64,
        idle_since_ms: u64,
        ttl_ms: u64,
    }

    struct World {
        registry: Registry,
        slow: Vec<Option<Slow>>,
        family_ttl_ms: u64,
        now_ms: u64,
    }

    fn labels(series: usize) -> Labels {
        Labels::new([("n", series.to_string().as_str())]).unwrap()
    }

    impl World {
        fn new() -> Self {
            let mut world = Self {
                registry: Registry::new(EPOCH, Limits::default(), 0),
                slow: vec![None; SERIES],
                family_ttl_ms: 0,
                now_ms: 1_000_000,
            };
            world.declare();
            for series in 0..SERIES {
                let ttl_ms = (series % 3 == 0).then_some(40);
                world.inc(series, ttl_ms);
            }
            world
        }

        fn stamp(&self) -> Stamp {
            Stamp::at(self.now_ms, EPOCH)
        }

        /// Keeps the family when its last series is removed.
        fn declare(&mut self) {
            let spec = FamilySpec::new("c", FamilyType::Counter);
            let done = self
                .registry
                .declare(&self.stamp(), &spec, &Declaration::default());
            assert_eq!(done, Ok(()));
        }

        fn inc(&mut self, series: usize, ttl_ms: Option<u64>) {
            let stamp = self.stamp();
            let done = self.registry.inc(&stamp, "c", &labels(series), 1.0, ttl_ms);
            let slow = &mut self.slow[series];
            let was = slow.unwrap_or(Slow {
                value: 0.0,
                idle_since_ms: 0,
                ttl_ms: self.family_ttl_ms,
            });
            *slow = Some(Slow {
                value: was.value + 1.0,
                idle_since_ms: self.now_ms,
                ttl_ms: ttl_ms.unwrap_or(was.ttl_ms),
            });
            assert_eq!(done, Ok(was.value + 1.0));
        }

        fn ttl(&mut self, series: Option<usize>, ttl_ms: u64) {
            let is_walked = self.registry.catalog.ttls.walks.is_empty();
            let labels = series.map(labels);
            let stamp = self.stamp();
            let touched = self.registry.set_ttl(&stamp, "c", labels.as_ref(), ttl_ms);
            let mut expected = 0;
            for (at, slow) in self.slow.iter_mut().enumerate() {
                if series.is_none_or(|series| series == at)
                    && let Some(slow) = slow
                {
                    slow.ttl_ms = ttl_ms;
                    expected += 1;
                }
            }
            if series.is_none() {
                self.family_ttl_ms = ttl_ms;
            }
            // Series that expired by a TTL that was just set are noticed when the walk passes them.
            assert!(touched == expected || !is_walked && touched > expected);
        }

        fn delete(&mut self, series: Option<usize>) {
            let stamp = self.stamp();
            self.registry.del(&stamp, "c", series.map(labels).as_ref());
            if let Some(series) = series {
                self.slow[series] = None;
            } else {
                (self.slow, self.family_ttl_ms) = (vec![None; SERIES], 0);
                self.declare();
            }
        }

        fn take(&mut self, deed: &Deed) {
            match *deed {
                Deed::Inc { series, ttl_ms } => self.inc(series, ttl_ms),
                Deed::Ttl { series, ttl_ms } => self.ttl(series, ttl_ms),
                Deed::Delete { series } => self.delete(series),
                Deed::Wait { ms } => self.now_ms += ms,
                Deed::Settle => self.registry.settle(&self.stamp()),
                Deed::Copy => {
                    let snapshot = self.registry.encode_snapshot();
                    self.registry = Registry::decode_snapshot(&snapshot).unwrap();
                    assert!(self.registry.encode_snapshot() == snapshot);
                }
            }
            for slow in &mut self.slow {
                let has_ended = |slow: &Slow| {
                    let ends_ms = slow.idle_since_ms.saturating_add(slow.ttl_ms);
                    slow.ttl_ms > 0 && ends_ms <= self.now_ms
                };
                *slow = slow.filter(|slow| !has_ended(slow));
            }
        }

        fn check(&self) {
            for (series, slow) in self.slow.iter().enumerate() {
                let shown = self.registry.get(self.now_ms, "c", &labels(series));
                let expected = slow.map(|slow| crate::Aggregate::Number(slow.value));
                assert_eq!(shown, expected, "series {series}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 100,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_ttl_is_as_if_each_series_had_got_it_at_once(
            deeds in prop::collection::vec(deed(), 1..40),
        ) {
            let mut world = World::new();
            for deed in deeds {
                // Another test covers more changes than are stored.
                let family = world.registry.catalog.families.iter().next();
                if family.is_some_and(|(_, family)| family.ttl.changes.len() == MAX_CHANGES) {
                    world.registry.settle_all(&world.stamp());
                }
                world.take(&deed);
                world.check();
            }
            world.registry.settle_all(&world.stamp());
            world.check();
            let shown = world.slow.iter().flatten().count();
            prop_assert_eq!(world.registry.series_count(), shown);
            prop_assert!(world.registry.catalog.ttls.walks.is_empty());
            let kept = world.registry.catalog.families.iter().map(|(_, family)| family.ttl.changes.len());
            prop_assert!(kept.sum::<usize>() <= 1);
        }
    }

    #[test]
    fn more_changes_than_are_kept_hide_nothing_too_early() {
        let mut world = World::new();
        for times in 0..100 {
            world.now_ms += 3;
            let stamp = world.stamp();
            world.registry.set_ttl(&stamp, "c", None, 1000 + times);
        }
        // Those that started with a TTL of 40 ms got a longer one before it was over.
        for series in 0..SERIES {
            let shown = world.registry.get(world.now_ms, "c", &labels(series));
            assert_eq!(shown, Some(crate::Aggregate::Number(1.0)), "{series}");
        }
    }

    #[test]
    fn a_long_ttl_is_exact_and_forgotten_with_its_series() {
        let mut world = World::new();
        let long_ms = u64::from(u32::MAX) + 1000;
        world.inc(1, Some(long_ms));
        world.now_ms += long_ms - 1;
        let shown = |world: &World| world.registry.get(world.now_ms, "c", &labels(1)).is_some();
        assert!(shown(&world));
        world.now_ms += 1;
        assert!(!shown(&world));
        world.registry.settle_all(&world.stamp());
        assert_eq!(world.registry.catalog.ttls.long_ms, BTreeMap::new());
    }
}

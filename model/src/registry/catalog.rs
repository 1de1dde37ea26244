//! The catalogue of a registry: its families and series, the indexes by which they are found, and
//! the names they claim.
//!
//! # Invariants
//!
//! - A name belongs to at most one family that has not ended; one that has is found by its name and
//!   type, and stays only as long as it has series that writers remember.
//! - A family and labels have at most one series. A family counts its series, and its order has
//!   exactly those with a total.
//! - The memory of label texts, totals and exemplars is counted when it changes.
//! - The catalogue knows writers only as numbers. What a write or a reader needs of both is in the
//!   composition: [`ownership`](super::ownership), [`lifetime`](super::lifetime).

pub(super) mod deadlines;
pub(super) mod declarations;
mod derive;
mod direct;
mod escaped;
pub(super) mod exemplars;
mod gauge;
mod histograms;
mod layouts;
mod names;
pub(super) mod order;
pub(super) mod series;
mod totals;
pub(super) mod ttl;
pub(super) mod views;

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::RegistryError;
use crate::Limits;
use crate::footprint::allocated;
use crate::id_table::IdTable;
use crate::ids::{DeadlineId, FamilyId, SeriesId};
use crate::measured::Measured;
use crate::slab::Slab;
use crate::{FamilySpec, FamilyType, Labels};
use deadlines::Deadlines;
use escaped::Escaped;
use exemplars::StoredExemplar;
use layouts::Layouts;
use order::Order;
use series::{Family, Series, Total};
use ttl::Ttls;

/// The families and series of a registry; see the [module](self).
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    pub(super) families: Measured<FamilyId, Family>,
    pub(super) by_name: BTreeMap<Box<str>, FamilyId>,
    /// Families that have ended while writers still remember their series, by name.
    ended: BTreeMap<Box<str>, Vec<FamilyId>>,
    /// Number of families whose name could be that of another family's start times.
    pub(super) created_families: usize,
    pub(super) layouts: Layouts,
    /// Families with a changed bucket layout, and the number of the last series that was updated.
    pub(super) sweeps: VecDeque<(FamilyId, u64)>,

    pub(super) series: Slab<SeriesId, Series>,
    by_identity: IdTable<SeriesId>,
    escaped: Escaped,
    pub(super) hasher: DefaultHashBuilder,
    /// Memory of label texts and totals outside the slab, in bytes.
    pub(super) series_heap_bytes: usize,

    /// The number of the total that was created last.
    pub(super) last_created_no: u64,
    /// Number of series with a total.
    pub(super) totals: usize,
    /// How many totals have expired and were removed so far.
    pub(super) expired: u64,
    /// Series of families that were deleted whole, still to be removed.
    pub(super) deleted: VecDeque<Order>,
    /// Exemplars of the few series that have any.
    pub(super) exemplars: BTreeMap<SeriesId, Vec<StoredExemplar>>,
    /// Times at which series without an owner have to be reviewed.
    pub(super) deadlines: Deadlines,
    pub(super) ttls: Ttls,
}

impl Catalog {
    /// Returns the number of series without a total, which writers remember or a write has yet to
    /// remove.
    pub(super) fn remembered_count(&self) -> usize {
        self.series.len() - self.totals
    }

    /// Returns the bytes of memory, without its own.
    pub(super) fn heap_bytes(&self) -> usize {
        self.families.bytes()
            + self.series.heap_bytes()
            + self.series_heap_bytes
            + self.by_identity.heap_bytes()
            + self.escaped.heap_bytes()
            + self.layouts.heap_bytes()
            + self.deadlines.heap_bytes()
            + self.ttls.heap_bytes()
    }
}

impl Catalog {
    /// Returns the lowest schema that a writer of native histograms may have.
    pub(super) fn schema_floor(&self, family: Option<FamilyId>) -> i8 {
        let floor = family.and_then(|id| self.families[id].schema);
        floor.unwrap_or(0)
    }

    /// Returns the series of that family with those labels, with or without a total.
    pub(super) fn find_series(&self, family: FamilyId, labels: &str) -> Option<SeriesId> {
        let hash = self.hash_of(family, labels);
        let is_it = |id: &SeriesId| {
            let series = &self.series[*id];
            series.hash == hash && series.family == family && &*series.labels == labels
        };
        self.by_identity.find(hash, is_it)
    }

    /// Returns whether such a series exists, with or without a total.
    pub(crate) fn has_series(&self, family: FamilyId, labels: &str) -> bool {
        self.find_series(family, labels).is_some()
    }

    /// Checks whether a series of that family may have those labels. The limit of their size is for
    /// new series: one that exists goes on when the limit becomes lower.
    pub(super) fn check_labels(
        spec: &FamilySpec<'_>,
        labels: &Labels,
        known: Option<SeriesId>,
        limits: &Limits,
    ) -> Result<(), RegistryError> {
        let (found, allowed) = (labels.as_str().len(), limits.max_label_bytes);
        if known.is_none() && found as u64 > allowed {
            return Err(RegistryError::LabelBytes { found, allowed });
        }
        match spec.family_type {
            FamilyType::Gauge(mode) if mode.is_per_writer() && labels.has("pid") => {
                Err(RegistryError::Pid)
            }
            FamilyType::StateSet if !labels.has(spec.name) => {
                Err(RegistryError::State(spec.name.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Creates a series, without a total yet.
    pub(super) fn create_series(
        &mut self,
        family: FamilyId,
        labels: &str,
        limits: &Limits,
    ) -> SeriesId {
        let hash = self.hash_of(family, labels);
        let of = &mut self.families[family];
        of.identities += 1;
        let series = Series {
            labels: labels.into(),
            family,
            hash,
            memories: 0,
            writers: 0,
            owners: 0,
            deadline: DeadlineId::NONE,
            created_no: 0,
            start_ms: 0,
            idle_since_ms: 0,
            ttl: 0,
            ttl_no: 0,
            total: Total::zero(of.family_type),
        };
        self.series_heap_bytes += allocated(labels.len()) + series.total.heap_bytes();
        let id = self.series.insert(series);
        self.put_own_ttl(
            id,
            self.new_ttl_ms(family, limits),
            self.families[family].ttl.no(),
        );
        self.index_series(id);
        id
    }

    /// Adds a series to the index.
    pub(super) fn index_series(&mut self, id: SeriesId) {
        let hash = |id: SeriesId| self.series[id].hash;
        self.by_identity.insert(hash(id), id, hash);
        self.note_labels(id);
    }

    /// Returns the hash of a series of that family with those labels. Half of it is stored with the
    /// series, so that growing the table does not read the labels again.
    pub(super) fn hash_of(&self, family: FamilyId, labels: &str) -> u32 {
        hash_with(&self.hasher, family, labels)
    }
}

/// Hashes a family and labels; see [`Catalog::hash_of`].
pub(super) fn hash_with(hasher: &impl BuildHasher, family: FamilyId, labels: &str) -> u32 {
    hasher.hash_one((family, labels)) as u32
}

#[cfg(test)]
impl Catalog {
    /// Panics if an invariant of the [module](self) does not hold.
    pub(super) fn check(&self) {
        for (name, id) in &self.by_name {
            let family = &self.families[*id];
            assert!(family.name == *name && !family.is_ended, "{name}");
        }
        let ended = self.families.iter().filter(|(_, family)| family.is_ended);
        let ended = ended.count();
        assert_eq!(self.by_name.len() + ended, self.families.iter().count());
        assert_eq!(self.ended.values().map(Vec::len).sum::<usize>(), ended);

        let (mut totals, mut bytes) = (0, 0);
        for (id, series) in self.series.iter() {
            assert_eq!(self.find_series(series.family, &series.labels), Some(id));
            assert!(series.created_no <= self.last_created_no);
            totals += usize::from(self.has_total(id));
            bytes += allocated(series.labels.len()) + series.total.heap_bytes();
        }
        bytes += self
            .exemplars
            .values()
            .map(exemplars::heap_bytes)
            .sum::<usize>();
        assert_eq!((self.totals, self.series_heap_bytes), (totals, bytes));
        for (id, family) in self.families.iter() {
            let all = self.series.iter().filter(|(_, series)| series.family == id);
            assert_eq!(family.identities as usize, all.count(), "{}", family.name);
            let mut order = family.order.ids();
            assert!(order.all(|of| self.series[of].family == id && self.has_total(of)));
        }
        let in_order = self.families.iter().map(|(_, family)| family.order.len());
        assert_eq!(in_order.sum::<usize>(), totals);
        assert_eq!(self.families.bytes(), self.families.walked_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_free_again_once_its_family_has_ended() {
        let mut catalog = Catalog::default();
        let counter = FamilySpec::new("jobs", FamilyType::Counter);
        let gauge = FamilySpec::new("jobs_total", FamilyType::Gauge(crate::GaugeMode::Sum));
        let id = catalog.family_for(&counter).unwrap();
        catalog.check();
        assert_eq!(catalog.family_named("jobs_total"), Some(id));
        let refused = catalog.family_for(&gauge);
        assert!(matches!(refused, Err(RegistryError::Conflict { .. })));
        catalog.end_family_if_empty(id);
        catalog.check();
        assert!(catalog.families.get(id).is_none());
        assert!(catalog.family_for(&gauge).is_ok());
        catalog.check();
    }

    #[test]
    fn a_family_with_remembered_series_goes_on_under_its_number() {
        let (mut catalog, limits) = (Catalog::default(), Limits::default());
        let spec = FamilySpec::new("jobs", FamilyType::Counter);
        let family = catalog.family_for(&spec).unwrap();
        let series = catalog.create_series(family, "a=\"1\"", &limits);
        catalog.check();
        assert_eq!(catalog.find_series(family, "a=\"1\""), Some(series));
        assert!(!catalog.has_total(series));
        catalog.end_family_if_empty(family);
        catalog.check();
        assert_eq!(catalog.family_named("jobs"), None);
        assert_eq!(catalog.family_for(&spec), Ok(family));
        catalog.check();
    }

    #[test]
    fn a_deadline_moves_only_to_an_earlier_time() {
        let (mut catalog, limits) = (Catalog::default(), Limits::default());
        let spec = FamilySpec::new("jobs", FamilyType::Counter);
        let family = catalog.family_for(&spec).unwrap();
        let series = catalog.create_series(family, "", &limits);
        for (at_ms, expected_ms) in [(20, 20), (30, 20), (10, 10)] {
            catalog.put_deadline(series, at_ms);
            assert_eq!(catalog.deadlines.first_ms(), Some(expected_ms));
        }
        catalog.take_deadline(series);
        assert_eq!(catalog.deadlines.first_ms(), None);
        catalog.check();
    }
}

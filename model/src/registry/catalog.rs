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
mod escaped;
pub(super) mod exemplars;
mod layouts;
pub(super) mod order;
pub(super) mod series;
pub(super) mod ttl;

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::{Reason, Registry, RegistryError};
use crate::Limits;
use crate::footprint::allocated;
use crate::id_table::IdTable;
use crate::ids::{DeadlineId, FamilyId, SeriesId};
use crate::measured::Measured;
use crate::name::{SAMPLE_SUFFIXES, START_TIMES, kept_name, may_share, sample_suffixes};
use crate::slab::Slab;
use crate::{FamilySpec, FamilyType, Labels};
use deadlines::Deadlines;
use declarations::Holders;
use escaped::Escaped;
use exemplars::StoredExemplar;
use layouts::Layouts;
use order::Order;
use series::{Family, Series, Total};
use ttl::{FamilyTtl, Ttls};

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

/// How many series without a total a registry remembers, as a multiple of its series limit. Writers
/// may go on with them.
const MOST_REMEMBERED: u64 = 4;

impl Registry {
    /// Returns the reason why a family of that name and type cannot be declared now, if another
    /// family has its name or one of its sample names.
    pub fn conflict(&self, spec: &FamilySpec<'_>) -> Option<RegistryError> {
        self.catalog.check_family(spec).err()
    }

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
            self.drop_total(id);
        }
        let family_id = self.catalog.series[id].family;
        if self.catalog.families[family_id].is_ended {
            let family = &self.catalog.families[family_id];
            if self.catalog.by_name.contains_key(&family.name)
                || self
                    .catalog
                    .check_claims(&family.name, family.family_type)
                    .is_err()
            {
                return Err(Reason::Conflict);
            }
            self.catalog.begin_family(family_id);
        }
        if self.is_remembered(id) {
            self.catalog.settle_ttl(id);
        } else {
            // As for a new series: earlier writes may or may not have removed the old total yet.
            self.catalog.put_own_ttl(
                id,
                self.catalog.new_ttl_ms(family_id, &self.limits),
                self.catalog.families[family_id].ttl.no(),
            );
        }
        self.catalog.last_created_no += 1;
        self.catalog.totals += 1;
        let family = &mut self.catalog.families[family_id];
        family.order.push(self.catalog.last_created_no, id);
        let series = &mut self.catalog.series[id];
        series.created_no = self.catalog.last_created_no;
        series.start_ms = now_ms;
        series.idle_since_ms = now_ms;
        self.clear_total(id);
        self.catalog.set_deadline(id);
        Ok(())
    }

    /// Removes the total of a series. Writers' memories stay; the series is freed with the last of
    /// them.
    ///
    /// This does not end the family, although it may have been its last series: a caller that
    /// writes nothing new calls [`Catalog::end_family_if_empty`].
    pub(super) fn drop_total(&mut self, id: SeriesId) {
        if self.catalog.has_total(id) {
            let (all, families) = (&self.catalog.series, &mut self.catalog.families);
            let series = &all[id];
            let family = &mut families[series.family];
            family
                .order
                .remove(series.created_no, |other| all[other].created_no);
            self.catalog.totals -= 1;
        }
        self.catalog.take_deadline(id);
        self.catalog.series[id].created_no = 0;
        self.clear_total(id);
    }

    fn clear_total(&mut self, id: SeriesId) {
        self.leave_group(id);
        self.catalog.drop_exemplars(id);
        let series = &mut self.catalog.series[id];
        let zero = Total::zero(self.catalog.families[series.family].family_type);
        self.catalog.series_heap_bytes -= series.total.heap_bytes();
        self.catalog.series_heap_bytes += zero.heap_bytes();
        series.total = zero;
    }

    /// Returns whether a writer that sends batches remembers a series.
    fn is_remembered(&self, id: SeriesId) -> bool {
        match self.catalog.series[id].only_writer() {
            Some(only) => !self.writers[only].is_direct(),
            None => self.catalog.series[id].memories > 0,
        }
    }

    /// Frees a series that has no total and that no writer remembers. The memory of a writer that
    /// sends no batches does not count: without a total it has no meaning.
    pub(super) fn free_series_if_unused(&mut self, id: SeriesId) {
        if self.catalog.series[id].created_no > 0 {
            return;
        }
        if self.is_remembered(id) {
            return;
        }
        if let Some(only) = self.catalog.series[id].only_writer() {
            if let Some(at) = self.writers[only].find(id) {
                self.set_owned(only, at, false, 0);
            }
            self.writers[only].with_pid -= u32::from(self.catalog.shows_pids(id));
            self.writers[only].forget(id);
            self.catalog.series[id].forget(only);
        }
        self.catalog
            .by_identity
            .remove(self.catalog.series[id].hash, id);
        self.catalog.forget_own_ttl(id);
        self.catalog.forget_labels(id);
        if let Some(series) = self.catalog.series.remove(id) {
            self.catalog.series_heap_bytes -=
                allocated(series.labels.len()) + series.total.heap_bytes();
            self.catalog.families[series.family].identities -= 1;
            self.catalog.end_family_if_empty(series.family);
        }
    }
}

impl Catalog {
    /// Returns the family of that name, unless it has ended.
    pub(super) fn family_named(&self, name: &str) -> Option<FamilyId> {
        let found = self.by_name.get(name);
        // A counter may be named by the name of its samples.
        let found = found.or_else(|| {
            let id = self.by_name.get(name.strip_suffix("_total")?)?;
            (self.families[*id].family_type == FamilyType::Counter).then_some(id)
        });
        found.copied()
    }

    /// Checks that a family of that name and type exists or can be created.
    pub(super) fn check_family(
        &self,
        spec: &FamilySpec<'_>,
    ) -> Result<Option<FamilyId>, RegistryError> {
        let name = kept_name(spec)?;
        if let Some(&id) = self.by_name.get(name) {
            let found = self.families[id].family_type;
            if found == spec.family_type {
                return Ok(Some(id));
            }
            return Err(RegistryError::Type {
                family: name.to_owned(),
                found: found.describe(),
                expected: spec.family_type.describe(),
            });
        }
        self.check_claims(name, spec.family_type)?;
        Ok(None)
    }

    fn check_claims(&self, name: &str, family_type: FamilyType) -> Result<(), RegistryError> {
        match self.rivals(name, family_type).next() {
            None => Ok(()),
            Some((sample, other)) => Err(RegistryError::Conflict {
                family: name.to_owned(),
                sample,
                other: self.families[other].name.to_string(),
            }),
        }
    }

    /// Returns the sample names of a family that other families have, each with that family.
    pub(super) fn rivals<'a>(
        &'a self,
        name: &'a str,
        family_type: FamilyType,
    ) -> impl Iterator<Item = (String, FamilyId)> + use<'a> {
        let suffixes = sample_suffixes(family_type).iter();
        suffixes.filter_map(move |suffix| {
            let sample = format!("{name}{suffix}");
            let id = self.claimant(&sample)?;
            let other = &self.families[id];
            let other = (&*other.name, other.family_type);
            (!may_share(&sample, (name, family_type), other)).then_some((sample, id))
        })
    }

    /// Returns the family that a sample name belongs to.
    pub(super) fn claimant(&self, sample: &str) -> Option<FamilyId> {
        SAMPLE_SUFFIXES.iter().find_map(|suffix| {
            let id = *self.by_name.get(sample.strip_suffix(suffix)?)?;
            let suffixes = sample_suffixes(self.families[id].family_type);
            suffixes.contains(suffix).then_some(id)
        })
    }

    /// Returns the family of that name and type; creates it if it is missing. The first help and
    /// unit stay.
    pub(super) fn family_for(&mut self, spec: &FamilySpec<'_>) -> Result<FamilyId, RegistryError> {
        let id = match self.check_family(spec)? {
            Some(id) => id,
            None => self.create_family(kept_name(spec)?, spec.family_type),
        };
        let family = &mut self.families[id];
        if family.help.is_empty() {
            family.help = spec.help.into();
        }
        if family.unit.is_empty() {
            family.unit = spec.unit.into();
        }
        Ok(id)
    }

    /// Returns the family of that name and type that has ended while writers remember its series.
    pub(super) fn ended_family(&self, name: &str, family_type: FamilyType) -> Option<FamilyId> {
        let mut ended = self.ended.get(name)?.iter().copied();
        ended.find(|id| self.families[*id].family_type == family_type)
    }

    /// Notes that a family has ended; returns false if another of its name and type has.
    pub(super) fn note_ended(&mut self, id: FamilyId) -> bool {
        let family = &self.families[id];
        let is_new = self
            .ended_family(&family.name, family.family_type)
            .is_none();
        self.ended.entry(family.name.clone()).or_default().push(id);
        is_new
    }

    fn forget_ended(&mut self, id: FamilyId) {
        let name = &*self.families[id].name;
        if let Some(ids) = self.ended.get_mut(name) {
            ids.retain(|ended| *ended != id);
            if ids.is_empty() {
                self.ended.remove(name);
            }
        }
    }

    fn create_family(&mut self, name: &str, family_type: FamilyType) -> FamilyId {
        // Keeps the series that writers remember of it.
        let ended = self.ended_family(name, family_type);
        let id = match ended {
            Some(id) => id,
            None => self.families.insert(Family {
                name: name.into(),
                family_type,
                help: Box::default(),
                unit: Box::default(),
                ttl_ms: None,
                ttl: FamilyTtl::default(),
                layout: None,
                schema: None,
                is_declared: false,
                is_ended: true,
                deleted_up_to: 0,
                order: Default::default(),
                identities: 0,
                holders: Holders::default(),
                odd_labels: 0,
                equal_labels: 0,
            }),
        };
        self.begin_family(id);
        id
    }

    pub(super) fn begin_family(&mut self, id: FamilyId) {
        self.forget_ended(id);
        let family = &mut self.families[id];
        family.is_ended = false;
        self.created_families += usize::from(family.name.ends_with(START_TIMES));
        self.escaped
            .count_family(id, &family.name, family.family_type, true);
        self.by_name.insert(family.name.clone(), id);
    }

    /// Ends a family that has no series left and was not declared; frees its name.
    pub(super) fn end_family_if_empty(&mut self, id: FamilyId) {
        let family = &mut self.families[id];
        if !family.order.is_empty() || family.is_declared {
            return;
        }
        if !family.is_ended {
            family.is_ended = true;
            (family.help, family.unit) = Default::default();
            (family.ttl_ms, family.layout, family.schema) = Default::default();
            family.holders.is_by_hand = false;
            (family.holders.next_help, family.holders.newest_layout) = (None, None);
            self.by_name.remove(&family.name);
            self.escaped
                .count_family(id, &family.name, family.family_type, false);
            self.created_families -= usize::from(family.name.ends_with(START_TIMES));
            self.note_ended(id);
        }
        if self.families[id].identities == 0 {
            self.forget_ended(id);
            self.families.remove(id);
        }
    }

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

    /// Checks whether a series without a total may get one.
    pub(super) fn check_total(
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
    pub(super) fn check_room(&self, freed: usize, limits: &Limits) -> Result<(), RegistryError> {
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
    pub(super) fn has_total(&self, id: SeriesId) -> bool {
        let series = &self.series[id];
        series.created_no > self.families[series.family].deleted_up_to
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

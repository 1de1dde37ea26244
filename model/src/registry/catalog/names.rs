//! The names of families: which are taken, and when they are free again.

use super::Catalog;
use super::declarations::Holders;
use super::series::Family;
use super::ttl::FamilyTtl;
use crate::ids::FamilyId;
use crate::name::{SAMPLE_SUFFIXES, START_TIMES, kept_name, may_share, sample_suffixes};
use crate::registry::RegistryError;
use crate::{FamilySpec, FamilyType};

impl Catalog {
    /// Returns the family of that name, unless it has ended.
    pub(in crate::registry) fn family_named(&self, name: &str) -> Option<FamilyId> {
        let found = self.by_name.get(name);
        // A counter may be named by the name of its samples.
        let found = found.or_else(|| {
            let id = self.by_name.get(name.strip_suffix("_total")?)?;
            (self.families[*id].family_type == FamilyType::Counter).then_some(id)
        });
        found.copied()
    }

    /// Checks that a family of that name and type exists or can be created.
    pub(in crate::registry) fn check_family(
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

    pub(super) fn check_claims(
        &self,
        name: &str,
        family_type: FamilyType,
    ) -> Result<(), RegistryError> {
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
    pub(in crate::registry) fn rivals<'a>(
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
    pub(in crate::registry) fn claimant(&self, sample: &str) -> Option<FamilyId> {
        SAMPLE_SUFFIXES.iter().find_map(|suffix| {
            let id = *self.by_name.get(sample.strip_suffix(suffix)?)?;
            let suffixes = sample_suffixes(self.families[id].family_type);
            suffixes.contains(suffix).then_some(id)
        })
    }

    /// Returns the family of that name and type; creates it if it is missing. The first help and
    /// unit stay.
    pub(in crate::registry) fn family_for(
        &mut self,
        spec: &FamilySpec<'_>,
    ) -> Result<FamilyId, RegistryError> {
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
    pub(in crate::registry) fn ended_family(
        &self,
        name: &str,
        family_type: FamilyType,
    ) -> Option<FamilyId> {
        let mut ended = self.ended.get(name)?.iter().copied();
        ended.find(|id| self.families[*id].family_type == family_type)
    }

    /// Notes that a family has ended; returns false if another of its name and type has.
    pub(in crate::registry) fn note_ended(&mut self, id: FamilyId) -> bool {
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

    pub(in crate::registry) fn begin_family(&mut self, id: FamilyId) {
        self.forget_ended(id);
        let family = &mut self.families[id];
        family.is_ended = false;
        self.created_families += usize::from(family.name.ends_with(START_TIMES));
        self.escaped
            .count_family(id, &family.name, family.family_type, true);
        self.by_name.insert(family.name.clone(), id);
    }

    /// Ends a family that has no series left and was not declared; frees its name.
    pub(in crate::registry) fn end_family_if_empty(&mut self, id: FamilyId) {
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

    /// Deletes a family and all its series, which later writes remove; returns their number.
    pub(in crate::registry) fn delete_family(&mut self, id: FamilyId) -> u64 {
        let last_no = self.last_created_no;
        let family = &mut self.families[id];
        family.deleted_up_to = last_no;
        family.is_declared = false;
        let order = std::mem::take(&mut family.order);
        let count = order.len();
        self.totals -= count;
        if count > 0 {
            self.deleted.push_back(order);
        }
        self.end_family_if_empty(id);
        count as u64
    }
}

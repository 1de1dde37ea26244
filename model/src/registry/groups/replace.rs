//! Replacing the series of a group.
//!
//! Everything is checked before anything changes ([`Registry::check_replacement`]): a replacement
//! is done whole, or refused with an error that names the series or family in its way.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::content::{Content, NewSeries};
use crate::ids::{FamilyId, SeriesId};
use crate::name::passed_name;
use crate::registry::catalog::Catalog;
use crate::registry::catalog::series::{Buckets, Native, ObservedSum, Part, Total};
use crate::registry::{Registry, RegistryError, Stamp};
use crate::sum::{Sum, sum_of_counts};
use crate::{Batch, FamilySpec, FamilyType, Labels, Point};

/// The arguments of `METRICS.REPLACE`.
#[derive(Debug, Clone, Copy)]
pub struct Replacement<'a> {
    /// The labels that identify the group. Series have them only if their definitions do.
    pub group: &'a Labels,
    /// One full state, of definitions alone; without batches the group ends.
    pub batches: &'a [Batch<'a>],
    /// Whether families of the group that the batches do not name stay.
    pub keeps_others: bool,
}

/// The result of a replacement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Number of series that the batches define.
    pub series: u64,
    /// Number of series of the group that were removed.
    pub removed: u64,
}

/// The result of the check: which families of the registry have only series of the group.
#[derive(Debug, Default)]
struct Plan {
    /// Indexes of new families whose help and unit replace those of the registry.
    described_anew: HashSet<usize>,
}

impl Registry {
    /// Gives a group other series in one step, or refuses.
    ///
    /// # Errors
    ///
    /// A series belongs to another group or to a writer, or was written by hand; a family has
    /// another type and has other series than the group's; a limit. Nothing has changed then.
    pub fn replace_group(
        &mut self,
        stamp: &Stamp,
        replacement: &Replacement<'_>,
    ) -> Result<Replaced, RegistryError> {
        let content = Content::read(replacement.batches)?;
        let plan = self.check_replacement(stamp, replacement, &content)?;
        self.begin(stamp);
        let removed = self.remove_rest(replacement, &content);
        let group = replacement.group.as_str();
        let mut families = vec![None; content.families.len()];
        for new in &content.series {
            let family = match families[new.family] {
                Some(family) => family,
                None => self.begin_family_of_group(&content, new.family, &plan)?,
            };
            families[new.family] = Some(family);
            self.write_of_group(stamp.now_ms, group, family, new);
        }
        Ok(Replaced {
            series: content.series.len() as u64,
            removed,
        })
    }

    /// Returns what [`replace_group`](Self::replace_group) would return now, and changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`replace_group`](Self::replace_group).
    pub fn check_group(
        &self,
        stamp: &Stamp,
        replacement: &Replacement<'_>,
    ) -> Result<Replaced, RegistryError> {
        let content = Content::read(replacement.batches)?;
        self.check_replacement(stamp, replacement, &content)?;
        Ok(Replaced {
            series: content.series.len() as u64,
            removed: self.rest(replacement, &content).len() as u64,
        })
    }

    fn check_replacement(
        &self,
        stamp: &Stamp,
        replacement: &Replacement<'_>,
        content: &Content<'_>,
    ) -> Result<Plan, RegistryError> {
        let scope = self.scope(replacement, content);
        let mut in_family: HashMap<FamilyId, usize> = HashMap::new();
        for id in &scope {
            *in_family
                .entry(self.catalog.series[*id].family)
                .or_default() += 1;
        }
        let is_sole = |id: FamilyId| {
            let family = &self.catalog.families[id];
            !family.is_declared && in_family.get(&id) == Some(&family.order.len())
        };
        let mut plan = Plan::default();
        let mut ids = Vec::with_capacity(content.families.len());
        for (at, spec) in content.families.iter().enumerate() {
            let id = self.check_family_of_group(spec, is_sole)?;
            if id.is_none_or(is_sole) {
                plan.described_anew.insert(at);
            }
            let ended = || self.catalog.ended_family(spec.name, spec.family_type);
            ids.push(id.or_else(ended));
        }
        let (mut created, mut rewritten) = (0, HashSet::new());
        for new in &content.series {
            let spec = &content.families[new.family];
            let known =
                ids[new.family].and_then(|id| self.catalog.find_series(id, new.labels.as_str()));
            self.check_series_of_group(stamp.now_ms, replacement.group, spec, new, known)
                .map_err(|error| error.of_series(&new.describe(spec)))?;
            match known {
                Some(id) if self.catalog.has_total(id) => {
                    rewritten.insert(id);
                }
                Some(_) | None => created += 1,
            }
        }
        let layouts = content
            .series
            .iter()
            .filter_map(|new| new.layout.as_deref());
        self.catalog.layouts.check_room(layouts)?;
        if created > 0 && stamp.refuse_definitions {
            return Err(RegistryError::Memory);
        }
        let freed = scope.iter().filter(|id| !rewritten.contains(*id)).count();
        let count = (self.catalog.totals - freed) as u64;
        let room = self.limits.max_series.saturating_sub(count);
        if created as u64 > room {
            return Err(RegistryError::Room { created, room });
        }
        Ok(plan)
    }

    /// Returns the series of the group that a replacement replaces.
    fn scope(&self, replacement: &Replacement<'_>, content: &Content<'_>) -> BTreeSet<SeriesId> {
        let of_group = self.groups.series_of(replacement.group.as_str());
        let series = of_group.filter(|id| self.catalog.has_total(*id));
        if !replacement.keeps_others {
            return series.collect();
        }
        // Includes families whose samples have the names of new ones: `x_total` may have been a
        // gauge.
        let mut families: HashSet<FamilyId> = HashSet::new();
        for spec in &content.families {
            families.extend(self.catalog.by_name.get(spec.name));
            let rivals = self.catalog.rivals(spec.name, spec.family_type);
            families.extend(rivals.map(|(_, other)| other));
        }
        series
            .filter(|id| families.contains(&self.catalog.series[*id].family))
            .collect()
    }

    /// Returns the family of that name, if its series can belong to the group. A family of another
    /// type with only series of the group ends.
    fn check_family_of_group(
        &self,
        spec: &FamilySpec<'_>,
        is_sole: impl Fn(FamilyId) -> bool,
    ) -> Result<Option<FamilyId>, RegistryError> {
        if let Some(&id) = self.catalog.by_name.get(spec.name) {
            let found = self.catalog.families[id].family_type;
            if fits(spec.family_type, found) {
                return Ok(Some(id));
            }
            if !is_sole(id) {
                let reason = RegistryError::Type {
                    family: spec.name.to_owned(),
                    found: found.describe(),
                    expected: spec.family_type.describe(),
                };
                return Err(reason.in_the_way(spec.name));
            }
        }
        let mut rivals = self.catalog.rivals(spec.name, spec.family_type);
        if let Some((sample, other)) = rivals.find(|(_, other)| !is_sole(*other)) {
            let other = self.catalog.families[other].name.to_string();
            let reason = RegistryError::Conflict {
                family: spec.name.to_owned(),
                sample,
                other: other.clone(),
            };
            return Err(reason.in_the_way(&other));
        }
        Ok(None)
    }

    fn check_series_of_group(
        &self,
        now_ms: u64,
        group: &Labels,
        spec: &FamilySpec<'_>,
        new: &NewSeries,
        known: Option<SeriesId>,
    ) -> Result<(), RegistryError> {
        Catalog::check_labels(spec, &new.labels, known, &self.limits)?;
        if let Point::Native(histogram) = &new.point {
            let (schema, floor) = (
                histogram.schema,
                self.catalog
                    .schema_floor(self.catalog.by_name.get(spec.name).copied()),
            );
            if schema < floor {
                return Err(RegistryError::Schema { schema, floor });
            }
        }
        let Some(id) = known else { return Ok(()) };
        let has_value = self.catalog.has_total(id) && !self.is_expired(id, now_ms);
        let owner = match self.group_of(id) {
            Some(labels) if labels == group.as_str() => return Ok(()),
            Some(labels) if has_value => format!("the pushed group {{{labels}}}"),
            _ if has_value || self.catalog.series[id].owners > 0 => {
                "an application, or was written by hand".to_owned()
            }
            _ => return Ok(()),
        };
        let series = self.describe_series(id);
        Err(RegistryError::Owned { series, owner })
    }

    /// Returns the series that the group will no longer have.
    fn rest(&self, replacement: &Replacement<'_>, content: &Content<'_>) -> BTreeSet<SeriesId> {
        let mut rest = self.scope(replacement, content);
        for new in &content.series {
            let spec = &content.families[new.family];
            let family = self.catalog.by_name.get(spec.name).copied();
            let family =
                family.filter(|id| fits(spec.family_type, self.catalog.families[*id].family_type));
            if let Some(id) =
                family.and_then(|id| self.catalog.find_series(id, new.labels.as_str()))
            {
                rest.remove(&id);
            }
        }
        rest
    }

    /// Removes series that the group no longer has; returns their number.
    fn remove_rest(&mut self, replacement: &Replacement<'_>, content: &Content<'_>) -> u64 {
        let rest = self.rest(replacement, content);
        for id in &rest {
            let family = self.catalog.series[*id].family;
            self.catalog.drop_total(*id, &mut self.groups);
            self.free_series_if_unused(*id);
            if self.catalog.families.get(family).is_some() {
                self.catalog.end_family_if_empty(family);
            }
        }
        rest.len() as u64
    }

    /// Returns the family of a checked spec; creates it if it is missing.
    fn begin_family_of_group(
        &mut self,
        content: &Content<'_>,
        number: usize,
        plan: &Plan,
    ) -> Result<FamilyId, RegistryError> {
        let spec = &content.families[number];
        let id = match self.catalog.by_name.get(spec.name) {
            Some(&id) if fits(spec.family_type, self.catalog.families[id].family_type) => id,
            _ => {
                let name = passed_name(spec.name, spec.family_type);
                self.catalog.family_for(&FamilySpec {
                    name: &name,
                    ..*spec
                })?
            }
        };
        let family = &mut self.catalog.families[id];
        if plan.described_anew.contains(&number) {
            (family.help, family.unit) = (spec.help.into(), spec.unit.into());
        }
        Ok(id)
    }

    /// Writes the new value of a series, and adds the series to the group.
    fn write_of_group(&mut self, now_ms: u64, group: &str, family: FamilyId, new: &NewSeries) {
        let labels = new.labels.as_str();
        let known = self.catalog.find_series(family, labels);
        let id = known.unwrap_or_else(|| self.catalog.create_series(family, labels, &self.limits));
        if self.begin_total(id, now_ms).is_err() {
            unreachable!("the family was found by its name, so it has not ended");
        }
        let total = match &new.point {
            Point::Scalar(value) => scalar_of_group(&self.catalog, id, *value),
            Point::Buckets { sum, counts } => {
                let layout = new
                    .layout
                    .as_ref()
                    .map(|layout| self.catalog.layouts.number_of(layout));
                let part = Part {
                    layout: layout.unwrap_or_default(),
                    sum: ObservedSum::of(*sum),
                    counts: counts.as_slice().into(),
                };
                Total::Buckets(Box::new(Buckets {
                    count: sum_of_counts(counts.iter().copied()),
                    parts: vec![part],
                }))
            }
            Point::Native(histogram) => {
                let mut native = Native::default();
                native.add((**histogram).clone(), ObservedSum::of(histogram.sum));
                Total::Native(Box::new(native))
            }
            Point::Timed { .. } => unreachable!("a group has no gauges in a mostrecent mode"),
        };
        let series = &mut self.catalog.series[id];
        self.catalog.series_heap_bytes -= series.total.heap_bytes();
        self.catalog.series_heap_bytes += total.heap_bytes();
        let begins_anew = is_less(&total, &series.total).then_some(now_ms);
        if let Some(start_ms) = new.start_ms.or(begins_anew) {
            series.start_ms = start_ms.min(now_ms);
        }
        series.total = total;
        series.idle_since_ms = now_ms;
        self.catalog.set_series_ttl(id, new.ttl_ms);
        self.catalog.drop_exemplars(id);
        for exemplar in &new.exemplars {
            let layout = new
                .layout
                .as_ref()
                .map(|layout| self.catalog.layouts.number_of(layout));
            self.catalog.keep_exemplar(id, layout, exemplar.clone());
        }
        self.catalog.join_group(group, id, &mut self.groups);
    }
}

/// Returns the total of a group's counter or gauge.
fn scalar_of_group(catalog: &Catalog, id: SeriesId, value: f64) -> Total {
    let family = &catalog.families[catalog.series[id].family];
    let mut total = Total::zero(family.family_type);
    match &mut total {
        Total::Counter(sum) => {
            *sum = Sum {
                high: value,
                low: 0.0,
            }
        }
        // Stored like the values that ended writers leave.
        Total::Gauge(gauge) => gauge.retired = Some(value),
        Total::Buckets(_) | Total::Native(_) => {}
    }
    total
}

/// Returns whether a group's family fits one of the registry: a group's gauges may have any mode.
fn fits(new: FamilyType, found: FamilyType) -> bool {
    match (new, found) {
        (FamilyType::Gauge(_), FamilyType::Gauge(_)) => true,
        _ => new == found,
    }
}

/// Returns whether a total is lower than another, which means that a new one has begun.
fn is_less(new: &Total, old: &Total) -> bool {
    match (new, old) {
        (Total::Counter(new), Total::Counter(old)) => new.value() < old.value(),
        (Total::Buckets(new), Total::Buckets(old)) => {
            let parts = new.parts.iter().zip(&old.parts);
            let mut counts = parts.map(|(new, old)| {
                new.layout != old.layout || new.counts.iter().zip(&old.counts).any(|(n, o)| n < o)
            });
            counts.any(|is_less| is_less)
        }
        (Total::Native(new), Total::Native(old)) => new.histogram.since(&old.histogram).is_none(),
        _ => false,
    }
}

//! The content of a replacement's batches: a list of families and a list of series.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::describe;
use crate::name::{kept_name, may_share, sample_suffixes};
use crate::registry::RegistryError;
use crate::registry::catalog::series::is_countable;
use crate::{
    Batch, BatchKind, Entry, Exemplar, FamilySpec, FamilyType, GaugeMode, Labels, Layout,
    MAX_HELP_BYTES, MAX_UNIT_BYTES, Point,
};

/// The new content of a group.
#[derive(Debug, Default)]
pub(super) struct Content<'a> {
    pub(super) families: Vec<FamilySpec<'a>>,
    pub(super) series: Vec<NewSeries>,
}

/// A series of the group's new content.
#[derive(Debug)]
pub(super) struct NewSeries {
    /// Its index in the list of families.
    pub(super) family: usize,
    pub(super) labels: Labels,
    pub(super) layout: Option<Rc<Layout>>,
    pub(super) point: Point,
    pub(super) ttl_ms: u64,
    pub(super) start_ms: Option<u64>,
    pub(super) exemplars: Vec<Exemplar>,
}

impl<'a> Content<'a> {
    /// Reads the batches of one full state.
    ///
    /// # Errors
    ///
    /// They contain something other than definitions, or define a series that no group can have.
    pub(super) fn read(batches: &'a [Batch<'a>]) -> Result<Self, RegistryError> {
        let mut content = Self::default();
        let mut by_name = HashMap::new();
        for (number, batch) in batches.iter().enumerate() {
            let header = batch.header();
            let is_first = header.kind == BatchKind::Full { forgotten_seq: 0 };
            let follows = header.kind == BatchKind::More;
            let fits = if number == 0 { is_first } else { follows };
            if !fits || header.last != (number + 1 == batches.len()) {
                return Err(RegistryError::NotARun(number + 1));
            }
            content.read_batch(batch, &mut by_name)?;
        }
        content.check_claims()?;
        content.check_twice()?;
        Ok(content)
    }

    fn read_batch(
        &mut self,
        batch: &Batch<'a>,
        by_name: &mut HashMap<&'a str, usize>,
    ) -> Result<(), RegistryError> {
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        for entry in batch.entries() {
            match entry {
                Entry::Family(spec) => families.push(self.family(spec, by_name)?),
                Entry::Layout(layout) => layouts.push(Rc::new(layout)),
                Entry::Define(define) => {
                    let family = families[define.family];
                    let spec = &self.families[family];
                    let labels = Labels::new(define.labels).map_err(|error| {
                        RegistryError::from(error).of_series(&describe(spec.name, ""))
                    })?;
                    let new = NewSeries {
                        family,
                        labels,
                        layout: match spec.family_type {
                            FamilyType::Summary => Some(Rc::new(Layout::none())),
                            _ => define.layout.map(|number: usize| layouts[number].clone()),
                        },
                        point: define.point,
                        ttl_ms: define.ttl_ms,
                        start_ms: None,
                        exemplars: Vec::new(),
                    };
                    if define.base.is_some() || !define.pid.is_empty() {
                        return Err(RegistryError::NotOfGroup(new.describe(spec)));
                    }
                    if spec.family_type == FamilyType::Counter && !is_countable(&new.point) {
                        let value = match new.point {
                            Point::Scalar(value) => value,
                            _ => f64::NAN,
                        };
                        let error = RegistryError::CounterValue(value);
                        return Err(error.of_series(&new.describe(spec)));
                    }
                    if !new.has_count() {
                        let error = RegistryError::Counts;
                        return Err(error.of_series(&new.describe(spec)));
                    }
                    self.series.push(new);
                }
                Entry::Exemplar {
                    index,
                    value,
                    time,
                    labels,
                } => {
                    let new = self.indexed(index)?;
                    new.exemplars.push(Exemplar::new(labels, value, time)?);
                }
                Entry::Start { index, time } => {
                    self.indexed(index)?.start_ms = Some((time * 1000.0) as u64);
                }
                Entry::Values(_)
                | Entry::Timed { .. }
                | Entry::Buckets { .. }
                | Entry::Native { .. }
                | Entry::Retire { .. } => {
                    let what = "a value without a definition".to_owned();
                    return Err(RegistryError::NotOfGroup(what));
                }
            }
        }
        Ok(())
    }

    fn family(
        &mut self,
        spec: FamilySpec<'a>,
        by_name: &mut HashMap<&'a str, usize>,
    ) -> Result<usize, RegistryError> {
        let name = kept_name(&spec)?;
        let texts = [
            ("a help text", spec.help.len(), MAX_HELP_BYTES),
            ("a unit", spec.unit.len(), MAX_UNIT_BYTES),
        ];
        if let Some((what, found, most)) = texts.into_iter().find(|(_, found, most)| found > most) {
            return Err(RegistryError::TextBytes { what, found, most });
        }
        let is_lasting = !matches!(spec.family_type, FamilyType::Info | FamilyType::StateSet)
            && spec
                .family_type
                .gauge_mode()
                .is_none_or(|mode| mode == GaugeMode::Sum);
        if !is_lasting {
            let what = format!("{} {name}", spec.family_type.describe());
            return Err(RegistryError::NotOfGroup(what));
        }
        if let Some(&known) = by_name.get(name) {
            let found = self.families[known].family_type;
            if found == spec.family_type {
                return Ok(known);
            }
            return Err(RegistryError::Type {
                family: name.to_owned(),
                found: found.describe(),
                expected: spec.family_type.describe(),
            });
        }
        self.families.push(FamilySpec { name, ..spec });
        by_name.insert(name, self.families.len() - 1);
        Ok(self.families.len() - 1)
    }

    fn indexed(&mut self, index: u32) -> Result<&mut NewSeries, RegistryError> {
        let unknown = || RegistryError::NotOfGroup(format!("index {index}"));
        self.series.get_mut(index as usize).ok_or_else(unknown)
    }

    /// Refuses two families with samples of one name.
    fn check_claims(&self) -> Result<(), RegistryError> {
        let mut claims: HashMap<String, &FamilySpec<'_>> = HashMap::new();
        for spec in &self.families {
            for suffix in sample_suffixes(spec.family_type) {
                let sample = format!("{}{suffix}", spec.name);
                let known = claims.insert(sample.clone(), spec);
                let one = (spec.name, spec.family_type);
                if let Some(other) = known
                    && !may_share(&sample, one, (other.name, other.family_type))
                {
                    return Err(RegistryError::Conflict {
                        family: spec.name.to_owned(),
                        sample,
                        other: other.name.to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Refuses a series that is defined twice.
    fn check_twice(&self) -> Result<(), RegistryError> {
        let mut seen = HashSet::with_capacity(self.series.len());
        for new in &self.series {
            if !seen.insert((new.family, new.labels.as_str())) {
                let series = new.describe(&self.families[new.family]);
                return Err(RegistryError::SeriesTwice(series));
            }
        }
        Ok(())
    }
}

impl NewSeries {
    /// Returns whether its buckets add up to a number of observations.
    fn has_count(&self) -> bool {
        match &self.point {
            Point::Buckets { counts, .. } => {
                let mut counts = counts.iter();
                let sum = counts.try_fold(0, |sum: u64, count| sum.checked_add(*count));
                sum.is_some()
            }
            Point::Native(histogram) => histogram.checked_count().is_some(),
            Point::Scalar(_) | Point::Timed { .. } => true,
        }
    }

    /// Returns the series as pages show it.
    pub(super) fn describe(&self, spec: &FamilySpec<'_>) -> String {
        describe(spec.name, self.labels.as_str())
    }
}

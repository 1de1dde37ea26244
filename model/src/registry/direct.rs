//! What a single command does to a single series, without the push protocol and its memory.

mod arguments;

use super::apply::counter_of;
use super::catalog::series::{Member, Total};
use super::writers::Entry;
use super::{Reason, Registry, RegistryError, Stamp};
use crate::ids::{LayoutId, SeriesId, WriterId};
use crate::native_histogram::DEFAULT_ZERO_THRESHOLD;
use crate::registry::catalog::Catalog;
use crate::{
    Exemplar, FamilySpec, FamilyType, Labels, Layout, MAX_HELP_BYTES, MAX_UNIT_BYTES,
    MAX_WRITER_ID_BYTES, NativeHistogram,
};

pub use arguments::{Declaration, GaugeWrite, Observation};

/// Schema of direct observations in a family without one: buckets grow by 9 %.
pub(super) const DIRECT_SCHEMA: i8 = 3;

impl Registry {
    /// Creates a family, or confirms it: the first help, unit, buckets and schema stay.
    pub fn declare(
        &mut self,
        stamp: &Stamp,
        spec: &FamilySpec<'_>,
        declaration: &Declaration<'_>,
    ) -> Result<(), RegistryError> {
        check_bytes("a help text", spec.help.len(), MAX_HELP_BYTES)?;
        check_bytes("a unit", spec.unit.len(), MAX_UNIT_BYTES)?;
        self.catalog.check_family(spec)?;
        self.catalog
            .layouts
            .check_room(declaration.layout.into_iter())?;
        self.begin(stamp);
        let id = self.catalog.family_for(spec)?;
        let layout = declaration
            .layout
            .map(|layout| self.catalog.layouts.number_of(layout));
        let family = &mut self.catalog.families[id];
        family.is_declared = true;
        family.layout = family.layout.or(layout);
        family.schema = family.schema.or(declaration.schema);
        family.ttl_ms = declaration.ttl_ms.or(family.ttl_ms);
        Ok(())
    }

    /// Adds to a counter and returns the new total.
    pub fn inc(
        &mut self,
        stamp: &Stamp,
        family: &str,
        labels: &Labels,
        by: f64,
        ttl_ms: Option<u64>,
    ) -> Result<f64, RegistryError> {
        self.inc_with(stamp, family, labels, by, None, ttl_ms)
    }

    /// Does the same with an exemplar, whose time becomes that of the command.
    pub fn inc_with(
        &mut self,
        stamp: &Stamp,
        family: &str,
        labels: &Labels,
        by: f64,
        exemplar: Option<&Exemplar>,
        ttl_ms: Option<u64>,
    ) -> Result<f64, RegistryError> {
        if !by.is_finite() || by < 0.0 {
            return Err(RegistryError::CounterValue(by));
        }
        let spec = FamilySpec::new(family, FamilyType::Counter);
        let check = |total: Option<&Total>| {
            let sum = counter_of(total).plus_difference(by, 0.0);
            sum.map(drop)
                .ok_or_else(|| overflow(family, by, "the total"))
        };
        let id = self.direct_series(stamp, &spec, labels, ttl_ms, check)?;
        self.catalog.note_by_hand(id);
        if let Some(exemplar) = exemplar {
            self.keep_direct_exemplar(stamp, id, None, exemplar);
        }
        // The start of this write may have restarted the total, which leaves even more room.
        let before = counter_of(Some(&self.catalog.series[id].total));
        let sum = before.plus_difference(by, 0.0).unwrap_or(before);
        self.catalog.series[id].total = Total::Counter(sum);
        Ok(sum.value())
    }

    fn keep_direct_exemplar(
        &mut self,
        stamp: &Stamp,
        id: SeriesId,
        layout: Option<LayoutId>,
        exemplar: &Exemplar,
    ) {
        let time = stamp.now_ms as f64 / 1000.0;
        let exemplar = Exemplar {
            time,
            ..exemplar.clone()
        };
        self.catalog.keep_exemplar(id, layout, exemplar);
    }

    /// Sets a writer's value of a gauge, and returns it.
    ///
    /// ```
    /// use metrics_model::{
    ///     Aggregate, Epoch, GaugeMode, GaugeWrite, Labels, Limits, Registry, RegistryError, Stamp,
    /// };
    ///
    /// let mut registry = Registry::new(Epoch(1), Limits::default(), 0);
    /// let stamp = Stamp::at(1_000, Epoch(1));
    /// let labels = Labels::none();
    /// let write = |writer, value| GaugeWrite {
    ///     family: "depth",
    ///     labels: &labels,
    ///     value,
    ///     mode: Some(GaugeMode::Sum),
    ///     writer,
    ///     lease_ms: Some(15_000),
    ///     ttl_ms: None,
    /// };
    /// registry.set(&stamp, &write(b"one", 4.0))?;
    /// registry.set(&stamp, &write(b"two", 3.0))?;
    /// assert_eq!(registry.add(&stamp, &write(b"two", -1.0))?, 2.0);
    /// assert_eq!(registry.get(1_000, "depth", &labels), Some(Aggregate::Number(6.0)));
    ///
    /// let other_mode = GaugeWrite { mode: Some(GaugeMode::Max), ..write(b"one", 1.0) };
    /// let refused = registry.set(&stamp, &other_mode);
    /// assert!(matches!(refused, Err(RegistryError::Type { .. })), "{refused:?}");
    /// # Ok::<(), RegistryError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The family has another type or mode, the writer sends batches, or a limit is reached.
    pub fn set(&mut self, stamp: &Stamp, write: &GaugeWrite<'_>) -> Result<f64, RegistryError> {
        self.write_gauge(stamp, write, |_, new| new)
    }

    /// Adds to a writer's value of a gauge, and returns the new value.
    pub fn add(&mut self, stamp: &Stamp, write: &GaugeWrite<'_>) -> Result<f64, RegistryError> {
        match self.catalog.written_type(write) {
            FamilyType::Gauge(mode) if mode.is_timed() => {
                return Err(RegistryError::AddToMostRecent(mode.name()));
            }
            FamilyType::Gauge(_) => {}
            fact => {
                return Err(RegistryError::AddToFact {
                    family: write.family.to_owned(),
                    found: fact.name(),
                });
            }
        }
        self.write_gauge(stamp, write, |old, new| old + new)
    }

    /// Counts one observation in a histogram, native histogram or summary.
    ///
    /// ```
    /// use metrics_model::{Aggregate, Epoch, Labels, Limits, Observation, Registry, RegistryError, Stamp};
    ///
    /// let mut registry = Registry::new(Epoch(1), Limits::default(), 0);
    /// let labels = Labels::none();
    /// let observation = Observation {
    ///     family: "seconds",
    ///     labels: &labels,
    ///     value: 0.3,
    ///     layout: None,
    ///     exemplar: None,
    ///     ttl_ms: None,
    /// };
    /// registry.observe(&Stamp::at(1_000, Epoch(1)), &observation)?;
    /// let Some(Aggregate::Buckets { count, sum, buckets }) = registry.get(1_000, "seconds", &labels)
    /// else {
    ///     panic!("a histogram was made");
    /// };
    /// assert_eq!((count, sum, buckets.len()), (1, 0.3, 12));
    ///
    /// let not_a_number = Observation { value: f64::NAN, ..observation };
    /// let refused = registry.observe(&Stamp::at(2_000, Epoch(1)), &not_a_number);
    /// assert_eq!(refused, Err(RegistryError::Observation));
    /// # Ok::<(), RegistryError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The value is NaN, the family has another type, or a limit is reached.
    pub fn observe(
        &mut self,
        stamp: &Stamp,
        observation: &Observation<'_>,
    ) -> Result<(), RegistryError> {
        let &Observation { family, value, .. } = observation;
        if value.is_nan() {
            return Err(RegistryError::Observation);
        }
        let family_type = self
            .catalog
            .family_named(family)
            .map(|id| self.catalog.families[id].family_type);
        let family_type = match family_type {
            Some(found @ (FamilyType::Summary | FamilyType::NativeHistogram)) => found,
            _ => FamilyType::Histogram,
        };
        if family_type != FamilyType::Histogram && observation.layout.is_some() {
            return Err(RegistryError::NoBuckets {
                family: family.to_owned(),
                found: family_type.name(),
            });
        }
        if family_type == FamilyType::Summary && observation.exemplar.is_some() {
            return Err(RegistryError::SummaryExemplar(family.to_owned()));
        }
        let spec = FamilySpec::new(family, family_type);
        let layout = self
            .catalog
            .layout_meant(family, family_type, observation.layout);
        if layout.0 == LayoutId::NONE {
            let default = (family_type == FamilyType::Histogram).then(Layout::of_default);
            let new = observation.layout.or(default.as_ref());
            self.catalog.layouts.check_room(new.into_iter())?;
        }
        let check = |total: Option<&Total>| {
            check_observation(total, layout, value).map_err(|reason| match reason {
                Reason::Size => RegistryError::Buckets(family.to_owned()),
                _ => overflow(family, value, "its sum or count"),
            })
        };
        let (labels, ttl_ms) = (observation.labels, observation.ttl_ms);
        let id = self.direct_series(stamp, &spec, labels, ttl_ms, check)?;
        self.catalog.note_by_hand(id);
        let family_id = self.catalog.series[id].family;
        let layout = (family_type != FamilyType::NativeHistogram).then(|| {
            self.catalog
                .layout_of_observation(family_id, family_type, observation.layout)
        });
        self.catalog.count_observation(id, layout, value);
        if let Some(exemplar) = observation.exemplar {
            self.keep_direct_exemplar(stamp, id, layout, exemplar);
        }
        Ok(())
    }

    /// Removes a series, or (in O(1), whatever its size) a family; returns the number of series.
    pub fn del(&mut self, stamp: &Stamp, family: &str, labels: Option<&Labels>) -> u64 {
        let Some(family_id) = self.catalog.family_named(family) else {
            return 0;
        };
        let Some(labels) = labels else {
            self.begin(stamp);
            return self
                .catalog
                .family_named(family)
                .map_or(0, |id| self.catalog.delete_family(id));
        };
        let found = self.catalog.find_series(family_id, labels.as_str());
        let Some(id) = found.filter(|id| self.catalog.has_total(*id)) else {
            return 0;
        };
        self.begin(stamp);
        // The start of this write may have found it expired.
        if self.catalog.series.get(id).is_none() || !self.catalog.has_total(id) {
            return 0;
        }
        self.catalog.drop_total(id, &mut self.groups);
        self.free_series_if_unused(id);
        if self.catalog.families.get(family_id).is_some() {
            self.catalog.end_family_if_empty(family_id);
        }
        1
    }

    fn write_gauge(
        &mut self,
        stamp: &Stamp,
        write: &GaugeWrite<'_>,
        combine: fn(f64, f64) -> f64,
    ) -> Result<f64, RegistryError> {
        check_bytes("a writer id", write.writer.len(), MAX_WRITER_ID_BYTES)?;
        let family_type = self.catalog.written_type(write);
        check_fact(family_type, write.value)?;
        let known = self.writers.by_id.get(write.writer);
        if known.is_some_and(|id| self.writers[*id].seq > 0) {
            return Err(RegistryError::PushWriter(
                write.writer.escape_ascii().to_string(),
            ));
        }
        let spec = FamilySpec::new(write.family, family_type);
        let old = known.map_or(0.0, |writer| self.old_value(write, *writer, stamp.now_ms));
        let value = combine(old, write.value);
        if !value.is_finite() && old.is_finite() && write.value.is_finite() {
            return Err(overflow(write.family, write.value, "the value"));
        }
        let (labels, ttl_ms) = (write.labels, write.ttl_ms);
        let id = self.direct_series(stamp, &spec, labels, ttl_ms, |_| Ok(()))?;
        if write.writer.is_empty() {
            self.catalog.note_by_hand(id);
        }

        let writer = self.open_writer(write.writer, stamp.now_ms);
        self.writers
            .extend_lease(writer, stamp.now_ms, write.lease_ms, &mut self.healing);
        let at = self.entry_of_gauge(writer, write.writer, id);
        let place = self.writers[writer].entries[at].place();
        let old = match &self.catalog.series[id].total {
            Total::Gauge(gauge) if gauge.is_member(place, writer) => {
                gauge.members[place as usize].value
            }
            _ => 0.0,
        };
        let value = combine(old, write.value);
        let member = Member {
            writer,
            is_live: true,
            value,
            time: stamp.now_ms as f64 / 1000.0,
        };
        let place = self.set_member(id, place, member);

        let entry = &mut self.writers[writer].entries[at];
        entry.set_place(place);
        entry.set_retired(false);
        let owned = !write.writer.is_empty();
        self.set_owned(writer, at, owned, stamp.now_ms);
        Ok(value)
    }

    /// Returns a writer's entry of a gauge, and begins it if it is new.
    fn entry_of_gauge(&mut self, writer: WriterId, name: &[u8], id: SeriesId) -> usize {
        let shows_pid = self.catalog.shows_pids(id);
        if shows_pid && self.writers[writer].pid.is_empty() {
            self.writers[writer].pid = String::from_utf8_lossy(name).into();
        }
        self.writers[writer].find(id).unwrap_or_else(|| {
            self.catalog.series[id].remember(writer);
            self.writers[writer].with_pid += u32::from(shows_pid);
            self.writers[writer].remember(Entry::new(id, 0.0))
        })
    }

    /// Checks that a direct write may have its series, begins the write, and returns the series
    /// with a total to write to.
    fn direct_series(
        &mut self,
        stamp: &Stamp,
        spec: &FamilySpec<'_>,
        labels: &Labels,
        ttl_ms: Option<u64>,
        check: impl FnOnce(Option<&Total>) -> Result<(), RegistryError>,
    ) -> Result<SeriesId, RegistryError> {
        let family = self.catalog.check_family(spec)?;
        let known = family.and_then(|id| self.catalog.find_series(id, labels.as_str()));
        Catalog::check_labels(spec, labels, known, &self.limits)?;
        self.catalog.check_total(known, &self.limits)?;
        self.check_not_of_group(known, stamp.now_ms)?;
        check(known.and_then(|id| self.running_total(id, stamp.now_ms)))?;
        self.begin(stamp);
        // The start of this write may have freed it, but has put nothing in its place.
        let id = if let Some(id) = known.filter(|id| self.catalog.series.get(*id).is_some()) {
            id
        } else {
            let family = self.catalog.family_for(spec)?;
            self.catalog
                .find_series(family, labels.as_str())
                .unwrap_or_else(|| {
                    self.catalog
                        .create_series(family, labels.as_str(), &self.limits)
                })
        };
        if let Err(reason) = self.begin_total(id, stamp.now_ms) {
            unreachable!("the family was found by its name, so it has not ended: {reason:?}");
        }
        if let Some(ttl_ms) = ttl_ms {
            self.catalog.set_series_ttl(id, ttl_ms);
        }
        self.catalog.series[id].idle_since_ms = stamp.now_ms;
        Ok(id)
    }

    /// Returns the value from which a writer's write of a gauge continues.
    fn old_value(&self, write: &GaugeWrite<'_>, writer: WriterId, now_ms: u64) -> f64 {
        let find = || {
            let family = self.catalog.family_named(write.family)?;
            let id = self.catalog.find_series(family, write.labels.as_str())?;
            let place = self.writers[writer].entries[self.writers[writer].find(id)?].place();
            match self.running_total(id, now_ms)? {
                Total::Gauge(gauge) if gauge.is_member(place, writer) => {
                    Some(gauge.members[place as usize].value)
                }
                _ => None,
            }
        };
        find().unwrap_or(0.0)
    }
}

/// Checks whether a total can take one more observation.
fn check_observation(
    total: Option<&Total>,
    layout: (LayoutId, usize),
    value: f64,
) -> Result<(), Reason> {
    match total {
        Some(Total::Buckets(total)) => total.sum_with(layout, 1, value, 0.0).map(drop),
        Some(Total::Native(total)) => {
            let mut one = NativeHistogram::empty(DIRECT_SCHEMA, DEFAULT_ZERO_THRESHOLD);
            one.count_in(value);
            one.sum = value;
            total.sum_with(&one, 0.0).map(drop)
        }
        _ => Ok(()),
    }
}

fn check_fact(family_type: FamilyType, value: f64) -> Result<(), RegistryError> {
    if family_type.allows(value) {
        return Ok(());
    }
    let expected = if family_type == FamilyType::Info {
        "an info is always 1"
    } else {
        "a state is 0 or 1"
    };
    Err(RegistryError::Fact { value, expected })
}

fn check_bytes(what: &'static str, found: usize, most: usize) -> Result<(), RegistryError> {
    if found > most {
        return Err(RegistryError::TextBytes { what, found, most });
    }
    Ok(())
}

fn overflow(family: &str, found: f64, what: &'static str) -> RegistryError {
    RegistryError::Overflow {
        family: family.to_owned(),
        found,
        what,
    }
}

//! What a single command does to a single series, without the push protocol and its memory.

use super::apply::counter_of;
use super::catalog::series::{Member, Total};
use super::writers::Entry;
use super::{Reason, Registry, RegistryError, Stamp};
use crate::ids::{FamilyId, LayoutId, SeriesId, WriterId};
use crate::native_histogram::DEFAULT_ZERO_THRESHOLD;
use crate::registry::catalog::Catalog;
use crate::{
    Exemplar, FamilySpec, FamilyType, GaugeMode, Labels, Layout, MAX_HELP_BYTES, MAX_UNIT_BYTES,
    MAX_WRITER_ID_BYTES, NativeHistogram,
};

/// The arguments of `METRICS.SET` and `METRICS.ADD`.
#[derive(Debug, Clone, Copy)]
pub struct GaugeWrite<'a> {
    /// The gauge; created if it is missing.
    pub family: &'a str,
    /// The series.
    pub labels: &'a Labels,
    /// The value to set or to add.
    pub value: f64,
    /// The mode; `None`: the family's mode, `sum` for a new family.
    pub mode: Option<GaugeMode>,
    /// The writer's id; the empty id is shared by all clients.
    pub writer: &'a [u8],
    /// The writer's lease in milliseconds; `None`: until it leaves.
    pub lease_ms: Option<u64>,
    /// The idle time after which the series expires; `None`: unchanged, or the family's.
    pub ttl_ms: Option<u64>,
}

/// The arguments of `METRICS.DECLARE` besides name, type, help and unit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Declaration<'a> {
    /// The buckets of direct observations in a histogram.
    pub layout: Option<&'a Layout>,
    /// The lowest schema that a writer of native histograms may have, and the one of direct
    /// observations; `None`: 0 and 3.
    pub schema: Option<i8>,
    /// The idle time of series without one of their own.
    pub ttl_ms: Option<u64>,
}

/// The arguments of `METRICS.OBSERVE`.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The histogram or summary; a histogram is created if it is missing.
    pub family: &'a str,
    /// The series.
    pub labels: &'a Labels,
    /// The observed value.
    pub value: f64,
    /// The buckets to count in; `None`: the family's, the defaults for a new family.
    pub layout: Option<&'a Layout>,
    /// An exemplar of the observation; the command sets its time.
    pub exemplar: Option<&'a Exemplar>,
    /// The idle time after which the series expires; `None`: unchanged, or the family's.
    pub ttl_ms: Option<u64>,
}

/// Schema of direct observations in a family without one: buckets grow by 9 %.
const DIRECT_SCHEMA: i8 = 3;
/// Maximum number of buckets of direct observations; beyond it a native histogram becomes coarser.
const MAX_DIRECT_BUCKETS: usize = 160;

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
        self.drop_total(id);
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
        if !family_type.allows(write.value) {
            return Err(RegistryError::Fact {
                value: write.value,
                expected: if family_type == FamilyType::Info {
                    "an info is always 1"
                } else {
                    "a state is 0 or 1"
                },
            });
        }
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
        let is_per_writer = family_type
            .gauge_mode()
            .is_some_and(GaugeMode::is_per_writer);
        if is_per_writer && self.writers[writer].pid.is_empty() {
            self.writers[writer].pid = String::from_utf8_lossy(write.writer).into();
        }
        let at = self.writers[writer].find(id).unwrap_or_else(|| {
            self.catalog.series[id].remember(writer);
            self.writers[writer].with_pid += u32::from(is_per_writer);
            self.writers[writer].remember(Entry::new(id, 0.0))
        });
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

impl Catalog {
    /// Counts an observation that is known to fit.
    fn count_observation(&mut self, id: SeriesId, layout: Option<LayoutId>, value: f64) {
        let series = &mut self.series[id];
        let floor = self.families[series.family].schema;
        let before = series.total.heap_bytes();
        match (&mut series.total, layout) {
            (Total::Buckets(total), Some(layout)) => {
                let bounds = &self.layouts[layout];
                let buckets = bounds.len() + 1;
                if let Ok(sum) = total.sum_with((layout, buckets), 1, value, 0.0) {
                    total.count += 1;
                    let part = total.part(layout, buckets);
                    part.counts[bounds.bucket_of(value)] += 1;
                    part.sum = sum;
                }
            }
            (Total::Native(total), _) => {
                let schema = floor.unwrap_or(DIRECT_SCHEMA);
                let mut one = NativeHistogram::empty(schema, DEFAULT_ZERO_THRESHOLD);
                one.count_in(value);
                one.sum = value;
                if let Ok(sum) = total.sum_with(&one, 0.0) {
                    total.add(one, sum);
                }
                let schema = total.histogram.schema;
                if total.histogram.len() > MAX_DIRECT_BUCKETS && schema > floor.unwrap_or(0) {
                    total.histogram.lower_schema(schema - 1);
                }
            }
            _ => {}
        }
        self.series_heap_bytes += series.total.heap_bytes();
        self.series_heap_bytes -= before;
    }

    /// Returns the layout for an observation, if it is known, and its number of buckets.
    fn layout_meant(
        &self,
        family: &str,
        family_type: FamilyType,
        given: Option<&Layout>,
    ) -> (LayoutId, usize) {
        let of_family = self.family_named(family).map(|id| self.families[id].layout);
        match (family_type, given, of_family.flatten()) {
            (FamilyType::Histogram, Some(given), _) => (
                self.layouts.find(given).unwrap_or(LayoutId::NONE),
                given.len() + 1,
            ),
            (FamilyType::Histogram, None, Some(id)) => (id, self.layouts[id].len() + 1),
            (FamilyType::Histogram, None, None) => (LayoutId::NONE, Layout::DEFAULT.len() + 1),
            _ => (
                self.layouts.find(&Layout::none()).unwrap_or(LayoutId::NONE),
                1,
            ),
        }
    }

    fn layout_of_observation(
        &mut self,
        family: FamilyId,
        family_type: FamilyType,
        given: Option<&Layout>,
    ) -> LayoutId {
        if family_type == FamilyType::Summary {
            return self.layouts.number_of(&Layout::none());
        }
        let layout = match (given, self.families[family].layout) {
            (Some(given), _) => self.layouts.number_of(given),
            (None, Some(known)) => known,
            (None, None) => self.layouts.number_of(&Layout::of_default()),
        };
        let known = &mut self.families[family].layout;
        *known = known.or(Some(layout));
        layout
    }

    pub(super) fn delete_family(&mut self, id: FamilyId) -> u64 {
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

    /// Returns the type of the family that a write means: the existing one, unless the write names
    /// a mode.
    fn written_type(&self, write: &GaugeWrite<'_>) -> FamilyType {
        let known = self
            .family_named(write.family)
            .map(|id| self.families[id].family_type);
        match (write.mode, known) {
            (Some(mode), _) => FamilyType::Gauge(mode),
            (None, Some(known)) if known.gauge_mode().is_some() => known,
            (None, _) => FamilyType::Gauge(GaugeMode::Sum),
        }
    }

    /// Notes that a series was written without a writer whose end the registry could wait for.
    fn note_by_hand(&mut self, id: SeriesId) {
        self.families[self.series[id].family].holders.is_by_hand = true;
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

//! What a single command does to a single series: no protocol, no memory of what was sent.

use super::series::{Member, Total};
use super::writer::Entry;
use super::{Registry, RegistryError, Stamp};
use crate::{FamilySpec, FamilyType, GaugeMode, Labels, Layout};

/// `METRICS.SET` and `METRICS.ADD`.
#[derive(Debug, Clone, Copy)]
pub struct GaugeWrite<'a> {
    /// The gauge; created where it is missing.
    pub family: &'a str,
    /// The series.
    pub labels: &'a Labels,
    /// The value, or what to add.
    pub value: f64,
    /// The mode; `None`: that of the family, `sum` for a new one.
    pub mode: Option<GaugeMode>,
    /// In whose name; the empty id is everybody's.
    pub writer: &'a [u8],
    /// For how long the writer lives without being heard of; `None`: until it leaves.
    pub lease_ms: Option<u64>,
    /// The idle time after which the series expires; `None`: unchanged, or the family's.
    pub ttl_ms: Option<u64>,
}

impl Registry {
    /// Creates a family, or confirms it: the first help, unit and buckets stay.
    pub fn declare(
        &mut self,
        stamp: &Stamp,
        spec: &FamilySpec<'_>,
        layout: Option<&Layout>,
        ttl_ms: Option<u64>,
    ) -> Result<(), RegistryError> {
        self.check_family(spec)?;
        self.begin(stamp);
        let id = self.family_for(spec)?;
        let layout = layout.map(|layout| self.layout_for(layout));
        let family = &mut self.families[id];
        family.is_declared = true;
        family.layout = family.layout.or(layout);
        family.ttl_ms = ttl_ms.or(family.ttl_ms);
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
        if !by.is_finite() || by < 0.0 {
            return Err(RegistryError::CounterValue(by));
        }
        let spec = FamilySpec::new(family, FamilyType::Counter);
        let id = self.direct_series(stamp, &spec, labels, ttl_ms)?;
        match &mut self.series[id].total {
            Total::Counter(sum) => {
                sum.add(by);
                Ok(sum.value())
            }
            _ => unreachable!("a counter's total is a sum"),
        }
    }

    /// Sets a writer's value of a gauge, and returns it.
    pub fn set(&mut self, stamp: &Stamp, write: &GaugeWrite<'_>) -> Result<f64, RegistryError> {
        self.write_gauge(stamp, write, |_, new| new)
    }

    /// Adds to a writer's value of a gauge, and returns the new one.
    pub fn add(&mut self, stamp: &Stamp, write: &GaugeWrite<'_>) -> Result<f64, RegistryError> {
        let mode = self.gauge_mode(write);
        if mode.is_timed() {
            return Err(RegistryError::AddToMostRecent(mode.name()));
        }
        self.write_gauge(stamp, write, |old, new| old + new)
    }

    /// Counts one observation in a histogram or summary.
    pub fn observe(
        &mut self,
        stamp: &Stamp,
        family: &str,
        labels: &Labels,
        value: f64,
        layout: Option<&Layout>,
        ttl_ms: Option<u64>,
    ) -> Result<(), RegistryError> {
        if value.is_nan() {
            return Err(RegistryError::Observation);
        }
        let family_type = match self
            .family_named(family)
            .map(|id| self.families[id].family_type)
        {
            Some(FamilyType::Summary) if layout.is_some() => {
                return Err(RegistryError::SummaryBuckets(family.to_owned()));
            }
            Some(FamilyType::Summary) => FamilyType::Summary,
            _ => FamilyType::Histogram,
        };
        let id =
            self.direct_series(stamp, &FamilySpec::new(family, family_type), labels, ttl_ms)?;
        let layout = self.layout_of_observation(self.series[id].family, family_type, layout);
        let bounds = &self.layouts[layout as usize];
        let (buckets, bucket) = (bounds.len() + 1, bounds.bucket_of(value));
        let series = &mut self.series[id];
        let before = series.total.heap_bytes();
        if let Total::Buckets(total) = &mut series.total {
            let part = total.part(layout, buckets);
            part.counts[bucket] += 1;
            part.add_to_sum(value, 0.0);
        }
        self.series_heap_bytes += series.total.heap_bytes() - before;
        Ok(())
    }

    fn layout_of_observation(
        &mut self,
        family: u32,
        family_type: FamilyType,
        given: Option<&Layout>,
    ) -> u32 {
        if family_type == FamilyType::Summary {
            return self.layout_for(&Layout::none());
        }
        let layout = match (given, self.families[family].layout) {
            (Some(given), _) => self.layout_for(given),
            (None, Some(known)) => known,
            // The default's texts are well formed.
            (None, None) => {
                let default = Layout::new(Layout::DEFAULT).unwrap_or_else(|_| Layout::none());
                self.layout_for(&default)
            }
        };
        let known = &mut self.families[family].layout;
        *known = known.or(Some(layout));
        layout
    }

    /// Removes a series, or (in O(1), however many it has) a family; returns how many series.
    pub fn del(&mut self, stamp: &Stamp, family: &str, labels: Option<&Labels>) -> u64 {
        let Some(family_id) = self.family_named(family) else {
            return 0;
        };
        let Some(labels) = labels else {
            self.begin(stamp);
            return self
                .family_named(family)
                .map_or(0, |id| self.delete_family(id));
        };
        let found = self.find_series(family_id, labels.as_str());
        let Some(id) = found.filter(|id| self.has_total(*id)) else {
            return 0;
        };
        self.begin(stamp);
        // Beginning may have found it expired.
        if self.series.get(id).is_none() || !self.has_total(id) {
            return 0;
        }
        self.drop_total(id);
        self.free_series_if_unused(id);
        if self.families.get(family_id).is_some() {
            self.end_family_if_empty(family_id);
        }
        1
    }

    fn delete_family(&mut self, id: u32) -> u64 {
        let last_no = self.last_created_no;
        let family = &mut self.families[id];
        family.deleted_up_to = last_no;
        family.is_declared = false;
        self.mortals -= std::mem::take(&mut family.mortals) as usize;
        let order = std::mem::take(&mut family.order);
        let count = order.len() as u64;
        self.condemned.extend(order.ids());
        self.end_family_if_empty(id);
        count
    }

    /// Sets the TTL of a series, or of a family and all its series; returns how many series.
    pub fn set_ttl(
        &mut self,
        stamp: &Stamp,
        family: &str,
        labels: Option<&Labels>,
        ttl_ms: u64,
    ) -> u64 {
        let Some(family_id) = self.family_named(family) else {
            return 0;
        };
        let series = match labels {
            None => self
                .series_after(family_id, 0)
                .map(|(_, id)| id)
                .collect::<Vec<_>>(),
            Some(labels) => {
                let found = self.find_series(family_id, labels.as_str());
                found.filter(|id| self.has_total(*id)).into_iter().collect()
            }
        };
        if series.is_empty() && labels.is_some() {
            return 0;
        }
        if labels.is_none() {
            self.families[family_id].ttl_ms = Some(ttl_ms);
        }
        for id in &series {
            self.set_series_ttl(*id, ttl_ms);
        }
        self.begin(stamp);
        series.len() as u64
    }

    fn gauge_mode(&self, write: &GaugeWrite<'_>) -> GaugeMode {
        let known = self
            .family_named(write.family)
            .map(|id| self.families[id].family_type);
        match (write.mode, known) {
            (Some(given), _) => given,
            (None, Some(FamilyType::Gauge(mode))) => mode,
            (None, _) => GaugeMode::Sum,
        }
    }

    fn write_gauge(
        &mut self,
        stamp: &Stamp,
        write: &GaugeWrite<'_>,
        combine: fn(f64, f64) -> f64,
    ) -> Result<f64, RegistryError> {
        let mode = self.gauge_mode(write);
        let known = self.by_writer.get(write.writer);
        if known.is_some_and(|id| self.writers[*id].seq > 0) {
            return Err(RegistryError::PushWriter(
                write.writer.escape_ascii().to_string(),
            ));
        }
        let spec = FamilySpec::new(write.family, FamilyType::Gauge(mode));
        let id = self.direct_series(stamp, &spec, write.labels, write.ttl_ms)?;

        let writer = self.open_writer(write.writer);
        self.extend_lease(writer, stamp.now_ms, write.lease_ms);
        if mode.is_per_writer() && self.writers[writer].pid.is_empty() {
            self.writers[writer].pid = String::from_utf8_lossy(write.writer).into();
        }
        let at = self.writers[writer].find(id).unwrap_or_else(|| {
            self.series[id].memories += 1;
            self.writers[writer].remember(Entry::new(id, 0.0))
        });
        let place = self.writers[writer].entries[at].place();
        let series = &mut self.series[id];
        let Total::Gauge(gauge) = &mut series.total else {
            unreachable!("a gauge's total has members")
        };
        let before = gauge.heap_bytes();
        let old = if gauge.is_member(place, writer) {
            gauge.members[place as usize].value
        } else {
            0.0
        };
        let value = combine(old, write.value);
        let time = stamp.now_ms as f64 / 1000.0;
        let place = gauge.set(
            place,
            Member {
                writer,
                value,
                time,
            },
        );
        self.series_heap_bytes += gauge.heap_bytes() - before;

        let entry = &mut self.writers[writer].entries[at];
        entry.set_place(place);
        entry.set_retired(false);
        let owned = !write.writer.is_empty();
        self.set_owned(writer, at, owned, stamp.now_ms);
        Ok(value)
    }

    /// Checks that a direct write may have its series, begins the write, and finds the series with
    /// a total to write to.
    fn direct_series(
        &mut self,
        stamp: &Stamp,
        spec: &FamilySpec<'_>,
        labels: &Labels,
        ttl_ms: Option<u64>,
    ) -> Result<u32, RegistryError> {
        let family = self.check_family(spec)?;
        self.check_labels(spec.family_type, labels)?;
        let known = family.and_then(|id| self.find_series(id, labels.as_str()));
        if known.is_none() {
            self.check_room()?;
        }
        self.begin(stamp);
        // Beginning may have freed it, but puts nothing in its place.
        let id = if let Some(id) = known.filter(|id| self.series.get(*id).is_some()) {
            id
        } else {
            let family = self.family_for(spec)?;
            self.find_series(family, labels.as_str())
                .unwrap_or_else(|| self.create_series(family, labels.as_str()))
        };
        if let Err(reason) = self.begin_total(id, stamp.now_ms) {
            unreachable!("the family was found by its name, so it has not ended: {reason:?}");
        }
        if let Some(ttl_ms) = ttl_ms {
            self.set_series_ttl(id, ttl_ms);
        }
        self.series[id].idle_since_ms = stamp.now_ms;
        Ok(id)
    }
}

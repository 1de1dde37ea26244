//! What direct commands need of the catalogue.

use super::Catalog;
use super::series::Total;
use crate::ids::{FamilyId, LayoutId, SeriesId};
use crate::native_histogram::DEFAULT_ZERO_THRESHOLD;
use crate::registry::direct::{DIRECT_SCHEMA, GaugeWrite};
use crate::{FamilyType, GaugeMode, Layout, NativeHistogram};

/// Maximum number of buckets of direct observations; beyond it a native histogram becomes coarser.
const MAX_DIRECT_BUCKETS: usize = 160;

impl Catalog {
    /// Counts an observation that is known to fit.
    pub(in crate::registry) fn count_observation(
        &mut self,
        id: SeriesId,
        layout: Option<LayoutId>,
        value: f64,
    ) {
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
    pub(in crate::registry) fn layout_meant(
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

    pub(in crate::registry) fn layout_of_observation(
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

    /// Returns the type of the family that a write means: the existing one, unless the write names
    /// a mode.
    pub(in crate::registry) fn written_type(&self, write: &GaugeWrite<'_>) -> FamilyType {
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
    pub(in crate::registry) fn note_by_hand(&mut self, id: SeriesId) {
        self.families[self.series[id].family].holders.is_by_hand = true;
    }
}

//! The catalogue as pages show it.

use std::borrow::Cow;
use std::ops::Bound;

use super::Catalog;
use super::series::{Buckets, Part, Series};
use crate::ids::{FamilyId, SeriesId};
use crate::name::START_TIMES;
use crate::{FamilySpec, FamilyType, Layout, NativeHistogram};

/// A series as pages show it.
#[derive(Debug)]
pub(crate) enum SeriesView<'a> {
    Number(f64),
    /// The values of the writers, each with its `pid`.
    PerWriter(Vec<(&'a str, f64)>),
    Buckets(BucketView<'a>),
    Native(&'a NativeHistogram),
}

#[derive(Debug)]
pub(crate) struct BucketView<'a> {
    pub(crate) layout: Cow<'a, Layout>,
    pub(crate) sum: f64,
    /// Not cumulative; the last is `+Inf`.
    pub(crate) counts: Cow<'a, [u64]>,
}

/// A series that has a total.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeriesEntry<'a> {
    pub(crate) id: SeriesId,
    pub(in crate::registry) series: &'a Series,
}

impl<'a> SeriesEntry<'a> {
    /// Returns its place in the order of creation.
    #[inline]
    pub(crate) fn no(self) -> u64 {
        self.series.created_no
    }

    #[inline]
    pub(crate) fn labels(self) -> &'a str {
        &self.series.labels
    }

    #[inline]
    pub(crate) fn start_ms(self) -> u64 {
        self.series.start_ms
    }
}

/// A family as pages show it.
#[derive(Debug)]
pub(crate) struct FamilyView<'a> {
    pub(crate) id: FamilyId,
    pub(crate) spec: FamilySpec<'a>,
    /// For a counter: whether another family has the name of its start times.
    pub(crate) has_created_beside: bool,
}

impl Catalog {
    /// Returns the families from `name` on, in the order of their names.
    pub(crate) fn families_from<'a>(
        &'a self,
        name: &str,
    ) -> impl Iterator<Item = FamilyView<'a>> + use<'a> {
        let from = (Bound::Included(name), Bound::Unbounded);
        self.by_name
            .range::<str, _>(from)
            .map(|(_, id)| self.family_view(*id))
    }

    /// Returns the family with exactly this name.
    pub(crate) fn family_called(&self, name: &str) -> Option<FamilyView<'_>> {
        self.by_name.get(name).map(|id| self.family_view(*id))
    }

    pub(crate) fn family_view(&self, id: FamilyId) -> FamilyView<'_> {
        let family = &self.families[id];
        let has_created_beside = self.created_families > 0
            && family.family_type == FamilyType::Counter
            && self
                .by_name
                .contains_key(format!("{}{START_TIMES}", family.name).as_str());
        FamilyView {
            id,
            has_created_beside,
            spec: FamilySpec {
                name: &family.name,
                family_type: family.family_type,
                help: &family.help,
                unit: &family.unit,
            },
        }
    }

    /// Returns the series of a family that were created after `no`.
    pub(crate) fn series_after(
        &self,
        family: FamilyId,
        no: u64,
    ) -> impl Iterator<Item = SeriesEntry<'_>> {
        let no_of = |id: SeriesId| self.series[id].created_no;
        let ids = self.families[family].order.after(no, no_of);
        ids.map(|id| SeriesEntry {
            id,
            series: &self.series[id],
        })
    }

    /// Joins totals of different bucket layouts on the bounds that all of them have. The counts
    /// below a common bound are known; those between two bounds of only one layout are not.
    pub(in crate::registry) fn join<'a>(&'a self, buckets: &'a Buckets) -> BucketView<'a> {
        let layout_of = |part: &Part| &self.layouts[part.layout];
        let [first, rest @ ..] = buckets.parts.as_slice() else {
            return BucketView {
                layout: Cow::Owned(Layout::none()),
                sum: 0.0,
                counts: Cow::Owned(vec![0]),
            };
        };
        if rest.is_empty() {
            return BucketView {
                layout: Cow::Borrowed(layout_of(first)),
                sum: first.sum.value(),
                counts: Cow::Borrowed(&first.counts),
            };
        }
        let is_common = |bound: f64| rest.iter().all(|part| layout_of(part).has(bound));
        let first_layout = layout_of(first);
        let common = first_layout
            .values()
            .zip(first_layout.texts())
            .filter(|(b, _)| is_common(*b));
        let (bounds, texts): (Vec<_>, Vec<_>) = common.unzip();
        let mut counts = vec![0_u64; bounds.len() + 1];
        for part in &buckets.parts {
            let own = layout_of(part).values().chain([f64::INFINITY]);
            for (bound, count) in own.zip(&part.counts) {
                let total = &mut counts[bounds.partition_point(|common| *common < bound)];
                *total = total.wrapping_add(*count);
            }
        }
        BucketView {
            // The remaining bounds of a layout are in ascending order.
            layout: Cow::Owned(Layout::new(texts).unwrap_or_else(|_| Layout::none())),
            sum: buckets.parts.iter().map(|part| part.sum.value()).sum(),
            counts: Cow::Owned(counts),
        }
    }
}

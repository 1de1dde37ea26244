//! Exemplars: the newest of each bucket.
//!
//! They are stored beside the series, because nearly no series has any.

use crate::ids::{LayoutId, SeriesId};
use crate::native_histogram::bucket_of;
use crate::registry::Registry;
use crate::registry::catalog::Catalog;
use crate::{Exemplar, FamilyType, Labels};

/// Maximum number of exemplars of one native histogram, which has many buckets.
const MAX_OF_NATIVE: usize = 10;

/// An exemplar and its bucket.
#[derive(Debug, Clone)]
pub(in crate::registry) struct StoredExemplar {
    pub(in crate::registry) slot: u64,
    pub(in crate::registry) exemplar: Exemplar,
}

impl Registry {
    /// Returns the exemplars of one series, by family and labels.
    pub fn exemplars(&self, family: &str, labels: &Labels) -> Vec<Exemplar> {
        let family = self.catalog.family_named(family);
        let series = family.and_then(|family| self.catalog.find_series(family, labels.as_str()));
        let exemplars = series
            .into_iter()
            .flat_map(|id| self.catalog.exemplars_of(id));
        exemplars.cloned().collect()
    }
}

impl Catalog {
    /// Returns whether any series has an exemplar.
    pub(crate) fn has_exemplars(&self) -> bool {
        !self.exemplars.is_empty()
    }

    /// Returns the exemplars of a series, in a stable order.
    pub(crate) fn exemplars_of(&self, id: SeriesId) -> impl Iterator<Item = &Exemplar> {
        let kept = self.exemplars.get(&id).map_or(&[][..], Vec::as_slice);
        kept.iter().map(|kept| &kept.exemplar)
    }

    /// Stores an exemplar of a series that has a total, unless its bucket has a newer one. `layout`
    /// is that of the histogram in which it was observed.
    pub(in crate::registry) fn keep_exemplar(
        &mut self,
        id: SeriesId,
        layout: Option<LayoutId>,
        exemplar: Exemplar,
    ) {
        let family_type = self.families[self.series[id].family].family_type;
        let slot = match (family_type, layout) {
            (FamilyType::Histogram, Some(layout)) if layout != LayoutId::NONE => {
                let bucket = self.layouts[layout].bucket_of(exemplar.value);
                u64::from(layout) << 32 | bucket as u64
            }
            (FamilyType::NativeHistogram, _) => {
                let size = exemplar.value.abs();
                let bucket = if size == 0.0 {
                    i32::MIN
                } else {
                    bucket_of(0, size)
                };
                let sign = u64::from(exemplar.value > 0.0) << 32;
                sign | u64::from(bucket.cast_unsigned())
            }
            _ => 0,
        };
        let kept = self.exemplars.entry(id).or_default();
        let before = heap_bytes(kept);
        match kept.binary_search_by_key(&slot, |kept| kept.slot) {
            Ok(at) if kept[at].exemplar.time <= exemplar.time => kept[at].exemplar = exemplar,
            Ok(_) => {}
            Err(at) => {
                kept.insert(at, StoredExemplar { slot, exemplar });
                if family_type == FamilyType::NativeHistogram && kept.len() > MAX_OF_NATIVE {
                    let oldest = (0..kept.len())
                        .min_by(|a, b| kept[*a].exemplar.time.total_cmp(&kept[*b].exemplar.time));
                    oldest.map(|at| kept.remove(at));
                }
            }
        }
        let after = heap_bytes(kept);
        self.series_heap_bytes += after;
        self.series_heap_bytes -= before;
    }

    /// Removes the exemplars of a total that has ended.
    pub(in crate::registry) fn drop_exemplars(&mut self, id: SeriesId) {
        if self.exemplars.is_empty() {
            return;
        }
        if let Some(kept) = self.exemplars.remove(&id) {
            self.series_heap_bytes -= heap_bytes(&kept);
        }
    }
}

/// Returns the bytes of memory of one series' exemplars.
pub(in crate::registry) fn heap_bytes(kept: &Vec<StoredExemplar>) -> usize {
    let texts = kept.iter().map(|kept| kept.exemplar.labels.as_str().len());
    kept.capacity() * size_of::<StoredExemplar>() + texts.sum::<usize>()
}

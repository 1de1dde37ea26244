//! A store that a process fills and then releases, while the process lives on.
//!
//! A [`WorkerStore`] stays mapped for the life of its process, because a worker keeps its
//! [`Series`] anywhere. An exporter writes many stores in its life (each merges many dead writers),
//! and mapped memory is never freed. So this store gives out no series: each value is written by
//! the store itself, and its memory is unmapped with it.
//!
//! [`Series`]: crate::Series
#![expect(
    unsafe_code,
    reason = "unmapping memory of which no address has left this file"
)]

use metrics_model::{FamilySpec, Layout};

use crate::memory::unmap;
use crate::{Family, StoreError, WorkerStore};

/// A store that is unmapped when it is dropped; see the [module](self).
#[derive(Debug)]
pub struct TemporaryStore {
    store: WorkerStore,
}

/// Labels of a series, in any order.
type Labels<'a> = &'a [(&'a str, &'a str)];

impl TemporaryStore {
    pub(crate) fn new(store: WorkerStore) -> Self {
        Self { store }
    }

    /// Does what [`WorkerStore::family`] does.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn family(
        &self,
        spec: &FamilySpec<'_>,
        layout: Option<&Layout>,
    ) -> Result<Family, StoreError> {
        self.store.family(spec, layout)
    }

    /// Returns whether there is a series with these labels.
    pub fn has_series(&self, family: &Family, labels: Labels<'_>) -> bool {
        self.store.find_series(family, labels).is_some()
    }

    /// Adds to cells of a series, and creates it if it is missing. In a histogram or summary, cell
    /// 0 is the sum.
    ///
    /// # Errors
    ///
    /// The record is too large, or no memory is left.
    pub fn add(
        &self,
        family: &Family,
        labels: Labels<'_>,
        cells: impl IntoIterator<Item = (usize, f64)>,
    ) -> Result<(), StoreError> {
        let series = self.store.series(family, labels)?;
        for (cell, by) in cells {
            series.add(cell, by);
        }
        Ok(())
    }

    /// Sets a gauge or counter, and creates it if it is missing.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn set(&self, family: &Family, labels: Labels<'_>, to: f64) -> Result<(), StoreError> {
        self.store.series(family, labels)?.set(0, to);
        Ok(())
    }

    /// Sets a gauge in a `mostrecent` mode, and creates it if it is missing; `time` is Unix time in
    /// seconds.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn set_timed(
        &self,
        family: &Family,
        labels: Labels<'_>,
        value: f64,
        time: f64,
    ) -> Result<(), StoreError> {
        self.store.series(family, labels)?.set_timed(value, time);
        Ok(())
    }

    /// Returns the number of written bytes.
    pub fn used_bytes(&self) -> usize {
        self.store.used_bytes()
    }
}

impl Drop for TemporaryStore {
    fn drop(&mut self) {
        for segment in self.store.take_segments() {
            // SAFETY: series and exemplars of the store, the only holders of addresses in it, are
            // dropped, and none has left this file.
            unsafe { unmap(segment) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::read_to_string;

    use metrics_model::FamilyType;

    use super::*;
    use crate::{Identity, Role, StoreFile, StoreReader};

    const NAME: &str = "temporary-store-under-test";

    fn mappings() -> usize {
        let maps = read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("memfd")).count()
    }

    #[test]
    fn what_was_written_stays_in_the_file_and_nothing_stays_mapped() {
        let identity = Identity {
            role: Role::CarryOver,
            number: 1,
            slot: 0,
            name: NAME.to_owned(),
        };
        let before = mappings();
        for _ in 0..100 {
            let file = StoreFile::create(&identity).unwrap();
            let store = file.duplicate().unwrap().write_for_a_while().unwrap();
            let spec = FamilySpec::new("c", FamilyType::Counter);
            let family = store.family(&spec, None).unwrap();
            // More than the first and the second segment hold.
            for number in 0..3_000 {
                let label = number.to_string();
                store.add(&family, &[("n", &label)], [(0, 1.0)]).unwrap();
                store.add(&family, &[("n", &label)], [(0, 2.0)]).unwrap();
            }
            assert!(store.used_bytes() > 128 << 10);
            drop(store);
            let reader = StoreReader::open(file.into_fd().unwrap()).unwrap();
            assert_eq!(reader.len(), 3_000);
            assert_eq!(reader.point(2_999), metrics_model::Point::Scalar(3.0));
        }
        // Other tests of this crate run in the same process, with a few stores each.
        assert!(
            mappings() < before + 50,
            "{} before, {} after",
            before,
            mappings()
        );
    }
}

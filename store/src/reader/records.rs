//! The records of a store, as its reader finds them.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::mapping::damaged;
use super::{ExemplarPlace, Place, SeriesRecord, StoreReader};
use crate::StoreError;
use crate::hidden::translated;
use crate::layout::{AT_FLAGS, AT_HIDES_BY, FREE, HIDES_BY_NUL, WRITING};
use crate::memory::words;
use crate::record::{self, Record};

impl StoreReader {
    pub(crate) fn records(&self) -> impl Iterator<Item = SeriesRecord<'_>> {
        let numbered = self.series.iter().enumerate();
        numbered.map(|(number, place)| SeriesRecord {
            family: place.family,
            labels: &place.labels,
            shape: place.shape,
            at: place.at,
            words: place.words,
            is_defined: self.record(number).1[AT_FLAGS].load(Acquire) & (FREE | WRITING) == 0,
        })
    }

    /// Returns series, cell, place and words of each valid exemplar.
    pub(crate) fn exemplar_records(&self) -> impl Iterator<Item = (u32, u32, usize, usize)> {
        self.exemplars.iter().flat_map(|(series, places)| {
            places
                .iter()
                .map(|place| (*series, place.cell, place.at, place.words))
        })
    }

    pub(super) fn read_record(&mut self, at: usize, used: usize) -> Result<usize, StoreError> {
        let head = words(&self.segments, at, 1).ok_or(damaged("record", at))?;
        let length = record::length_of(head[0].load(Relaxed))
            .filter(|length| at + length <= used)
            .ok_or(damaged("length of a record", at))?;
        let all = words(&self.segments, at, length).ok_or(damaged("length of a record", at))?;
        match record::read(all, &self.families).ok_or(damaged("record", at))? {
            Record::Family(mut def) => {
                if self.segments[0][AT_HIDES_BY].load(Relaxed) != HIDES_BY_NUL
                    && let Some(name) = translated(&def.name)
                {
                    def.name = name;
                }
                self.families.push(def);
            }
            Record::Series {
                family,
                shape,
                labels,
                uses,
            } => self.series.push(Place {
                at,
                words: length,
                family,
                shape,
                labels,
                uses,
            }),
            Record::Exemplar { series, cell } => {
                let places = self.exemplars.entry(series).or_default();
                // An exemplar with larger labels gets a new record, which then counts.
                places.retain(|place| place.cell != cell);
                places.push(ExemplarPlace {
                    at,
                    words: length,
                    cell,
                });
            }
            Record::Padding => {}
        }
        Ok(length)
    }
}

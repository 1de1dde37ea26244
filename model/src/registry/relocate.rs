//! Moves a registry's memory elsewhere, a piece at a time, for an allocator that wants to close
//! gaps.
//!
//! Large pieces are moved too (an allocator without a better place for one says so at once). The
//! many small pieces matter most: label texts, gauges, histograms, writers' memories, the sets of
//! groups.

use super::Registry;
use crate::ids::{Id, SeriesId, WriterId};

/// Moves memory: each method may put the same content at another address.
pub trait Relocate {
    /// A text.
    fn text(&mut self, text: &mut Box<str>);
    /// A boxed value, without the memory that it owns.
    fn boxed<T>(&mut self, boxed: &mut Box<T>);
    /// A slice.
    fn slice<T>(&mut self, slice: &mut Box<[T]>);
    /// A vector with its capacity.
    fn vector<T>(&mut self, vector: &mut Vec<T>);
    /// Returns whether to stop for now.
    fn should_stop(&mut self) -> bool;
}

/// Number of pieces that are moved between two looks at the clock.
const STEP: usize = 16;

impl Registry {
    /// Continues at a position (0 at first); returns where to continue, or `None` at the end.
    pub fn relocate(&mut self, from: usize, by: &mut impl Relocate) -> Option<usize> {
        let (series, writers) = (
            self.catalog.series.place_count(),
            self.writers.table.place_count(),
        );
        for at in from..series + writers {
            if at > from && at % STEP == 0 && by.should_stop() {
                return Some(at);
            }
            if at < series {
                let series = self
                    .catalog
                    .series
                    .get_mut(SeriesId::from_number(at as u32));
                if let Some(series) = series {
                    series.relocate(by);
                }
            } else if let Some(writer) = self
                .writers
                .table
                .get_mut(WriterId::from_number((at - series) as u32))
            {
                writer.relocate(by);
            }
        }
        // Positions after the writers are the numbers of groups.
        let first = series + writers;
        let mut group = from.saturating_sub(first) as u64;
        while let Some(next) = self.groups.relocate(group, by) {
            if by.should_stop() {
                return Some(first + next as usize);
            }
            group = next;
        }
        None
    }
}

//! The handle with which a worker records: a few nanoseconds, no lock, no allocation.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::layout::{FREE, RETIRED, RETURNED, STATE, WRITING};

/// One series of this process' store. Copies refer to the same series.
///
/// **One writer at a time.** An addition is a load and a store, not an atomic addition, which costs
/// ten times as much. Callers hold the GIL; without it, two simultaneous additions may count once.
/// Readers are in other processes and need nothing.
///
/// Cells: a counter or gauge has one, number 0; a histogram or summary has its sum in 0 and its
/// buckets, not cumulative, from 1. A `mostrecent` gauge is written only by
/// [`set_timed`](Self::set_timed).
///
/// # Panics
///
/// Methods that take a cell panic if the series has no such cell, as slices do.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    number: u32,
    flags: &'static AtomicU64,
    cells: &'static [AtomicU64],
}

impl Series {
    pub(crate) fn new(number: u32, flags: &'static AtomicU64, cells: &'static [AtomicU64]) -> Self {
        Self {
            number,
            flags,
            cells,
        }
    }

    /// Returns its number in the store, from 0 in the order of creation.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Adds to a cell.
    #[inline]
    pub fn add(&self, cell: usize, by: f64) {
        let cell = &self.cells[cell];
        cell.store((f64::from_bits(cell.load(Relaxed)) + by).to_bits(), Relaxed);
    }

    /// Sets a cell.
    #[inline]
    pub fn set(&self, cell: usize, to: f64) {
        self.cells[cell].store(to.to_bits(), Relaxed);
    }

    /// Reads a cell.
    #[inline]
    pub fn get(&self, cell: usize) -> f64 {
        f64::from_bits(self.cells[cell].load(Relaxed))
    }

    /// Counts one observation of a histogram or summary in a bucket (0 is the lowest).
    #[inline]
    pub fn observe(&self, bucket: usize, value: f64) {
        self.add(1 + bucket, 1.0);
        self.add(0, value);
    }

    /// Sets a gauge in a `mostrecent` mode; `time` is Unix time in seconds.
    #[inline]
    pub fn set_timed(&self, value: f64, time: f64) {
        // Writes the invalid pair, and then makes it the valid one.
        let turn = self.cells[0].load(Relaxed).wrapping_add(1);
        let pair = 1 + 2 * (turn & 1) as usize;
        self.cells[pair].store(value.to_bits(), Release);
        self.cells[pair + 1].store(time.to_bits(), Release);
        self.cells[0].store(turn, Release);
    }

    /// Returns value and time of a gauge in a `mostrecent` mode.
    #[inline]
    pub fn get_timed(&self) -> (f64, f64) {
        let pair = 1 + 2 * (self.cells[0].load(Relaxed) & 1) as usize;
        (self.get(pair), self.get(pair + 1))
    }

    /// Returns the number of cells.
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Marks it as removed by the application: this process no longer owns it.
    pub fn retire(&self) {
        let flags = self.flags.load(Relaxed);
        self.flags.store(flags | RETIRED, Release);
    }

    /// Marks it as made again; it continues from its value.
    pub fn revive(&self) {
        let flags = self.flags.load(Relaxed);
        self.flags.store(flags & !RETIRED, Release);
    }

    /// It is removed, and nothing in this process refers to it any more.
    pub(crate) fn give_back(&self) {
        let flags = self.flags.load(Relaxed);
        self.flags.store(flags | RETIRED | RETURNED, Release);
    }

    /// Takes it back, unless the exporter has begun to release it.
    pub(crate) fn take_back(&self) -> bool {
        let is_begun = |flags: u64| flags & (FREE | WRITING) != 0;
        let taken = |flags: u64| (!is_begun(flags)).then_some(flags & !RETURNED);
        self.flags.fetch_update(AcqRel, Relaxed, taken).is_ok()
    }

    /// Whether the exporter has not decided about it yet.
    pub(crate) fn is_waiting(&self) -> bool {
        let state = self.flags.load(Relaxed) & STATE;
        state & RETURNED != 0 && state & FREE == 0
    }

    /// Whether the exporter is about to release it, or was killed while it was.
    pub(crate) fn is_being_released(&self) -> bool {
        let state = self.flags.load(Relaxed) & STATE;
        state == RETIRED | RETURNED | FREE | WRITING
    }

    /// Whether its record may be used for another series.
    pub(crate) fn is_free(&self) -> bool {
        self.flags.load(Acquire) & STATE == RETIRED | RETURNED | FREE
    }

    /// Returns whether it is removed.
    pub fn is_retired(&self) -> bool {
        self.flags.load(Relaxed) & RETIRED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(cells: usize) -> Series {
        let cells = (0..cells).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        Series::new(0, Box::leak(Box::new(AtomicU64::new(0))), cells.leak())
    }

    #[test]
    fn observations_are_summed_and_counted_in_their_bucket() {
        let histogram = series(4);
        histogram.observe(1, 2.5);
        histogram.observe(1, 0.5);
        histogram.observe(2, 10.0);
        assert_eq!(
            [0, 1, 2, 3].map(|i| histogram.get(i)),
            [13.0, 0.0, 2.0, 1.0]
        );
    }

    #[test]
    fn a_timed_value_is_read_back_with_its_own_time() {
        let gauge = series(5);
        for i in 0..5 {
            gauge.set_timed(f64::from(i), f64::from(i) + 100.0);
            assert_eq!(gauge.get_timed(), (f64::from(i), f64::from(i) + 100.0));
        }
    }
}

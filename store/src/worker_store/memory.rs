//! Where the records of a store are: finds them, appends to them, and grows the memory.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use rustix::io::Errno;

use super::Inner;
use crate::layout::{AT_FLAGS, AT_TURN, AT_USED, KIND_PADDING, MAX_STORE, SERIES_HEAD, Shape};
use crate::memory::{Segment, WORD, allocate, segment_bounds, segment_of};
use crate::{Descriptor, Series, StoreError, record};

/// The record of an exemplar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot(pub(super) &'static [AtomicU64]);

impl Slot {
    /// A reader that looks meanwhile sees the odd turn, or that it has changed, and uses neither.
    pub(super) fn write(self, words: &[u64]) {
        let turn = self.0[AT_TURN].load(Relaxed) | 1;
        self.0[AT_TURN].store(turn, Relaxed);
        fence(Release);
        for (cell, word) in self.0.iter().zip(words).skip(AT_TURN + 1) {
            cell.store(*word, Relaxed);
        }
        self.0[AT_TURN].store(turn.wrapping_add(1), Release);
    }
}

impl Inner {
    /// Called once for each series, in their order; the result is kept.
    pub(super) fn series_at(&mut self, at: usize, shape: Shape) -> Series {
        self.count += 1;
        let segment = segment_of(at);
        let record = &self.segments[segment][at - segment_bounds(segment).0..];
        Series::new(
            self.count - 1,
            &record[AT_FLAGS],
            &record[SERIES_HEAD..SERIES_HEAD + shape.cells()],
        )
    }

    pub(super) fn slot_at(&self, at: usize, words: usize) -> Slot {
        let segment = segment_of(at);
        let start = at - segment_bounds(segment).0;
        Slot(&self.segments[segment][start..start + words])
    }

    /// Writes a record after the last one, and only then makes it count. Returns its place.
    pub(super) fn append(&mut self, file: &Descriptor, words: &[u64]) -> Result<usize, StoreError> {
        let mut at = self.used;
        let last = self.segments.len() - 1;
        let (start, len) = segment_bounds(last);
        let end = start + len;
        if at + words.len() > end {
            self.grow(file)?;
            if at < end {
                self.segments[last][at - start]
                    .store(record::head(KIND_PADDING, end - at), Relaxed);
            }
            at = end;
        }
        let segment = segment_of(at);
        let place = &self.segments[segment][at - segment_bounds(segment).0..];
        for (cell, word) in place.iter().zip(words) {
            cell.store(*word, Relaxed);
        }
        self.used = at + words.len();
        self.segments[0][AT_USED].store(self.used as u64, Release);
        Ok(at)
    }

    fn grow(&mut self, file: &Descriptor) -> Result<(), StoreError> {
        let (start, len) = segment_bounds(self.segments.len());
        if start + len > MAX_STORE {
            return Err(StoreError::Full {
                limit: (MAX_STORE * WORD) as u64,
            });
        }
        // The application may have closed it, and use the number for a file of its own.
        let file = file
            .get()
            .map_err(|source| grow_error(start + len, source))?;
        allocate(file, start, len).map_err(|source| grow_error(start + len, source))?;
        self.segments.push(map(file, self.segments.len())?);
        Ok(())
    }
}

pub(super) fn map(file: BorrowedFd<'_>, number: usize) -> Result<&'static [AtomicU64], StoreError> {
    let (start, len) = segment_bounds(number);
    Segment::map(file, start, len)
        .map(Segment::leak)
        .map_err(|source| grow_error(start + len, source))
}

fn grow_error(words: usize, source: Errno) -> StoreError {
    StoreError::Grow {
        bytes: (words * WORD) as u64,
        source,
    }
}

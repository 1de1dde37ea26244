//! What a registry remembers of one series of a writer.

use crate::footprint::allocated_for;
use crate::ids::{LayoutId, SeriesId};

/// What a writer last sent of one series, and whether it owns it.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct Entry {
    pub(in crate::registry) series: SeriesId,
    flags_and_place: u32,
    /// Last value of a counter; base of a gauge.
    pub(in crate::registry) last: f64,
}

#[derive(Debug, Clone)]
pub(in crate::registry) struct BucketMemory {
    pub(in crate::registry) layout: LayoutId,
    pub(in crate::registry) sum: f64,
    pub(in crate::registry) counts: Box<[u64]>,
}

const OWNED: u32 = 1 << 31;
const RETIRED: u32 = 1 << 30;
/// Flag: which of the family's two help texts it was defined with.
const HELP_SIDE: u32 = 1 << 29;
const PLACE: u32 = HELP_SIDE - 1;
/// No entry has this place.
pub(in crate::registry) const NO_PLACE: u32 = PLACE;

impl Entry {
    pub(in crate::registry) fn new(series: SeriesId, last: f64) -> Self {
        Self {
            series,
            flags_and_place: PLACE,
            last,
        }
    }

    /// One that was forgotten, until another takes its place: of no series, and given up.
    pub(super) fn hole(next: u32) -> Self {
        Self {
            series: SeriesId::NONE,
            flags_and_place: RETIRED | next,
            last: 0.0,
        }
    }

    pub(in crate::registry) fn is_hole(&self) -> bool {
        self.series == SeriesId::NONE
    }

    pub(in crate::registry) fn from_parts(
        series: SeriesId,
        flags_and_place: u32,
        last: f64,
    ) -> Self {
        Self {
            series,
            flags_and_place,
            last,
        }
    }

    pub(in crate::registry) fn flags_and_place(&self) -> u32 {
        self.flags_and_place
    }

    /// Returns whether it counts among the series' owners.
    #[inline]
    pub(in crate::registry) fn is_owned(&self) -> bool {
        self.flags_and_place & OWNED != 0
    }

    pub(in crate::registry) fn set_owned(&mut self, owned: bool) {
        self.flags_and_place = if owned {
            self.flags_and_place | OWNED
        } else {
            self.flags_and_place & !OWNED
        };
    }

    /// Returns whether the writer has given the series up.
    pub(in crate::registry) fn is_retired(&self) -> bool {
        self.flags_and_place & RETIRED != 0
    }

    pub(in crate::registry) fn set_retired(&mut self, retired: bool) {
        self.flags_and_place = if retired {
            self.flags_and_place | RETIRED
        } else {
            self.flags_and_place & !RETIRED
        };
    }

    /// Returns which of the family's two help texts it was defined with.
    pub(in crate::registry) fn help_side(&self) -> bool {
        self.flags_and_place & HELP_SIDE != 0
    }

    pub(in crate::registry) fn set_help_side(&mut self, side: bool) {
        self.flags_and_place = if side {
            self.flags_and_place | HELP_SIDE
        } else {
            self.flags_and_place & !HELP_SIDE
        };
    }

    /// Returns its place: of a gauge among the members, of a histogram in the writer's memory.
    #[inline]
    pub(in crate::registry) fn place(&self) -> u32 {
        self.flags_and_place & PLACE
    }

    pub(in crate::registry) fn set_place(&mut self, place: u32) {
        self.flags_and_place = (self.flags_and_place & !PLACE) | (place & PLACE);
    }
}

impl BucketMemory {
    /// Returns the bytes of memory, without its own.
    pub(super) fn heap_bytes(&self) -> usize {
        allocated_for::<u64>(self.counts.len())
    }
}

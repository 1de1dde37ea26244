//! Places in a store, in words of eight bytes.
//!
//! ```text
//! header    what the store is, how far it is written, the push state's headers
//! records   family | series | padding, each with its length in its first word
//! ```
//!
//! A record lies within one segment, and counts once the header's `USED` is beyond it: a writer
//! that is killed in the middle has written nothing.
//!
//! ```text
//! family    head, type and text length, text: name, help, unit, bounds
//! series    head, flags, family, text length, cells, base, 2 × (seq, values), text: labels
//! exemplar  head, turn, series and cell, text length, value, time, room for a text: labels
//! ```
//!
//! Requests in progress (`requests.rs`), and where the writer hung, lie in records that look like padding: the
//! header has their places.
//!
//! The record of a removed gauge is used again: `worker_store/reuse.rs` says how, and why no value is
//! taken for that of another series.
//!
//! The next exemplar of a cell overwrites the one before. Its turn is odd meanwhile, and stays odd
//! if the writer is killed: then there is no exemplar.

use metrics_model::{FamilyType, Layout, Point};

/// Magic number: name and version of this layout.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"gpestor2");

/// Rounded up to a multiple of 64 bytes.
pub(crate) const HEADER: usize =
    (AT_PUSH_STATE + MAX_SHARDS * PUSH_STATE_WORDS).next_multiple_of(8);
pub(crate) const AT_MAGIC: usize = 0;
pub(crate) const AT_ROLE_AND_SLOT: usize = 1;
pub(crate) const AT_NUMBER: usize = 2;
pub(crate) const AT_PID: usize = 3;
pub(crate) const AT_START_TIME: usize = 4;
pub(crate) const AT_ID: usize = 5;
/// Number of written and valid words, including the header.
pub(crate) const AT_USED: usize = 8;
pub(crate) const AT_NAME_LEN: usize = 9;
pub(crate) const AT_NAME: usize = 10;
/// Number of shards when the push state was written; 0 = there is none.
pub(crate) const AT_SHARDS: usize = 48;
/// How many records were used again.
pub(crate) const AT_REUSED: usize = 50;
/// How the names of hidden families begin: [`HIDES_BY_NUL`], or 0 in stores of older versions, where
/// they begin with two underscores.
pub(crate) const AT_HIDES_BY: usize = 54;
pub(crate) const HIDES_BY_NUL: u64 = 1;
/// Code of the writer's reason to end; 0 = none.
pub(crate) const AT_LAST_WORDS: usize = 49;
/// Place of the first block of requests in progress; 0 = none.
pub(crate) const AT_REQUESTS: usize = 51;
/// Number of requests in progress that have no place in a block.
pub(crate) const AT_UNLISTED: usize = 52;
/// Place of the text that the writer left about its end; 0 = none.
pub(crate) const AT_STACK: usize = 53;
/// For each shard: the commit, whose lowest bit selects the valid one of two headers, and those
/// two.
pub(crate) const AT_PUSH_STATE: usize = 56;
pub(crate) const PUSH_HEADER_WORDS: usize = 8;
pub(crate) const PUSH_STATE_WORDS: usize = 1 + 2 * PUSH_HEADER_WORDS;
/// Maximum number of registries over which the families of one writer may be spread.
pub const MAX_SHARDS: usize = 64;

/// Maximum size of the name in a store's header, in bytes.
pub(crate) const MAX_NAME: usize = 256;
/// Maximum size of a record in words: it fits into any segment, except the first unless that is
/// empty.
pub(crate) const MAX_RECORD: usize = 6 * 1024;
/// Maximum size of a store, in words.
pub(crate) const MAX_STORE: usize = 256 * 1024 * 1024 / crate::memory::WORD;

pub(crate) const KIND_FAMILY: u64 = 1;
pub(crate) const KIND_SERIES: u64 = 2;
pub(crate) const KIND_PADDING: u64 = 3;
pub(crate) const KIND_EXEMPLAR: u64 = 4;

pub(crate) const FAMILY_HEAD: usize = 2;
pub(crate) const SERIES_HEAD: usize = 4;
/// In a series' record: its state, and in the upper half how often the record was used again.
pub(crate) const AT_FLAGS: usize = 1;
/// Its writer has removed it.
pub(crate) const RETIRED: u64 = 1;
/// And nothing in its writer refers to it any more: the exporter may set [`FREE`].
pub(crate) const RETURNED: u64 = 2;
/// No registry knows it any more: its writer may use the record for another series of the family.
pub(crate) const FREE: u64 = 4;
/// Its labels or its push state are being written.
pub(crate) const WRITING: u64 = 8;
/// What the state is without the number of uses.
pub(crate) const STATE: u64 = 0xffff_ffff;
/// Turn of an exemplar's record.
pub(crate) const AT_TURN: usize = 1;
pub(crate) const AT_CELL: usize = 2;
pub(crate) const AT_TEXT_LEN: usize = 3;
pub(crate) const AT_VALUE: usize = 4;
pub(crate) const AT_TIME: usize = 5;
pub(crate) const EXEMPLAR_HEAD: usize = 6;

/// The form of a series' values in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One value.
    Scalar,
    /// Value and time, twice, and a counter that selects the valid pair: a reader in the middle of
    /// a write, and the death of the writer, both see a whole pair.
    Timed,
    /// The sum, then that many buckets.
    Buckets(usize),
}

impl Shape {
    /// Returns `None` for a native histogram, whose number of buckets varies; workers make none.
    pub(crate) fn of(family_type: FamilyType, layout: Option<&Layout>) -> Option<Self> {
        match family_type {
            FamilyType::Gauge(mode) if mode.is_timed() => Some(Self::Timed),
            FamilyType::Counter
            | FamilyType::Gauge(_)
            | FamilyType::Info
            | FamilyType::StateSet => Some(Self::Scalar),
            FamilyType::Histogram => Some(Self::Buckets(layout.map_or(0, Layout::len) + 1)),
            FamilyType::Summary => Some(Self::Buckets(1)),
            FamilyType::NativeHistogram => None,
        }
    }

    /// Returns the number of words that the writer uses.
    pub(crate) fn cells(self) -> usize {
        match self {
            Self::Scalar => 1,
            Self::Timed => 5,
            Self::Buckets(n) => 1 + n,
        }
    }

    /// Returns the number of words of one value in the push state.
    pub(crate) fn values(self) -> usize {
        match self {
            Self::Scalar => 1,
            Self::Timed => 2,
            Self::Buckets(n) => 1 + n,
        }
    }

    /// Returns the number of words from the record's start to its text.
    pub(crate) fn text_at(self) -> usize {
        self.sent_at(1) + 1 + self.values()
    }

    /// Returns the place of the base in the record.
    pub(crate) fn base_at(self) -> usize {
        SERIES_HEAD + self.cells()
    }

    /// Returns the place of one of the two sent values in the record: its seq, then its words.
    pub(crate) fn sent_at(self, side: usize) -> usize {
        self.base_at() + self.values() + side * (1 + self.values())
    }

    /// Decodes a point from its words in the push state.
    pub(crate) fn point(self, word: impl Fn(usize) -> u64) -> Point {
        let float = |i| f64::from_bits(word(i));
        match self {
            Self::Scalar => Point::Scalar(float(0)),
            Self::Timed => Point::Timed {
                value: float(0),
                time: float(1),
            },
            Self::Buckets(n) => Point::Buckets {
                sum: float(0),
                counts: (1..=n).map(|i| float(i) as u64).collect(),
            },
        }
    }

    /// Encodes a point into its words in the push state; a point of another form writes nothing.
    pub(crate) fn write(self, point: &Point, mut word: impl FnMut(usize, u64)) {
        match (self, point) {
            (Self::Scalar, Point::Scalar(value)) => word(0, value.to_bits()),
            (Self::Timed, Point::Timed { value, time }) => {
                word(0, value.to_bits());
                word(1, time.to_bits());
            }
            (Self::Buckets(n), Point::Buckets { sum, counts }) if counts.len() == n => {
                word(0, sum.to_bits());
                for (i, &count) in counts.iter().enumerate() {
                    word(1 + i, (count as f64).to_bits());
                }
            }
            _ => debug_assert!(false, "a point of another form"),
        }
    }
}

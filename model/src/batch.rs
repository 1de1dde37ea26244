//! The batch: what a writer sends of its series, as bytes.
//!
//! The format is specified in `redis-module/BATCH.md`; [`reader`] reads it and [`writer`] writes
//! it. A batch is decoded twice. [`Batch::decode`] walks all of it and refuses malformed bytes, so
//! that the registry never applies half a batch. [`Batch::entries`] then walks it again; its
//! entries borrow from the bytes, and no list of them is made.

mod reader;
mod writer;

use crate::bytes::{DecodeError, Reader};
use crate::sizes::{MAX_BATCH_BYTES, MAX_BATCH_CELLS, MAX_BATCH_ENTRIES, MAX_BOUNDS, MAX_LABELS};
use crate::{FamilySpec, Layout, NativeHistogram, Point};
use reader::Entries;
pub use writer::BatchWriter;

/// The version of the format that this build reads and writes.
pub const BATCH_VERSION: u8 = 1;

const TAG_FAMILY: u8 = 1;
const TAG_LAYOUT: u8 = 2;
const TAG_DEFINE: u8 = 3;
const TAG_VALUES: u8 = 4;
const TAG_TIMED: u8 = 5;
const TAG_HISTOGRAM: u8 = 6;
const TAG_RETIRE: u8 = 7;
const TAG_NATIVE: u8 = 8;
const TAG_EXEMPLAR: u8 = 9;
const TAG_START: u8 = 10;
const LAST_FLAG: u8 = 0x80;
const NAME_LEFT_OUT_FLAG: u8 = 0x40;

/// How a batch relates to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    /// Changes since the batch before.
    Incremental,
    /// The beginning of the writer's full state, and of a new index table.
    Full {
        /// The seq that a `FORGOTTEN` reply named; 0 for none.
        forgotten_seq: u64,
    },
    /// The next part of the full state that the batch before began.
    More,
}

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// How the batch relates to the one before it.
    pub kind: BatchKind,
    /// Whether this batch ends a full state that may span several; `false` in an incremental one.
    pub last: bool,
    /// Whether the writer asks the registry to name the series that it leaves out
    /// ([`LeftOut`](crate::LeftOut)).
    pub names_left_out: bool,
    /// If the writer asks so and this batch follows another: the [digest](crate::LeftOut::digest)
    /// of what the registry left out of that one, as far as the writer knows; otherwise 0.
    pub left_out_before: u32,
    /// How long the key outlives the last lease of its writers, in milliseconds; 0 = for ever.
    pub registry_ttl_ms: u64,
}

impl BatchHeader {
    /// Header of an incremental batch for a registry that does not expire.
    pub const INCREMENTAL: Self = Self {
        kind: BatchKind::Incremental,
        last: false,
        names_left_out: false,
        left_out_before: 0,
        registry_ttl_ms: 0,
    };
    /// Header of a full state in one batch, for a registry that does not expire.
    pub const FULL: Self = Self {
        kind: BatchKind::Full { forgotten_seq: 0 },
        last: true,
        names_left_out: false,
        left_out_before: 0,
        registry_ttl_ms: 0,
    };
}

/// A batch whose bytes have been checked.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    header: BatchHeader,
    entry_count: usize,
    body: &'a [u8],
}

/// One entry of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<'a> {
    /// The next family of this batch.
    Family(FamilySpec<'a>),
    /// The next bucket layout of this batch.
    Layout(Layout),
    /// The next series of the writer's index table.
    Define(Box<Define<'a>>),
    /// New values of counters and gauges.
    Values(Values<'a>),
    /// A new value of a gauge in a `mostrecent` mode.
    Timed {
        /// The series.
        index: u32,
        /// Its value.
        value: f64,
        /// The Unix time in seconds at which it was set.
        time: f64,
    },
    /// New counts of a histogram or summary.
    Buckets {
        /// The series.
        index: u32,
        /// The sum of all observations.
        sum: f64,
        /// The buckets that changed.
        changes: BucketChanges<'a>,
    },
    /// The new state of a native histogram.
    Native {
        /// The series.
        index: u32,
        /// The whole histogram.
        histogram: Box<NativeHistogram>,
    },
    /// An exemplar of a counter or histogram.
    Exemplar {
        /// The series.
        index: u32,
        /// The observed value.
        value: f64,
        /// When it was observed, as Unix time in seconds.
        time: f64,
        /// Labels of the exemplar.
        labels: Pairs<'a>,
    },
    /// The start time of a series in a group.
    Start {
        /// The series.
        index: u32,
        /// The Unix time in seconds.
        time: f64,
    },
    /// The writer no longer owns the series.
    Retire {
        /// The series.
        index: u32,
    },
}

impl Entry<'_> {
    /// Returns how many series the entry has values of.
    pub(crate) fn series_count(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Define(_) | Self::Timed { .. } | Self::Buckets { .. } | Self::Native { .. } => 1,
            Self::Family(_)
            | Self::Layout(_)
            | Self::Exemplar { .. }
            | Self::Retire { .. }
            | Self::Start { .. } => 0,
        }
    }

    /// Returns the number of entries that it counts as.
    fn count(&self) -> usize {
        match self {
            Self::Values(values) => values.len().max(1),
            _ => 1,
        }
    }
}

/// A series as its writer defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Define<'a> {
    /// The family, by its number in this batch.
    pub family: usize,
    /// The idle time after which the series expires, in milliseconds; 0 = never.
    pub ttl_ms: u64,
    /// The labels, in any order.
    pub labels: Pairs<'a>,
    /// Text of the `pid` label in the modes that show each writer; empty in the others.
    pub pid: &'a str,
    /// The bucket layout of a histogram, by its number in this batch.
    pub layout: Option<usize>,
    /// The value.
    pub point: Point,
    /// The part of the value that the registry must not count; `None` is zero.
    pub base: Option<Point>,
}

/// The labels of a [`Define`], still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairs<'a>(&'a [u8]);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader::new(self.0);
        let pair = (reader.text().ok()?, reader.text().ok()?);
        self.0 = &self.0[reader.at()..];
        Some(pair)
    }
}

/// Indexes and values, still encoded, in records of one width: checking them needs no loop, and
/// reading them little time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values<'a>(&'a [[u8; VALUE_BYTES]]);

/// Size of an index and a value, in bytes.
const VALUE_BYTES: usize = 12;

impl Values<'_> {
    /// Returns the number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the pairs of index and value.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, f64)> {
        self.0.iter().map(|[a, b, c, d, value @ ..]| {
            (
                u32::from_le_bytes([*a, *b, *c, *d]),
                f64::from_le_bytes(*value),
            )
        })
    }
}

/// The changed buckets of an [`Entry::Buckets`], still encoded: pairs of bucket and count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketChanges<'a>(&'a [u8]);

impl Iterator for BucketChanges<'_> {
    type Item = (usize, u64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader::new(self.0);
        let change = (reader.varint().ok()? as usize, reader.varint().ok()?);
        self.0 = &self.0[reader.at()..];
        Some(change)
    }
}

impl<'a> Batch<'a> {
    /// Checks every byte.
    ///
    /// # Errors
    ///
    /// Returns what is wrong and where; the registry has applied nothing then.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_BATCH_BYTES {
            let found = bytes.len() as u64;
            return Reader::refuse("number of bytes", found, "at most 1048576", 0);
        }
        let mut reader = Reader::new(bytes);
        let header = read_header(&mut reader)?;
        let at = reader.at();
        let entry_count = reader.varint()?;
        if entry_count > MAX_BATCH_ENTRIES as u64 {
            return Reader::refuse("number of entries", entry_count, "at most 4096", at);
        }
        let entry_count = entry_count as usize;
        let body = &bytes[reader.at()..];

        let mut entries = Entries::new(body);
        let mut counted = 0;
        while counted < entry_count {
            let entry = entries.read().map_err(|error| shift(error, reader.at()))?;
            counted += entry.count();
            if entries.cells > MAX_BATCH_CELLS {
                let (found, at) = (entries.cells as u64, reader.at() + entries.reader.at());
                return Reader::refuse("number of cells", found, "at most 65536", at);
            }
        }
        if counted > entry_count {
            let expected = "as many as there are";
            return Reader::refuse("number of entries", entry_count as u64, expected, at);
        }
        entries
            .reader
            .end()
            .map_err(|error| shift(error, reader.at()))?;
        Ok(Self {
            header,
            entry_count,
            body,
        })
    }

    /// Returns the header.
    pub fn header(&self) -> BatchHeader {
        self.header
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entry_count
    }

    /// Returns whether the batch has no entries and only renews the lease.
    pub fn is_empty(&self) -> bool {
        self.entry_count == 0
    }

    /// Returns the entries, in the order in which the registry applies them.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut entries = Entries::new(self.body);
        // `decode` has read all of them, so an error can only be the end.
        std::iter::from_fn(move || entries.read().ok())
    }
}

/// Removes from an encoded batch the question what the registry leaves out.
pub(crate) fn without_question(batch: &mut Vec<u8>) {
    let mut reader = Reader::new(batch);
    let Ok(header) = read_header(&mut reader) else {
        return;
    };
    if header.names_left_out {
        let body = batch.split_off(reader.at());
        let asked = BatchHeader {
            names_left_out: false,
            left_out_before: 0,
            ..header
        };
        batch.clear();
        writer::put_header(batch, asked);
        batch.extend_from_slice(&body);
    }
}

fn read_header(reader: &mut Reader<'_>) -> Result<BatchHeader, DecodeError> {
    let version = reader.u8()?;
    if version != BATCH_VERSION {
        return Err(DecodeError::Version {
            what: "batch",
            found: version,
            expected: BATCH_VERSION,
        });
    }
    let at = reader.at();
    let kind = reader.u8()?;
    let last = kind & LAST_FLAG != 0;
    let names_left_out = kind & NAME_LEFT_OUT_FLAG != 0;
    let number = reader.varint()?;
    let left_out_before = u32::try_from(number).ok();
    let left_out_before = left_out_before.filter(|before| names_left_out || *before == 0);
    let kind_of = kind & !LAST_FLAG & !NAME_LEFT_OUT_FLAG;
    let (kind, left_out_before) = match (kind_of, last, left_out_before) {
        (0, false, Some(before)) => (BatchKind::Incremental, before),
        (1, _, _) => {
            let forgotten_seq = number;
            (BatchKind::Full { forgotten_seq }, 0)
        }
        (2, _, Some(before)) => (BatchKind::More, before),
        _ => {
            return Reader::refuse(
                "batch kind",
                kind.into(),
                "0, 1, 2, 129 or 130, 64 more to ask what is left out, and a forgotten seq only in a full batch",
                at,
            );
        }
    };
    Ok(BatchHeader {
        kind,
        last,
        names_left_out,
        left_out_before,
        registry_ttl_ms: reader.varint()?,
    })
}

/// Converts a position within the body to one within the batch.
fn shift(error: DecodeError, by: usize) -> DecodeError {
    use DecodeError as E;
    match error {
        E::CutShort { at } => E::CutShort { at: at + by },
        E::LeftOver { at, left } => E::LeftOver { at: at + by, left },
        E::Varint { at } => E::Varint { at: at + by },
        E::Utf8 { at } => E::Utf8 { at: at + by },
        E::Value {
            what,
            found,
            expected,
            at,
        } => E::Value {
            what,
            found,
            expected,
            at: at + by,
        },
        E::Bound { bound, at } => E::Bound { bound, at: at + by },
        other @ E::Version { .. } => other,
    }
}

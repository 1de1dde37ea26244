//! The batch: what a writer sends of its series, as bytes.
//!
//! The format is specified in `redis-module/BATCH.md`; [`reader`] reads it and [`writer`] writes it. A
//! batch is decoded twice: [`Batch::decode`] walks all of it and refuses what is malformed, so that
//! nothing is ever half applied; [`Batch::entries`] then walks it again, borrowing, without a list
//! of entries in between.

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
    /// What has changed since the batch before.
    Incremental,
    /// The beginning of the writer's full state, and of a new index table.
    Full {
        /// The seq that a `FORGOTTEN` reply named; 0 for none.
        forgotten_seq: u64,
    },
    /// More of the full state that the batch before has not finished.
    More,
}

/// What a batch says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// How it relates to the one before.
    pub kind: BatchKind,
    /// Whether a run of full state ends with this batch; `false` in an incremental one.
    pub last: bool,
    /// Whether the reply is to name the series that were left out ([`LeftOut`](crate::LeftOut)).
    pub names_left_out: bool,
    /// In a batch that asks so and follows another: the [digest](crate::LeftOut::digest) of what
    /// that one has left out, as far as the writer knows; otherwise 0.
    pub left_out_before: u32,
    /// For how many milliseconds the key outlives the last lease of its writers; 0 = for ever.
    pub registry_ttl_ms: u64,
}

impl BatchHeader {
    /// An incremental batch for a registry that does not expire.
    pub const INCREMENTAL: Self = Self {
        kind: BatchKind::Incremental,
        last: false,
        names_left_out: false,
        left_out_before: 0,
        registry_ttl_ms: 0,
    };
    /// A full state in one batch, for a registry that does not expire.
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
        /// All of it.
        histogram: Box<NativeHistogram>,
    },
    /// An exemplar of a counter or histogram.
    Exemplar {
        /// The series.
        index: u32,
        /// What was observed.
        value: f64,
        /// When, as Unix time in seconds.
        time: f64,
        /// Its own labels.
        labels: Pairs<'a>,
    },
    /// When a series of a group began to count.
    Start {
        /// The series.
        index: u32,
        /// The Unix time in seconds.
        time: f64,
    },
    /// This writer owns the series no longer.
    Retire {
        /// The series.
        index: u32,
    },
}

impl Entry<'_> {
    /// How many series it has values of.
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

    /// How many entries it counts as.
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
    /// The text of the `pid` label of the per-writer modes, otherwise empty.
    pub pid: &'a str,
    /// Of a histogram: the layout, by its number in this batch.
    pub layout: Option<usize>,
    /// The value.
    pub point: Point,
    /// What of the value is not to be counted; `None` is zero.
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

/// Indexes and values, still encoded, in records of one width: so that checking them takes no time
/// and reading them little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values<'a>(&'a [[u8; VALUE_BYTES]]);

/// An index and a value.
const VALUE_BYTES: usize = 12;

impl Values<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Pairs of index and value.
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
    /// Says what is wrong and where; nothing has been applied then.
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

    /// What the batch says of itself.
    pub fn header(&self) -> BatchHeader {
        self.header
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entry_count
    }

    /// Whether it only renews the lease.
    pub fn is_empty(&self) -> bool {
        self.entry_count == 0
    }

    /// The entries, in the order in which they are to be applied.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut entries = Entries::new(self.body);
        // `decode` has read all of them, so reading stops only at the end.
        std::iter::from_fn(move || entries.read().ok())
    }
}

/// Takes the wish out of an encoded batch to be told what is left out.
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

/// Positions within the body become positions within the batch.
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

//! The batch: what a writer sends of its series, as bytes.
//!
//! The format is specified in `redis-module/BATCH.md`; this file reads it and [`writer`] writes it. A
//! batch is decoded twice: [`Batch::decode`] walks all of it and refuses what is malformed, so that
//! nothing is ever half applied; [`Batch::entries`] then walks it again, borrowing, without a list
//! of entries in between.

mod writer;

use crate::bytes::{DecodeError, Reader};
use crate::{FamilySpec, FamilyType, Layout, Point};
pub use writer::BatchWriter;

/// The version of the format that this build reads and writes.
pub const BATCH_VERSION: u8 = 1;
/// The most entries that one batch may hold.
pub const MAX_BATCH_ENTRIES: usize = 4096;
/// The most labels that one series may have.
pub const MAX_LABELS: usize = 64;
/// The most bounds that a histogram may have.
pub const MAX_BOUNDS: usize = 1000;

const TAG_FAMILY: u8 = 1;
const TAG_LAYOUT: u8 = 2;
const TAG_DEFINE: u8 = 3;
const TAG_VALUES: u8 = 4;
const TAG_TIMED: u8 = 5;
const TAG_HISTOGRAM: u8 = 6;
const TAG_RETIRE: u8 = 7;
const LAST_FLAG: u8 = 0x80;

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
    /// For how many milliseconds the key outlives the last lease of its writers; 0 = for ever.
    pub registry_ttl_ms: u64,
}

impl BatchHeader {
    /// An incremental batch for a registry that does not expire.
    pub const INCREMENTAL: Self = Self {
        kind: BatchKind::Incremental,
        last: false,
        registry_ttl_ms: 0,
    };
    /// A full state in one batch, for a registry that does not expire.
    pub const FULL: Self = Self {
        kind: BatchKind::Full { forgotten_seq: 0 },
        last: true,
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
    /// This writer owns the series no longer.
    Retire {
        /// The series.
        index: u32,
    },
}

impl Entry<'_> {
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
    let forgotten_seq = reader.varint()?;
    let kind = match (kind & !LAST_FLAG, last, forgotten_seq) {
        (0, false, 0) => BatchKind::Incremental,
        (1, _, forgotten_seq) => BatchKind::Full { forgotten_seq },
        (2, _, 0) => BatchKind::More,
        _ => {
            return Reader::refuse(
                "batch kind",
                kind.into(),
                "0, 1, 2, 129 or 130, and a forgotten seq only in a full batch",
                at,
            );
        }
    };
    Ok(BatchHeader {
        kind,
        last,
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

/// Reads entries one after the other, knowing the families and layouts that came before.
struct Entries<'a> {
    reader: Reader<'a>,
    families: Vec<FamilyType>,
    bounds_of_layouts: Vec<usize>,
}

impl<'a> Entries<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(body),
            families: Vec::new(),
            bounds_of_layouts: Vec::new(),
        }
    }

    #[inline]
    fn read(&mut self) -> Result<Entry<'a>, DecodeError> {
        let at = self.reader.at();
        match self.reader.u8()? {
            TAG_VALUES => {
                let count = self.reader.count(VALUE_BYTES)?;
                let records = self.reader.take(count * VALUE_BYTES)?.as_chunks().0;
                Ok(Entry::Values(Values(records)))
            }
            TAG_HISTOGRAM => self.buckets(),
            TAG_TIMED => Ok(Entry::Timed {
                index: self.index()?,
                value: self.reader.float()?,
                time: self.reader.float()?,
            }),
            TAG_DEFINE => self.define(),
            TAG_FAMILY => self.family(),
            TAG_LAYOUT => self.layout(),
            TAG_RETIRE => Ok(Entry::Retire {
                index: self.index()?,
            }),
            tag => Reader::refuse("entry tag", tag.into(), "1 to 7", at),
        }
    }

    fn index(&mut self) -> Result<u32, DecodeError> {
        let at = self.reader.at();
        let index = self.reader.varint()?;
        u32::try_from(index).or_else(|_| Reader::refuse("index", index, "below 2^32", at))
    }

    fn family(&mut self) -> Result<Entry<'a>, DecodeError> {
        let at = self.reader.at();
        let (kind, mode) = (self.reader.u8()?, self.reader.u8()?);
        let Some(family_type) = FamilyType::from_numbers(kind, mode) else {
            return Reader::refuse(
                "family type and mode",
                u64::from(kind) << 8 | u64::from(mode),
                "a pair that this version knows",
                at,
            );
        };
        self.families.push(family_type);
        Ok(Entry::Family(FamilySpec {
            family_type,
            name: self.reader.text()?,
            help: self.reader.text()?,
            unit: self.reader.text()?,
        }))
    }

    fn layout(&mut self) -> Result<Entry<'a>, DecodeError> {
        let at = self.reader.at();
        let count = self.reader.count(1)?;
        if count > MAX_BOUNDS {
            return Reader::refuse("number of bounds", count as u64, "at most 1000", at);
        }
        let bounds = (0..count)
            .map(|_| self.reader.text())
            .collect::<Result<Vec<_>, _>>()?;
        let layout =
            Layout::new(bounds).map_err(|wrong| DecodeError::Bound { bound: wrong.0, at })?;
        self.bounds_of_layouts.push(count);
        Ok(Entry::Layout(layout))
    }

    fn define(&mut self) -> Result<Entry<'a>, DecodeError> {
        let at = self.reader.at();
        let family = self.reader.varint()?;
        let Some(&family_type) = self.families.get(family as usize) else {
            return Reader::refuse("family", family, "a family of this batch", at);
        };
        let ttl_ms = self.reader.varint()?;
        let at = self.reader.at();
        let count = self.reader.count(2)?;
        if count > MAX_LABELS {
            return Reader::refuse("number of labels", count as u64, "at most 64", at);
        }
        let start = self.reader.at();
        for _ in 0..2 * count {
            self.reader.text()?;
        }
        let labels = Pairs(self.reader.since(start));
        let pid = self.reader.text()?;

        let (layout, buckets) = match family_type {
            FamilyType::Histogram => {
                let at = self.reader.at();
                let number = self.reader.varint()?;
                let Some(&bounds) = self.bounds_of_layouts.get(number as usize) else {
                    return Reader::refuse("layout", number, "a layout of this batch", at);
                };
                (Some(number as usize), bounds + 1)
            }
            _ => (None, 1),
        };
        let point = self.point(family_type, buckets)?;
        let at = self.reader.at();
        let base = match (self.reader.u8()?, family_type) {
            (0, _) => None,
            (1, FamilyType::Gauge(mode)) if mode.is_timed() => {
                return Reader::refuse("base", 1, "none for a mostrecent gauge", at);
            }
            (1, _) => Some(self.point(family_type, buckets)?),
            (found, _) => return Reader::refuse("base", found.into(), "0 or 1", at),
        };
        let family = family as usize;
        Ok(Entry::Define(Box::new(Define {
            family,
            ttl_ms,
            labels,
            pid,
            layout,
            point,
            base,
        })))
    }

    fn point(&mut self, family_type: FamilyType, buckets: usize) -> Result<Point, DecodeError> {
        match family_type {
            FamilyType::Gauge(mode) if mode.is_timed() => Ok(Point::Timed {
                value: self.reader.float()?,
                time: self.reader.float()?,
            }),
            FamilyType::Counter | FamilyType::Gauge(_) => Ok(Point::Scalar(self.reader.float()?)),
            FamilyType::Histogram | FamilyType::Summary => Ok(Point::Buckets {
                sum: self.reader.float()?,
                counts: (0..buckets)
                    .map(|_| self.reader.varint())
                    .collect::<Result<_, _>>()?,
            }),
        }
    }

    fn buckets(&mut self) -> Result<Entry<'a>, DecodeError> {
        let index = self.index()?;
        let sum = self.reader.float()?;
        let count = self.reader.count(2)?;
        let start = self.reader.at();
        let mut above = 0;
        for _ in 0..count {
            let at = self.reader.at();
            let bucket = self.reader.varint()?;
            if bucket < above || bucket > MAX_BOUNDS as u64 {
                return Reader::refuse("bucket", bucket, "ascending, at most 1000", at);
            }
            above = bucket + 1;
            self.reader.varint()?;
        }
        let changes = BucketChanges(self.reader.since(start));
        Ok(Entry::Buckets {
            index,
            sum,
            changes,
        })
    }
}

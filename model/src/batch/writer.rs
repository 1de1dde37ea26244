//! Writing batches.

use super::{
    BATCH_VERSION, BatchHeader, BatchKind, LAST_FLAG, NAME_LEFT_OUT_FLAG, TAG_DEFINE, TAG_EXEMPLAR,
    TAG_FAMILY, TAG_HISTOGRAM, TAG_LAYOUT, TAG_NATIVE, TAG_RETIRE, TAG_START, TAG_TIMED,
    TAG_VALUES, VALUE_BYTES,
};
use crate::bytes::Write;
use crate::native_histogram::MAX_NATIVE_BUCKETS;
use crate::sizes::{
    CELLS_OF_BOUND, CELLS_OF_LABEL, MAX_BATCH_BYTES, MAX_BATCH_CELLS, MAX_BATCH_ENTRIES,
    MAX_BOUND_BYTES, MAX_BOUNDS, MAX_HELP_BYTES, MAX_LABEL_SET_BYTES, MAX_LABELS, MAX_NAME_BYTES,
    MAX_PID_BYTES, MAX_UNIT_BYTES, cut,
};
use crate::{FamilySpec, Layout, Point, SourceExemplar};

/// Writes a batch.
///
/// The caller adds entries in an order that keeps the rules of `BATCH.md` (a family before the
/// series that names it), and stops when there is no [room](Self::has_room).
///
/// ```
/// use metrics_model::{Batch, BatchHeader, BatchWriter, FamilySpec, FamilyType, Point};
///
/// let mut batch = BatchWriter::new();
/// let jobs = batch.family(&FamilySpec::new("jobs", FamilyType::Counter));
/// let labels = [("queue", "mail")].into_iter();
/// batch.define(jobs, 0, labels, "", None, &Point::Scalar(3.0), None);
/// let bytes = batch.finish(BatchHeader::FULL);
///
/// // The family and its series.
/// assert_eq!(Batch::decode(&bytes)?.len(), 2);
/// // A batch that was cut off is refused as a whole.
/// assert!(Batch::decode(&bytes[..bytes.len() - 1]).is_err());
/// # Ok::<(), metrics_model::DecodeError>(())
/// ```
#[derive(Debug, Default)]
pub struct BatchWriter {
    body: Vec<u8>,
    /// Records of the VALUES entry, which is written at the end or before the next definition.
    values: Vec<u8>,
    entry_count: usize,
    cells: usize,
    definitions: usize,
    families: usize,
    layouts: usize,
}

impl BatchWriter {
    /// Maximum number of cells of a series, with its layout.
    pub const MAX_CELLS_OF_SERIES: usize = {
        let histogram = MAX_BOUNDS * CELLS_OF_BOUND + 2 * (MAX_BOUNDS + 1);
        let native = 2 * 2 * MAX_NATIVE_BUCKETS;
        let larger = if histogram > native {
            histogram
        } else {
            native
        };
        CELLS_OF_LABEL * MAX_LABELS + larger
    };
    /// Maximum size of a series with its family and its layout, in bytes. Ten bytes per bucket
    /// count and five per step are the most that varints take.
    pub const MAX_BYTES_OF_SERIES: usize = {
        let histogram = MAX_BOUNDS * (MAX_BOUND_BYTES + 1) + 2 * 10 * (MAX_BOUNDS + 1);
        let native = 2 * 2 * 15 * MAX_NATIVE_BUCKETS;
        let larger = if histogram > native {
            histogram
        } else {
            native
        };
        MAX_NAME_BYTES + MAX_HELP_BYTES + MAX_UNIT_BYTES + 2 * MAX_LABEL_SET_BYTES + larger
    };

    /// Maximum number of series that a batch defines. A registry accepts more, but each new series
    /// takes it a microsecond or more, and all other clients of Redis wait for the batch.
    pub const MAX_DEFINITIONS: usize = 256;

    /// Returns an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of entries so far.
    pub fn len(&self) -> usize {
        self.entry_count
    }

    /// Returns whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.entry_count == 0
    }

    /// Returns whether a series with its family and its layout still fits, whatever its size.
    pub fn has_room(&self) -> bool {
        self.definitions < Self::MAX_DEFINITIONS
            && self.entry_count + 3 <= MAX_BATCH_ENTRIES
            && self.cells + Self::MAX_CELLS_OF_SERIES <= MAX_BATCH_CELLS
            && self.size() + Self::MAX_BYTES_OF_SERIES <= MAX_BATCH_BYTES
    }

    /// Returns the cost of applying the entries so far, see [`MAX_BATCH_CELLS`].
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// Returns the size so far, in bytes, without the header.
    pub fn size(&self) -> usize {
        self.body.len() + self.values.len()
    }

    fn entry(&mut self, tag: u8) -> &mut Vec<u8> {
        self.entry_count += 1;
        self.body.put_u8(tag);
        &mut self.body
    }

    /// Adds a family and returns its number in this batch. Cuts texts that are longer than a
    /// registry keeps.
    pub fn family(&mut self, family: &FamilySpec<'_>) -> usize {
        let (kind, mode) = family.family_type.to_numbers();
        let body = self.entry(TAG_FAMILY);
        body.put_u8(kind);
        body.put_u8(mode);
        // A name of one byte more than allowed is refused just as the whole name would be.
        body.put_text(cut(family.name, MAX_NAME_BYTES + 1));
        body.put_text(cut(family.help, MAX_HELP_BYTES));
        body.put_text(cut(family.unit, MAX_UNIT_BYTES));
        self.families += 1;
        self.families - 1
    }

    /// Adds a bucket layout and returns its number in this batch.
    pub fn layout(&mut self, layout: &Layout) -> usize {
        self.cells += CELLS_OF_BOUND * layout.len();
        let body = self.entry(TAG_LAYOUT);
        body.put_varint(layout.len() as u64);
        for bound in layout.texts() {
            body.put_text(bound);
        }
        self.layouts += 1;
        self.layouts - 1
    }

    /// Adds a series.
    #[expect(
        clippy::too_many_arguments,
        reason = "these are the fields of one entry, each once"
    )]
    pub fn define<'l>(
        &mut self,
        family: usize,
        ttl_ms: u64,
        labels: impl ExactSizeIterator<Item = (&'l str, &'l str)> + Clone,
        pid: &str,
        layout: Option<usize>,
        point: &Point,
        base: Option<&Point>,
    ) {
        self.cells += CELLS_OF_LABEL * labels.len() + cells_of(point) + base.map_or(0, cells_of);
        self.definitions += 1;
        self.end_values();
        let body = self.entry(TAG_DEFINE);
        body.put_varint(family as u64);
        body.put_varint(ttl_ms);
        put_labels(body, labels);
        body.put_text(cut(pid, MAX_PID_BYTES + 1));
        if let Some(layout) = layout {
            body.put_varint(layout as u64);
        }
        put_point(body, point);
        match base {
            None => body.put_u8(0),
            Some(base) => {
                body.put_u8(1);
                put_point(body, base);
            }
        }
    }

    /// Adds what is new in `point`; `before` is the point that the registry last got for this
    /// index.
    pub fn update(&mut self, index: u32, before: &Point, point: &Point) {
        match point {
            Point::Scalar(value) => {
                self.entry_count += 1;
                self.values.extend_from_slice(&index.to_le_bytes());
                self.values.put_float(*value);
            }
            Point::Timed { value, time } => {
                let body = self.entry(TAG_TIMED);
                body.put_varint(index.into());
                body.put_float(*value);
                body.put_float(*time);
            }
            Point::Buckets { sum, counts } => {
                let known: &[u64] = match before {
                    Point::Buckets { counts, .. } => counts,
                    _ => &[],
                };
                let is_new = |(bucket, count): &(usize, &u64)| known.get(*bucket) != Some(*count);
                let changed = counts.iter().enumerate().filter(is_new).count();
                self.cells += changed;
                let body = self.entry(TAG_HISTOGRAM);
                body.put_varint(index.into());
                body.put_float(*sum);
                body.put_varint(changed as u64);
                for (bucket, count) in counts.iter().enumerate().filter(is_new) {
                    body.put_varint(bucket as u64);
                    body.put_varint(*count);
                }
            }
            Point::Native(histogram) => {
                self.cells += histogram.len();
                let body = self.entry(TAG_NATIVE);
                body.put_varint(index.into());
                histogram.put(body);
            }
        }
    }

    /// Adds an exemplar of a counter or histogram.
    pub fn exemplar(&mut self, index: u32, exemplar: &SourceExemplar) {
        self.cells += exemplar.labels.len();
        let body = self.entry(TAG_EXEMPLAR);
        body.put_varint(index.into());
        body.put_float(exemplar.value);
        body.put_float(exemplar.time);
        let labels = exemplar.labels.iter();
        put_labels(body, labels.map(|(name, value)| (&**name, &**value)));
    }

    /// Adds the start time of a series in a group, as Unix time in seconds.
    pub fn start(&mut self, index: u32, time: f64) {
        let body = self.entry(TAG_START);
        body.put_varint(index.into());
        body.put_float(time);
    }

    /// Ends a series of this writer.
    pub fn retire(&mut self, index: u32) {
        self.entry(TAG_RETIRE).put_varint(index.into());
    }

    /// Returns the bytes.
    pub fn finish(mut self, header: BatchHeader) -> Vec<u8> {
        self.end_values();
        let mut bytes = Vec::with_capacity(self.body.len() + 32);
        put_header(&mut bytes, header);
        bytes.put_varint(self.entry_count as u64);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Ends the VALUES entry. Within a batch plain values come before others; series otherwise keep
    /// the order in which they were added.
    fn end_values(&mut self) {
        if !self.values.is_empty() {
            self.body.put_u8(TAG_VALUES);
            self.body
                .put_varint((self.values.len() / VALUE_BYTES) as u64);
            self.body.append(&mut self.values);
        }
    }
}

pub(super) fn put_header(bytes: &mut Vec<u8>, header: BatchHeader) {
    let before = header.left_out_before.into();
    let (mut kind, number) = match header.kind {
        BatchKind::Incremental => (0, before),
        BatchKind::Full { forgotten_seq } => (1, forgotten_seq),
        BatchKind::More => (2, before),
    };
    if header.last {
        kind |= LAST_FLAG;
    }
    if header.names_left_out {
        kind |= NAME_LEFT_OUT_FLAG;
    }
    bytes.put_u8(BATCH_VERSION);
    bytes.put_u8(kind);
    bytes.put_varint(number);
    bytes.put_varint(header.registry_ttl_ms);
}

/// Writes labels. In place of labels that are too large for every registry it writes shorter ones
/// that are refused too, so that one series never makes a batch too large for the others.
fn put_labels<'l>(
    body: &mut Vec<u8>,
    labels: impl ExactSizeIterator<Item = (&'l str, &'l str)> + Clone,
) {
    let bytes = |(name, value): (&str, &str)| name.len() + value.len();
    if labels.clone().map(bytes).sum::<usize>() > MAX_LABEL_SET_BYTES {
        body.put_varint(1);
        body.put_text("__name__");
        body.put_text("too large");
        return;
    }
    body.put_varint(labels.len() as u64);
    for (name, value) in labels {
        body.put_text(name);
        body.put_text(value);
    }
}

fn cells_of(point: &Point) -> usize {
    match point {
        Point::Scalar(_) | Point::Timed { .. } => 0,
        Point::Buckets { counts, .. } => counts.len(),
        Point::Native(histogram) => histogram.len(),
    }
}

fn put_point(body: &mut Vec<u8>, point: &Point) {
    match point {
        Point::Native(histogram) => histogram.put(body),
        Point::Scalar(value) => body.put_float(*value),
        Point::Timed { value, time } => {
            body.put_float(*value);
            body.put_float(*time);
        }
        Point::Buckets { sum, counts } => {
            body.put_float(*sum);
            for count in counts {
                body.put_varint(*count);
            }
        }
    }
}

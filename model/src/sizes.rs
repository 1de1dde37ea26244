//! How large what others send may be: nothing that one of them sends makes a registry, or one call, as
//! large as it likes. The table of all limits is in `redis-module/README.md`.
//!
//! The writers of this project stay far below: ids of some 60 bytes, and texts that
//! [`BatchWriter`](crate::BatchWriter) cuts.

/// Maximum size of a writer's id, in bytes.
pub const MAX_WRITER_ID_BYTES: usize = 256;
/// Maximum size of a family's name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// Maximum size of a family's help text, in bytes.
pub const MAX_HELP_BYTES: usize = 4096;
/// Maximum size of a family's unit, in bytes.
pub const MAX_UNIT_BYTES: usize = 128;
/// Maximum number of labels of one series.
pub const MAX_LABELS: usize = 64;
/// Maximum size of a label's name, in bytes.
pub const MAX_LABEL_NAME_BYTES: usize = 512;
/// Maximum size of all names and values of one series' labels, in bytes, whatever
/// `metrics.max-label-bytes` says.
pub const MAX_LABEL_SET_BYTES: usize = 64 * 1024;
/// Maximum size of the text of a `pid` label, in bytes.
pub const MAX_PID_BYTES: usize = 256;
/// Maximum number of bounds of one histogram.
pub const MAX_BOUNDS: usize = 1000;
/// Maximum size of a bound's text, in bytes.
pub const MAX_BOUND_BYTES: usize = 64;
/// Maximum number of bucket layouts of a registry.
pub const MAX_LAYOUTS: usize = 1024;
/// Maximum number of bounds of all of them together.
pub const MAX_LAYOUT_BOUNDS: usize = 64 * 1024;
/// Maximum number of bucket layouts that one histogram's series has side by side.
pub const MAX_LAYOUTS_OF_SERIES: usize = 16;
/// Maximum number of buckets that one histogram's series has, those of all its layouts together.
pub const MAX_BUCKETS_OF_SERIES: usize = 4096;

/// Maximum number of samples that a request for a page may name.
pub const MAX_NAMES: usize = 256;

/// Maximum size of a batch, in bytes.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Maximum number of entries of a batch.
pub const MAX_BATCH_ENTRIES: usize = 4096;
/// Maximum number of cells of a batch: what it takes to apply it. A label, a bucket of a histogram or
/// of a native histogram (in a point, a base or a change) is one cell each.
pub const MAX_BATCH_CELLS: usize = 64 * 1024;
/// Cells of a bound of a layout, whose text is read as a number.
pub const CELLS_OF_BOUND: usize = 16;

/// As much of a text as fits into so many bytes, cut between two characters.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rfind(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

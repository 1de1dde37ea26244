//! Limits on the size of what clients send, so that no client can make a registry, or the work of
//! one call, as large as it likes. The table of all limits is in `redis-module/README.md`.
//!
//! The writers of this project stay far below: their ids have some 60 bytes, and
//! [`BatchWriter`](crate::BatchWriter) cuts texts.

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
/// Maximum size of all these names together, in bytes: each is read in every escaping scheme.
pub const MAX_NAMES_BYTES: usize = 64 * 1024;

/// Maximum size of a batch, in bytes.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Maximum number of entries of a batch.
pub const MAX_BATCH_ENTRIES: usize = 4096;
/// Maximum number of cells of a batch: the cost of applying it. A bucket of a histogram or of a
/// native histogram (in a point, a base or a change) is one cell.
pub const MAX_BATCH_CELLS: usize = 64 * 1024;
/// Maximum length of the table of definitions of a writer, beyond two for each of its series. A writer
/// whose table is longer sends a full state, with which a new table begins.
pub const MAX_INDEX: usize = 1024 * 1024;
/// The same while a full state is being sent, most of which a limit may have left out.
pub const MAX_INDEX_OF_RUN: usize = 4 * MAX_INDEX;
/// Number of cells of a label, whose texts are compared, escaped and stored.
pub const CELLS_OF_LABEL: usize = 4;
/// Number of cells of a layout's bound, whose text is parsed as a number.
pub const CELLS_OF_BOUND: usize = 16;

/// Returns the beginning of a text that fits into so many bytes, cut between two characters.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rfind(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

//! The exporter's record of one writer.

use crate::stores::Writer;

/// A writer, and its progress.
pub(crate) struct Entry {
    pub(crate) writer: Writer,
    pub(crate) life: Life,
    pub(crate) watched: ProcessWatch,
    /// Whether the figures include it.
    pub(super) is_in_figures: bool,
    /// Whether this instance's registry refused its last values.
    pub(super) was_refused: bool,
    /// File mode: whether the reader of the directory has its last copy.
    pub(crate) is_delivered: bool,
}

/// The progress of a writer. The next exporter repeats a step that it does not know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its process runs, or has not started.
    Live,
    /// Its process has ended.
    Ended,
    /// Its last values are in this instance's registry, which it has left.
    Folded,
    /// That registry is committed.
    Committed,
}

/// How the end of its process is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessWatch {
    /// Not yet: no process has adopted the store.
    No,
    /// The system reports it.
    BySystem,
    /// The exporter checks it at each flush.
    ByAsking,
    /// By its copy in the directory: the process may be in another pid namespace (see `files.rs`).
    ByFile,
}

impl Entry {
    pub(crate) fn new(writer: Writer, watched: ProcessWatch) -> Self {
        Self {
            writer,
            life: Life::Live,
            watched,
            is_in_figures: false,
            was_refused: false,
            is_delivered: false,
        }
    }

    /// Returns whether it belongs to this instance: the arbiter has announced it.
    pub(super) fn is_own(&self) -> bool {
        self.watched != ProcessWatch::ByFile
    }
}

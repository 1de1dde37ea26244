//! Errors of shared memory.

use rustix::io::Errno;

/// The reason why a store cannot be created, read, or extended by a series. Recording into an
/// existing series cannot fail.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refuses the memory or the file.
    #[error("cannot {action}: {source}")]
    System {
        /// The failed action.
        action: &'static str,
        /// The system's message.
        source: Errno,
    },
    /// No more memory: a limit of the process, of the container or of the machine.
    #[error("cannot grow the store to {bytes} bytes: {source}")]
    Grow {
        /// The requested size.
        bytes: u64,
        /// The system's message.
        source: Errno,
    },
    /// A store has reached its maximum size.
    #[error("the store is full: it may hold {limit} bytes")]
    Full {
        /// The maximum size of a store.
        limit: u64,
    },
    /// Two families have one name.
    #[error("family '{name}' is a {existing}, it cannot also be a {asked}")]
    Conflict {
        /// The name.
        name: String,
        /// Its type in the store.
        existing: String,
        /// The requested type.
        asked: String,
    },
    /// No registry accepts the family's name.
    #[error(transparent)]
    FamilyName(#[from] metrics_model::NameError),
    /// Stores cannot hold this type.
    #[error(
        "family '{name}' is a native histogram, which a store cannot hold: its buckets are not known beforehand"
    )]
    Type {
        /// The name.
        name: String,
    },
    /// Names, labels and buckets are too large for one record.
    #[error("'{name}' takes {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The family's name.
        name: String,
        /// Their size.
        bytes: usize,
        /// The maximum size.
        limit: usize,
    },
    /// The name or path of a store is too long.
    #[error("the name '{name}' is too long, at most {limit} bytes are allowed")]
    Name {
        /// The name.
        name: String,
        /// The maximum size.
        limit: usize,
    },
    /// The memory is not a store of this version, or is damaged.
    #[error("damaged {what} at byte {at}")]
    Damaged {
        /// The damaged part.
        what: &'static str,
        /// Its place.
        at: u64,
    },
    /// All slots are taken.
    #[error("all {limit} worker slots are taken")]
    Slots {
        /// The number of slots.
        limit: usize,
    },
}

impl StoreError {
    pub(crate) fn system(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::System { action, source }
    }
}

/// Converts an [`std::io::Error`], in which `memmap2` and the standard library report errors of the
/// system.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

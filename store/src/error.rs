//! What can go wrong with shared memory.

use rustix::io::Errno;

/// Why a store cannot be created, read, or take another series. Recording into a series that
/// exists cannot fail.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refuses the memory or the file.
    #[error("cannot {action}: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system says.
        source: Errno,
    },
    /// No more memory: a limit of the process, of the container or of the machine.
    #[error("cannot grow the store to {bytes} bytes: {source}")]
    Grow {
        /// The size that was asked for.
        bytes: u64,
        /// What the system says.
        source: Errno,
    },
    /// A store has as many series as it may.
    #[error("the store is full: it may hold {limit} bytes")]
    Full {
        /// The most that a store may hold.
        limit: u64,
    },
    /// Two families of one name.
    #[error("family '{name}' is a {existing}, it cannot also be a {asked}")]
    Conflict {
        /// The name.
        name: String,
        /// What it is already.
        existing: String,
        /// What was asked for.
        asked: String,
    },
    /// A type that stores have no place for.
    #[error(
        "family '{name}' is a native histogram, which a store cannot hold: its buckets are not known beforehand"
    )]
    Type {
        /// The name.
        name: String,
    },
    /// Names, labels and buckets that are too much for one record.
    #[error("'{name}' takes {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The family's name.
        name: String,
        /// What it takes.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A name of a store, or the path of one, that does not fit.
    #[error("the name '{name}' is too long, at most {limit} bytes are allowed")]
    Name {
        /// The name.
        name: String,
        /// How long it may be.
        limit: usize,
    },
    /// Not a store of this version, or a damaged one.
    #[error("damaged {what} at byte {at}")]
    Damaged {
        /// What cannot be right.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// All slots are taken.
    #[error("all {limit} worker slots are taken")]
    Slots {
        /// How many there are.
        limit: usize,
    },
}

impl StoreError {
    pub(crate) fn system(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::System { action, source }
    }
}

/// `memmap2` and the standard library report errors of the system as [`std::io::Error`].
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

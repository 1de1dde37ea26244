//! Errors that refuse a command, in the words that its sender reads.

use metrics_model::{
    DecodeError, ExemplarError, ExposeError, ExposeRequest, LabelError, RegistryError,
    UnknownEscaping, UnknownFamilyType, UnknownFormat, UnknownGaugeMode, WrongBound, WrongEpoch,
    WrongListCursor, WrongStamp,
};

/// Every error of a command. A refused command has changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Operation against a key holding the wrong kind of value")]
    WrongType,
    #[error("wrong number of arguments")]
    Arity,
    #[error("unknown option '{option}', expected {expected}")]
    UnknownOption {
        option: String,
        expected: &'static str,
    },
    #[error("option {0} is given twice")]
    Twice(String),
    #[error("option {0} lacks its value")]
    Incomplete(String),
    #[error("{option} only goes with {with}")]
    Misplaced {
        option: &'static str,
        with: &'static str,
    },
    #[error("{0} does not go with {1}")]
    Apart(&'static str, &'static str),
    #[error("{what} '{found}' is not UTF-8")]
    NotUtf8 { what: &'static str, found: String },
    #[error("'{found}' is no {what}")]
    NotANumber { what: &'static str, found: String },
    #[error("{what} {found} is out of range, at most {most} are allowed")]
    TooMany {
        what: &'static str,
        found: u64,
        most: u64,
    },
    #[error("{what} of {found} bytes, at most {most} are allowed")]
    TooLong {
        what: &'static str,
        found: usize,
        most: usize,
    },
    #[error("schema '{0}' is out of range, expected a whole number from -4 to 8")]
    Schema(String),
    #[error(
        "BYTES '{0}' is out of range, expected a whole number from {least} to {most}",
        least = ExposeRequest::PAGE_BYTES.start(),
        most = ExposeRequest::PAGE_BYTES.end()
    )]
    PageBytes(String),
    #[error("there are more than {0} entries, ask for them in pages: CURSOR 0")]
    LongListing(usize),
    #[error(transparent)]
    ListCursor(#[from] WrongListCursor),
    #[error("no such key")]
    NoKey,
    #[error("a writer id must not be empty")]
    NoWriter,
    #[error("a group needs LABELS, and one of them with a value")]
    NoGroup,
    #[error(
        "METRICS.LOAD is sent by servers to each other and to their append only file, use RESTORE"
    )]
    Internal,
    #[error("METRICS.SETTLE is sent by servers to each other, and needs no help")]
    InternalSettle,
    #[error("part {found} of {parts} came where part {expected} was due")]
    Part {
        found: u64,
        parts: u64,
        expected: u64,
    },
    #[error("wrong batch: {0}")]
    Batch(DecodeError),
    #[error("wrong snapshot: {0}")]
    Snapshot(DecodeError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Labels(#[from] LabelError),
    #[error(transparent)]
    Bound(#[from] WrongBound),
    #[error(transparent)]
    FamilyType(#[from] UnknownFamilyType),
    #[error(transparent)]
    Mode(#[from] UnknownGaugeMode),
    #[error(transparent)]
    Epoch(#[from] WrongEpoch),
    #[error(transparent)]
    Stamp(#[from] WrongStamp),
    #[error(transparent)]
    Exemplar(#[from] ExemplarError),
    #[error(transparent)]
    Format(#[from] UnknownFormat),
    #[error(transparent)]
    Escaping(#[from] UnknownEscaping),
    #[error(transparent)]
    Expose(#[from] ExposeError),
}

/// Maximum length of an argument in an error message, in characters.
const SHOWN_CHARS: usize = 128;

impl Refusal {
    /// Returns the first word of the error reply, by which a client tells errors apart.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::WrongType => "WRONGTYPE",
            Self::Expose(ExposeError::Healing) => "HEALING",
            Self::Expose(ExposeError::StaleCursor) => "STALECURSOR",
            Self::Registry(RegistryError::Memory | RegistryError::NewWriter) => "OOM",
            _ => "ERR",
        }
    }
}

/// Returns an argument as an error message shows it: short and printable.
pub(crate) fn shown(argument: &[u8]) -> String {
    let head = &argument[..argument.len().min(4 * SHOWN_CHARS)];
    let mut text: String = String::from_utf8_lossy(head)
        .chars()
        .take(SHOWN_CHARS)
        .collect();
    if text.len() < argument.len() && text.chars().count() == SHOWN_CHARS {
        text.push('…');
    }
    text.escape_debug().to_string()
}

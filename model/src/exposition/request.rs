//! What a page is asked for with, and what comes back.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::WrongCursor;
use crate::Escaping;

/// The format of a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    #[default]
    Text,
    /// Prometheus text format 1.0.0, which has quoted names.
    Text1,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// `OpenMetrics` 2.0.0.
    OpenMetrics2,
    /// `io.prometheus.client.MetricFamily` messages, each behind its length.
    Protobuf,
}

/// An unknown format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format '{0}', expected TEXT, TEXT1, OPENMETRICS, OPENMETRICS2 or PROTOBUF")]
pub struct UnknownFormat(String);

impl Format {
    /// Every format.
    pub const EVERY: [Self; 5] = [
        Self::Text,
        Self::Text1,
        Self::OpenMetrics,
        Self::OpenMetrics2,
        Self::Protobuf,
    ];

    /// Returns the word of the command `METRICS.EXPOSE`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Text1 => "TEXT1",
            Self::OpenMetrics => "OPENMETRICS",
            Self::OpenMetrics2 => "OPENMETRICS2",
            Self::Protobuf => "PROTOBUF",
        }
    }
}

impl Format {
    /// Returns the end of a page.
    pub fn end(self) -> &'static [u8] {
        match self {
            Self::OpenMetrics | Self::OpenMetrics2 => b"# EOF\n",
            Self::Text | Self::Text1 | Self::Protobuf => b"",
        }
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::EVERY
            .into_iter()
            .find(|format| format.word().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// What to render.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExposeRequest {
    /// The format.
    pub format: Format,
    /// How to write names that older formats do not allow.
    pub escaping: Escaping,
    /// Whether start times of series are shown as samples of their own (`_created`), if the format
    /// has no better place for them.
    pub created: bool,
    /// Shows only whole families that have one of these samples; empty: all.
    pub names: Vec<String>,
    /// `None`: everything at once; `0`: the first page; otherwise the cursor from the page before.
    pub cursor: Option<Vec<u8>>,
    /// Maximum number of series on a page.
    pub count: Option<usize>,
    /// Size after which a page ends, in bytes, within [`PAGE_BYTES`](Self::PAGE_BYTES); `None`: the
    /// default, 256 KiB.
    pub bytes: Option<usize>,
    /// Whether the caller joins the page with those of other registries. Then the page has no end
    /// and none of the registry's own samples; the caller adds both.
    pub is_part: bool,
}

impl ExposeRequest {
    /// The sizes that a page may be asked for with, in bytes.
    pub const PAGE_BYTES: RangeInclusive<usize> = 16 * 1024..=1024 * 1024;

    /// Default size of a page, in bytes.
    const DEFAULT_PAGE_BYTES: usize = 256 * 1024;

    /// Returns the size after which a page ends, in bytes.
    pub(super) fn page_bytes(&self) -> usize {
        let (least, most) = Self::PAGE_BYTES.into_inner();
        self.bytes
            .unwrap_or(Self::DEFAULT_PAGE_BYTES)
            .clamp(least, most)
    }
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The text.
    pub body: Vec<u8>,
    /// Cursor of the next page; `None` on the last.
    pub next: Option<String>,
    /// How many values of the registry were visited: the cost of the page, whatever it shows; 0 if
    /// another process rendered it.
    pub visited: usize,
}

/// The reason why there is no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ExposeError {
    #[error("the registry has changed so much that this cursor means nothing, start again at 0")]
    StaleCursor,
    #[error("the registry was rolled back and waits for its writers, try again soon")]
    Healing,
    #[error("text 0.0.4 has no quoted names: ESCAPING ALLOWUTF8 goes with the other formats")]
    NoQuotedNames,
    #[error("the page is larger than 4 MiB, ask for it in parts with CURSOR 0")]
    TooLarge,
    #[error(transparent)]
    Cursor(#[from] WrongCursor),
}

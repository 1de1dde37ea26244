//! How the values that several writers set for one gauge become one.

use std::str::FromStr;

/// The ten modes of `prometheus_client`'s multiprocess gauges.
///
/// A *live* mode shows only what writers with a running lease have set; the others go on showing
/// what a writer set after it has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(
    missing_docs,
    reason = "the names are the documentation: those of prometheus_client"
)]
pub enum GaugeMode {
    All = 0,
    LiveAll = 1,
    Min = 2,
    LiveMin = 3,
    Max = 4,
    LiveMax = 5,
    Sum = 6,
    LiveSum = 7,
    MostRecent = 8,
    LiveMostRecent = 9,
}

/// A gauge mode nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown gauge mode '{0}', expected one of all, liveall, min, livemin, max, livemax, sum, livesum, mostrecent, livemostrecent"
)]
pub struct UnknownGaugeMode(String);

impl GaugeMode {
    /// Every mode, in the order of its number on the wire.
    pub const EVERY: [Self; 10] = [
        Self::All,
        Self::LiveAll,
        Self::Min,
        Self::LiveMin,
        Self::Max,
        Self::LiveMax,
        Self::Sum,
        Self::LiveSum,
        Self::MostRecent,
        Self::LiveMostRecent,
    ];

    /// The mode with that number on the wire.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::EVERY.get(usize::from(number)).copied()
    }

    /// Its name in commands and in `prometheus_client`.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::LiveAll => "liveall",
            Self::Min => "min",
            Self::LiveMin => "livemin",
            Self::Max => "max",
            Self::LiveMax => "livemax",
            Self::Sum => "sum",
            Self::LiveSum => "livesum",
            Self::MostRecent => "mostrecent",
            Self::LiveMostRecent => "livemostrecent",
        }
    }

    /// Whether only writers with a running lease count.
    pub fn is_live(self) -> bool {
        self as u8 % 2 == 1
    }

    /// Whether each writer is shown on its own, told apart by a `pid` label.
    pub fn is_per_writer(self) -> bool {
        matches!(self, Self::All | Self::LiveAll)
    }

    /// Whether values carry the time at which they were set.
    pub fn is_timed(self) -> bool {
        matches!(self, Self::MostRecent | Self::LiveMostRecent)
    }
}

impl FromStr for GaugeMode {
    type Err = UnknownGaugeMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::EVERY
            .into_iter()
            .find(|mode| mode.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownGaugeMode(text.to_owned()))
    }
}

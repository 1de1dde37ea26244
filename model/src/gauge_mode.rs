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

/// What one writer has set a gauge to, with what decides between two writers.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The value.
    pub value: f64,
    /// In the timed modes: the Unix time in seconds at which it was set; zero or less means never.
    pub time: f64,
    /// The writer's id.
    pub writer: &'a [u8],
}

/// What a page shows of a writer's value after the writer has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterLeave {
    /// Nothing.
    Hidden,
    /// The value is part of the series as long as there is a series.
    Folded,
    /// The value stands on its own, until the series' TTL (without one: the writers' retention) has
    /// passed since the writer left.
    UntilTtl,
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

    /// What two writers have set, as one; `None` in the modes that show each writer on its own.
    ///
    /// The order of the writers does not matter (but for the rounding of sums). NaN is ignored by
    /// min and max where there is a number, and −0 is less than 0. Of two that were set at the same
    /// time, the most recent is that of the larger writer id.
    #[inline]
    pub fn fold<'a>(self, one: Setting<'a>, other: Setting<'a>) -> Option<Setting<'a>> {
        let other_stays = match self {
            Self::All | Self::LiveAll => return None,
            Self::Min | Self::LiveMin => is_before(other.value, one.value),
            Self::Max | Self::LiveMax => is_before(-other.value, -one.value),
            Self::Sum | Self::LiveSum => {
                let value = one.value + other.value;
                return Some(Setting { value, ..one });
            }
            Self::MostRecent | Self::LiveMostRecent => {
                let by_time = other.time.total_cmp(&one.time);
                by_time.then_with(|| other.writer.cmp(one.writer)).is_gt()
            }
        };
        Some(if other_stays { other } else { one })
    }

    /// What becomes of a writer's value when the writer leaves.
    #[inline]
    pub fn after_leave(self) -> AfterLeave {
        match self {
            Self::Min | Self::Max | Self::Sum => AfterLeave::Folded,
            Self::All | Self::MostRecent => AfterLeave::UntilTtl,
            Self::LiveAll
            | Self::LiveMin
            | Self::LiveMax
            | Self::LiveSum
            | Self::LiveMostRecent => AfterLeave::Hidden,
        }
    }

    /// Whether values carry the time at which they were set.
    pub fn is_timed(self) -> bool {
        matches!(self, Self::MostRecent | Self::LiveMostRecent)
    }
}

/// Whether `one` is less than `other`: every number before NaN, and −0 before 0.
#[inline]
fn is_before(one: f64, other: f64) -> bool {
    if one == other {
        return one.is_sign_negative() && other.is_sign_positive();
    }
    one < other || other.is_nan() && !one.is_nan()
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

//! The modes that combine the values of several writers for one gauge.

use std::str::FromStr;

/// The ten modes of `prometheus_client`'s multiprocess gauges.
///
/// A *live* mode shows only values of writers with a running lease. The others still show a
/// writer's value after it has left.
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

/// A writer's value of a gauge, and what decides between two writers.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The value.
    pub value: f64,
    /// In the timed modes: the Unix time in seconds at which the writer set it; zero or less means
    /// never.
    pub time: f64,
    /// The writer's id.
    pub writer: &'a [u8],
}

/// What a page shows of a writer's value after the writer has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterLeave {
    /// Nothing.
    Hidden,
    /// The value stays part of the series as long as the series exists.
    Folded,
    /// The value is shown on its own until the series' TTL (without one: the writers' retention)
    /// has passed since the writer left.
    UntilTtl,
}

/// An unknown gauge mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown gauge mode '{0}', expected one of all, liveall, min, livemin, max, livemax, sum, livesum, mostrecent, livemostrecent"
)]
pub struct UnknownGaugeMode(String);

impl GaugeMode {
    /// Every mode, in the order of their numbers in batches.
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

    /// Returns the mode with that number in batches.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::EVERY.get(usize::from(number)).copied()
    }

    /// Returns its name in commands and in `prometheus_client`.
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

    /// Returns whether only writers with a running lease count.
    pub fn is_live(self) -> bool {
        self as u8 % 2 == 1
    }

    /// Returns whether each writer is shown on its own, with a `pid` label.
    pub fn is_per_writer(self) -> bool {
        matches!(self, Self::All | Self::LiveAll)
    }

    /// Combines the values of two writers; `None` in the modes that show each writer on its own.
    ///
    /// The order of the writers does not matter (except for the rounding of sums). Min and max
    /// ignore NaN if there is a number, and −0 is less than 0. Of two values with the same time,
    /// that of the larger writer id counts as the most recent.
    ///
    /// ```
    /// use metrics_model::{GaugeMode, Setting};
    ///
    /// let one = Setting { value: 2.0, time: 10.0, writer: b"one" };
    /// let other = Setting { value: 3.0, time: 20.0, writer: b"other" };
    /// let fold = |mode: GaugeMode| mode.fold(one, other).map(|both| both.value);
    /// assert_eq!(fold(GaugeMode::Sum), Some(5.0));
    /// assert_eq!(fold(GaugeMode::Min), Some(2.0));
    /// assert_eq!(fold(GaugeMode::MostRecent), Some(3.0));
    /// assert_eq!(fold(GaugeMode::All), None);
    /// ```
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

    /// Returns what happens to a writer's value when the writer leaves.
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

    /// Returns whether values carry the time at which they were set.
    pub fn is_timed(self) -> bool {
        matches!(self, Self::MostRecent | Self::LiveMostRecent)
    }
}

/// Returns whether `one` is less than `other`: every number before NaN, and −0 before 0.
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

//! Families: what all series of one name have in common.

use std::str::FromStr;

use crate::GaugeMode;
use crate::name::kept_name;
use crate::sizes::{MAX_HELP_BYTES, MAX_UNIT_BYTES};

/// The type of a family, with the gauge's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FamilyType {
    /// Only ever grows.
    Counter,
    /// Goes up and down; the mode tells how the values of several writers are combined.
    Gauge(GaugeMode),
    /// Observations counted in buckets with upper bounds.
    Histogram,
    /// Observations counted in sparse buckets whose bounds grow exponentially.
    NativeHistogram,
    /// Observations counted and summed, without buckets.
    Summary,
    /// Facts in labels; the value is 1.
    Info,
    /// States; each is a series whose label with the family's name holds it, with the value 0 or 1.
    StateSet,
}

impl FamilyType {
    /// Returns the name of the type in `# TYPE` lines and error messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram => "histogram",
            Self::NativeHistogram => "native histogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }

    /// Returns how the values of several writers are combined, for types where a writer holds one
    /// number at a time. An info or stateset holds as long as a live writer holds it.
    #[inline]
    pub fn gauge_mode(self) -> Option<GaugeMode> {
        match self {
            Self::Gauge(mode) => Some(mode),
            Self::Info | Self::StateSet => Some(GaugeMode::LiveMax),
            Self::Counter | Self::Histogram | Self::NativeHistogram | Self::Summary => None,
        }
    }

    /// Returns whether a series of this type may have that value.
    #[inline]
    pub(crate) fn allows(self, value: f64) -> bool {
        match self {
            Self::Info => value == 1.0,
            Self::StateSet => value == 0.0 || value == 1.0,
            _ => true,
        }
    }

    /// Returns the type, and a gauge's mode, for error messages about two families.
    pub fn describe(self) -> String {
        match self {
            Self::Gauge(mode) => format!("gauge in mode {}", mode.name()),
            other => other.name().to_owned(),
        }
    }

    /// Returns the pair (type, mode) of `redis-module/BATCH.md`.
    pub fn to_numbers(self) -> (u8, u8) {
        match self {
            Self::Counter => (0, 0),
            Self::Gauge(mode) => (1, mode as u8),
            Self::Histogram => (2, 0),
            Self::NativeHistogram => (3, 0),
            Self::Summary => (4, 0),
            Self::Info => (5, 0),
            Self::StateSet => (6, 0),
        }
    }

    /// The reverse of [`to_numbers`](Self::to_numbers).
    pub fn from_numbers(kind: u8, mode: u8) -> Option<Self> {
        match (kind, mode) {
            (0, 0) => Some(Self::Counter),
            (1, mode) => GaugeMode::from_number(mode).map(Self::Gauge),
            (2, 0) => Some(Self::Histogram),
            (3, 0) => Some(Self::NativeHistogram),
            (4, 0) => Some(Self::Summary),
            (5, 0) => Some(Self::Info),
            (6, 0) => Some(Self::StateSet),
            _ => None,
        }
    }
}

/// An unknown family type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown type '{0}', expected COUNTER, GAUGE, HISTOGRAM, NATIVEHISTOGRAM, SUMMARY, INFO or STATESET"
)]
pub struct UnknownFamilyType(String);

impl FromStr for FamilyType {
    type Err = UnknownFamilyType;

    /// Parses a type; a gauge gets the commands' default mode, `sum`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "counter" => Ok(Self::Counter),
            "gauge" => Ok(Self::Gauge(GaugeMode::Sum)),
            "histogram" => Ok(Self::Histogram),
            "nativehistogram" => Ok(Self::NativeHistogram),
            "summary" => Ok(Self::Summary),
            "info" => Ok(Self::Info),
            "stateset" => Ok(Self::StateSet),
            _ => Err(UnknownFamilyType(text.to_owned())),
        }
    }
}

/// A family as a caller declares or addresses it; all fields are borrowed.
///
/// ```
/// use metrics_model::{FamilySpec, FamilyType};
///
/// let requests = FamilySpec {
///     help: "Requests that were answered.",
///     ..FamilySpec::new("requests_total", FamilyType::Counter)
/// };
/// assert_eq!(requests.kept_name(), Some("requests"));
/// // No family may be called so.
/// assert_eq!(FamilySpec::new("", FamilyType::Counter).kept_name(), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FamilySpec<'a> {
    /// The name; a counter's may end with `_total`, which is removed.
    pub name: &'a str,
    /// Type and mode.
    pub family_type: FamilyType,
    /// The text of `# HELP`; another text replaces it once no live writer holds the old one.
    pub help: &'a str,
    /// The text of `# UNIT`; the first that is not empty stays.
    pub unit: &'a str,
}

impl<'a> FamilySpec<'a> {
    /// Returns a family without help and unit.
    pub fn new(name: &'a str, family_type: FamilyType) -> Self {
        Self {
            name,
            family_type,
            help: "",
            unit: "",
        }
    }

    /// Returns the name under which a registry stores it: a counter's without `_total`, an info's
    /// without `_info`; `None` if no family may have the name.
    pub fn kept_name(&self) -> Option<&'a str> {
        kept_name(self).ok()
    }

    /// Returns the family without texts that are too long to store, see [`MAX_HELP_BYTES`].
    pub(crate) fn without_long_texts(self) -> Self {
        let within = |text: &'a str, most| if text.len() <= most { text } else { "" };
        Self {
            help: within(self.help, MAX_HELP_BYTES),
            unit: within(self.unit, MAX_UNIT_BYTES),
            ..self
        }
    }
}

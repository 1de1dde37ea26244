//! Families: what all series of one name have in common.

use std::str::FromStr;

use crate::GaugeMode;

/// The type of a family, with the gauge's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FamilyType {
    /// Only ever grows.
    Counter,
    /// Goes up and down; the mode says how writers' values become one.
    Gauge(GaugeMode),
    /// Observations counted in buckets with upper bounds.
    Histogram,
    /// Observations counted and summed, without buckets.
    Summary,
}

impl FamilyType {
    /// Its name in `# TYPE` lines and error messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }

    /// What tells two families apart in an error message: the type, and a gauge's mode.
    pub fn describe(self) -> String {
        match self {
            Self::Gauge(mode) => format!("gauge in mode {}", mode.name()),
            other => other.name().to_owned(),
        }
    }

    /// The pair (type, mode) of `redis-module/BATCH.md`.
    pub fn to_numbers(self) -> (u8, u8) {
        match self {
            Self::Counter => (0, 0),
            Self::Gauge(mode) => (1, mode as u8),
            Self::Histogram => (2, 0),
            Self::Summary => (4, 0),
        }
    }

    /// The reverse of [`to_numbers`](Self::to_numbers).
    pub fn from_numbers(kind: u8, mode: u8) -> Option<Self> {
        match (kind, mode) {
            (0, 0) => Some(Self::Counter),
            (1, mode) => GaugeMode::from_number(mode).map(Self::Gauge),
            (2, 0) => Some(Self::Histogram),
            (4, 0) => Some(Self::Summary),
            _ => None,
        }
    }
}

/// A family type nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown type '{0}', expected COUNTER, GAUGE, HISTOGRAM or SUMMARY")]
pub struct UnknownFamilyType(String);

impl FromStr for FamilyType {
    type Err = UnknownFamilyType;

    /// A gauge gets the commands' default mode, `sum`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "counter" => Ok(Self::Counter),
            "gauge" => Ok(Self::Gauge(GaugeMode::Sum)),
            "histogram" => Ok(Self::Histogram),
            "summary" => Ok(Self::Summary),
            _ => Err(UnknownFamilyType(text.to_owned())),
        }
    }
}

/// What a caller says of a family it declares or writes to; all of it borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FamilySpec<'a> {
    /// The name; of a counter without `_total` (a given one is taken off).
    pub name: &'a str,
    /// Type and mode.
    pub family_type: FamilyType,
    /// The text of `# HELP`; the first that is not empty stays.
    pub help: &'a str,
    /// The text of `# UNIT`; the first that is not empty stays.
    pub unit: &'a str,
}

impl<'a> FamilySpec<'a> {
    /// A family without help and unit.
    pub fn new(name: &'a str, family_type: FamilyType) -> Self {
        Self {
            name,
            family_type,
            help: "",
            unit: "",
        }
    }
}

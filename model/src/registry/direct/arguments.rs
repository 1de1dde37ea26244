//! The arguments of direct commands.

use crate::{Exemplar, GaugeMode, Labels, Layout};

/// The arguments of `METRICS.SET` and `METRICS.ADD`.
#[derive(Debug, Clone, Copy)]
pub struct GaugeWrite<'a> {
    /// The gauge; created if it is missing.
    pub family: &'a str,
    /// The series.
    pub labels: &'a Labels,
    /// The value to set or to add.
    pub value: f64,
    /// The mode; `None`: the family's mode, `sum` for a new family.
    pub mode: Option<GaugeMode>,
    /// The writer's id; the empty id is shared by all clients.
    pub writer: &'a [u8],
    /// The writer's lease in milliseconds; `None`: until it leaves.
    pub lease_ms: Option<u64>,
    /// The idle time after which the series expires; `None`: unchanged, or the family's.
    pub ttl_ms: Option<u64>,
}

/// The arguments of `METRICS.DECLARE` besides name, type, help and unit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Declaration<'a> {
    /// The buckets of direct observations in a histogram.
    pub layout: Option<&'a Layout>,
    /// The lowest schema that a writer of native histograms may have, and the one of direct
    /// observations; `None`: 0 and 3.
    pub schema: Option<i8>,
    /// The idle time of series without one of their own.
    pub ttl_ms: Option<u64>,
}

/// The arguments of `METRICS.OBSERVE`.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The histogram or summary; a histogram is created if it is missing.
    pub family: &'a str,
    /// The series.
    pub labels: &'a Labels,
    /// The observed value.
    pub value: f64,
    /// The buckets to count in; `None`: the family's, the defaults for a new family.
    pub layout: Option<&'a Layout>,
    /// An exemplar of the observation; the command sets its time.
    pub exemplar: Option<&'a Exemplar>,
    /// The idle time after which the series expires; `None`: unchanged, or the family's.
    pub ttl_ms: Option<u64>,
}

//! One value of one series, as its writer holds it.

use crate::NativeHistogram;

/// A writer's value of a series: always the absolute state, never a difference.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    /// A counter, an info, a state, or a gauge in any mode but the two `mostrecent` ones.
    Scalar(f64),
    /// A gauge in a `mostrecent` mode: the value, and the Unix time in seconds at which it was set.
    Timed {
        /// The value.
        value: f64,
        /// Unix time in seconds; zero or less means never set.
        time: f64,
    },
    /// A histogram, or a summary (which is one bucket without bounds).
    Buckets {
        /// The sum of all observations.
        sum: f64,
        /// Observations in each bucket alone (not cumulative); the last is `+Inf`.
        counts: Vec<u64>,
    },
    /// A native histogram.
    Native(Box<NativeHistogram>),
}

impl Point {
    /// Returns the point at which a series of the same form starts.
    #[must_use]
    pub fn zero(&self) -> Self {
        match self {
            Self::Scalar(_) => Self::Scalar(0.0),
            Self::Timed { .. } => Self::Timed {
                value: 0.0,
                time: 0.0,
            },
            Self::Buckets { counts, .. } => Self::Buckets {
                sum: 0.0,
                counts: vec![0; counts.len()],
            },
            Self::Native(histogram) => Self::Native(Box::new(NativeHistogram::empty(
                histogram.schema,
                histogram.zero_threshold,
            ))),
        }
    }

    /// Returns whether both hold the same bits, so that sending one after the other would add
    /// nothing (unlike with `==`, a NaN equals itself).
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a.to_bits() == b.to_bits(),
            (Self::Timed { value: a, time: s }, Self::Timed { value: b, time: t }) => {
                a.to_bits() == b.to_bits() && s.to_bits() == t.to_bits()
            }
            (Self::Buckets { sum: a, counts: c }, Self::Buckets { sum: b, counts: d }) => {
                a.to_bits() == b.to_bits() && c == d
            }
            (Self::Native(a), Self::Native(b)) => {
                a.sum.to_bits() == b.sum.to_bits()
                    && (a.schema, a.zero_threshold, a.zero_count)
                        == (b.schema, b.zero_threshold, b.zero_count)
                    && (&a.positive, &a.negative) == (&b.positive, &b.negative)
            }
            _ => false,
        }
    }
}

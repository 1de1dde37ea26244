//! The bounds of a histogram's buckets.

use crate::sizes::{MAX_BOUND_BYTES, cut};

/// Upper bounds in ascending order, each with the text in which it is shown. `+Inf` is not stored:
/// a layout of n bounds has n + 1 buckets.
///
/// ```
/// use metrics_model::Layout;
///
/// let layout = Layout::new(["0.1", "0.5", "+Inf"])?;
/// assert_eq!(layout.values().collect::<Vec<_>>(), [0.1, 0.5]);
/// assert_eq!(layout.bucket_of(0.5), 1);
/// assert_eq!(layout.bucket_of(7.0), 2);
/// assert_eq!(
///     Layout::new(["0.5", "0.1"]).unwrap_err().to_string(),
///     "bucket bounds must be finite numbers in ascending order, found '0.1'"
/// );
/// # Ok::<(), metrics_model::WrongBound>(())
/// ```
#[derive(Debug, Clone)]
pub struct Layout {
    bounds: Box<[(f64, Box<str>)]>,
}

/// A bound that is not a finite number, or not greater than the one before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bucket bounds must be finite numbers in ascending order, found '{0}'")]
pub struct WrongBound(pub String);

impl Layout {
    /// Default bounds of a histogram: those of the Prometheus client libraries, in seconds.
    pub const DEFAULT: [&'static str; 11] = [
        "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10",
    ];

    /// Parses bounds from texts; drops a final `+Inf`.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, WrongBound> {
        let mut texts = texts.into_iter().collect::<Vec<_>>();
        if texts
            .last()
            .is_some_and(|last| last.len() <= MAX_BOUND_BYTES && last.parse() == Ok(f64::INFINITY))
        {
            texts.pop();
        }
        if let Some(long) = texts.iter().find(|text| text.len() > MAX_BOUND_BYTES) {
            let (shown, found) = (cut(long, MAX_BOUND_BYTES), long.len());
            return Err(WrongBound(format!(
                "{shown}… ({found} bytes, at most {MAX_BOUND_BYTES} are allowed)"
            )));
        }
        let mut bounds = Vec::with_capacity(texts.len());
        let mut above = f64::NEG_INFINITY;
        for text in texts {
            match text.parse::<f64>() {
                Ok(bound) if bound.is_finite() && bound > above => {
                    above = bound;
                    bounds.push((bound, text.into()));
                }
                _ => return Err(WrongBound(text.to_owned())),
            }
        }
        Ok(Self {
            bounds: bounds.into(),
        })
    }

    /// Returns the layout of [`DEFAULT`](Self::DEFAULT), whose texts are well formed.
    pub(crate) fn of_default() -> Self {
        Self::new(Self::DEFAULT).unwrap_or_else(|_| Self::none())
    }

    /// Returns the layout of a summary: no bounds, one bucket.
    pub fn none() -> Self {
        Self {
            bounds: Box::default(),
        }
    }

    /// Returns the number of bounds; there is one bucket more.
    pub fn len(&self) -> usize {
        self.bounds.len()
    }

    /// Returns whether there is only the `+Inf` bucket.
    pub fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }

    /// Returns the bounds as numbers.
    pub fn values(&self) -> impl ExactSizeIterator<Item = f64> + Clone {
        self.bounds.iter().map(|(value, _)| *value)
    }

    /// Returns the bounds as they are shown.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.bounds.iter().map(|(_, text)| &**text)
    }

    /// Returns whether a number is one of the bounds.
    pub(crate) fn has(&self, bound: f64) -> bool {
        let at = self.bucket_of(bound);
        self.bounds
            .get(at)
            .is_some_and(|(found, _)| *found == bound)
    }

    /// Returns the bucket of an observation (Prometheus data model: bounds are inclusive).
    pub fn bucket_of(&self, observation: f64) -> usize {
        self.bounds
            .partition_point(|(bound, _)| *bound < observation)
    }
}

/// Layouts are equal if their numbers are; the text of the first one is shown.
impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.values().eq(other.values())
    }
}

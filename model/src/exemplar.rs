//! Exemplars: single observations with labels of their own (for example a trace id).

use crate::{LabelError, Labels};

/// Maximum number of characters in the names and values of an exemplar's labels together
/// (OpenMetrics 1.0, "Exemplars").
pub const MAX_EXEMPLAR_CHARACTERS: usize = 128;

/// An observation, or a counter's increment, and labels of its own.
///
/// ```
/// use metrics_model::{Exemplar, ExemplarError};
///
/// let trace = [("trace_id", "4bf92f35")].into_iter();
/// let exemplar = Exemplar::new(trace.clone(), 0.3, 1_700_000_000.0)?;
/// assert_eq!(exemplar.labels.as_str(), "trace_id=\"4bf92f35\"");
///
/// let wrong = Exemplar::new(trace, f64::NAN, 0.0);
/// assert!(matches!(wrong, Err(ExemplarError::Number(..))), "{wrong:?}");
/// # Ok::<(), ExemplarError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// Its labels, escaped.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// When it was observed, as Unix time in seconds.
    pub time: f64,
}

/// The reason why an exemplar is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ExemplarError {
    #[error(transparent)]
    Labels(#[from] LabelError),
    #[error(
        "{0} characters of exemplar labels, at most {MAX_EXEMPLAR_CHARACTERS} are allowed (OpenMetrics)"
    )]
    TooLong(usize),
    #[error(
        "{0} bytes of exemplar labels, at most {MAX_EXEMPLAR_CHARACTERS} characters are allowed (OpenMetrics)"
    )]
    TooLarge(usize),
    #[error("the value of exemplar label '{0}' has a NUL, which no scraper reads")]
    Nul(String),
    #[error("exemplar value {0} and time {1}, expected numbers and a time that is not negative")]
    Number(f64, f64),
}

impl Exemplar {
    /// Checks labels, value and time.
    ///
    /// # Errors
    ///
    /// Labels that [`Labels::new`] refuses, that are too long, or whose value has a NUL; a value that is NaN; a time that
    /// is not finite or below zero.
    pub fn new<'a>(
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        value: f64,
        time: f64,
    ) -> Result<Self, ExemplarError> {
        // A character has at most four bytes, so this check needs no walk through long labels.
        let bytes = |(name, value): (&str, &str)| name.len() + value.len();
        let found = labels.clone().map(bytes).sum();
        if found > 4 * MAX_EXEMPLAR_CHARACTERS {
            return Err(ExemplarError::TooLarge(found));
        }
        let characters = |(name, value): (&str, &str)| name.chars().count() + value.chars().count();
        let found = labels.clone().map(characters).sum();
        if found > MAX_EXEMPLAR_CHARACTERS {
            return Err(ExemplarError::TooLong(found));
        }
        // Prometheus refuses the whole page.
        if let Some((name, _)) = labels.clone().find(|(_, value)| value.contains('\0')) {
            return Err(ExemplarError::Nul(name.to_owned()));
        }
        if value.is_nan() || !time.is_finite() || time < 0.0 {
            return Err(ExemplarError::Number(value, time));
        }
        Ok(Self {
            labels: Labels::new(labels)?,
            value,
            time,
        })
    }
}

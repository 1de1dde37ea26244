//! Names of families, and the sample names that follow from them.

use std::borrow::Cow;

use crate::sizes::MAX_NAME_BYTES;
use crate::{FamilySpec, FamilyType};

/// The reason why a family's name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum NameError {
    #[error("a family name must not be empty")]
    Empty,
    #[error("a family name of {0} bytes, at most {MAX_NAME_BYTES} are allowed")]
    TooLong(usize),
    #[error("family name '{0}' is reserved for the registry's own samples")]
    Reserved(String),
    #[error("family name '{0}' has a control character")]
    Control(String),
}

/// Name of the family in which a registry counts rejected entries, by reason.
pub const REJECTED: &str = "metrics_rejected_samples";

/// Returns the name under which a family is stored: a counter's without `_total`, an info's without
/// `_info`.
///
/// # Errors
///
/// The name is empty, too long or reserved, or has a control character.
pub fn kept_name<'a>(spec: &FamilySpec<'a>) -> Result<&'a str, NameError> {
    let name = match spec.family_type {
        FamilyType::Counter => spec.name.strip_suffix("_total").unwrap_or(spec.name),
        FamilyType::Info => spec.name.strip_suffix("_info").unwrap_or(spec.name),
        _ => spec.name,
    };
    let is_sample = |suffix: &str| sample_suffixes(FamilyType::Counter).contains(&suffix);
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong(name.len()));
    }
    if name.strip_prefix(REJECTED).is_some_and(is_sample) {
        return Err(NameError::Reserved(spec.name.to_owned()));
    }
    // Most names are printable ASCII, which is seen without decoding them.
    let is_plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !is_plain && name.chars().any(char::is_control) {
        return Err(NameError::Control(name.escape_debug().to_string()));
    }
    Ok(name)
}

/// Returns the name that a writer passes for a family that is stored under `kept`: with the ending
/// that [`kept_name`] removes, where the name has this ending once more, as a counter
/// `jobs_total_total` has.
pub fn passed_name(kept: &str, family_type: FamilyType) -> Cow<'_, str> {
    let ending = match family_type {
        FamilyType::Counter => "_total",
        FamilyType::Info => "_info",
        _ => return Cow::Borrowed(kept),
    };
    if kept.ends_with(ending) {
        Cow::Owned(format!("{kept}{ending}"))
    } else {
        Cow::Borrowed(kept)
    }
}

/// Every suffix that a sample's name may add to its family's name.
pub(crate) const SAMPLE_SUFFIXES: [&str; 7] = [
    "", "_total", "_created", "_bucket", "_count", "_sum", "_info",
];

/// Returns the suffixes of the samples that a family of a type may have, in any format; always
/// among them is none.
pub fn sample_suffixes(family_type: FamilyType) -> &'static [&'static str] {
    match family_type {
        FamilyType::Counter => &["", "_total", "_created"],
        FamilyType::Gauge(_) | FamilyType::StateSet => &[""],
        FamilyType::Info => &["", "_info"],
        FamilyType::Histogram | FamilyType::NativeHistogram => {
            &["", "_bucket", "_count", "_sum", "_created"]
        }
        FamilyType::Summary => &["", "_count", "_sum", "_created"],
    }
}

/// Returns whether two families may share a sample's name: a gauge `x_created` may exist beside the
/// counter `x`, whose start times are then hidden.
pub fn may_share(sample: &str, one: (&str, FamilyType), other: (&str, FamilyType)) -> bool {
    let counter = match (one.1, other.1) {
        (FamilyType::Counter, FamilyType::Gauge(_)) => one.0,
        (FamilyType::Gauge(_), FamilyType::Counter) => other.0,
        _ => return false,
    };
    sample.strip_suffix(START_TIMES) == Some(counter)
}

/// Suffix of the names of start times.
pub(crate) const START_TIMES: &str = "_created";

/// Returns whether a name matches `[a-zA-Z_][a-zA-Z0-9_]*`, the label names of text 0.0.4 and
/// OpenMetrics 1.0.
pub(crate) fn is_legacy_label_name(name: &[u8]) -> bool {
    let mut bytes = name.iter().enumerate();
    bytes.all(|(at, byte)| is_name_byte(at, *byte))
}

fn is_name_byte(at: usize, byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || (at > 0 && byte.is_ascii_digit())
}

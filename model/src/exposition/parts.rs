//! What all formats share: exemplars, times, and which families are shown as they were declared.

use std::borrow::Cow;

use super::number::format_number;
use crate::escaping::{Escaping, unescaped};
use crate::labels::{parse, push_escaped};
use crate::registry::BucketView;
use crate::{Exemplar, FamilySpec, FamilyType, MAX_EXEMPLAR_CHARACTERS};

/// Returns whether a label may have the name of a state set as written, because one label must, to
/// hold the state. If not, the family is shown as a gauge.
pub(super) fn names_state(escaping: Escaping, family: &str) -> bool {
    escaping == Escaping::AllowUtf8 || !(family.contains(':') || family.starts_with("__"))
}

/// Returns whether a family's unit may be shown. It must be the ending of the name as written,
/// without the suffix of its samples: Prometheus refuses a whole page for another unit. OpenMetrics
/// allows no unit for an info or a state set.
pub(super) fn has_unit(written: &str, spec: &FamilySpec<'_>) -> bool {
    let is_word = |unit: &str| unit.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let is_fact = matches!(spec.family_type, FamilyType::Info | FamilyType::StateSet);
    let rest = written.strip_suffix(spec.unit);
    !spec.unit.is_empty()
        && is_word(spec.unit)
        && !is_fact
        && rest.is_some_and(|rest| rest.ends_with('_'))
}

/// Returns the newest exemplar whose value is in a bucket.
pub(super) fn exemplar_of<'e>(
    exemplars: &[&'e Exemplar],
    view: &BucketView<'_>,
    bucket: usize,
) -> Option<&'e Exemplar> {
    if exemplars.is_empty() {
        return None;
    }
    let of_bucket = exemplars
        .iter()
        .filter(|e| view.layout.bucket_of(e.value) == bucket);
    newest(of_bucket.copied())
}

/// Returns the exemplar with the latest time.
pub(super) fn newest<'e>(exemplars: impl Iterator<Item = &'e Exemplar>) -> Option<&'e Exemplar> {
    exemplars.max_by(|one, other| one.time.total_cmp(&other.time))
}

/// Appends ` # {labels} value time`, unless the written labels are longer than `OpenMetrics`
/// allows.
pub(super) fn push_exemplar(out: &mut Vec<u8>, escaping: Escaping, exemplar: &Exemplar) {
    let labels = escaping.exemplar_labels(exemplar.labels.as_str());
    if matches!(labels, Cow::Owned(_)) && characters_of(&labels) > MAX_EXEMPLAR_CHARACTERS {
        return;
    }
    out.extend_from_slice(b" # {");
    out.extend_from_slice(labels.as_bytes());
    out.extend_from_slice(b"} ");
    format_number(exemplar.value, out);
    out.push(b' ');
    push_seconds(out, (exemplar.time * 1000.0).round() as u64);
}

/// Counts the characters of the names and values of a label text.
fn characters_of(labels: &str) -> usize {
    let characters = |text| unescaped(text).chars().count();
    let all = parse(labels).map(|(name, value)| characters(name) + characters(value));
    all.sum()
}

/// Appends a time in seconds, exact to the millisecond.
pub(super) fn push_seconds(out: &mut Vec<u8>, ms: u64) {
    out.extend_from_slice(format!("{}.{:03}", ms / 1000, ms % 1000).as_bytes());
}

pub(super) fn set_pid_label(label: &mut Vec<u8>, pid: &str) {
    label.clear();
    if !pid.is_empty() {
        label.extend_from_slice(b"pid=\"");
        push_escaped(label, pid.as_bytes());
        label.push(b'"');
    }
}

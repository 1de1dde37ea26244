//! Parses a sample's value and exemplar.

use metrics_model::{Exemplar, FamilyType};

use super::super::family::{FileExemplar, LabelPairs, Part};
use super::tokens::{BLANK, label_set, number, shown};

/// The parts of a sample's line after its labels.
pub(super) struct Value {
    pub(super) value: f64,
    pub(super) exemplar: Option<FileExemplar>,
}

/// Parses what follows a sample's name and labels: `value`, and optionally `# {labels} value time`.
pub(super) fn read_value(rest: &str) -> Result<Value, String> {
    let (own, exemplar) = match rest.split_once('#') {
        Some((own, exemplar)) => (own, Some(exemplar)),
        None => (rest, None),
    };
    if exemplar.is_some() && !own.ends_with(BLANK) {
        return Err("an exemplar without a blank before #".to_owned());
    }
    let value = match words(own).as_slice() {
        [] => return Err("a sample without a value".to_owned()),
        [value] => number(value)?,
        [value, time] if number(value).is_ok() && number(time).is_ok() => {
            return Err("a time stamp: what is pushed is what is now".to_owned());
        }
        [value, more, ..] => {
            number(value)?;
            return Err(format!(
                "{} after the value, allowed is one number",
                shown(more)
            ));
        }
    };
    let Some(exemplar) = exemplar else {
        return Ok(Value {
            value,
            exemplar: None,
        });
    };
    let mut labels = LabelPairs::new();
    let rest = label_set(
        exemplar.trim_start_matches(BLANK),
        &mut Some(String::new()),
        &mut labels,
    )
    .map_err(|reason| format!("an exemplar has {reason}"))?;
    let (value_of, time) = match words(rest).as_slice() {
        [] => return Err("an exemplar without a value".to_owned()),
        [value] => (number(value)?, None),
        [value, time] => {
            let seconds = number(time)?;
            if !seconds.is_finite() {
                return Err(format!(
                    "{} is no time of an exemplar, allowed are seconds",
                    shown(time)
                ));
            }
            (number(value)?, Some(seconds))
        }
        _ => return Err("an exemplar with more than a value and a time".to_owned()),
    };
    let exemplar = FileExemplar {
        labels,
        value: value_of,
        time,
    };
    Ok(Value {
        value,
        exemplar: Some(exemplar),
    })
}

/// Returns why a registry would refuse an exemplar.
pub(super) fn unfit(
    exemplar: &FileExemplar,
    part: &Part,
    family_type: FamilyType,
) -> Option<String> {
    let has_place = match family_type {
        FamilyType::Counter => *part == Part::Value,
        FamilyType::Histogram => matches!(part, Part::Bucket(..)),
        _ => false,
    };
    if !has_place {
        return Some("only counters and buckets have exemplars".to_owned());
    }
    let labels = exemplar.labels.iter();
    let labels = labels.map(|(name, value)| (&**name, &**value));
    let time = exemplar.time.unwrap_or_default();
    let checked = Exemplar::new(labels, exemplar.value, time);
    checked.err().map(|error| error.to_string())
}

fn words(text: &str) -> Vec<&str> {
    text.split(BLANK).filter(|word| !word.is_empty()).collect()
}

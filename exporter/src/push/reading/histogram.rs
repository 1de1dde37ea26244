//! Puts the samples of a histogram or summary together.
//!
//! The rules are those of the text format and of `OpenMetrics`: buckets are cumulative, the last
//! one is `+Inf`, and `_count` equals it.

use metrics_model::{Layout, Point, number_text};

use super::Place;
use super::family::{DraftSeries, Sample, State};

/// A bucket of a file.
#[derive(Debug)]
pub(super) struct Bucket {
    /// The upper bound as the file writes it.
    pub(super) text: String,
    pub(super) bound: f64,
    /// Cumulative count.
    pub(super) count: Sample,
}

/// Where the file is wrong, and why.
type Fault = (Place, String);

/// Returns the state of a histogram. Without any bucket, `_count` is its only one.
pub(super) fn histogram(draft: DraftSeries) -> State {
    let buckets = complete(draft.buckets, draft.count, draft.place)?;
    let mut counts = Vec::with_capacity(buckets.len());
    let mut below = 0;
    for Bucket { text, count, .. } in &buckets {
        let cumulative = whole(*count)?;
        let own = cumulative.checked_sub(below).ok_or_else(|| {
            let reason = format!(
                "bucket le=\"{text}\" counts less than the one below it: {cumulative}, allowed is {below} or more"
            );
            (count.place, reason)
        })?;
        counts.push(own);
        below = cumulative;
    }
    let layout = Layout::new(buckets.iter().map(|bucket| bucket.text.as_str()))
        .map_err(|error| (draft.place, error.to_string()))?;
    let sum = draft.sum.ok_or_else(|| without_sum(draft.place))?.value;
    Ok((Some(layout), Point::Buckets { sum, counts }))
}

/// Returns the state of a summary, without its quantiles.
pub(super) fn summary(draft: &DraftSeries) -> State {
    let missing = || (draft.place, "it has no _count".to_owned());
    let count = whole(draft.count.ok_or_else(missing)?)?;
    let sum = draft.sum.ok_or_else(|| without_sum(draft.place))?.value;
    let counts = vec![count];
    Ok((None, Point::Buckets { sum, counts }))
}

/// Pages of a registry have a sum for each series.
fn without_sum(place: Place) -> Fault {
    let reason = "it has no _sum, which pages would show as 0; allowed is a sum for each series, which may be NaN";
    (place, reason.to_owned())
}

/// Returns all buckets in ascending order, up to `+Inf`.
fn complete(
    mut buckets: Vec<Bucket>,
    count: Option<Sample>,
    place: Place,
) -> Result<Vec<Bucket>, Fault> {
    buckets.sort_by(|one, other| one.bound.total_cmp(&other.bound));
    if let Some(twice) = buckets.windows(2).find(|two| two[0].bound == two[1].bound) {
        let reason = format!("bucket le=\"{}\" is there twice", twice[1].text);
        return Err((twice[1].count.place, reason));
    }
    let Some(last) = buckets.last() else {
        let reason = "it has neither buckets nor _count".to_owned();
        let count = count.ok_or((place, reason))?;
        return Ok(vec![Bucket {
            text: "+Inf".to_owned(),
            bound: f64::INFINITY,
            count,
        }]);
    };
    if last.bound != f64::INFINITY {
        let reason = format!(
            "bucket le=\"+Inf\" is missing, the last one is le=\"{}\"; allowed are buckets up to le=\"+Inf\"",
            last.text
        );
        return Err((last.count.place, reason));
    }
    match count {
        Some(count) if count.value != last.count.value => {
            let reason = format!(
                "_count is {}, and bucket le=\"+Inf\" is {}; allowed are equal numbers",
                number_text(count.value),
                number_text(last.count.value)
            );
            Err((count.place.max(last.count.place), reason))
        }
        _ => Ok(buckets),
    }
}

/// Returns a count of observations, which must be whole.
fn whole(Sample { value, place }: Sample) -> Result<u64, Fault> {
    if value >= 0.0 && value.fract() == 0.0 && value < 9_007_199_254_740_992.0 {
        return Ok(value as u64);
    }
    let reason = format!(
        "{} is no count of observations, allowed is a whole number from 0 on, below 2^53",
        number_text(value)
    );
    Err((place, reason))
}

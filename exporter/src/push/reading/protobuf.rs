//! Reads `io.prometheus.client.MetricFamily` messages, each preceded by its length.

mod messages;

use std::collections::HashMap;

use metrics_model::{
    Exemplar, FamilyType, Labels, MAX_NATIVE_BUCKETS, NATIVE_SCHEMAS, NativeHistogram, Point,
    SparseBuckets, number_text,
};
use prost::Message;

use super::family::{
    Draft, Family, FileContent, FileExemplar, GAUGE, LabelPairs, Part, Sample, Series, check_labels,
};
use super::{LeftOut, Place, ReadError};
use messages::{BucketSpan, Histogram, LabelPair, Metric, MetricFamily, Timestamp};

/// Reads a file.
pub(super) fn parse(bytes: &[u8]) -> Result<FileContent, ReadError> {
    let mut parsed = FileContent::default();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut rest = bytes;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let place = Place::Message(number);
        let at = bytes.len() - rest.len();
        let message = MetricFamily::decode_length_delimited(&mut rest)
            .map_err(|error| ReadError::at(place, &damage(at, bytes.len(), &error)))?;
        let family = family(message, place, &mut parsed.left_out)?;
        if family.series.is_empty() {
            continue;
        }
        // Joined files repeat a family.
        let known = by_name
            .get(&family.name)
            .map(|known| &mut parsed.families[*known]);
        match known {
            Some(known) if known.family_type == family.family_type => {
                known.series.extend(family.series);
            }
            _ => {
                by_name.insert(family.name.clone(), parsed.families.len());
                parsed.families.push(family);
            }
        }
    }
    Ok(parsed)
}

/// Returns what is wrong with a message that begins at byte `at`.
fn damage(at: usize, size: usize, error: &prost::DecodeError) -> String {
    format!(
        "it is cut off or damaged, or the file has another format; it begins at byte {at} of {size}: {error}"
    )
}

fn family(
    message: MetricFamily,
    place: Place,
    left_out: &mut Vec<LeftOut>,
) -> Result<Family, ReadError> {
    let name = message.name;
    let wrong = |reason: &str| ReadError::at(place, &format!("{name}: {reason}"));
    let is_native = message.metrics.iter().any(|metric| {
        let histogram = metric.histogram.as_ref();
        histogram.is_some_and(Histogram::is_native)
    });
    let family_type = match message.kind {
        0 => FamilyType::Counter,
        1 | 3 => GAUGE,
        2 => FamilyType::Summary,
        4 if is_native => FamilyType::NativeHistogram,
        4 => FamilyType::Histogram,
        other => return Err(wrong(&format!("type {other}, allowed is 0 to 4"))),
    };
    let bare = match family_type {
        FamilyType::Counter => name.strip_suffix("_total").unwrap_or(&name),
        _ => &name,
    };
    let mut draft = Draft::new(bare, family_type, place);
    draft.describe(message.help, message.unit);
    let mut native = Vec::new();
    for metric in message.metrics {
        if metric.time_ms.is_some() {
            return Err(wrong("a time stamp: what is pushed is what is now"));
        }
        let labels = pairs(metric.labels.iter());
        let mut parts = Parts::of(&metric, family_type).map_err(|reason| wrong(&reason))?;
        parts.leave_out(&name, &labels, left_out);
        if let Some(histogram) = parts.native {
            check_labels(&labels).map_err(|reason| wrong(&reason))?;
            native.push(Series {
                place,
                labels,
                layout: None,
                point: Point::Native(Box::new(histogram)),
                start: parts.start,
                exemplars: parts.exemplars,
            });
            continue;
        }
        let start = parts.start.map(|start| (Part::Start, start));
        for (part, value) in parts.samples.into_iter().chain(start) {
            if !draft.add(labels.clone(), part, Sample { value, place }, None) {
                return Err(wrong("it has a series twice"));
            }
        }
        draft.add_exemplars(&labels, parts.exemplars);
    }
    let mut family = draft.finish(left_out)?;
    family.series.extend(native);
    Ok(family)
}

/// The parts of a metric.
#[derive(Default)]
struct Parts {
    samples: Vec<(Part, f64)>,
    native: Option<NativeHistogram>,
    quantiles: usize,
    start: Option<f64>,
    exemplars: Vec<FileExemplar>,
}

impl Parts {
    /// Returns the parts that a family of this type has.
    fn of(metric: &Metric, family_type: FamilyType) -> Result<Self, String> {
        let mut parts = Self::default();
        let missing = || format!("a metric that is no {}", family_type.describe());
        match family_type {
            FamilyType::Counter => {
                let counter = metric.counter.as_ref().ok_or_else(missing)?;
                parts.samples.push((Part::Value, counter.value));
                parts
                    .exemplars
                    .extend(counter.exemplar.as_ref().map(exemplar));
                parts.start = counter.start.as_ref().map(seconds);
            }
            FamilyType::Summary => {
                let summary = metric.summary.as_ref().ok_or_else(missing)?;
                parts.quantiles = summary.quantiles.len();
                parts.count(summary.count, summary.sum);
                parts.start = summary.start.as_ref().map(seconds);
            }
            FamilyType::Histogram | FamilyType::NativeHistogram => {
                let histogram = metric.histogram.as_ref().ok_or_else(missing)?;
                let is_native = family_type == FamilyType::NativeHistogram;
                if is_native != histogram.is_native() {
                    return Err("it has native and other histograms".to_owned());
                }
                parts.histogram(histogram, is_native)?;
            }
            _ => {
                let scalar = metric.gauge.as_ref().or(metric.untyped.as_ref());
                let scalar = scalar.ok_or_else(|| "a metric that is no gauge".to_owned())?;
                parts.samples.push((Part::Value, scalar.value));
            }
        }
        Ok(parts)
    }

    fn count(&mut self, count: u64, sum: f64) {
        let samples = [(Part::Count, count as f64), (Part::Sum, sum)];
        self.samples.extend(samples);
    }

    fn histogram(&mut self, histogram: &Histogram, is_native: bool) -> Result<(), String> {
        if histogram.has_fractions() {
            return Err("counts of observations that are no whole numbers".to_owned());
        }
        self.start = histogram.start.as_ref().map(seconds);
        let of_buckets = histogram
            .buckets
            .iter()
            .filter_map(|bucket| bucket.exemplar.as_ref());
        let all = of_buckets.chain(&histogram.exemplars);
        self.exemplars.extend(all.map(exemplar));
        if is_native {
            self.native = Some(histogram.native()?);
            return Ok(());
        }
        for bucket in &histogram.buckets {
            if bucket.upper_bound.is_nan() {
                return Err("a bucket with the bound NaN, allowed are numbers and +Inf".to_owned());
            }
            let part = Part::Bucket(number_text(bucket.upper_bound), bucket.upper_bound);
            self.samples.push((part, bucket.cumulative_count as f64));
        }
        // The bucket +Inf need not be in a message: it is the count.
        let is_last = |bound: f64| bound == f64::INFINITY;
        if !histogram
            .buckets
            .iter()
            .any(|bucket| is_last(bucket.upper_bound))
        {
            let part = Part::Bucket("+Inf".to_owned(), f64::INFINITY);
            self.samples.push((part, histogram.count as f64));
        }
        self.count(histogram.count, histogram.sum);
        Ok(())
    }

    /// Removes the parts that no registry stores, and adds them to `left_out`.
    fn leave_out(&mut self, name: &str, labels: &LabelPairs, left_out: &mut Vec<LeftOut>) {
        let labels = labels.iter().map(|(name, value)| (&**name, &**value));
        let sample = match Labels::new(labels) {
            Ok(labels) if !labels.as_str().is_empty() => format!("{name}{{{}}}", labels.as_str()),
            _ => name.to_owned(),
        };
        if self.quantiles > 0 {
            left_out.push(LeftOut {
                sample: format!("{} of {sample}", self.quantiles),
                reason: "quantiles, and these cannot be added up".to_owned(),
            });
        }
        self.exemplars.retain(|exemplar| {
            let labels = exemplar.labels.iter();
            let labels = labels.map(|(name, value)| (&**name, &**value));
            let time = exemplar.time.unwrap_or_default();
            let checked = Exemplar::new(labels, exemplar.value, time);
            if let Err(error) = &checked {
                left_out.push(LeftOut {
                    sample: format!("an exemplar of {sample}"),
                    reason: error.to_string(),
                });
            }
            checked.is_ok()
        });
    }
}

impl Histogram {
    fn is_native(&self) -> bool {
        let has_buckets = !self.positive_spans.is_empty() || !self.negative_spans.is_empty();
        self.schema.is_some() && (has_buckets || self.zero_threshold > 0.0)
    }

    fn has_fractions(&self) -> bool {
        self.float_count.is_some()
            || self.float_zero_count.is_some()
            || !self.negative_counts.is_empty()
            || !self.positive_counts.is_empty()
            || self
                .buckets
                .iter()
                .any(|bucket| bucket.float_count.is_some())
    }

    fn native(&self) -> Result<NativeHistogram, String> {
        let schema = self.schema.unwrap_or_default();
        let histogram = NativeHistogram {
            schema: i8::try_from(schema)
                .ok()
                .filter(|schema| NATIVE_SCHEMAS.contains(schema))
                .ok_or_else(|| format!("schema {schema}, allowed is -4 to 8"))?,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            sum: self.sum,
            positive: sparse(&self.positive_spans, &self.positive_deltas)?,
            negative: sparse(&self.negative_spans, &self.negative_deltas)?,
        };
        let count = histogram.count();
        // Observations of NaN are in the count and in no bucket.
        if count == self.count || (count < self.count && self.sum.is_nan()) {
            return Ok(histogram);
        }
        Err(format!(
            "its count is {}, and its buckets have {count}; allowed are equal numbers",
            self.count
        ))
    }
}

/// Returns the buckets of one sign: runs of numbers, and the difference of each count to the one
/// before.
fn sparse(spans: &[BucketSpan], deltas: &[i64]) -> Result<SparseBuckets, String> {
    let wrong = || "spans and deltas that do not fit each other".to_owned();
    let mut buckets = SparseBuckets::new();
    let mut deltas = deltas.iter();
    let (mut number, mut count) = (0_i32, 0_i64);
    for span in spans {
        number = number.checked_add(span.offset).ok_or_else(wrong)?;
        for _ in 0..span.length {
            let delta = deltas.next().ok_or_else(wrong)?;
            count = count.checked_add(*delta).ok_or_else(wrong)?;
            let observations = u64::try_from(count).map_err(|_| wrong())?;
            if observations > 0 {
                buckets.push((number, observations));
            }
            number = number.checked_add(1).ok_or_else(wrong)?;
        }
    }
    if deltas.next().is_some() || buckets.len() > MAX_NATIVE_BUCKETS {
        return Err(wrong());
    }
    Ok(buckets)
}

/// Returns labels with a value, sorted.
fn pairs<'m>(labels: impl Iterator<Item = &'m LabelPair>) -> LabelPairs {
    let present = labels.filter(|label| !label.value.is_empty());
    let pairs = present.map(|label| (label.name.clone(), label.value.clone()));
    let mut pairs: LabelPairs = pairs.collect();
    pairs.sort_unstable();
    pairs
}

fn exemplar(message: &messages::Exemplar) -> FileExemplar {
    let labels = message.labels.iter();
    FileExemplar {
        labels: labels
            .map(|label| (label.name.clone(), label.value.clone()))
            .collect(),
        value: message.value,
        time: message.time.as_ref().map(seconds),
    }
}

/// Returns a time stamp as Unix time in seconds.
fn seconds(time: &Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}

#[cfg(test)]
mod tests;

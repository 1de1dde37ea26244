//! Reads `io.prometheus.client.MetricFamily` messages, each preceded by its length.
//!
//! The field numbers are those of
//! [metrics.proto](https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto).

pub(crate) mod message;
mod native;

use std::collections::HashMap;

use metrics_model::{Exemplar, FamilyType, NativeHistogram, Point};

use super::family::{
    Draft, Family, FileContent, FileExemplar, GAUGE, LabelPairs, Part, Sample, Series,
    check_labels, spelled,
};
use super::{LeftOut, Place, ReadError};
use message::{Message, Value};
use native::{Side, span_of, zigzag};

/// Reads a file.
pub(super) fn parse(bytes: &[u8]) -> Result<FileContent, ReadError> {
    let mut parsed = FileContent::default();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let mut rest = Message(bytes);
    let mut number = 0;
    while !rest.0.is_empty() {
        number += 1;
        let place = Place::Message(number);
        let at = bytes.len() - rest.0.len();
        let wrong = |reason: &str| {
            let hint = if reason == CUT_OFF {
                format!(
                    ", or the file has another format; it begins at byte {at} of {}",
                    bytes.len()
                )
            } else {
                String::new()
            };
            ReadError::at(place, &format!("{reason}{hint}"))
        };
        let message = rest.bytes().ok_or_else(|| wrong(CUT_OFF))?;
        let draft = DraftFamily::read(Message(message)).map_err(|reason| wrong(&reason))?;
        let family = draft.finish(place, &mut parsed.left_out)?;
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

const CUT_OFF: &str = "it is cut off or damaged";

/// The fields of a family's message.
#[derive(Default)]
struct DraftFamily {
    name: String,
    help: Option<String>,
    unit: Option<String>,
    kind: u64,
    metrics: Vec<Metric>,
}

impl DraftFamily {
    fn read(message: Message<'_>) -> Result<Self, String> {
        let mut family = Self::default();
        for field in message {
            match field.ok_or(CUT_OFF)? {
                (1, Value::Bytes(text)) => family.name = utf8(text)?,
                (2, Value::Bytes(text)) => family.help = Some(utf8(text)?),
                (3, Value::Varint(number)) => family.kind = number,
                (4, Value::Bytes(metric)) => family.metrics.push(Metric::read(Message(metric))?),
                (5, Value::Bytes(text)) => family.unit = Some(utf8(text)?),
                _ => {}
            }
        }
        Ok(family)
    }

    fn family_type(&self) -> Result<FamilyType, String> {
        Ok(match self.kind {
            0 => FamilyType::Counter,
            1 | 3 => GAUGE,
            2 => FamilyType::Summary,
            4 if self.metrics.iter().any(|metric| metric.native.is_some()) => {
                FamilyType::NativeHistogram
            }
            4 => FamilyType::Histogram,
            other => return Err(format!("type {other}, allowed is 0 to 4")),
        })
    }

    fn finish(self, place: Place, left_out: &mut Vec<LeftOut>) -> Result<Family, ReadError> {
        let wrong = |reason: &str| ReadError::at(place, &format!("{}: {reason}", self.name));
        let family_type = self.family_type().map_err(|reason| wrong(&reason))?;
        let bare = match family_type {
            FamilyType::Counter => self.name.strip_suffix("_total").unwrap_or(&self.name),
            _ => &self.name,
        };
        let mut draft = Draft::new(bare, family_type, place);
        draft.describe(self.help.clone(), self.unit.clone());
        let mut native = Vec::new();
        for mut metric in self.metrics {
            metric.leave_out(&self.name, family_type, left_out);
            if let Some(histogram) = metric.native {
                check_labels(&metric.labels).map_err(|reason| wrong(&reason))?;
                native.push(Series {
                    place,
                    labels: metric.labels,
                    layout: None,
                    point: Point::Native(Box::new(histogram)),
                    start: metric.start,
                    exemplars: metric.exemplars,
                });
                continue;
            }
            if family_type == FamilyType::NativeHistogram {
                return Err(wrong("it has native and other histograms"));
            }
            if metric.samples.is_empty() {
                return Err(wrong("a metric without a value"));
            }
            let start = metric.start.map(|start| (Part::Start, start));
            for (part, value) in metric.samples.into_iter().chain(start) {
                let sample = Sample { value, place };
                if !part.is_of(family_type) {
                    return Err(wrong("a metric of another type than its family"));
                }
                if !draft.add(metric.labels.clone(), part, sample, None) {
                    return Err(wrong("it has a series twice"));
                }
            }
            draft.add_exemplars(&metric.labels, metric.exemplars);
        }
        let mut family = draft.finish(left_out)?;
        family.series.extend(native);
        Ok(family)
    }
}

#[derive(Default)]
struct Metric {
    labels: LabelPairs,
    samples: Vec<(Part, f64)>,
    native: Option<NativeHistogram>,
    quantiles: usize,
    start: Option<f64>,
    exemplars: Vec<FileExemplar>,
}

impl Metric {
    fn read(message: Message<'_>) -> Result<Self, String> {
        let mut metric = Self::default();
        for field in message {
            match field.ok_or(CUT_OFF)? {
                (1, Value::Bytes(label)) => metric.labels.push(pair(Message(label))?),
                (3, Value::Bytes(counter)) => metric.counter(Message(counter))?,
                (2 | 5, Value::Bytes(scalar)) => {
                    let value = double(Message(scalar), 1)?;
                    metric.samples.push((Part::Value, value));
                }
                (4, Value::Bytes(summary)) => metric.summary(Message(summary))?,
                (6, _) => return Err("a time stamp: what is pushed is what is now".to_owned()),
                (7, Value::Bytes(histogram)) => metric.histogram(Message(histogram))?,
                _ => {}
            }
        }
        metric.labels.retain(|(_, value)| !value.is_empty());
        metric.labels.sort_unstable();
        Ok(metric)
    }

    fn counter(&mut self, message: Message<'_>) -> Result<(), String> {
        let mut value = 0.0;
        for field in message {
            match field.ok_or(CUT_OFF)? {
                (1, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                (2, Value::Bytes(one)) => self.exemplars.push(exemplar(Message(one))?),
                (3, Value::Bytes(time)) => self.start = Some(seconds(Message(time))?),
                _ => {}
            }
        }
        self.samples.push((Part::Value, value));
        Ok(())
    }

    /// Removes the parts that no registry stores, and adds them to `left_out`.
    fn leave_out(&mut self, name: &str, family_type: FamilyType, left_out: &mut Vec<LeftOut>) {
        let labels = self.labels.iter().map(|(name, value)| (&**name, &**value));
        let sample = match metrics_model::Labels::new(labels) {
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
        let is_counting = family_type.gauge_mode().is_none();
        self.start = self.start.filter(|_| is_counting);
    }

    fn summary(&mut self, message: Message<'_>) -> Result<(), String> {
        let (mut count, mut sum) = (0, 0.0);
        for field in message {
            match field.ok_or(CUT_OFF)? {
                (1, Value::Varint(number)) => count = number,
                (2, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
                (3, Value::Bytes(_)) => self.quantiles += 1,
                (4, Value::Bytes(time)) => self.start = Some(seconds(Message(time))?),
                _ => {}
            }
        }
        self.samples
            .extend([(Part::Count, count as f64), (Part::Sum, sum)]);
        Ok(())
    }

    fn bucket(&mut self, message: Message<'_>) -> Result<(), String> {
        let (mut count, mut bound) = (0, 0.0);
        for field in message {
            match field.ok_or(CUT_OFF)? {
                (1, Value::Varint(number)) => count = number,
                (2, Value::Fixed64(bits)) => bound = f64::from_bits(bits),
                (3, Value::Bytes(one)) => self.exemplars.push(exemplar(Message(one))?),
                _ => {}
            }
        }
        if bound.is_nan() {
            return Err("a bucket with the bound NaN, allowed are numbers and +Inf".to_owned());
        }
        let part = Part::Bucket(spelled(bound), bound);
        self.samples.push((part, count as f64));
        Ok(())
    }

    fn histogram(&mut self, message: Message<'_>) -> Result<(), String> {
        let (mut count, mut sum, mut schema) = (0, 0.0, None);
        let mut native = NativeHistogram::default();
        let (mut positive, mut negative) = (Side::default(), Side::default());
        for field in message {
            match field.ok_or(CUT_OFF)? {
                (1, Value::Varint(number)) => count = number,
                (2, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
                (3, Value::Bytes(one)) => self.bucket(Message(one))?,
                (4 | 8 | 11 | 14, _) => {
                    return Err("counts of observations that are no whole numbers".to_owned());
                }
                (5, Value::Varint(number)) => schema = Some(zigzag(number)),
                (6, Value::Fixed64(bits)) => native.zero_threshold = f64::from_bits(bits),
                (7, Value::Varint(number)) => native.zero_count = number,
                (9, Value::Bytes(span)) => negative.spans.push(span_of(Message(span))?),
                (10, value) => negative.add_deltas(&value)?,
                (12, Value::Bytes(span)) => positive.spans.push(span_of(Message(span))?),
                (13, value) => positive.add_deltas(&value)?,
                (15, Value::Bytes(time)) => self.start = Some(seconds(Message(time))?),
                (16, Value::Bytes(one)) => self.exemplars.push(exemplar(Message(one))?),
                _ => {}
            }
        }
        let is_native =
            !positive.spans.is_empty() || !negative.spans.is_empty() || native.zero_threshold > 0.0;
        match schema {
            Some(schema) if is_native => {
                native.schema = i8::try_from(schema)
                    .ok()
                    .filter(|schema| metrics_model::NATIVE_SCHEMAS.contains(schema))
                    .ok_or_else(|| format!("schema {schema}, allowed is -4 to 8"))?;
                native.sum = sum;
                native.positive = positive.buckets()?;
                native.negative = negative.buckets()?;
                let found = native.count();
                // Observations of NaN are in the count and in no bucket.
                if found != count && (found > count || !sum.is_nan()) {
                    return Err(format!(
                        "its count is {count}, and its buckets have {found}; allowed are equal numbers"
                    ));
                }
                self.native = Some(native);
            }
            _ => self.complete(count, sum),
        }
        Ok(())
    }

    /// Adds the samples of a histogram beside its buckets. The bucket +Inf need not be in a
    /// message: it is the count.
    fn complete(&mut self, count: u64, sum: f64) {
        let is_last =
            |part: &Part| matches!(part, Part::Bucket(_, bound) if *bound == f64::INFINITY);
        if !self.samples.iter().any(|(part, _)| is_last(part)) {
            let last = Part::Bucket("+Inf".to_owned(), f64::INFINITY);
            self.samples.push((last, count as f64));
        }
        let samples = [(Part::Count, count as f64), (Part::Sum, sum)];
        self.samples.extend(samples);
    }
}

fn pair(message: Message<'_>) -> Result<(String, String), String> {
    let (mut name, mut value) = (String::new(), String::new());
    for field in message {
        match field.ok_or(CUT_OFF)? {
            (1, Value::Bytes(text)) => name = utf8(text)?,
            (2, Value::Bytes(text)) => value = utf8(text)?,
            _ => {}
        }
    }
    Ok((name, value))
}

fn exemplar(message: Message<'_>) -> Result<FileExemplar, String> {
    let mut exemplar = FileExemplar {
        labels: LabelPairs::new(),
        value: 0.0,
        time: None,
    };
    for field in message {
        match field.ok_or(CUT_OFF)? {
            (1, Value::Bytes(label)) => exemplar.labels.push(pair(Message(label))?),
            (2, Value::Fixed64(bits)) => exemplar.value = f64::from_bits(bits),
            (3, Value::Bytes(time)) => exemplar.time = Some(seconds(Message(time))?),
            _ => {}
        }
    }
    Ok(exemplar)
}

/// Returns a time stamp as Unix time in seconds.
fn seconds(message: Message<'_>) -> Result<f64, String> {
    let mut time = 0.0;
    for field in message {
        match field.ok_or(CUT_OFF)? {
            (1, Value::Varint(seconds)) => time += seconds.cast_signed() as f64,
            (2, Value::Varint(nanoseconds)) => time += nanoseconds.cast_signed() as f64 / 1e9,
            _ => {}
        }
    }
    Ok(time)
}

fn double(message: Message<'_>, wanted: u64) -> Result<f64, String> {
    let mut value = 0.0;
    for field in message {
        match field.ok_or(CUT_OFF)? {
            (number, Value::Fixed64(bits)) if number == wanted => value = f64::from_bits(bits),
            _ => {}
        }
    }
    Ok(value)
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a text that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests;

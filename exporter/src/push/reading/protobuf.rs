//! Reads `io.prometheus.client.MetricFamily` messages, each preceded by its length.
//!
//! The field numbers are those of
//! [metrics.proto](https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto).

mod message;

use metrics_model::{Exemplar, FamilyType, NativeHistogram, Point, SparseBuckets};

use super::family::{
    Draft, Family, FileExemplar, GAUGE, LabelPairs, Parsed, Part, Series, spelled,
};
use super::{LeftOut, ReadError};
use message::{Message, Value};

/// Reads a file.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, ReadError> {
    let mut parsed = Parsed::default();
    let mut rest = Message(bytes);
    let mut number = 0;
    while !rest.0.is_empty() {
        number += 1;
        let wrong = |reason: String| ReadError::Message {
            message: number,
            reason,
        };
        let message = rest
            .bytes()
            .ok_or_else(|| wrong("it is cut off".to_owned()))?;
        let family = family(Message(message), &mut parsed.left_out).map_err(wrong)?;
        if !family.series.is_empty() {
            parsed.families.push(family);
        }
    }
    Ok(parsed)
}

const CUT_OFF: &str = "it is cut off or malformed";

fn family(message: Message<'_>, left_out: &mut Vec<LeftOut>) -> Result<Family, String> {
    let (mut name, mut help, mut unit, mut kind) = (String::new(), None, None, 0);
    let mut metrics = Vec::new();
    for field in message {
        match field.ok_or(CUT_OFF)? {
            (1, Value::Bytes(text)) => name = utf8(text)?,
            (2, Value::Bytes(text)) => help = Some(utf8(text)?),
            (3, Value::Varint(number)) => kind = number,
            (4, Value::Bytes(metric)) => metrics.push(Metric::read(Message(metric))?),
            (5, Value::Bytes(text)) => unit = Some(utf8(text)?),
            _ => {}
        }
    }
    if name.is_empty() {
        return Err("a family without a name".to_owned());
    }
    let family_type = match kind {
        0 => FamilyType::Counter,
        1 | 3 => GAUGE,
        2 => FamilyType::Summary,
        4 if metrics.iter().any(|metric| metric.native.is_some()) => FamilyType::NativeHistogram,
        4 => FamilyType::Histogram,
        other => return Err(format!("type {other} of {name}, allowed is 0 to 4")),
    };
    let bare = match family_type {
        FamilyType::Counter => name.strip_suffix("_total").unwrap_or(&name),
        _ => &name,
    };
    let mut draft = Draft::new(bare, family_type);
    draft.describe(help, unit);
    let mut native = Vec::new();
    for mut metric in metrics {
        metric.leave_out(&name, family_type, left_out);
        if let Some(histogram) = metric.native {
            native.push(Series {
                labels: metric.labels,
                layout: None,
                point: Point::Native(Box::new(histogram)),
                start: metric.start,
                exemplars: metric.exemplars,
            });
            continue;
        }
        if family_type == FamilyType::NativeHistogram {
            return Err(format!("{name} has native and other histograms"));
        }
        let start = metric.start.map(|start| (Part::Start, start));
        let mut exemplars = metric.exemplars.into_iter();
        for (part, value) in metric.samples.into_iter().chain(start) {
            let exemplar = exemplars.next();
            if !draft.add(metric.labels.clone(), part, value, exemplar) {
                return Err(format!("{name} has a sample twice"));
            }
        }
        draft.add_exemplars(&metric.labels, exemplars);
    }
    let mut family = draft.finish(left_out).map_err(|error| error.to_string())?;
    family.series.extend(native);
    Ok(family)
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
        let part = Part::Bucket(spelled(bound));
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
                self.native = Some(native);
            }
            _ => self
                .samples
                .extend([(Part::Count, count as f64), (Part::Sum, sum)]),
        }
        Ok(())
    }
}

/// The buckets of one sign: runs of numbers, and the difference of each count to the one before.
#[derive(Default)]
struct Side {
    spans: Vec<(i64, u64)>,
    deltas: Vec<i64>,
}

impl Side {
    fn add_deltas(&mut self, value: &Value<'_>) -> Result<(), String> {
        match value {
            Value::Varint(number) => self.deltas.push(zigzag(*number)),
            Value::Bytes(packed) => {
                let mut packed = Message(packed);
                while !packed.0.is_empty() {
                    self.deltas.push(zigzag(packed.varint().ok_or(CUT_OFF)?));
                }
            }
            Value::Fixed64(_) | Value::Fixed32 => return Err(CUT_OFF.to_owned()),
        }
        Ok(())
    }

    fn buckets(&self) -> Result<SparseBuckets, String> {
        let wrong = || "spans and deltas that do not fit each other".to_owned();
        let mut buckets = SparseBuckets::new();
        let mut deltas = self.deltas.iter();
        let (mut number, mut count) = (0_i64, 0_i64);
        for &(offset, length) in &self.spans {
            number = number.checked_add(offset).ok_or_else(wrong)?;
            for _ in 0..length {
                let delta = deltas.next().ok_or_else(wrong)?;
                count = count.checked_add(*delta).ok_or_else(wrong)?;
                let bucket = i32::try_from(number).map_err(|_| wrong())?;
                let observations = u64::try_from(count).map_err(|_| wrong())?;
                if observations > 0 {
                    buckets.push((bucket, observations));
                }
                number += 1;
            }
        }
        if deltas.next().is_some() || buckets.len() > metrics_model::MAX_NATIVE_BUCKETS {
            return Err(wrong());
        }
        Ok(buckets)
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

fn span_of(message: Message<'_>) -> Result<(i64, u64), String> {
    let (mut offset, mut length) = (0, 0);
    for field in message {
        match field.ok_or(CUT_OFF)? {
            (1, Value::Varint(number)) => offset = zigzag(number),
            (2, Value::Varint(number)) => length = number,
            _ => {}
        }
    }
    Ok((offset, length))
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

fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests;

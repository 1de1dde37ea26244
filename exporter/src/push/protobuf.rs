//! Reads `io.prometheus.client.MetricFamily` messages, each preceded by its length.
//!
//! The field numbers are those of
//! [metrics.proto](https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto).

use metrics_model::{FamilyType, NativeHistogram, Point, SparseBuckets};

use super::PushError;
use super::family::{Draft, Family, GAUGE, LabelPairs, Parsed, Part, Series, spelled};

/// Reads a file.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, PushError> {
    let mut parsed = Parsed::default();
    let mut rest = Message(bytes);
    while !rest.0.is_empty() {
        let number = parsed.families.len() + 1;
        let wrong = |reason: String| PushError::Message {
            message: number,
            reason,
        };
        let message = rest
            .bytes()
            .ok_or_else(|| wrong("it is cut off".to_owned()))?;
        let family = family(Message(message), &mut parsed.quantiles).map_err(wrong)?;
        parsed.families.push(family);
    }
    Ok(parsed)
}

const CUT_OFF: &str = "it is cut off or malformed";

fn family(message: Message<'_>, quantiles: &mut usize) -> Result<Family, String> {
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
    for metric in metrics {
        *quantiles += metric.quantiles;
        if let Some(histogram) = metric.native {
            native.push(Series {
                labels: metric.labels,
                layout: None,
                point: Point::Native(Box::new(histogram)),
            });
            continue;
        }
        if family_type == FamilyType::NativeHistogram {
            return Err(format!("{name} has native and other histograms"));
        }
        for (part, value) in metric.samples {
            if !draft.add(metric.labels.clone(), part, value) {
                return Err(format!("{name} has a sample twice"));
            }
        }
    }
    let mut family = draft.finish().map_err(|error| error.to_string())?;
    family.series.extend(native);
    Ok(family)
}

#[derive(Default)]
struct Metric {
    labels: LabelPairs,
    samples: Vec<(Part, f64)>,
    native: Option<NativeHistogram>,
    quantiles: usize,
}

impl Metric {
    fn read(message: Message<'_>) -> Result<Self, String> {
        let mut metric = Self::default();
        for field in message {
            match field.ok_or(CUT_OFF)? {
                (1, Value::Bytes(label)) => metric.labels.push(pair(Message(label))?),
                (2 | 3 | 5, Value::Bytes(scalar)) => {
                    let value = double(Message(scalar), 1)?;
                    metric.samples.push((Part::Value, value));
                }
                (4, Value::Bytes(summary)) => metric.summary(Message(summary))?,
                (6, _) => return Err("a time stamp: what is pushed is what is now".to_owned()),
                (7, Value::Bytes(histogram)) => metric.histogram(Message(histogram))?,
                _ => {}
            }
        }
        metric.labels.sort_unstable();
        Ok(metric)
    }

    fn summary(&mut self, message: Message<'_>) -> Result<(), String> {
        let (mut count, mut sum) = (0, 0.0);
        for field in message {
            match field.ok_or(CUT_OFF)? {
                (1, Value::Varint(number)) => count = number,
                (2, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
                (3, Value::Bytes(_)) => self.quantiles += 1,
                _ => {}
            }
        }
        self.samples
            .extend([(Part::Count, count as f64), (Part::Sum, sum)]);
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
                (3, Value::Bytes(bucket)) => self.samples.push(bucket_sample(Message(bucket))?),
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

/// The buckets of one sign: runs of numbers, and how each count differs from the one before it.
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

fn bucket_sample(message: Message<'_>) -> Result<(Part, f64), String> {
    let (mut count, mut bound) = (0, 0.0);
    for field in message {
        match field.ok_or(CUT_OFF)? {
            (1, Value::Varint(number)) => count = number,
            (2, Value::Fixed64(bits)) => bound = f64::from_bits(bits),
            _ => {}
        }
    }
    Ok((Part::Bucket(spelled(bound)), count as f64))
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

/// The fields of a message that are left; `None` as a field where it is malformed.
struct Message<'a>(&'a [u8]);

enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Message<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => Value::Bytes(self.bytes()?),
            5 => self.take(4).map(|_| Value::Fixed32)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Message<'a> {
    type Item = Option<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field with a length.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn double_field(number: u8, value: f64) -> Vec<u8> {
        [&[number << 3 | 1], value.to_le_bytes().as_slice()].concat()
    }

    fn delimited(message: &[u8]) -> Vec<u8> {
        [&[message.len() as u8], message].concat()
    }

    #[test]
    fn a_counter_with_labels_is_read() {
        let label = [field(1, b"queue"), field(2, b"mail")].concat();
        let metric = [field(1, &label), field(3, &double_field(1, 2.5))].concat();
        let bytes = delimited(
            &[
                field(1, b"jobs_total"),
                field(2, b"Jobs"),
                field(4, &metric),
            ]
            .concat(),
        );
        let parsed = parse(&bytes).unwrap();
        let [family] = parsed.families.as_slice() else {
            panic!("{parsed:?}");
        };
        assert_eq!(
            (&*family.name, family.family_type, &*family.help),
            ("jobs", FamilyType::Counter, "Jobs")
        );
        assert_eq!(
            family.series[0].labels,
            [("queue".to_owned(), "mail".to_owned())]
        );
        assert_eq!(family.series[0].point, Point::Scalar(2.5));
    }

    #[test]
    fn a_native_histogram_is_read() {
        let histogram = [
            vec![1 << 3, 6],
            double_field(2, 9.5),
            vec![5 << 3, 6], // schema 3
            double_field(6, 0.001),
            vec![7 << 3, 1],
            // numbers -2, -1 and 3
            field(12, &[1 << 3, 3, 2 << 3, 2]),
            field(12, &[1 << 3, 6, 2 << 3, 1]),
            // counts 1, 3, 1
            field(13, &[2, 4, 3]),
        ]
        .concat();
        let metric = field(7, &histogram);
        let bytes = delimited(&[field(1, b"wait"), vec![3 << 3, 4], field(4, &metric)].concat());
        let parsed = parse(&bytes).unwrap();
        let expected = NativeHistogram {
            schema: 3,
            zero_threshold: 0.001,
            zero_count: 1,
            sum: 9.5,
            positive: vec![(-2, 1), (-1, 3), (3, 1)],
            negative: Vec::new(),
        };
        let point = Point::Native(Box::new(expected));
        assert_eq!(parsed.families[0].series[0].point, point);
    }

    #[test]
    fn what_is_cut_off_is_refused_wherever_that_is() {
        let label = [field(1, b"queue"), field(2, b"mail")].concat();
        let metric = [field(1, &label), field(2, &double_field(1, 2.5))].concat();
        let whole = delimited(&[field(1, b"a"), vec![3 << 3, 1], field(4, &metric)].concat());
        assert!(parse(&whole).is_ok());
        for length in 1..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
    }
}

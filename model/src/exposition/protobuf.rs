//! The protobuf format: `io.prometheus.client.MetricFamily` messages, each behind its length.
//!
//! Source: `client_model`'s `metrics.proto`, whose field numbers stand below, and the encoding of
//! protocol buffers (varints, lengths, little-endian doubles).
//!
//! A family may span several messages with its name, so that no message gets large and a page can
//! end between two. Where a message ends depends only on its content, so pages join byte for byte.

mod message;

use self::message::{
    DOUBLE_BYTES, LENGTH, Time, VARINT, encoded, message_bytes, put_count, put_double, put_key,
    put_labels, put_message, put_number, put_pair, put_text, varint_bytes,
};
use super::openmetrics2::spans;
use super::parts::{exemplar_of, has_unit, newest};
use super::renderer::{Renderer, Shown};
use crate::bytes::Write;
use crate::escaping::Escaping;
use crate::registry::{BucketView, SeriesView};
use crate::sum::sum_of_counts;
use crate::{Exemplar, FamilySpec, FamilyType, NativeHistogram, SparseBuckets};

/// A message ends after this many metrics …
const MESSAGE_METRICS: usize = 64;
/// … or after this many bytes.
const MESSAGE_BYTES: usize = 16 * 1024;

/// Pages as they are written.
pub(super) struct Protobuf {
    out: Vec<u8>,
    escaping: Escaping,
    family_type: FamilyType,
    /// Fields 1 to 3 and 5 of the family's messages.
    head: Vec<u8>,
    /// The metrics of the message in progress.
    metrics: Vec<u8>,
    count: usize,
    /// The last start time, in Unix milliseconds, and field 3 with it: series that were defined by
    /// one batch have the same.
    time: (u64, Vec<u8>),
    /// Scratch: one metric, and its histogram.
    metric: Vec<u8>,
    histogram: Vec<u8>,
}

impl Protobuf {
    pub(super) fn new(out: Vec<u8>, escaping: Escaping) -> Self {
        Self {
            out,
            escaping,
            family_type: FamilyType::Counter,
            head: Vec::new(),
            metrics: Vec::new(),
            count: 0,
            time: (0, Vec::new()),
            metric: Vec::new(),
            histogram: Vec::new(),
        }
    }

    fn end_message(&mut self) {
        if self.count == 0 {
            return;
        }
        self.out
            .put_varint((self.head.len() + self.metrics.len()) as u64);
        self.out.extend_from_slice(&self.head);
        self.out.extend_from_slice(&self.metrics);
        self.metrics.clear();
        self.count = 0;
    }

    /// Writes the labels of a new metric.
    fn labels(&mut self, labels: &str, pid: &str) {
        self.metric.clear();
        put_labels(&mut self.metric, labels);
        if !pid.is_empty() {
            put_pair(&mut self.metric, b"pid", pid.as_bytes());
        }
    }

    /// Ends a metric.
    fn end_metric(&mut self) {
        put_message(&mut self.metrics, 4, &self.metric);
        self.count += 1;
        if self.count >= MESSAGE_METRICS || self.metrics.len() >= MESSAGE_BYTES {
            self.end_message();
        }
    }

    /// Ends a metric whose value is `histogram`, as field `number`.
    fn end_histogram(&mut self, number: u64) {
        put_message(&mut self.metric, number, &self.histogram);
        self.end_metric();
    }

    fn number(&mut self, number: f64, start_ms: u64, exemplar: Option<&Exemplar>) {
        if self.family_type != FamilyType::Counter {
            put_number(&mut self.metric, 2, number, 0);
            return self.end_metric();
        }
        if self.time.0 != start_ms {
            self.time.0 = start_ms;
            self.time.1.clear();
            Time::of(start_ms).put(&mut self.time.1, 3);
        }
        let exemplar = exemplar.map(|exemplar| encoded(self.escaping, exemplar));
        let of_exemplar = exemplar
            .as_ref()
            .map_or(0, |found| message_bytes(found.len()));
        let of_time = self.time.1.len() as u64;
        put_number(&mut self.metric, 3, number, of_exemplar + of_time);
        if let Some(exemplar) = exemplar {
            put_message(&mut self.metric, 2, &exemplar);
        }
        self.metric.extend_from_slice(&self.time.1);
        self.end_metric();
    }

    fn buckets(&mut self, view: &BucketView<'_>, shown: &Shown<'_>) {
        let out = &mut self.histogram;
        out.clear();
        put_count(out, 1, sum_of_counts(view.counts.iter().copied()));
        put_double(out, 2, view.sum);
        if self.family_type != FamilyType::Histogram {
            Time::of(shown.start_ms).put(out, 4);
            return self.end_histogram(4);
        }
        let mut below = 0;
        let bounds = view.layout.values().chain([f64::INFINITY]);
        for (at, (bound, in_bucket)) in bounds.zip(view.counts.iter()).enumerate() {
            below = in_bucket.wrapping_add(below);
            let exemplar = exemplar_of(shown.exemplars, view, at);
            let exemplar = exemplar.map(|exemplar| encoded(self.escaping, exemplar));
            let of_exemplar = exemplar
                .as_ref()
                .map_or(0, |found| message_bytes(found.len()));
            put_key(out, 3, LENGTH);
            out.put_varint(1 + varint_bytes(below) + DOUBLE_BYTES + of_exemplar);
            put_count(out, 1, below);
            put_double(out, 2, bound);
            if let Some(exemplar) = exemplar {
                put_message(out, 3, &exemplar);
            }
        }
        Time::of(shown.start_ms).put(out, 15);
        self.end_histogram(7);
    }

    fn native(&mut self, native: &NativeHistogram, shown: &Shown<'_>) {
        self.histogram.clear();
        put_count(&mut self.histogram, 1, native.count());
        put_double(&mut self.histogram, 2, native.sum);
        put_key(&mut self.histogram, 5, VARINT);
        self.histogram.put_signed(native.schema.into());
        put_double(&mut self.histogram, 6, native.zero_threshold);
        put_count(&mut self.histogram, 7, native.zero_count);
        put_side(&mut self.histogram, 9, &native.negative);
        put_side(&mut self.histogram, 12, &native.positive);
        if native.is_empty() && native.zero_threshold == 0.0 {
            // An empty span tells it from a classic histogram.
            put_message(&mut self.histogram, 12, &[]);
        }
        Time::of(shown.start_ms).put(&mut self.histogram, 15);
        for exemplar in shown.exemplars {
            put_message(&mut self.histogram, 16, &encoded(self.escaping, exemplar));
        }
        self.end_histogram(7);
    }
}

impl Renderer for Protobuf {
    fn family(&mut self, spec: &FamilySpec<'_>, name: &str, _of_start_times: bool) {
        self.family_type = spec.family_type;
        let (suffix, type_number) = match spec.family_type {
            FamilyType::Counter => ("_total", 0),
            FamilyType::Info => ("_info", 1),
            FamilyType::Gauge(_) | FamilyType::StateSet => ("", 1),
            FamilyType::Summary => ("", 2),
            FamilyType::Histogram | FamilyType::NativeHistogram => ("", 4),
        };
        let has_unit = has_unit(name, spec);
        let name = format!("{name}{suffix}");
        self.head.clear();
        put_text(&mut self.head, 1, &name);
        put_text(&mut self.head, 2, spec.help);
        put_count(&mut self.head, 3, type_number);
        if has_unit {
            put_text(&mut self.head, 5, spec.unit);
        }
    }

    /// The head is part of each message.
    fn head(&mut self, _spec: &FamilySpec<'_>) {}

    fn series(&mut self, shown: &Shown<'_>) {
        if let SeriesView::PerWriter(values) = shown.view {
            for (pid, value) in values {
                self.labels(shown.labels, pid);
                self.number(*value, shown.start_ms, None);
            }
            return;
        }
        self.labels(shown.labels, "");
        match shown.view {
            SeriesView::Number(number) => {
                let exemplar = newest(shown.exemplars.iter().copied());
                self.number(*number, shown.start_ms, exemplar);
            }
            SeriesView::Buckets(view) => self.buckets(view, shown),
            SeriesView::Native(native) => self.native(native, shown),
            SeriesView::PerWriter(_) => {}
        }
    }

    /// Only numbers without a start time.
    fn takes_plain_numbers(&self, has_exemplars: bool) -> bool {
        self.family_type != FamilyType::Counter && !has_exemplars
    }

    fn plain_number(&mut self, labels: &str, number: f64) {
        self.labels(labels, "");
        self.number(number, 0, None);
    }

    fn size(&self) -> usize {
        self.out.len() + self.metrics.len()
    }

    fn may_pause(&self) -> bool {
        self.count == 0
    }

    fn allow_pause(&mut self) {
        self.end_message();
    }

    fn end_family(&mut self) {
        self.end_message();
    }

    fn into_bytes(self) -> Vec<u8> {
        self.out
    }
}

/// Writes spans as field `number`, and after them the differences from bucket to bucket.
fn put_side(out: &mut Vec<u8>, number: u64, side: &SparseBuckets) {
    let mut span = Vec::new();
    for (offset, length) in spans(side) {
        span.clear();
        put_key(&mut span, 1, VARINT);
        span.put_signed(offset);
        put_count(&mut span, 2, length.into());
        put_message(out, number, &span);
    }
    let mut before = 0_u64;
    for (_, count) in side {
        let step = count.wrapping_sub(before).cast_signed();
        put_key(out, number + 1, VARINT);
        out.put_varint(((step << 1) ^ (step >> 63)).cast_unsigned());
        before = *count;
    }
}

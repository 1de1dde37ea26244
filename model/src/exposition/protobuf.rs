//! The protobuf format: `io.prometheus.client.MetricFamily` messages, each behind its length.
//!
//! Source: `client_model`'s `metrics.proto`, whose field numbers stand below, and the encoding of
//! protocol buffers (varints, lengths, little-endian doubles).
//!
//! A family may span several messages with its name, so that no message gets large and a page can
//! end between two. Where a message ends depends only on its content, so pages join byte for byte.

use super::openmetrics2::spans;
use super::parts::{exemplar_of, has_unit, newest};
use super::renderer::{Renderer, Shown};
use crate::bytes::Write;
use crate::escaping::{Escaping, unescaped};
use crate::labels::parse;
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
    /// Scratch: one metric, and a message inside it.
    metric: Vec<u8>,
    inner: Vec<u8>,
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
            metric: Vec::new(),
            inner: Vec::new(),
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
        put_labels(&mut self.metric, &mut self.inner, labels);
        if !pid.is_empty() {
            put_pair(&mut self.metric, &mut self.inner, "pid", pid);
        }
    }

    /// Ends a metric whose value is `inner`, as field `number`.
    fn end_metric(&mut self, number: u64) {
        put_message(&mut self.metric, number, &self.inner);
        put_message(&mut self.metrics, 4, &self.metric);
        self.count += 1;
        if self.count >= MESSAGE_METRICS || self.metrics.len() >= MESSAGE_BYTES {
            self.end_message();
        }
    }

    fn number(&mut self, number: f64, shown: &Shown<'_>) {
        self.inner.clear();
        put_double(&mut self.inner, 1, number);
        if self.family_type != FamilyType::Counter {
            return self.end_metric(2);
        }
        if let Some(exemplar) = newest(shown.exemplars.iter().copied()) {
            put_exemplar(&mut self.inner, 2, self.escaping, exemplar);
        }
        put_time(&mut self.inner, 3, shown.start_ms);
        self.end_metric(3);
    }

    fn buckets(&mut self, view: &BucketView<'_>, shown: &Shown<'_>) {
        let count = sum_of_counts(view.counts.iter().copied());
        self.inner.clear();
        put_count(&mut self.inner, 1, count);
        put_double(&mut self.inner, 2, view.sum);
        if self.family_type != FamilyType::Histogram {
            put_time(&mut self.inner, 4, shown.start_ms);
            return self.end_metric(4);
        }
        let (mut below, mut bucket) = (0, Vec::new());
        let bounds = view.layout.values().chain([f64::INFINITY]);
        for (at, (bound, in_bucket)) in bounds.zip(view.counts.iter()).enumerate() {
            below = in_bucket.wrapping_add(below);
            bucket.clear();
            put_count(&mut bucket, 1, below);
            put_double(&mut bucket, 2, bound);
            if let Some(exemplar) = exemplar_of(shown.exemplars, view, at) {
                put_exemplar(&mut bucket, 3, self.escaping, exemplar);
            }
            put_message(&mut self.inner, 3, &bucket);
        }
        put_time(&mut self.inner, 15, shown.start_ms);
        self.end_metric(7);
    }

    fn native(&mut self, native: &NativeHistogram, shown: &Shown<'_>) {
        self.inner.clear();
        put_count(&mut self.inner, 1, native.count());
        put_double(&mut self.inner, 2, native.sum);
        put_key(&mut self.inner, 5, VARINT);
        self.inner.put_signed(native.schema.into());
        put_double(&mut self.inner, 6, native.zero_threshold);
        put_count(&mut self.inner, 7, native.zero_count);
        put_side(&mut self.inner, 9, &native.negative);
        put_side(&mut self.inner, 12, &native.positive);
        if native.is_empty() && native.zero_threshold == 0.0 {
            // An empty span tells it from a classic histogram.
            put_message(&mut self.inner, 12, &[]);
        }
        put_time(&mut self.inner, 15, shown.start_ms);
        for exemplar in shown.exemplars {
            put_exemplar(&mut self.inner, 16, self.escaping, exemplar);
        }
        self.end_metric(7);
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
                self.number(*value, shown);
            }
            return;
        }
        self.labels(shown.labels, "");
        match shown.view {
            SeriesView::Number(number) => self.number(*number, shown),
            SeriesView::Buckets(view) => self.buckets(view, shown),
            SeriesView::Native(native) => self.native(native, shown),
            SeriesView::PerWriter(_) => {}
        }
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

const VARINT: u64 = 0;
const DOUBLE: u64 = 1;
const LENGTH: u64 = 2;

fn put_key(out: &mut Vec<u8>, number: u64, wire_type: u64) {
    out.put_varint(number << 3 | wire_type);
}

fn put_count(out: &mut Vec<u8>, number: u64, value: u64) {
    put_key(out, number, VARINT);
    out.put_varint(value);
}

fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_key(out, number, DOUBLE);
    out.put_float(value);
}

fn put_message(out: &mut Vec<u8>, number: u64, message: &[u8]) {
    put_key(out, number, LENGTH);
    out.put_blob(message);
}

fn put_text(out: &mut Vec<u8>, number: u64, text: &str) {
    put_message(out, number, text.as_bytes());
}

/// Label pairs, field 1 of a metric and of an exemplar.
fn put_labels(out: &mut Vec<u8>, scratch: &mut Vec<u8>, labels: &str) {
    for (name, value) in parse(labels) {
        put_pair(out, scratch, &unescaped(name), &unescaped(value));
    }
}

fn put_pair(out: &mut Vec<u8>, scratch: &mut Vec<u8>, name: &str, value: &str) {
    scratch.clear();
    put_text(scratch, 1, name);
    put_text(scratch, 2, value);
    put_message(out, 1, scratch);
}

fn put_exemplar(out: &mut Vec<u8>, number: u64, escaping: Escaping, exemplar: &Exemplar) {
    let (mut message, mut scratch) = (Vec::new(), Vec::new());
    let labels = escaping.exemplar_labels(exemplar.labels.as_str());
    put_labels(&mut message, &mut scratch, &labels);
    put_double(&mut message, 2, exemplar.value);
    put_time(&mut message, 3, (exemplar.time * 1000.0).round() as u64);
    put_message(out, number, &message);
}

/// A `google.protobuf.Timestamp`.
fn put_time(out: &mut Vec<u8>, number: u64, ms: u64) {
    if ms == 0 {
        return;
    }
    let mut time = Vec::with_capacity(16);
    put_count(&mut time, 1, ms / 1000);
    put_count(&mut time, 2, ms % 1000 * 1_000_000);
    put_message(out, number, &time);
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

//! `OpenMetrics` 2.0.0 (release candidate 0): samples have the name of their family, a histogram or
//! summary is one line, native histograms have a form, and a start time stands on its sample's
//! line.
//!
//! Source: the `OpenMetrics` specification 2.0.0-rc0, "Text Format".

use super::number::format_number;
use super::parts::{
    exemplar_of, has_unit, names_state, newest, push_exemplar, push_seconds, set_pid_label,
};
use super::renderer::{Renderer, Shown};
use crate::escaping::{Escaping, is_legacy, push_quoted};
use crate::labels::push_escaped;
use crate::registry::{BucketView, SeriesView};
use crate::sum::sum_of_counts;
use crate::{Exemplar, FamilySpec, FamilyType, NativeHistogram, SparseBuckets};

/// A page as it is written.
pub(super) struct OpenMetrics2 {
    out: Vec<u8>,
    escaping: Escaping,
    family_type: FamilyType,
    /// The family's name, in quotes where it needs them.
    name: Vec<u8>,
    is_quoted: bool,
    has_unit: bool,
    names_state: bool,
}

impl OpenMetrics2 {
    pub(super) fn new(out: Vec<u8>, escaping: Escaping) -> Self {
        Self {
            out,
            escaping,
            family_type: FamilyType::Counter,
            name: Vec::new(),
            is_quoted: false,
            has_unit: false,
            names_state: false,
        }
    }

    fn meta(&mut self, keyword: &[u8], text: &[u8]) {
        self.out.extend_from_slice(keyword);
        self.out.extend_from_slice(&self.name);
        self.out.push(b' ');
        self.out.extend_from_slice(text);
        self.out.push(b'\n');
    }

    fn name_and_labels(&mut self, labels: &[u8], more_labels: &[u8]) {
        let opens = if self.is_quoted { b"{" } else { &b""[..] };
        self.out.extend_from_slice(opens);
        self.out.extend_from_slice(&self.name);
        let mut separator = if self.is_quoted { b',' } else { b'{' };
        for labels in [labels, more_labels] {
            if !labels.is_empty() {
                self.out.push(separator);
                self.out.extend_from_slice(labels);
                separator = b',';
            }
        }
        if self.is_quoted || separator == b',' {
            self.out.push(b'}');
        }
        self.out.push(b' ');
    }

    /// Writes what comes after a value.
    fn end_sample<'e>(&mut self, start_ms: u64, exemplars: impl Iterator<Item = &'e Exemplar>) {
        if start_ms > 0 {
            self.out.extend_from_slice(b" st@");
            push_seconds(&mut self.out, start_ms);
        }
        for exemplar in exemplars {
            push_exemplar(&mut self.out, self.escaping, exemplar);
        }
        self.out.push(b'\n');
    }

    fn field(&mut self, name: &str, value: f64) {
        self.out.extend_from_slice(name.as_bytes());
        format_number(value, &mut self.out);
    }

    fn buckets(&mut self, view: &BucketView<'_>) {
        let count = sum_of_counts(view.counts.iter().copied());
        self.field("{count:", count as f64);
        self.field(",sum:", view.sum);
        if self.family_type != FamilyType::Histogram {
            self.out.extend_from_slice(b",quantile:[]}");
            return;
        }
        self.out.extend_from_slice(b",bucket:[");
        let mut below = 0;
        let bounds = view.layout.texts().chain(["+Inf"]);
        for (at, (bound, in_bucket)) in bounds.zip(view.counts.iter()).enumerate() {
            below = in_bucket.wrapping_add(below);
            if at > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(bound.as_bytes());
            self.field(":", below as f64);
        }
        self.out.extend_from_slice(b"]}");
    }

    fn native(&mut self, native: &NativeHistogram) {
        self.field("{count:", native.count() as f64);
        self.field(",sum:", native.sum);
        self.field(",schema:", native.schema.into());
        self.field(",zero_threshold:", native.zero_threshold);
        self.field(",zero_count:", native.zero_count as f64);
        self.side("negative", &native.negative);
        self.side("positive", &native.positive);
        self.out.push(b'}');
    }

    fn side(&mut self, name: &str, side: &SparseBuckets) {
        if side.is_empty() {
            return;
        }
        let spans = spans(side);
        let spans = spans
            .iter()
            .map(|(offset, length)| format!("{offset}:{length}"));
        let spans = spans.collect::<Vec<_>>().join(",");
        let counts = side.iter().map(|(_, count)| count.to_string());
        let counts = counts.collect::<Vec<_>>().join(",");
        let text = format!(",{name}_spans:[{spans}],{name}_buckets:[{counts}]");
        self.out.extend_from_slice(text.as_bytes());
    }
}

/// Returns runs of buckets without a gap. The first number of a run is its distance from the end of
/// the run before (for the first run: its bucket number), the second its length.
pub(super) fn spans(side: &SparseBuckets) -> Vec<(i32, u32)> {
    let mut spans = Vec::<(i32, u32)>::new();
    let mut next = 0;
    for (number, _) in side {
        match spans.last_mut() {
            Some((_, length)) if *number == next => *length += 1,
            _ => spans.push((number - next, 1)),
        }
        next = number + 1;
    }
    spans
}

impl Renderer for OpenMetrics2 {
    fn family(&mut self, spec: &FamilySpec<'_>, name: &str, _of_start_times: bool) {
        self.family_type = spec.family_type;
        self.has_unit = has_unit(name, spec);
        self.names_state = names_state(self.escaping, name);
        let suffix = match spec.family_type {
            FamilyType::Counter => "_total",
            FamilyType::Info => "_info",
            _ => "",
        };
        let name = format!("{name}{suffix}");
        self.is_quoted = !is_legacy(&name);
        self.name.clear();
        if self.is_quoted {
            push_quoted(&mut self.name, &name);
        } else {
            self.name.extend_from_slice(name.as_bytes());
        }
    }

    /// TYPE, UNIT and HELP, in this order.
    fn head(&mut self, spec: &FamilySpec<'_>) {
        let type_name = match spec.family_type {
            FamilyType::NativeHistogram => "histogram",
            FamilyType::StateSet if !self.names_state => "gauge",
            other => other.name(),
        };
        self.meta(b"# TYPE ", type_name.as_bytes());
        if self.has_unit {
            self.meta(b"# UNIT ", spec.unit.as_bytes());
        }
        if !spec.help.is_empty() {
            let mut escaped = Vec::with_capacity(spec.help.len());
            push_escaped(&mut escaped, spec.help.as_bytes());
            self.meta(b"# HELP ", &escaped);
        }
    }

    fn series(&mut self, shown: &Shown<'_>) {
        let labels = shown.labels;
        let exemplars = shown.exemplars.iter().copied();
        match shown.view {
            SeriesView::PerWriter(values) => {
                let mut pid_label = Vec::new();
                for (pid, value) in values {
                    set_pid_label(&mut pid_label, pid);
                    self.name_and_labels(labels.as_bytes(), &pid_label);
                    format_number(*value, &mut self.out);
                    self.out.push(b'\n');
                }
            }
            SeriesView::Number(number) => {
                self.name_and_labels(labels.as_bytes(), b"");
                format_number(*number, &mut self.out);
                let is_counter = self.family_type == FamilyType::Counter;
                let newest = newest(shown.exemplars.iter().copied());
                self.end_sample(
                    if is_counter { shown.start_ms } else { 0 },
                    newest.into_iter(),
                );
            }
            SeriesView::Buckets(view) => {
                self.name_and_labels(labels.as_bytes(), b"");
                self.buckets(view);
                let buckets = 0..view.counts.len();
                let of_buckets = buckets.filter_map(|at| exemplar_of(shown.exemplars, view, at));
                self.end_sample(shown.start_ms, of_buckets);
            }
            SeriesView::Native(native) => {
                self.name_and_labels(labels.as_bytes(), b"");
                self.native(native);
                self.end_sample(shown.start_ms, exemplars);
            }
        }
    }

    fn takes_plain_numbers(&self, _has_exemplars: bool) -> bool {
        false
    }

    fn plain_number(&mut self, _labels: &str, _number: f64) {}

    fn size(&self) -> usize {
        self.out.len()
    }

    fn end(&mut self) {
        self.out.extend_from_slice(b"# EOF\n");
    }

    fn into_bytes(self) -> Vec<u8> {
        self.out
    }
}

//! Text formats 0.0.4 and 1.0.0 and `OpenMetrics` 1.0.0, which differ only in details.
//!
//! Sources: "Text-based format" in Prometheus' *Exposition formats*, and the `OpenMetrics`
//! specification 1.0.0.

use super::Format;
use super::line::{Head, push_line, push_name_and_labels};
use super::number::{is_whole_text, push_number_line};
use super::parts::{
    exemplar_of, has_unit, names_state, newest, push_exemplar, push_seconds, set_pid_label,
};
use super::renderer::{Renderer, Shown};
use crate::escaping::{Escaping, is_legacy, push_quoted};
use crate::labels::push_escaped;
use crate::registry::{BucketView, SeriesView};
use crate::{Exemplar, FamilySpec, FamilyType, GaugeMode};

/// A page as it is written.
#[expect(
    clippy::struct_excessive_bools,
    reason = "two are of the request, two of the family at hand"
)]
pub(super) struct Text {
    out: Vec<u8>,
    is_open_metrics: bool,
    escaping: Escaping,
    created: bool,
    /// Whether the current family shows the start times of another.
    is_of_start_times: bool,
    /// Whether start times follow the family's numbers.
    has_start_times: bool,
    family_type: FamilyType,
    /// The family's name as this format spells it.
    name: String,
    /// Beginning of a sample, prepared once: each sample only copies it.
    plain: Head,
    bucket: Head,
    sum: Head,
    count: Head,
    created_head: Head,
    /// Whether a counter is shown as a family of unknown type.
    is_unknown: bool,
}

impl Text {
    pub(super) fn new(out: Vec<u8>, format: Format, escaping: Escaping, created: bool) -> Self {
        Self {
            out,
            is_open_metrics: format == Format::OpenMetrics,
            escaping,
            created,
            is_of_start_times: false,
            has_start_times: false,
            family_type: FamilyType::Counter,
            name: String::new(),
            plain: Head::default(),
            bucket: Head::default(),
            sum: Head::default(),
            count: Head::default(),
            created_head: Head::default(),
            is_unknown: false,
        }
    }

    /// Writes `# HELP name `, the name in quotes if it needs them.
    fn meta(&mut self, keyword: &[u8], suffix: &str) {
        self.out.extend_from_slice(keyword);
        let name = format!("{}{suffix}", self.name);
        if is_legacy(&name) {
            self.out.extend_from_slice(name.as_bytes());
        } else {
            push_quoted(&mut self.out, &name);
        }
        self.out.push(b' ');
    }

    fn help(&mut self, help: &str) {
        if self.is_open_metrics {
            push_escaped(&mut self.out, help.as_bytes());
        } else {
            let escaped = help.replace('\\', "\\\\").replace('\n', "\\n");
            self.out.extend_from_slice(escaped.as_bytes());
        }
        self.out.push(b'\n');
    }

    fn native_as_classic(&mut self, labels: &str, count: u64, sum: f64, shown: &Shown<'_>) {
        // These formats have no native histograms, so all observations are shown as one bucket.
        self.bucket(labels, "+Inf");
        push_number_line(*b"} ", count as f64, &mut self.out);
        self.exemplar_of_line(newest(shown.exemplars.iter().copied()));
        self.sum_and_count(labels, None, sum, count);
        self.created(labels, shown.start_ms);
    }

    fn buckets(&mut self, labels: &str, view: &BucketView<'_>, shown: &Shown<'_>) {
        let mut count = 0;
        let is_histogram = self.family_type == FamilyType::Histogram;
        let bounds = view.layout.texts().chain(["+Inf"]);
        for (at, (bound, in_bucket)) in bounds.zip(view.counts.iter()).enumerate() {
            count = in_bucket.wrapping_add(count);
            if is_histogram {
                self.bucket(labels, bound);
                push_number_line(*b"} ", count as f64, &mut self.out);
                let exemplar = exemplar_of(shown.exemplars, view, at);
                self.exemplar_of_line(exemplar);
            }
        }
        let lowest = view.layout.values().next();
        self.sum_and_count(labels, lowest, view.sum, count);
        self.created(labels, shown.start_ms);
    }

    /// Writes a bucket's sample up to the end of its labels.
    fn bucket(&mut self, labels: &str, bound: &str) {
        self.bucket.push_opened(labels, &mut self.out);
        self.out.extend_from_slice(b"le=\"");
        self.out.extend_from_slice(bound.as_bytes());
        if self.is_open_metrics && is_whole_text(bound) {
            self.out.extend_from_slice(b".0");
        }
        self.out.push(b'"');
    }

    /// Adds an exemplar to the line that has just been written, if the format has them.
    fn exemplar_of_line(&mut self, exemplar: Option<&Exemplar>) {
        if let (true, Some(exemplar)) = (self.is_open_metrics, exemplar) {
            self.out.pop();
            push_exemplar(&mut self.out, self.escaping, exemplar);
            self.out.push(b'\n');
        }
    }

    /// Writes `_sum` and `_count`; `lowest` is the lowest bound.
    ///
    /// OpenMetrics 1.0.0, "Histogram" and "Summary": a sum is like a counter, so it must be neither
    /// negative nor NaN; a histogram with a negative bound must have none, and a histogram without a
    /// sum has no `_count`. Its count is that of the bucket `+Inf`.
    fn sum_and_count(&mut self, labels: &str, lowest: Option<f64>, sum: f64, count: u64) {
        let is_like_a_counter = sum >= 0.0 && lowest.is_none_or(|bound| bound >= 0.0);
        let has_sum = !self.is_open_metrics || is_like_a_counter;
        if has_sum {
            push_line(&mut self.out, &self.sum, labels, b"", sum);
        } else if self.family_type != FamilyType::Summary {
            return;
        }
        push_line(&mut self.out, &self.count, labels, b"", count as f64);
    }

    fn created(&mut self, labels: &str, start_ms: u64) {
        if !self.created || !self.is_open_metrics || self.is_unknown || start_ms == 0 {
            return;
        }
        push_name_and_labels(&mut self.out, &self.created_head, labels, b"");
        push_seconds(&mut self.out, start_ms);
        self.out.push(b'\n');
    }
}

impl Renderer for Text {
    /// Returns true for text 0.0.4 and 1.0.0, whose families have no place for start times.
    fn has_family_of_start_times(&self, family_type: FamilyType) -> bool {
        self.created && !self.is_open_metrics && family_type.gauge_mode().is_none()
    }

    fn family(&mut self, spec: &FamilySpec<'_>, name: &str, of_start_times: bool) {
        self.family_type = spec.family_type;
        self.is_of_start_times = of_start_times;
        self.is_unknown = false;
        self.name.clear();
        self.name.push_str(name);
        if of_start_times {
            self.name.push_str("_created");
            self.family_type = FamilyType::Gauge(GaugeMode::MostRecent);
        }
        let is_counter = self.family_type == FamilyType::Counter;
        self.has_start_times = self.created && self.is_open_metrics && is_counter;
        let suffix = match self.family_type {
            FamilyType::Counter => "_total",
            FamilyType::Info => "_info",
            _ => "",
        };
        self.plain.set(&self.name, suffix);
        if self.family_type.gauge_mode().is_none() {
            self.bucket.set(&self.name, "_bucket");
            self.sum.set(&self.name, "_sum");
            self.count.set(&self.name, "_count");
            self.created_head.set(&self.name, "_created");
        }
    }

    /// Even hidden start times reserve their name for a counter in `OpenMetrics` 1.0.0. So the
    /// counter becomes a family of unknown type, with the name of its samples.
    fn without_start_times(&mut self) {
        self.has_start_times = false;
        self.is_unknown = self.is_open_metrics;
    }

    /// Writes HELP, TYPE and UNIT.
    fn head(&mut self, spec: &FamilySpec<'_>) {
        // In the text formats the family of a counter or info has the name of its samples.
        let suffix = match self.family_type {
            FamilyType::Counter if !self.is_open_metrics || self.is_unknown => "_total",
            FamilyType::Info if !self.is_open_metrics => "_info",
            _ => "",
        };
        if !spec.help.is_empty() {
            self.meta(b"# HELP ", suffix);
            self.help(spec.help);
        }
        self.meta(b"# TYPE ", suffix);
        let type_name = match self.family_type {
            _ if self.is_unknown => "unknown",
            FamilyType::NativeHistogram => "histogram",
            FamilyType::Info | FamilyType::StateSet if !self.is_open_metrics => "gauge",
            FamilyType::StateSet if !names_state(self.escaping, &self.name) => "gauge",
            other => other.name(),
        };
        self.out.extend_from_slice(type_name.as_bytes());
        self.out.push(b'\n');
        if self.is_open_metrics && !self.is_unknown && has_unit(&self.name, spec) {
            self.meta(b"# UNIT ", "");
            self.out.extend_from_slice(spec.unit.as_bytes());
            self.out.push(b'\n');
        }
    }

    fn series(&mut self, shown: &Shown<'_>) {
        let labels = shown.labels;
        match shown.view {
            _ if self.is_of_start_times => {
                let seconds = shown.start_ms as f64 / 1000.0;
                push_line(&mut self.out, &self.plain, labels, b"", seconds);
            }
            SeriesView::Number(number) => {
                push_line(&mut self.out, &self.plain, labels, b"", *number);
                let exemplar = newest(shown.exemplars.iter().copied());
                self.exemplar_of_line(exemplar.filter(|_| !self.is_unknown));
                if self.family_type == FamilyType::Counter {
                    self.created(labels, shown.start_ms);
                }
            }
            SeriesView::PerWriter(values) => {
                let mut pid_label = Vec::new();
                for (pid, value) in values {
                    set_pid_label(&mut pid_label, pid);
                    push_line(&mut self.out, &self.plain, labels, &pid_label, *value);
                }
            }
            SeriesView::Buckets(view) => self.buckets(labels, view, shown),
            SeriesView::Native(native) => {
                self.native_as_classic(labels, native.count(), native.sum, shown);
            }
        }
    }

    fn takes_plain_numbers(&self, has_exemplars: bool) -> bool {
        !(self.is_of_start_times || self.has_start_times || self.is_open_metrics && has_exemplars)
    }

    #[inline]
    fn plain_number(&mut self, labels: &str, number: f64) {
        push_line(&mut self.out, &self.plain, labels, b"", number);
    }

    fn size(&self) -> usize {
        self.out.len()
    }

    fn end(&mut self) {
        if self.is_open_metrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        self.out
    }
}

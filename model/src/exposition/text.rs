//! Text format 0.0.4 and `OpenMetrics` 1.0.0, which share everything but the details.
//!
//! Sources: "Text-based format" in Prometheus' *Exposition formats*, and the `OpenMetrics`
//! specification 1.0.0.

use super::Format;
use super::number::format_number;
use crate::labels::{parse, push_escaped};
use crate::name::{REJECTED, is_legacy_name, push_underscored};
use crate::registry::{BucketView, SeriesView};
use crate::{FamilySpec, FamilyType, GaugeMode};

/// A page as it is written.
pub(super) struct Text {
    pub(super) out: Vec<u8>,
    format: Format,
    created: bool,
    /// Whether the family at hand shows the start times of another.
    is_of_start_times: bool,
    family_type: FamilyType,
    /// The family's name as this format spells it; kept apart so that samples only copy it.
    name: Vec<u8>,
    /// How its plain samples begin: the name, which a counter's ends in `_total`, and a brace.
    sample_head: Vec<u8>,
    /// Scratch: labels in the spelling of a format that knows no quoted names.
    plain_labels: String,
}

impl Text {
    pub(super) fn new(format: Format, created: bool) -> Self {
        Self {
            out: Vec::with_capacity(80 * 1024),
            format,
            created,
            is_of_start_times: false,
            family_type: FamilyType::Counter,
            name: Vec::new(),
            sample_head: Vec::new(),
            plain_labels: String::new(),
        }
    }

    /// Whether start times are a family of their own: text 0.0.4 has no place for them inside.
    pub(super) fn has_family_of_start_times(&self, family_type: FamilyType) -> bool {
        self.created && self.format == Format::Text && family_type.gauge_mode().is_none()
    }

    /// Sets the family of the series that follow: itself, or the one of its start times.
    pub(super) fn family(&mut self, spec: &FamilySpec<'_>, of_start_times: bool) {
        self.family_type = spec.family_type;
        self.is_of_start_times = of_start_times;
        self.name.clear();
        if is_legacy_name(spec.name) {
            self.name.extend_from_slice(spec.name.as_bytes());
        } else {
            push_underscored(&mut self.name, spec.name, false);
        }
        if of_start_times {
            self.name.extend_from_slice(b"_created");
            self.family_type = FamilyType::Gauge(GaugeMode::MostRecent);
        }
        self.sample_head.clone_from(&self.name);
        match self.family_type {
            FamilyType::Counter => self.sample_head.extend_from_slice(b"_total"),
            FamilyType::Info => self.sample_head.extend_from_slice(b"_info"),
            _ => {}
        }
        self.sample_head.push(b'{');
    }

    /// HELP, TYPE and UNIT.
    pub(super) fn head(&mut self, spec: &FamilySpec<'_>) {
        // In text 0.0.4 a counter's family is called as its samples are.
        let suffix: &[u8] = match (self.format, self.family_type) {
            (Format::Text, FamilyType::Counter) => b"_total",
            (Format::Text, FamilyType::Info) => b"_info",
            _ => b"",
        };
        if !spec.help.is_empty() {
            self.meta(b"# HELP ", suffix);
            self.help(spec.help);
        }
        self.meta(b"# TYPE ", suffix);
        let type_name = match (self.format, self.family_type) {
            (_, FamilyType::NativeHistogram) => "histogram",
            (Format::Text, FamilyType::Info | FamilyType::StateSet) => "gauge",
            (_, other) => other.name(),
        };
        self.out.extend_from_slice(type_name.as_bytes());
        self.out.push(b'\n');
        // The specification wants the unit to be the name's ending.
        let is_ending = spec
            .name
            .strip_suffix(spec.unit)
            .is_some_and(|rest| rest.ends_with('_'));
        if self.format == Format::OpenMetrics && !spec.unit.is_empty() && is_ending {
            self.meta(b"# UNIT ", b"");
            self.out.extend_from_slice(spec.unit.as_bytes());
            self.out.push(b'\n');
        }
    }

    fn meta(&mut self, keyword: &[u8], suffix: &[u8]) {
        self.out.extend_from_slice(keyword);
        self.out.extend_from_slice(&self.name);
        self.out.extend_from_slice(suffix);
        self.out.push(b' ');
    }

    fn help(&mut self, help: &str) {
        let mut escaped = String::with_capacity(help.len());
        if self.format == Format::OpenMetrics {
            push_escaped(&mut escaped, help);
        } else {
            escaped = help.replace('\\', "\\\\").replace('\n', "\\n");
        }
        self.out.extend_from_slice(escaped.as_bytes());
        self.out.push(b'\n');
    }

    /// All samples of one series.
    pub(super) fn series(&mut self, labels: &str, view: &SeriesView<'_>, start_ms: u64) {
        if labels.starts_with('"') {
            let mut plain = std::mem::take(&mut self.plain_labels);
            underscore_labels(labels, &mut plain);
            self.samples(&plain, view, start_ms);
            self.plain_labels = plain;
        } else {
            self.samples(labels, view, start_ms);
        }
    }

    fn samples(&mut self, labels: &str, view: &SeriesView<'_>, start_ms: u64) {
        match view {
            _ if self.is_of_start_times => self.plain_sample(labels, start_ms as f64 / 1000.0),
            SeriesView::Number(number) => {
                self.plain_sample(labels, *number);
                if self.created && self.family_type == FamilyType::Counter {
                    self.created(labels, start_ms);
                }
            }
            SeriesView::PerWriter(values) => {
                let mut pid_label = String::new();
                for (pid, value) in values {
                    pid_label.clear();
                    if !pid.is_empty() {
                        pid_label.push_str("pid=\"");
                        push_escaped(&mut pid_label, pid);
                        pid_label.push('"');
                    }
                    self.sample(b"", labels, &pid_label, *value);
                }
            }
            SeriesView::Buckets(view) => self.buckets(labels, view, start_ms),
            // These formats have no native histograms: what is left is one bucket of all.
            SeriesView::Native(native) => {
                let count = native.count();
                self.bucket(labels, "+Inf", count);
                self.sample(b"_sum", labels, "", native.sum);
                self.sample(b"_count", labels, "", count as f64);
                self.created(labels, start_ms);
            }
        }
    }

    fn buckets(&mut self, labels: &str, view: &BucketView<'_>, start_ms: u64) {
        let mut count = 0;
        let is_histogram = self.family_type == FamilyType::Histogram;
        let bounds = view.layout.texts().chain(["+Inf"]);
        for (bound, in_bucket) in bounds.zip(view.counts.iter()) {
            count += in_bucket;
            if is_histogram {
                self.bucket(labels, bound, count);
            }
        }
        self.sample(b"_sum", labels, "", view.sum);
        self.sample(b"_count", labels, "", count as f64);
        self.created(labels, start_ms);
    }

    fn bucket(&mut self, labels: &str, bound: &str, count: u64) {
        self.out.extend_from_slice(&self.name);
        self.out.extend_from_slice(b"_bucket{");
        if !labels.is_empty() {
            self.out.extend_from_slice(labels.as_bytes());
            self.out.push(b',');
        }
        self.out.extend_from_slice(b"le=\"");
        self.out.extend_from_slice(bound.as_bytes());
        // OpenMetrics 1.0.0, "Canonical Numbers": whole bounds end in `.0`.
        if self.format == Format::OpenMetrics
            && bound.bytes().all(|b| b.is_ascii_digit() || b == b'-')
        {
            self.out.extend_from_slice(b".0");
        }
        self.out.extend_from_slice(b"\"} ");
        format_number(count as f64, &mut self.out);
        self.out.push(b'\n');
    }

    /// The sample of a counter or gauge: most of what there is, so it has the shortest way.
    #[inline]
    fn plain_sample(&mut self, labels: &str, value: f64) {
        self.out.extend_from_slice(&self.sample_head);
        if labels.is_empty() {
            self.out.pop();
            self.out.push(b' ');
        } else {
            self.out.extend_from_slice(labels.as_bytes());
            self.out.extend_from_slice(b"} ");
        }
        format_number(value, &mut self.out);
        self.out.push(b'\n');
    }

    fn sample(&mut self, suffix: &[u8], labels: &str, more_labels: &str, value: f64) {
        self.out.extend_from_slice(&self.name);
        self.out.extend_from_slice(suffix);
        if !labels.is_empty() || !more_labels.is_empty() {
            self.out.push(b'{');
            self.out.extend_from_slice(labels.as_bytes());
            if !labels.is_empty() && !more_labels.is_empty() {
                self.out.push(b',');
            }
            self.out.extend_from_slice(more_labels.as_bytes());
            self.out.push(b'}');
        }
        self.out.push(b' ');
        format_number(value, &mut self.out);
        self.out.push(b'\n');
    }

    fn created(&mut self, labels: &str, start_ms: u64) {
        if !self.created || self.format != Format::OpenMetrics {
            return;
        }
        self.out.extend_from_slice(&self.name);
        self.out.extend_from_slice(b"_created");
        if !labels.is_empty() {
            self.out.push(b'{');
            self.out.extend_from_slice(labels.as_bytes());
            self.out.push(b'}');
        }
        let (seconds, millis) = (start_ms / 1000, start_ms % 1000);
        self.out
            .extend_from_slice(format!(" {seconds}.{millis:03}\n").as_bytes());
    }

    /// What the registry left out, by reason.
    pub(super) fn rejected<'a>(&mut self, counts: impl Iterator<Item = (&'a str, u64)>) {
        let spec = FamilySpec {
            help: "Entries of batches that the registry left out, by reason.",
            ..FamilySpec::new(REJECTED, FamilyType::Counter)
        };
        self.family(&spec, false);
        self.head(&spec);
        for (reason, count) in counts {
            self.sample(b"_total", "", &format!("reason=\"{reason}\""), count as f64);
        }
    }

    /// The end of the last page.
    pub(super) fn end(&mut self) {
        if self.format == Format::OpenMetrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
    }
}

/// Label names that need quotes in the newer formats, by the escaping scheme `underscores`.
fn underscore_labels(labels: &str, plain: &mut String) {
    plain.clear();
    for (name, value) in parse(labels) {
        if !plain.is_empty() {
            plain.push(',');
        }
        let mut legacy = Vec::with_capacity(name.len());
        push_underscored(&mut legacy, name, true);
        plain.push_str(&String::from_utf8_lossy(&legacy));
        plain.push_str("=\"");
        plain.push_str(value);
        plain.push('"');
    }
}

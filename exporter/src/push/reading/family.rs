//! Families and series of a file, independent of its format.

use std::collections::HashMap;

use metrics_model::{FamilyType, GaugeMode, Layout, Point, format_number};

use super::{LeftOut, ReadError};

/// One family of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Family {
    /// The name; a counter's is without `_total`.
    pub(crate) name: String,
    pub(crate) family_type: FamilyType,
    pub(crate) help: String,
    pub(crate) unit: String,
    pub(crate) series: Vec<Series>,
}

/// One series of a family.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: LabelPairs,
    pub(crate) layout: Option<Layout>,
    pub(crate) point: Point,
    /// Start time, as Unix time in seconds.
    pub(crate) start: Option<f64>,
    pub(crate) exemplars: Vec<FileExemplar>,
}

/// An exemplar that a registry accepts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FileExemplar {
    pub(crate) labels: LabelPairs,
    pub(crate) value: f64,
    /// Unix time in seconds; `None`: the time of the push.
    pub(crate) time: Option<f64>,
}

/// Names and values, sorted by name.
pub(crate) type LabelPairs = Vec<(String, String)>;

/// The parsed content of a file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) families: Vec<Family>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// Type of pushed gauges: the values stay when the job is gone, and the next push replaces them.
pub(crate) const GAUGE: FamilyType = FamilyType::Gauge(GaugeMode::Sum);

/// A family while its samples are being parsed.
#[derive(Debug)]
pub(crate) struct Draft {
    family: Family,
    series: Vec<DraftSeries>,
    by_labels: HashMap<LabelPairs, usize>,
    /// The HELP text, if there is one.
    help: Option<String>,
}

#[derive(Debug, Default)]
struct DraftSeries {
    labels: LabelPairs,
    value: Option<f64>,
    sum: Option<f64>,
    count: Option<f64>,
    /// Upper bound as text, and cumulative count.
    buckets: Vec<(String, f64)>,
    start: Option<f64>,
    exemplars: Vec<FileExemplar>,
}

/// The part of a series that a sample holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Value,
    Sum,
    Count,
    Bucket(String),
    Start,
}

impl Draft {
    pub(crate) fn new(name: &str, family_type: FamilyType) -> Self {
        Self {
            family: Family {
                name: name.to_owned(),
                family_type,
                help: String::new(),
                unit: String::new(),
                series: Vec::new(),
            },
            series: Vec::new(),
            by_labels: HashMap::new(),
            help: None,
        }
    }

    pub(crate) fn family_type(&self) -> FamilyType {
        self.family.family_type
    }

    pub(crate) fn name(&self) -> &str {
        &self.family.name
    }

    pub(crate) fn describe(&mut self, help: Option<String>, unit: Option<String>) {
        if let Some(help) = help {
            self.family.help.clone_from(&help);
            self.help = Some(help);
        }
        if let Some(unit) = unit {
            self.family.unit = unit;
        }
    }

    /// Adds one sample, possibly with an exemplar; returns false if the series already has that
    /// part.
    pub(crate) fn add(
        &mut self,
        labels: LabelPairs,
        part: Part,
        value: f64,
        exemplar: Option<FileExemplar>,
    ) -> bool {
        let number = *self.by_labels.entry(labels).or_insert_with_key(|labels| {
            self.series.push(DraftSeries {
                labels: labels.clone(),
                ..DraftSeries::default()
            });
            self.series.len() - 1
        });
        let series = &mut self.series[number];
        series.exemplars.extend(exemplar);
        let place = match part {
            Part::Value => &mut series.value,
            Part::Sum => &mut series.sum,
            Part::Count => &mut series.count,
            Part::Start => &mut series.start,
            Part::Bucket(bound) => {
                let is_new = series.buckets.iter().all(|(known, _)| *known != bound);
                series.buckets.push((bound, value));
                return is_new;
            }
        };
        place.replace(value).is_none()
    }

    /// Adds exemplars to a series that has a sample.
    pub(crate) fn add_exemplars(
        &mut self,
        labels: &LabelPairs,
        exemplars: impl Iterator<Item = FileExemplar>,
    ) {
        if let Some(&number) = self.by_labels.get(labels) {
            self.series[number].exemplars.extend(exemplars);
        }
    }

    /// Returns whether this family holds the start times of another one, as text 0.0.4 writes them:
    /// a gauge of that name and help, with a value for some of the other's series.
    pub(crate) fn is_start_times_of(&self, other: &Self) -> bool {
        let mut series = self.series.iter();
        self.family.family_type == GAUGE
            && self.help.is_some()
            && self.help == other.help
            && series.all(|series| other.by_labels.contains_key(&series.labels))
    }

    /// Moves these start times to the series of the other family.
    pub(crate) fn give_start_times_to(self, other: &mut Self) {
        for series in self.series {
            if let Some(&number) = other.by_labels.get(&series.labels) {
                let start = &mut other.series[number].start;
                *start = start.or(series.value);
            }
        }
    }

    /// Returns the family, if its samples make complete series.
    pub(crate) fn finish(mut self, left_out: &mut Vec<LeftOut>) -> Result<Family, ReadError> {
        for mut draft in std::mem::take(&mut self.series) {
            let labels = draft.labels.clone();
            let start = draft.start.take().filter(|start| {
                let is_time = start.is_finite() && *start >= 0.0;
                if !is_time {
                    left_out.push(LeftOut {
                        sample: format!("{}_created", self.family.name),
                        reason: format!("{} is no time", spelled(*start)),
                    });
                }
                is_time
            });
            if draft.is_empty() {
                left_out.push(LeftOut {
                    sample: format!("{}_created", self.family.name),
                    reason: "a start time without a value".to_owned(),
                });
                continue;
            }
            let exemplars = std::mem::take(&mut draft.exemplars);
            let (layout, point) = match self.family.family_type {
                FamilyType::Histogram => draft
                    .histogram()
                    .map(|(layout, point)| (Some(layout), point)),
                FamilyType::Summary => draft.summary().map(|point| (None, point)),
                FamilyType::Counter => match draft.value {
                    Some(value) if value >= 0.0 && value.is_finite() => {
                        Ok((None, Point::Scalar(value)))
                    }
                    value => Err(format!(
                        "a counter is {}, allowed is a finite number from 0 on",
                        value.map_or_else(|| "missing".to_owned(), spelled)
                    )),
                },
                _ => draft
                    .value
                    .map(|value| (None, Point::Scalar(value)))
                    .ok_or_else(|| "a value is missing".to_owned()),
            }
            .map_err(|reason| ReadError::Family {
                family: self.family.name.clone(),
                reason,
            })?;
            self.family.series.push(Series {
                labels,
                layout,
                point,
                start,
                exemplars,
            });
        }
        Ok(self.family)
    }
}

impl DraftSeries {
    /// Returns whether it has no value, and at most a start time.
    fn is_empty(&self) -> bool {
        let values = [self.value, self.sum, self.count];
        values.iter().all(Option::is_none) && self.buckets.is_empty()
    }

    fn histogram(mut self) -> Result<(Layout, Point), String> {
        let number = |text: &str| {
            text.parse::<f64>()
                .map_err(|_| format!("le=\"{text}\" is no number"))
        };
        let mut bounds = Vec::new();
        for (text, value) in std::mem::take(&mut self.buckets) {
            bounds.push((number(&text)?, text, value));
        }
        bounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        if bounds.last().is_none_or(|last| last.0 != f64::INFINITY) {
            let count = self
                .count
                .ok_or("it has neither _count nor a bucket le=\"+Inf\"")?;
            bounds.push((f64::INFINITY, "+Inf".to_owned(), count));
        }
        let mut counts = Vec::with_capacity(bounds.len());
        let mut below = 0;
        for (_, text, value) in &bounds {
            let cumulative = whole(*value)?;
            let count = cumulative.checked_sub(below);
            counts.push(count.ok_or_else(|| {
                format!("bucket le=\"{text}\" counts less than the one below it")
            })?);
            below = cumulative;
        }
        let layout = Layout::new(bounds.iter().map(|(_, text, _)| text.as_str()))
            .map_err(|error| error.to_string())?;
        let sum = self.sum.unwrap_or(0.0);
        Ok((layout, Point::Buckets { sum, counts }))
    }

    fn summary(self) -> Result<Point, String> {
        let count = whole(self.count.ok_or("it has no _count")?)?;
        Ok(Point::Buckets {
            sum: self.sum.unwrap_or(0.0),
            counts: vec![count],
        })
    }
}

/// Returns a number in the spelling of pages.
pub(crate) fn spelled(value: f64) -> String {
    let mut text = Vec::new();
    format_number(value, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Returns a count of observations, which must be whole.
fn whole(value: f64) -> Result<u64, String> {
    if value >= 0.0 && value.fract() == 0.0 && value < 9_007_199_254_740_992.0 {
        return Ok(value as u64);
    }
    Err(format!("{} is no count of observations", spelled(value)))
}

//! Families and series of a file, independent of its format.

use std::collections::HashMap;

use metrics_model::{FamilyType, GaugeMode, LabelError, Labels, Layout, Point, number_text};

use super::histogram::{Bucket, histogram, summary};
use super::{LeftOut, Place, ReadError};

/// One family of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Family {
    /// Where the file has it first.
    pub(crate) place: Place,
    /// The name as it is stored; a counter's is without `_total`.
    pub(crate) name: String,
    pub(crate) family_type: FamilyType,
    pub(crate) help: String,
    pub(crate) unit: String,
    pub(crate) series: Vec<Series>,
}

/// One series of a family.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    /// Where the file has it first.
    pub(crate) place: Place,
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
pub(crate) struct FileContent {
    pub(crate) families: Vec<Family>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// Type of pushed gauges: the values stay when the job is gone, and the next push replaces them.
pub(crate) const GAUGE: FamilyType = FamilyType::Gauge(GaugeMode::Sum);

/// Times that start times may be, in Unix seconds: from 2001 to 2096. Milliseconds and most counts are
/// outside.
const START_TIMES: std::ops::Range<f64> = 1e9..4e9;

/// A family while its samples are being parsed.
#[derive(Debug)]
pub(crate) struct Draft {
    family: Family,
    series: Vec<DraftSeries>,
    by_labels: HashMap<LabelPairs, usize>,
    /// The HELP text, if there is one.
    help: Option<String>,
}

/// A series while its samples are being parsed.
#[derive(Debug)]
pub(super) struct DraftSeries {
    pub(super) place: Place,
    labels: LabelPairs,
    value: Option<Sample>,
    pub(super) sum: Option<Sample>,
    pub(super) count: Option<Sample>,
    pub(super) buckets: Vec<Bucket>,
    start: Option<Sample>,
    exemplars: Vec<FileExemplar>,
}

/// A number, and where the file has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    pub(crate) place: Place,
}

/// The part of a series that a sample holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Value,
    Sum,
    Count,
    /// The upper bound, as text and as number.
    Bucket(String, f64),
    Start,
}

impl Draft {
    pub(crate) fn new(name: &str, family_type: FamilyType, place: Place) -> Self {
        Self {
            family: Family {
                place,
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
        sample: Sample,
        exemplar: Option<FileExemplar>,
    ) -> bool {
        let number = *self.by_labels.entry(labels).or_insert_with_key(|labels| {
            self.series.push(DraftSeries::new(labels.clone(), sample));
            self.series.len() - 1
        });
        let series = &mut self.series[number];
        series.exemplars.extend(exemplar);
        let known = match part {
            Part::Value => series.value.replace(sample),
            Part::Sum => series.sum.replace(sample),
            Part::Count => series.count.replace(sample),
            Part::Start => series.start.replace(sample),
            Part::Bucket(text, bound) => {
                series.buckets.push(Bucket {
                    text,
                    bound,
                    count: sample,
                });
                None
            }
        };
        known.is_none()
    }

    /// Adds exemplars to a series that has a sample.
    pub(crate) fn add_exemplars(&mut self, labels: &LabelPairs, exemplars: Vec<FileExemplar>) {
        if let Some(&number) = self.by_labels.get(labels) {
            self.series[number].exemplars.extend(exemplars);
        }
    }

    /// Returns whether this family holds the start times of another one. The format does not say so,
    /// so it must be in all as `prometheus_client` writes them: a gauge of that name and help, with
    /// a time for each of the other's series and no more.
    pub(crate) fn is_start_times_of(&self, other: &Self) -> bool {
        let mut series = self.series.iter();
        self.family.family_type == GAUGE
            && self.help.is_some()
            && self.help == other.help
            && self.series.len() == other.series.len()
            && series.all(|series| {
                let time = series.value.map_or(0.0, |sample| sample.value);
                START_TIMES.contains(&time) && other.by_labels.contains_key(&series.labels)
            })
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
            let place = draft.place;
            let name = &self.family.name;
            let wrong = |place, reason: &str| ReadError::at(place, &format!("{name}: {reason}"));
            let start = draft.start.take().map(|start| start.value).filter(|start| {
                let is_time = start.is_finite() && *start >= 0.0;
                if !is_time {
                    left_out.push(LeftOut {
                        sample: format!("{name}_created"),
                        reason: format!("{} is no time", number_text(*start)),
                    });
                }
                is_time
            });
            if draft.is_empty() {
                left_out.push(LeftOut {
                    sample: format!("{name}_created"),
                    reason: "a start time without a value".to_owned(),
                });
                continue;
            }
            let labels = std::mem::take(&mut draft.labels);
            check_labels(&labels).map_err(|reason| wrong(place, &reason))?;
            let exemplars = std::mem::take(&mut draft.exemplars);
            let (layout, point) = match self.family.family_type {
                FamilyType::Histogram => histogram(draft),
                FamilyType::Summary => summary(&draft),
                FamilyType::Counter => draft.counter(),
                _ => draft.gauge(),
            }
            .map_err(|(place, reason)| wrong(place, &reason))?;
            self.family.series.push(Series {
                place,
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

/// The state of a series, or where the file is wrong and why.
pub(super) type State = Result<(Option<Layout>, Point), (Place, String)>;

impl DraftSeries {
    fn new(labels: LabelPairs, first: Sample) -> Self {
        Self {
            place: first.place,
            labels,
            value: None,
            sum: None,
            count: None,
            buckets: Vec::new(),
            start: None,
            exemplars: Vec::new(),
        }
    }

    /// Returns whether it has no value, and at most a start time.
    fn is_empty(&self) -> bool {
        let values = [self.value, self.sum, self.count];
        values.iter().all(Option::is_none) && self.buckets.is_empty()
    }

    fn counter(&self) -> State {
        match self.value {
            Some(Sample { value, .. }) if value >= 0.0 && value.is_finite() => {
                Ok((None, Point::Scalar(value)))
            }
            value => Err((
                value.map_or(self.place, |value| value.place),
                format!(
                    "a counter is {}, allowed is a finite number from 0 on",
                    value.map_or_else(|| "missing".to_owned(), |value| number_text(value.value))
                ),
            )),
        }
    }

    fn gauge(&self) -> State {
        let missing = || (self.place, "a value is missing".to_owned());
        let value = self.value.ok_or_else(missing)?.value;
        Ok((None, Point::Scalar(value)))
    }
}

pub(super) fn check_labels(labels: &LabelPairs) -> Result<(), String> {
    let pairs = labels.iter().map(|(name, value)| (&**name, &**value));
    let hint = |name: &str| match name {
        "le" => ": it belongs to the buckets of a family with a line # TYPE … histogram",
        "quantile" => ": it belongs to a family with a line # TYPE … summary",
        _ => "",
    };
    Labels::new(pairs).map(drop).map_err(|error| match &error {
        LabelError::Reserved(name) => format!("{error}{}", hint(name)),
        _ => error.to_string(),
    })
}

//! Combines all `.db` files of a directory into one writer: each series once, aggregated over the
//! processes like `prometheus_client`'s `MultiProcessCollector`.
//!
//! Keys are parsed when they are new; from then on a refresh reads bytes and adds numbers.

use std::collections::{BTreeMap, HashMap};

use metrics_model::{
    FamilySpec, FamilyType, Layout, Point, SeriesDef, SeriesLife, Setting, Source, passed_name,
};

use super::file::{DbKey, DbName};

/// Label pairs, by name.
type Pairs = Box<[(Box<str>, Box<str>)]>;

/// The place to which a value is added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    series: u32,
    slot: Slot,
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    Value,
    Sum,
    Count,
    Bucket(u32),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    family_type: (u8, u8),
    family: Box<str>,
    labels: Pairs,
    pid: Box<str>,
}

#[derive(Debug)]
struct Aggregate {
    /// The family's name for registries.
    family: Box<str>,
    family_type: FamilyType,
    help: Box<str>,
    labels: Pairs,
    pid: Box<str>,
    is_present: bool,
    /// For a histogram or summary: the sum.
    value: f64,
    time: f64,
    /// For a gauge: the process of the value.
    set_by: Box<str>,
    count: f64,
    /// Buckets in the order in which they were found.
    buckets: Vec<Bucket>,
    /// Their bounds in order; `None` while they have to be sorted.
    layout: Option<Layout>,
    /// For each bound of the layout, and `+Inf`: the index of the bucket.
    order: Vec<Option<usize>>,
}

#[derive(Debug)]
struct Bucket {
    bound: f64,
    text: Box<str>,
    count: f64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct DbView {
    series: Vec<Aggregate>,
    by_identity: HashMap<Identity, u32>,
    /// The numbers of the series, by the text of their `pid` label. A registry has one such text
    /// per writer, so each is a writer of its own; the series without the label are one too.
    parts: BTreeMap<Box<str>, Vec<usize>>,
    /// Whether all series are hidden, while their writer leaves.
    pub(crate) hides_all: bool,
    /// TTL of series with a `pid` label.
    ttl_ms: u64,
}

impl DbView {
    pub(crate) fn new(ttl_ms: u64) -> Self {
        Self {
            ttl_ms,
            ..Self::default()
        }
    }

    /// Returns the target of an entry's values; `None` for a sample that its type does not have.
    pub(crate) fn target(&mut self, name: &DbName, key: DbKey) -> Option<Target> {
        let DbKey(family, sample, mut labels, help) = key;
        let suffix = sample.strip_prefix(&*family).unwrap_or_default();
        let mut bound = None;
        let slot = match (name.family_type, suffix) {
            (FamilyType::Histogram, "_bucket") => {
                let text = labels.remove("le")?;
                bound = Some((text.parse::<f64>().ok()?, text));
                Slot::Bucket(0)
            }
            (FamilyType::Histogram | FamilyType::Summary, "_sum") => Slot::Sum,
            (FamilyType::Summary, "_count") => Slot::Count,
            (FamilyType::Histogram | FamilyType::Summary, _) => return None,
            _ => Slot::Value,
        };
        let series = self.find_or_make(name, &family, labels, &help);
        let slot = match (slot, bound) {
            (Slot::Bucket(_), Some((bound, text))) => {
                Slot::Bucket(self.series[series as usize].bucket(bound, &text))
            }
            (slot, _) => slot,
        };
        Some(Target { series, slot })
    }

    fn find_or_make(
        &mut self,
        name: &DbName,
        family: &str,
        labels: BTreeMap<String, String>,
        help: &str,
    ) -> u32 {
        let is_per_process =
            matches!(name.family_type, FamilyType::Gauge(mode) if mode.is_per_writer());
        // An empty value stands for an absent label.
        let labels: Pairs = labels
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.into_boxed_str(), value.into_boxed_str()))
            .collect();
        let identity = Identity {
            family_type: name.family_type.to_numbers(),
            family: family.into(),
            labels: labels.clone(),
            pid: if is_per_process {
                name.pid.clone()
            } else {
                Box::default()
            },
        };
        let next = self.series.len() as u32;
        let pid = identity.pid.clone();
        let number = *self.by_identity.entry(identity).or_insert(next);
        if number == next {
            let part = self.parts.entry(pid.clone()).or_default();
            part.push(number as usize);
            self.series.push(Aggregate {
                family: passed_name(family, name.family_type).into(),
                family_type: name.family_type,
                help: help.into(),
                labels,
                pid,
                is_present: false,
                value: 0.0,
                time: 0.0,
                set_by: Box::default(),
                count: 0.0,
                buckets: Vec::new(),
                layout: (name.family_type != FamilyType::Histogram).then(Layout::none),
                order: Vec::new(),
            });
        }
        number
    }

    /// Resets all values before a new addition.
    pub(crate) fn clear(&mut self) {
        for series in &mut self.series {
            series.is_present = false;
            series.value = 0.0;
            series.time = 0.0;
            series.count = 0.0;
            for bucket in &mut series.buckets {
                bucket.count = 0.0;
            }
        }
    }

    /// Adds a value of the process `pid`.
    pub(crate) fn add(&mut self, target: Target, value: f64, time: f64, pid: &str) {
        let series = &mut self.series[target.series as usize];
        let is_first = !std::mem::replace(&mut series.is_present, true);
        match (target.slot, series.family_type.gauge_mode()) {
            (Slot::Bucket(number), _) => series.buckets[number as usize].count += value,
            (Slot::Count, _) => series.count += value,
            (Slot::Value, Some(mode)) => {
                let new = Setting {
                    value,
                    time,
                    writer: pid.as_bytes(),
                };
                let before = Setting {
                    value: series.value,
                    time: series.time,
                    writer: series.set_by.as_bytes(),
                };
                let folded = if is_first {
                    None
                } else {
                    mode.fold(before, new)
                };
                let shown = folded.unwrap_or(new);
                (series.value, series.time) = (shown.value, shown.time);
                if std::ptr::eq(shown.writer, pid.as_bytes()) && *series.set_by != *pid {
                    series.set_by = pid.into();
                }
            }
            (Slot::Sum | Slot::Value, _) => series.value += value,
        }
    }

    /// Sorts the buckets of new histograms, after all values were added. Returns the series whose
    /// buckets have changed.
    pub(crate) fn settle(&mut self) -> Vec<usize> {
        let mut changed = Vec::new();
        for (number, series) in self.series.iter_mut().enumerate() {
            if series.layout.is_none() {
                series.put_in_order();
                changed.push(number);
            }
        }
        changed
    }

    /// Returns how many series there have ever been.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Returns the texts of `pid`; the empty one stands for series without.
    pub(crate) fn pids(&self) -> Vec<Box<str>> {
        self.parts.keys().cloned().collect()
    }

    /// Returns the series with that text of `pid`, as a session's source.
    pub(crate) fn part(&self, pid: &str) -> Part<'_> {
        let numbers = self
            .parts
            .get(pid)
            .map_or(&[] as &[usize], |numbers| numbers);
        Part {
            view: self,
            numbers,
        }
    }

    /// Returns whether no file has a value of a series now.
    pub(crate) fn is_gone(&self, number: usize) -> bool {
        !self.series[number].is_present
    }

    /// Returns whether a value that only grows is less than `before`.
    pub(crate) fn is_less(&self, number: usize, before: &Point) -> bool {
        if self.series[number].family_type.gauge_mode().is_some() {
            return false;
        }
        match (self.series[number].point(), before) {
            (Point::Scalar(now), Point::Scalar(before)) => now < *before,
            (Point::Buckets { counts: now, .. }, Point::Buckets { counts: before, .. }) => {
                now.len() == before.len() && now.iter().zip(before).any(|(now, then)| now < then)
            }
            _ => true,
        }
    }
}

impl Aggregate {
    fn bucket(&mut self, bound: f64, text: &str) -> u32 {
        let known = self.buckets.iter().position(|known| known.bound == bound);
        let number = known.unwrap_or_else(|| {
            self.buckets.push(Bucket {
                bound,
                text: text.into(),
                count: 0.0,
            });
            self.layout = None;
            self.buckets.len() - 1
        });
        number as u32
    }

    fn put_in_order(&mut self) {
        let mut numbers: Vec<usize> = (0..self.buckets.len())
            .filter(|&number| self.buckets[number].bound.is_finite())
            .collect();
        numbers.sort_by(|&a, &b| self.buckets[a].bound.total_cmp(&self.buckets[b].bound));
        let texts = numbers.iter().map(|&number| &*self.buckets[number].text);
        // The texts are finite, ascending numbers, so they make a layout.
        self.layout = Some(Layout::new(texts).unwrap_or_else(|_| Layout::none()));
        let infinity = self
            .buckets
            .iter()
            .position(|bucket| bucket.bound == f64::INFINITY);
        self.order = numbers.into_iter().map(Some).chain([infinity]).collect();
    }
}

impl Aggregate {
    fn point(&self) -> Point {
        match self.family_type {
            FamilyType::Histogram => Point::Buckets {
                sum: self.value,
                counts: self
                    .order
                    .iter()
                    .map(|number| number.map_or(0, |number| self.buckets[number].count as u64))
                    .collect(),
            },
            FamilyType::Summary => Point::Buckets {
                sum: self.value,
                counts: vec![self.count as u64],
            },
            FamilyType::Gauge(mode) if mode.is_timed() => Point::Timed {
                value: self.value,
                time: self.time,
            },
            _ => Point::Scalar(self.value),
        }
    }
}

/// Some series of a view, with numbers of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    view: &'a DbView,
    numbers: &'a [usize],
}

impl Part<'_> {
    /// Returns the number in the view.
    pub(crate) fn in_view(&self, number: usize) -> usize {
        self.numbers[number]
    }

    fn at(&self, number: usize) -> &Aggregate {
        &self.view.series[self.numbers[number]]
    }
}

impl Source for Part<'_> {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn series(&self, number: usize) -> SeriesDef<'_> {
        let series = self.at(number);
        SeriesDef {
            family: FamilySpec {
                name: &series.family,
                family_type: series.family_type,
                help: &series.help,
                unit: "",
            },
            layout: match series.family_type {
                FamilyType::Histogram => series.layout.as_ref(),
                _ => None,
            },
            labels: &series.labels,
            pid: &series.pid,
            ttl_ms: if series.pid.is_empty() {
                0
            } else {
                self.view.ttl_ms
            },
        }
    }

    fn point(&self, number: usize) -> Point {
        self.at(number).point()
    }

    /// The file of a series that is not present was deleted, with its value.
    fn life(&self, number: usize) -> SeriesLife {
        if self.view.hides_all || !self.at(number).is_present {
            SeriesLife::Gone
        } else {
            SeriesLife::Live
        }
    }
}

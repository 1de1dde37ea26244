//! One store that carries over what many dead writers have not sent.
//!
//! # How it works
//!
//! While the shared registry is away, a dead writer waits for it with all its values. When many
//! wait, those with nothing in flight are merged. Their counts are added up: the carry-over store
//! has, for each counter, histogram and summary, the sum of what they have not sent, and sends it
//! like a writer that has ended. Their gauges are stored separately: each writer that the registry
//! knows gets a [`Departure`], which sends its last gauges to the registry and leaves. So that a
//! thousand writers do not store a thousand values, one of them stores the combined value
//! ([`GaugeMode::fold`](metrics_model::GaugeMode::fold)), if that makes no difference to the
//! registry.
//!
//! # Why nothing is counted twice
//!
//! The arbiter replaces the other stores by the carry-over store in one step: it holds either them
//! or that one. Until the arbiter confirms this, none of them sends anything. If the exporter is
//! killed in between, the next one gets the old stores or the new one.
//!
//! # What it costs
//!
//! After a rollback to a time before a writer's last acknowledged batch, the values that this
//! writer had acknowledged later are lost. A writer whose `sum` gauge the registry has a value of,
//! or that has set a gauge of mode `all`, keeps its own gauges.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use metrics_model::{AfterLeave, FamilySpec, FamilyType, GaugeMode, Point, Setting};
use metrics_store::{FamilyDef, SeriesView, StoreError, StoreFile, StoreReader, TemporaryStore};

use super::departure::{Departure, DepartureRecord, kept_family, read_family};
use super::shard::{epoch_from_text, epoch_to_text};
use crate::sharding::shard_of;

/// Maximum size of what is stored for dead writers, in bytes. If the shared registry is away or at
/// a limit for long, further new series are given up, and counted.
const MAX_KEPT_BYTES: usize = 16 << 20;
/// Approximate memory of a stored gauge with its index entry, without its labels, in bytes.
const GAUGE_BYTES: usize = 256;

/// Family of the records of departures; hidden.
const LEAVES: &str = "\0leaves";

/// The labels of a series.
type Labels = Box<[(Box<str>, Box<str>)]>;

/// A carry-over store that is being filled.
#[derive(Debug)]
pub(crate) struct CarryOver {
    file: StoreFile,
    store: TemporaryStore,
    departures: Vec<DepartureRecord>,
    gauges: HashMap<GaugeId, Gauge>,
    gauge_bytes: usize,
    given_up: usize,
}

/// The identity of a stored gauge: shared by several writers, or of a certain one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct GaugeId {
    family: Box<str>,
    labels: Labels,
    only_of: Option<usize>,
}

#[derive(Debug)]
struct Gauge {
    /// The departure that sends it.
    holder: usize,
    family: FamilyDef,
    value: f64,
    time: f64,
    base: Point,
    acked: Point,
}

impl CarryOver {
    /// Returns an empty carry-over store.
    pub(crate) fn new(file: &StoreFile) -> Result<Self, StoreError> {
        Ok(Self {
            file: file.duplicate()?,
            store: file.duplicate()?.write_for_a_while()?,
            departures: Vec::new(),
            gauges: HashMap::new(),
            gauge_bytes: 0,
            given_up: 0,
        })
    }

    /// Returns how many series were given up because of the size limit.
    pub(crate) fn given_up(&self) -> usize {
        self.given_up
    }

    fn is_full(&self) -> bool {
        self.store.used_bytes() + self.gauge_bytes >= MAX_KEPT_BYTES
    }

    /// Adds what a writer has not sent. `departures` are those for the shards that it has not left.
    pub(crate) fn add(
        &mut self,
        reader: &StoreReader,
        shards: usize,
        departures: Vec<DepartureRecord>,
    ) -> Result<(), StoreError> {
        let first = self.departures.len();
        self.departures.extend(departures);
        for number in 0..reader.len() {
            let view = reader.series(number);
            if view.family.is_hidden() {
                continue;
            }
            let shard = shard_of(&view.family.spec(), shards);
            let mut new = self.departures[first..].iter();
            let Some(departure) = new.position(|departure| departure.shard == shard) else {
                continue;
            };
            let acked = reader.acked(shard, number);
            if view.family.family_type.gauge_mode().is_some() {
                if !reader.is_retired(number) {
                    let base = reader.base(number);
                    let point = reader.point(number);
                    self.set(first + departure, &view, view.family, &point, base, acked);
                }
                continue;
            }
            let now = reader.point(number);
            if !now.is_same(&acked) {
                let layout = view.family.layout.as_ref();
                let family = self.store.family(&view.family.spec(), layout)?;
                let labels = pairs(view.labels);
                if self.is_full() && !self.store.has_series(&family, &labels) {
                    self.given_up += 1;
                    continue;
                }
                self.store
                    .add(&family, &labels, counted_since(&now, &acked))?;
            }
        }
        Ok(())
    }

    /// Adds an unfinished departure of another carry-over store.
    pub(crate) fn add_again(&mut self, reader: &StoreReader, departure: &Departure) {
        self.departures.push(departure.record.clone());
        for &number in departure.gauges() {
            let view = reader.series(number);
            let Some((_, name)) = read_family(&view.family.name) else {
                continue;
            };
            let family = FamilyDef {
                name: name.into(),
                ..view.family.clone()
            };
            let acked = reader.acked(departure.record.shard, number);
            let (point, base) = (reader.point(number), reader.base(number));
            self.set(
                self.departures.len() - 1,
                &view,
                &family,
                &point,
                base,
                acked,
            );
        }
    }

    /// Stores the last value of a gauge.
    fn set(
        &mut self,
        departure: usize,
        view: &SeriesView<'_>,
        family: &FamilyDef,
        point: &Point,
        base: Point,
        acked: Point,
    ) {
        let Some(mode) = family.family_type.gauge_mode() else {
            return;
        };
        let (value, time) = match *point {
            Point::Scalar(value) => (value, 0.0),
            Point::Timed { value, time } if time > 0.0 => (value, time),
            Point::Timed { .. } | Point::Buckets { .. } | Point::Native(_) => return,
        };
        if mode.after_leave() == AfterLeave::Hidden {
            return;
        }
        let is_own = self.departures[departure].may_have_left || is_its_own(mode, &acked);
        let id = GaugeId {
            family: family.name.clone(),
            labels: view.labels.into(),
            only_of: is_own.then_some(departure),
        };
        let new = Gauge {
            holder: departure,
            family: family.clone(),
            value,
            time,
            base,
            acked,
        };
        self.keep(id, new, mode);
    }

    /// Stores a gauge, or combines it with the one that is stored.
    fn keep(&mut self, id: GaugeId, new: Gauge, mode: GaugeMode) {
        let is_full = self.is_full();
        match self.gauges.entry(id) {
            Entry::Vacant(_) if is_full => self.given_up += 1,
            Entry::Vacant(vacant) => {
                let labels = vacant.key().labels.iter();
                let texts = labels.map(|(name, value)| name.len() + value.len());
                self.gauge_bytes += GAUGE_BYTES + texts.sum::<usize>();
                vacant.insert(new);
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                let setting = |gauge: &Gauge| Setting {
                    value: gauge.value,
                    time: gauge.time,
                    writer: self.departures[gauge.holder].writer.as_bytes(),
                };
                let both = mode
                    .fold(setting(known), setting(&new))
                    .unwrap_or(setting(&new));
                let (value, time) = (both.value, both.time);
                if both.writer == self.departures[new.holder].writer.as_bytes() {
                    *known = new;
                }
                (known.value, known.time) = (value, time);
            }
        }
    }

    /// Writes the departures after the sums.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        let mut is_needed = vec![false; self.departures.len()];
        for gauge in self.gauges.values() {
            is_needed[gauge.holder] = true;
        }
        let family = self
            .store
            .family(&FamilySpec::new(LEAVES, FamilyType::Counter), None)?;
        let mut numbers = HashMap::new();
        for (number, record) in self.departures.iter().enumerate() {
            // A writer without gauges whose record does not leave ends by its retention, with the
            // same values.
            let may_leave = record.seq > 0 && !self.is_full();
            if is_needed[number] || may_leave {
                numbers.insert(number, numbers.len());
                write_record(&self.store, &family, record)?;
            }
        }
        let mut push_states = Vec::with_capacity(self.gauges.len());
        for (id, gauge) in &self.gauges {
            let name = kept_family(numbers[&gauge.holder], &id.family);
            let spec = FamilySpec {
                name: &name,
                ..gauge.family.spec()
            };
            let family = self.store.family(&spec, None)?;
            let labels = pairs(&id.labels);
            match gauge.acked {
                Point::Timed { .. } => {
                    self.store
                        .set_timed(&family, &labels, gauge.value, gauge.time)?;
                }
                Point::Scalar(_) | Point::Buckets { .. } | Point::Native(_) => {
                    self.store.set(&family, &labels, gauge.value)?;
                }
            }
            push_states.push((&gauge.base, &gauge.acked));
        }
        let reader = StoreReader::open(self.file.duplicate_fd()?)?;
        // They were written last, each as a series of its own.
        let first = reader.len() - push_states.len();
        for (number, (base, acked)) in (first..).zip(push_states) {
            reader.set_base(number, base);
            reader.restart_push(number, acked);
        }
        Ok(())
    }
}

/// Returns the departures in a carry-over store.
pub(crate) fn departures_in(reader: &StoreReader, ttl_ms: u64) -> Vec<Departure> {
    let records: Vec<_> = reader.find(LEAVES).collect();
    let mut series = records
        .iter()
        .map(|&number| vec![number])
        .collect::<Vec<_>>();
    for number in 0..reader.len() {
        let family = read_family(&reader.series(number).family.name);
        if let Some(of) = family.and_then(|(departure, _)| series.get_mut(departure)) {
            of.push(number);
        }
    }
    let departures = records
        .into_iter()
        .zip(series)
        .filter_map(|(number, series)| {
            let record = read_record(reader, number)?;
            Some(Departure::new(record, series, reader, ttl_ms))
        });
    departures.collect()
}

fn write_record(
    store: &TemporaryStore,
    family: &metrics_store::Family,
    record: &DepartureRecord,
) -> Result<(), StoreError> {
    let (shard, epoch) = (record.shard.to_string(), epoch_to_text(record.epoch));
    let (acked_at_ms, died_ms) = (record.acked_at_ms.to_string(), record.died_ms.to_string());
    let labels = [
        ("writer", &*record.writer),
        ("shard", &*shard),
        ("epoch", &*epoch),
        ("acked_at_ms", &*acked_at_ms),
        ("pid", &*record.pid),
        ("died_ms", &*died_ms),
    ];
    store.set(family, &labels, record.to_value())
}

fn read_record(reader: &StoreReader, number: usize) -> Option<DepartureRecord> {
    let view = reader.series(number);
    let label = |wanted: &str| {
        let mut labels = view.labels.iter();
        labels.find_map(|(name, value)| (&**name == wanted).then_some(&**value))
    };
    let milliseconds = |name| label(name).and_then(|text| text.parse().ok());
    let Point::Scalar(value) = reader.point(number) else {
        return None;
    };
    let (seq, may_have_left) = DepartureRecord::read_value(value);
    Some(DepartureRecord {
        shard: label("shard")?.parse().ok()?,
        writer: label("writer")?.to_owned(),
        seq,
        epoch: epoch_from_text(label("epoch").unwrap_or_default()),
        acked_at_ms: milliseconds("acked_at_ms").unwrap_or(0),
        pid: label("pid").unwrap_or_default().to_owned(),
        died_ms: milliseconds("died_ms").unwrap_or(0),
        may_have_left,
    })
}

/// Returns whether no other writer may store this gauge for its writer: each writer's value is
/// shown on its own, or it may already be part of a sum.
fn is_its_own(mode: GaugeMode, acked: &Point) -> bool {
    match mode {
        GaugeMode::All | GaugeMode::LiveAll => true,
        GaugeMode::Sum | GaugeMode::LiveSum => !acked.is_same(&acked.zero()),
        GaugeMode::Min
        | GaugeMode::LiveMin
        | GaugeMode::Max
        | GaugeMode::LiveMax
        | GaugeMode::MostRecent
        | GaugeMode::LiveMostRecent => false,
    }
}

fn pairs(labels: &[(Box<str>, Box<str>)]) -> Vec<(&str, &str)> {
    labels
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect()
}

/// Returns what a writer has counted since the registry acknowledged `acked`: cells, and the amount to
/// add to each.
fn counted_since(now: &Point, acked: &Point) -> Vec<(usize, f64)> {
    match (now, acked) {
        (Point::Scalar(now), Point::Scalar(acked)) => vec![(0, now - acked)],
        (
            Point::Buckets { sum, counts },
            Point::Buckets {
                sum: acked_sum,
                counts: acked_counts,
            },
        ) => {
            // The difference of two equal sums is zero, even of infinite ones.
            let sum = (sum.to_bits() != acked_sum.to_bits()).then(|| (0, sum - acked_sum));
            let counts = counts.iter().zip(acked_counts).enumerate();
            let counts =
                counts.map(|(cell, (now, acked))| (1 + cell, now.saturating_sub(*acked) as f64));
            sum.into_iter().chain(counts).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;

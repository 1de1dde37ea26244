//! A store as the source of a registry's session.

use metrics_model::{FamilyType, GaugeMode, Point, SeriesDef, SeriesLife, Source, SourceExemplar};
use metrics_store::{SeriesView, StoreReader};

use super::TakenGauges;
use crate::sharding::shard_of;

/// Labels that name one of many workers or processes; series with one of them end after their TTL.
const BOUND_TO_A_PROCESS: [&str; 2] = ["worker_id", "pid"];

/// The series of a store that one registry gets, by their numbers in the store. The session numbers
/// only these: hidden series are between worker and exporter, and a shard has its own families.
#[derive(Debug)]
pub(crate) struct VisibleSeries {
    numbers: Vec<usize>,
    seen: usize,
    shard: usize,
    shards: usize,
}

impl VisibleSeries {
    /// Selects those of one shard of several.
    pub(crate) fn of_shard(shard: usize, shards: usize) -> Self {
        Self {
            numbers: Vec::new(),
            seen: 0,
            shard,
            shards,
        }
    }

    /// Selects all that are not hidden.
    pub(crate) fn all() -> Self {
        Self::of_shard(0, 1)
    }

    /// Finds new series; returns whether any of them is visible.
    pub(crate) fn extend(&mut self, reader: &StoreReader) -> bool {
        let known = self.numbers.len();
        let new = self.seen..reader.len();
        self.numbers.extend(new.filter(|&number| {
            let family = reader.series(number).family;
            !family.is_hidden() && shard_of(&family.spec(), self.shards) == self.shard
        }));
        self.seen = reader.len();
        self.numbers.len() > known
    }

    /// Returns the number in the store of a session's series.
    pub(crate) fn in_store(&self, number: usize) -> usize {
        self.numbers[number]
    }

    /// The session's number of a series of the store.
    pub(crate) fn of_store(&self, number: usize) -> Option<usize> {
        self.numbers.binary_search(&number).ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

/// One store as the source for one registry.
#[derive(Debug)]
pub(crate) struct StoreSource<'a> {
    pub(crate) reader: &'a StoreReader,
    pub(crate) visible: &'a VisibleSeries,
    /// The text of the `pid` label: pids alone distinguish writers only on one machine.
    pub(crate) pid: &'a str,
    /// The TTL of series that belong to one worker or process.
    pub(crate) ttl_ms: u64,
    /// Whether its live gauges are shown.
    pub(crate) is_live: bool,
    /// Gauges that a living process has, which has the id of this ended one.
    pub(crate) taken: &'a TakenGauges,
}

impl Source for StoreSource<'_> {
    fn len(&self) -> usize {
        self.visible.len()
    }

    fn series(&self, number: usize) -> SeriesDef<'_> {
        let view = self.reader.series(self.visible.in_store(number));
        let is_per_writer =
            matches!(view.family.family_type, FamilyType::Gauge(mode) if mode.is_per_writer());
        SeriesDef {
            family: view.family.spec(),
            layout: view.family.layout.as_ref(),
            labels: view.labels,
            pid: if is_per_writer { self.pid } else { "" },
            ttl_ms: ttl_of(&view, self.ttl_ms),
        }
    }

    fn point(&self, number: usize) -> Point {
        let in_store = self.visible.in_store(number);
        // An info is 1 as soon as it exists: between its record and its value it must not be seen.
        if self.reader.series(in_store).family.family_type == FamilyType::Info {
            return Point::Scalar(1.0);
        }
        self.reader.point(in_store)
    }

    fn exemplars(&self, number: usize) -> Vec<SourceExemplar> {
        self.reader.exemplars(self.visible.in_store(number))
    }

    fn life(&self, number: usize) -> SeriesLife {
        let in_store = self.visible.in_store(number);
        let family_type = self.reader.series(in_store).family.family_type;
        let is_live = family_type.gauge_mode().is_some_and(GaugeMode::is_live);
        let view = self.reader.series(in_store);
        if is_live && !self.is_live || self.taken.has(&view.family.name, &view) {
            SeriesLife::Gone
        } else if self.reader.is_retired(in_store) {
            SeriesLife::Removed
        } else {
            SeriesLife::Live
        }
    }
}

/// Returns the TTL of a series: `ttl_ms` if it belongs to one worker or process.
pub(super) fn ttl_of(view: &SeriesView<'_>, ttl_ms: u64) -> u64 {
    let mode = view.family.family_type.gauge_mode();
    let names_a_process = |name: &str| BOUND_TO_A_PROCESS.contains(&name);
    let is_bound = mode.is_some_and(GaugeMode::is_per_writer)
        || view.labels.iter().any(|(name, _)| names_a_process(name));
    if is_bound { ttl_ms } else { 0 }
}

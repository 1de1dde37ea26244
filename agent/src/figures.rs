//! Metrics of workers that the exporter measures from outside, so that they are fresh when workers
//! are idle or stuck.
//!
//! It writes them into a store of its own, which passes from one exporter to the next. The next one
//! is the same writer, so nothing is shown twice.
//!
//! # Why the store is replaced now and then
//!
//! A store only grows, and a registry remembers all that a writer has ever sent. The end of a
//! worker has its second in a label, so each end makes another series. When most series of the
//! store are retired ([`Figures::is_mostly_retired`]), the arbiter makes a new store. Series that still hold
//! move there ([`Figures::move_to`]), and the old store leaves like that of a worker that has
//! ended.

mod backlog;
mod process;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use metrics_store::catalogue::{
    BACKLOG_CONNECTIONS, BACKLOG_LIMIT, BUILD, Described, ERRORS, HTTP_LONGEST_REQUEST, WORKER_CPU,
    WORKER_MEMORY, WORKER_OPEN_FILES, WORKER_STATE, WORKER_UPTIME, WORKERS,
};
use metrics_store::{
    Facts, Family, Process, Series, StoreError, StoreFile, StoreReader, WorkerStore,
};
use rustix::param::clock_ticks_per_second;

use process::{ProcessFigures, measure, uptime_seconds};

/// Gauges that the exporter measures; measured again after a restart.
const MEASURED: [&Described; 5] = [
    &WORKER_MEMORY,
    &WORKER_CPU,
    &WORKER_UPTIME,
    &WORKER_OPEN_FILES,
    &HTTP_LONGEST_REQUEST,
];

/// Number of retired series at which the store is replaced.
const MAX_RETIRED: usize = 500;

/// The exporter's own store, and the series in it.
pub(crate) struct Figures {
    store: WorkerStore,
    /// The families of [`MEASURED`].
    measured: [Family; MEASURED.len()],
    state: Family,
    running: HashMap<Box<str>, Worker>,
    /// By worker id: the series with the second at which it stopped, and that second.
    stopped: HashMap<Box<str>, (Series, Box<str>)>,
    workers: [Series; Activity::EVERY.len()],
    listeners: Vec<Listener>,
    build: Option<Series>,
    /// Number of series that are no longer needed.
    retired: usize,
}

/// The activity of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It was forked, and does not record yet.
    Starting,
    /// It waits for requests.
    Idle,
    /// It has at least one request.
    Busy,
}

impl Activity {
    const EVERY: [(Self, &str); 3] = [
        (Self::Starting, "starting"),
        (Self::Idle, "idle"),
        (Self::Busy, "busy"),
    ];
}

struct Worker {
    process: Process,
    /// The series of [`MEASURED`].
    series: [Series; MEASURED.len()],
    /// Time of the last measurement, and the CPU time used until then, in clock ticks.
    last: Option<(Instant, u64)>,
}

struct Listener {
    inode: u64,
    is_unix: bool,
    connections: Series,
    limit: Series,
}

impl Figures {
    /// Continues with the store of the exporter before, or starts with an empty one.
    pub(crate) fn open(file: &OwnedFd, facts: &Facts) -> Result<Self, FiguresError> {
        let copy = || file.try_clone().map_err(FiguresError::Descriptor);
        let store = StoreFile::from_fd(copy()?).adopt()?;
        let [memory, cpu, uptime, files, longest] =
            MEASURED.map(|gauge| store.family(&gauge.spec(), None));
        let measured = [memory?, cpu?, uptime?, files?, longest?];
        let state = store.family(&WORKER_STATE.spec(), None)?;
        let family = store.family(&WORKERS.spec(), None)?;
        let of = |(_, name)| store.series(&family, &[("state", name)]);
        let [starting, idle, busy] = Activity::EVERY.map(of);
        let mut figures = Self {
            measured,
            state,
            running: HashMap::new(),
            stopped: HashMap::new(),
            workers: [starting?, idle?, busy?],
            listeners: Vec::new(),
            build: None,
            retired: 0,
            store,
        };
        figures.take_over(&StoreReader::open(copy()?)?)?;
        figures.listen(facts)?;
        figures.build(facts)?;
        Ok(figures)
    }

    /// Continues in another store; this one gets no more values.
    pub(crate) fn move_to(self, file: &OwnedFd, facts: &Facts) -> Result<Self, FiguresError> {
        let mut next = Self::open(file, facts)?;
        for (worker_id, (_, second)) in &self.stopped {
            next.stop(worker_id, second)?;
        }
        self.retire_all();
        Ok(next)
    }

    /// Returns whether most series of the store are retired.
    pub(crate) fn is_mostly_retired(&self) -> bool {
        let alive = MEASURED.len() * self.running.len() + self.stopped.len();
        self.retired > MAX_RETIRED + 2 * alive
    }

    /// Notes that a worker runs, in a slot in which another may have stopped before.
    pub(crate) fn worker_started(
        &mut self,
        worker_id: &str,
        process: Process,
    ) -> Result<(), StoreError> {
        if let Some((stopped, _)) = self.stopped.remove(worker_id) {
            stopped.retire();
            self.retired += 1;
        }
        let series = |family: &Family| -> Result<Series, StoreError> {
            let series = self.store.series(family, &[("worker_id", worker_id)])?;
            series.revive();
            Ok(series)
        };
        let [memory, cpu, uptime, files, longest] = self.measured.each_ref().map(series);
        let worker = Worker {
            process,
            series: [memory?, cpu?, uptime?, files?, longest?],
            last: None,
        };
        self.running.insert(worker_id.into(), worker);
        Ok(())
    }

    /// Notes that a worker has stopped, at that Unix time in seconds, and no other has its slot.
    pub(crate) fn worker_stopped(
        &mut self,
        worker_id: &str,
        second: u64,
    ) -> Result<(), StoreError> {
        if let Some(worker) = self.running.remove(worker_id) {
            worker.retire();
        }
        self.stop(worker_id, &second.to_string())
    }

    /// Counts a failure of the exporter that the page shows.
    pub(crate) fn count_error(&self, place: &str) -> Result<(), StoreError> {
        let family = self.store.family(&ERRORS.spec(), None)?;
        let series = self.store.series(&family, &[("where", place)])?;
        series.revive();
        series.add(0, 1.0);
        Ok(())
    }

    /// Shows the age of a worker's oldest request, in seconds; 0 if it has none.
    pub(crate) fn show_longest(&self, worker_id: &str, seconds: f64) {
        if let Some(worker) = self.running.get(worker_id) {
            let [.., longest] = &worker.series;
            longest.set(0, seconds);
        }
    }

    /// Writes the workers' activities, and measures each worker and the listeners.
    pub(crate) fn measure(&mut self, activities: impl Iterator<Item = Activity>) {
        let mut counts = [0.0; Activity::EVERY.len()];
        for activity in activities {
            counts[activity as usize] += 1.0;
        }
        for (series, count) in self.workers.iter().zip(counts) {
            series.set(0, count);
        }
        for worker in self.running.values_mut() {
            // A worker that has just ended keeps its last figures until its end is noticed.
            if let Some(found) = measure(worker.process) {
                worker.show(&found);
            }
        }
        self.measure_backlogs();
    }

    fn stop(&mut self, worker_id: &str, second: &str) -> Result<(), StoreError> {
        if self.stopped.contains_key(worker_id) {
            return Ok(());
        }
        let labels = [
            ("worker_id", worker_id),
            ("state", "stopped"),
            ("timestamp", second),
        ];
        let series = self.store.series(&self.state, &labels)?;
        series.revive();
        series.set(0, 0.0);
        let stopped = (series, second.into());
        self.stopped.insert(worker_id.into(), stopped);
        Ok(())
    }

    fn measure_backlogs(&self) {
        let of_tcp = self.listeners.iter().any(|listener| !listener.is_unix);
        let of_tcp = of_tcp.then(backlog::of_tcp).and_then(Result::ok);
        for listener in &self.listeners {
            let found = if listener.is_unix {
                backlog::of_unix(listener.inode).ok().flatten()
            } else {
                let found = of_tcp.as_ref();
                found.and_then(|found| found.get(&listener.inode).copied())
            };
            // Figures that the system does not give are not shown.
            match found {
                Some(found) => {
                    listener.connections.set(0, found.connections.into());
                    listener.limit.set(0, found.limit.into());
                    listener.revive();
                }
                None => listener.retire(),
            }
        }
    }

    fn listen(&mut self, facts: &Facts) -> Result<(), StoreError> {
        let connections = self.store.family(&BACKLOG_CONNECTIONS.spec(), None)?;
        let limit = self.store.family(&BACKLOG_LIMIT.spec(), None)?;
        for known in &facts.listeners {
            let labels = [("listener", known.name.as_str())];
            let listener = Listener {
                inode: known.inode,
                is_unix: known.is_unix,
                connections: self.store.series(&connections, &labels)?,
                limit: self.store.series(&limit, &labels)?,
            };
            self.listeners.push(listener);
        }
        Ok(())
    }

    fn build(&mut self, facts: &Facts) -> Result<(), StoreError> {
        if facts.build.is_empty() {
            return Ok(());
        }
        let family = self.store.family(&BUILD.spec(), None)?;
        let labels: Vec<_> = facts
            .build
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let series = self.store.series(&family, &labels)?;
        series.set(0, 1.0);
        series.revive();
        self.build = Some(series);
        Ok(())
    }

    /// Keeps what is still true of the exporter before: which workers have stopped. Everything else
    /// is measured again.
    fn take_over(&mut self, reader: &StoreReader) -> Result<(), StoreError> {
        for number in 0..reader.len() {
            let view = reader.series(number);
            let is_state = &*view.family.name == WORKER_STATE.name;
            if reader.is_retired(number) {
                self.retired += usize::from(is_state);
                continue;
            }
            let of = |wanted: &str| {
                let mut labels = view.labels.iter();
                labels.find_map(|(name, value)| (&**name == wanted).then_some(&**value))
            };
            if let (true, Some(worker_id), Some(second)) =
                (is_state, of("worker_id"), of("timestamp"))
            {
                self.stop(worker_id, second)?;
                continue;
            }
            if &*view.family.name == WORKERS.name {
                continue;
            }
            let labels: Vec<_> = view
                .labels
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            let family = self.store.family(&view.family.spec(), None)?;
            self.store.series(&family, &labels)?.retire();
        }
        Ok(())
    }

    fn retire_all(&self) {
        self.running.values().for_each(Worker::retire);
        self.stopped
            .values()
            .for_each(|(series, _)| series.retire());
        self.workers.iter().for_each(Series::retire);
        self.listeners.iter().for_each(Listener::retire);
        self.build.iter().for_each(Series::retire);
    }
}

/// The reason why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FiguresError {
    #[error("cannot duplicate a descriptor: {0}")]
    Descriptor(std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Worker {
    fn show(&mut self, found: &ProcessFigures) {
        let [memory, cpu, uptime, files, _] = &self.series;
        memory.set(0, found.memory_bytes as f64);
        if let Some(seconds) = uptime_seconds(self.process) {
            uptime.set(0, seconds);
        }
        match found.open_files {
            Some(open) => files.set(0, open as f64),
            None => files.retire(),
        }
        let now = Instant::now();
        let Some((then, ticks)) = self.last else {
            self.last = Some((now, found.cpu_ticks));
            return;
        };
        let elapsed = (now - then).as_secs_f64();
        // A tick is a hundredth of a second, too coarse for less than a second.
        if elapsed >= 1.0 {
            let used =
                found.cpu_ticks.saturating_sub(ticks) as f64 / clock_ticks_per_second() as f64;
            cpu.set(0, 100.0 * used / elapsed);
            self.last = Some((now, found.cpu_ticks));
        }
    }

    fn retire(&self) {
        self.series.iter().for_each(Series::retire);
    }
}

impl Listener {
    fn retire(&self) {
        self.connections.retire();
        self.limit.retire();
    }

    fn revive(&self) {
        self.connections.revive();
        self.limit.revive();
    }
}

#[cfg(test)]
mod tests;

//! What the exporter says of workers, read from outside: so it is fresh when they are idle or stuck.
//!
//! It is written into a store of the exporter's own, which passes from one exporter to the next: the
//! successor is the same writer, so nothing is shown twice.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use metrics_model::{FamilySpec, FamilyType, GaugeMode};
use metrics_store::{Family, Process, Series, StoreError, StoreFile, StoreReader, WorkerStore};
use rustix::param::{clock_ticks_per_second, page_size};

const STATE: &str = "gunicorn_worker_state";
const STATE_HELP: &str = "Current state of the worker (1=running, 0=stopped)";
const MEMORY: &str = "gunicorn_worker_memory_bytes";
const CPU: &str = "gunicorn_worker_cpu_percent";
const UPTIME: &str = "gunicorn_worker_uptime_seconds";

/// The exporter's own store, and the series in it.
pub(crate) struct Figures {
    store: WorkerStore,
    families: Families,
    running: HashMap<Box<str>, Worker>,
    /// By worker id: the series that says since when it is stopped.
    stopped: HashMap<Box<str>, Series>,
}

struct Families {
    memory: Family,
    cpu: Family,
    uptime: Family,
    state: Family,
}

struct Worker {
    process: Process,
    memory: Series,
    cpu: Series,
    uptime: Series,
    /// When it was looked at last, and the CPU time that it had used then, in clock ticks.
    last: Option<(Instant, u64)>,
}

/// What `/proc` says of a process.
struct Seen {
    memory_bytes: u64,
    cpu_ticks: u64,
}

impl Figures {
    /// Goes on with the store of a predecessor, or begins with an empty one.
    pub(crate) fn open(file: &OwnedFd) -> Result<Self, FiguresError> {
        let copy = || file.try_clone().map_err(FiguresError::Descriptor);
        let store = StoreFile::from_fd(copy()?).adopt()?;
        let families = Families {
            memory: gauge(&store, MEMORY, "Memory usage of the worker process")?,
            cpu: gauge(&store, CPU, "CPU usage of the worker process")?,
            uptime: gauge(&store, UPTIME, "Uptime of the worker process")?,
            state: gauge(&store, STATE, STATE_HELP)?,
        };
        let mut figures = Self {
            store,
            families,
            running: HashMap::new(),
            stopped: HashMap::new(),
        };
        figures.take_over(&StoreReader::open(copy()?)?)?;
        Ok(figures)
    }

    /// A worker runs, in a slot in which another may have stopped before.
    pub(crate) fn worker_started(
        &mut self,
        worker_id: &str,
        process: Process,
    ) -> Result<(), StoreError> {
        if let Some(stopped) = self.stopped.remove(worker_id) {
            stopped.retire();
        }
        let series = |family: &Family| -> Result<Series, StoreError> {
            let series = self.store.series(family, &[("worker_id", worker_id)])?;
            series.revive();
            Ok(series)
        };
        let worker = Worker {
            process,
            memory: series(&self.families.memory)?,
            cpu: series(&self.families.cpu)?,
            uptime: series(&self.families.uptime)?,
            last: None,
        };
        self.running.insert(worker_id.into(), worker);
        Ok(())
    }

    /// A worker has stopped, at that Unix time in seconds, and no other has its slot.
    pub(crate) fn worker_stopped(
        &mut self,
        worker_id: &str,
        second: u64,
    ) -> Result<(), StoreError> {
        if let Some(worker) = self.running.remove(worker_id) {
            worker.retire();
        }
        if self.stopped.contains_key(worker_id) {
            return Ok(());
        }
        let second = second.to_string();
        let labels = [
            ("worker_id", worker_id),
            ("state", "stopped"),
            ("timestamp", &second),
        ];
        let series = self.store.series(&self.families.state, &labels)?;
        series.revive();
        series.set(0, 0.0);
        self.stopped.insert(worker_id.into(), series);
        Ok(())
    }

    /// Looks at all running workers.
    pub(crate) fn measure(&mut self) {
        for worker in self.running.values_mut() {
            // One that has just ended keeps its last figures until its end is known.
            if let Some(seen) = see(worker.process) {
                worker.show(&seen);
            }
        }
    }

    /// What a predecessor said stays so far as it is still true: which workers have stopped. How
    /// running ones are is said again, of those that are.
    fn take_over(&mut self, reader: &StoreReader) -> Result<(), StoreError> {
        for number in 0..reader.len() {
            if reader.is_retired(number) {
                continue;
            }
            let view = reader.series(number);
            let labels = view
                .labels
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect::<Vec<_>>();
            let family = match &*view.family.name {
                MEMORY => self.families.memory,
                CPU => self.families.cpu,
                UPTIME => self.families.uptime,
                STATE => self.families.state,
                _ => continue,
            };
            let series = self.store.series(&family, &labels)?;
            let worker_id = labels.iter().find(|(name, _)| *name == "worker_id");
            match (&*view.family.name, worker_id) {
                (STATE, Some((_, worker_id))) => {
                    self.stopped.insert((*worker_id).into(), series);
                }
                _ => series.retire(),
            }
        }
        Ok(())
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FiguresError {
    #[error("cannot duplicate a descriptor: {0}")]
    Descriptor(std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Worker {
    fn show(&mut self, seen: &Seen) {
        self.memory.set(0, seen.memory_bytes as f64);
        if let Some(seconds) = uptime_seconds(self.process) {
            self.uptime.set(0, seconds);
        }
        let now = Instant::now();
        let Some((then, ticks)) = self.last else {
            self.last = Some((now, seen.cpu_ticks));
            return;
        };
        let elapsed = (now - then).as_secs_f64();
        // A tick is a hundredth of a second: over less than a second it says little.
        if elapsed >= 1.0 {
            let used =
                seen.cpu_ticks.saturating_sub(ticks) as f64 / clock_ticks_per_second() as f64;
            self.cpu.set(0, 100.0 * used / elapsed);
            self.last = Some((now, seen.cpu_ticks));
        }
    }

    fn retire(&self) {
        for series in [self.memory, self.cpu, self.uptime] {
            series.retire();
        }
    }
}

fn gauge(store: &WorkerStore, name: &str, help: &str) -> Result<Family, StoreError> {
    let spec = FamilySpec {
        help,
        ..FamilySpec::new(name, FamilyType::Gauge(GaugeMode::LiveSum))
    };
    store.family(&spec, None)
}

fn see(process: Process) -> Option<Seen> {
    let pid = process.pid;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the command, which is in parentheses and may contain anything: fields 3 to 22 and more.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let start_time: u64 = fields.nth(6)?.parse().ok()?;
    if start_time != process.start_time {
        return None;
    }
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Seen {
        memory_bytes: pages * page_size() as u64,
        cpu_ticks: user + system,
    })
}

fn uptime_seconds(process: Process) -> Option<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let machine: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let ticks_per_second = clock_ticks_per_second() as f64;
    // In whole ticks, which is how exact both are.
    let ticks = (machine * ticks_per_second).round() - process.start_time as f64;
    Some(ticks.max(0.0) / ticks_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_has_run_for_a_while() {
        let me = Process::current();
        let seen = see(me).unwrap();
        assert!(seen.memory_bytes > 100_000, "{}", seen.memory_bytes);
        let seconds = uptime_seconds(me).unwrap();
        assert!((0.0..86_400.0).contains(&seconds), "{seconds}");
    }
}

//! What a worker calls to say that it is alive, and what is done now and then on that occasion.
//!
//! A worker with threads says so several times for each request. So what comes on top of Gunicorn's own
//! call is a look at one number in shared memory and at the clock, and nothing of Python's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pyo3::prelude::*;

use crate::instance::WorkerSlot;

/// Gauges and collectors are evaluated again and again for so long after a scrape, in milliseconds: a
/// page is then never older than a worker's pause between two notifications, one second.
const READ_FOR_MS: u64 = 5 * 60 * 1000;
/// Least pause between two evaluations that no new scrape asks for, in milliseconds.
const PAUSE_MS: u64 = 500;

/// Stands in the place of the method `notify` of the file that a worker touches for it.
#[pyclass(frozen, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct Heartbeat {
    slot: Py<WorkerSlot>,
    notify: Py<PyAny>,
    evaluate: Py<PyAny>,
    began: Instant,
    /// How many scrapes there had been when `evaluate` last did what it is there for.
    seen: AtomicU64,
    /// When the last new scrape was noticed, in milliseconds since `began`; at first when it began, so
    /// that a page finds the values of a worker that has just been started.
    read_at: AtomicU64,
    /// When `evaluate` last did what it is there for, in milliseconds since `began`.
    evaluated_at: AtomicU64,
}

#[pymethods]
impl Heartbeat {
    /// `notify` is Gunicorn's; `evaluate` says whether it has done anything, and is asked again if not.
    #[new]
    fn new(slot: Py<WorkerSlot>, notify: Py<PyAny>, evaluate: Py<PyAny>) -> Self {
        Self {
            slot,
            notify,
            evaluate,
            began: Instant::now(),
            seen: AtomicU64::new(u64::MAX),
            read_at: AtomicU64::new(0),
            evaluated_at: AtomicU64::new(0),
        }
    }

    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.notify.call0(py)?;
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let scrapes = self.slot.get().scrapes();
        if self.is_due(scrapes, now) && self.evaluate.call0(py)?.is_truthy(py)? {
            self.seen.store(scrapes, Ordering::Relaxed);
            self.evaluated_at.store(now, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Heartbeat {
    fn is_due(&self, scrapes: u64, now: u64) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        if scrapes != seen {
            self.read_at.store(now, Ordering::Relaxed);
            return true;
        }
        let is_read = now.saturating_sub(self.read_at.load(Ordering::Relaxed)) < READ_FOR_MS;
        is_read && now.saturating_sub(self.evaluated_at.load(Ordering::Relaxed)) >= PAUSE_MS
    }
}

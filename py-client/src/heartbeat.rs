//! A worker's sign of life to Gunicorn, and the work that is done on that occasion.
//!
//! A worker with threads gives this sign several times per request. So besides Gunicorn's own call
//! it only reads one number in shared memory and the clock, without any Python.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pyo3::prelude::*;

use crate::instance::WorkerSlot;

/// Time after a scrape in which gauges and collectors are evaluated repeatedly, in milliseconds: a
/// page is then never older than a worker's pause between two notifications, one second.
const READ_FOR_MS: u64 = 5 * 60 * 1000;
/// Minimum pause between two evaluations without a new scrape, in milliseconds.
const PAUSE_MS: u64 = 500;

/// Replaces the method `notify` of the file that a worker touches.
#[pyclass(frozen, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct Heartbeat {
    slot: Py<WorkerSlot>,
    notify: Py<PyAny>,
    evaluate: Py<PyAny>,
    began: Instant,
    /// Number of scrapes when `evaluate` last did its work.
    seen: AtomicU64,
    /// When the last new scrape was noticed, in milliseconds since `began`; initially zero, so that
    /// a page finds the values of a worker that has just started.
    read_at: AtomicU64,
    /// When `evaluate` last did its work, in milliseconds since `began`.
    evaluated_at: AtomicU64,
}

#[pymethods]
impl Heartbeat {
    /// `notify` is Gunicorn's; `evaluate` returns whether it has done its work, and is called again
    /// if not.
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

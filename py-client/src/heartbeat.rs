//! What a worker calls to say that it is alive, and what is done now and then on that occasion.
//!
//! A worker with threads says so several times for each request. So what comes on top of Gunicorn's own
//! call is a look at one number in shared memory, and nothing of Python's.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use crate::instance::WorkerSlot;

/// Stands in the place of the method `notify` of the file that a worker touches for it.
#[pyclass(frozen, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct Heartbeat {
    slot: Py<WorkerSlot>,
    notify: Py<PyAny>,
    evaluate: Py<PyAny>,
    /// How many scrapes there had been when `evaluate` last did what it is there for.
    seen: AtomicU64,
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
            seen: AtomicU64::new(u64::MAX),
        }
    }

    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.notify.call0(py)?;
        let scrapes = self.slot.get().scrapes();
        if scrapes != self.seen.load(Ordering::Relaxed) && self.evaluate.call0(py)?.is_truthy(py)? {
            self.seen.store(scrapes, Ordering::Relaxed);
        }
        Ok(())
    }
}

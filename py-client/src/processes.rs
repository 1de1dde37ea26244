//! Simulates several processes in one, for tests of metrics over all of them.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use metrics_agent::{GatherError, Gatherer};
use metrics_model::{ExposeRequest, Format};
use metrics_store::{Identity, Process, Role, StoreError, StoreFile, StoreReader, WorkerStore};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::process::{self, lock};

/// Simulated processes by their ids, each with a store. Only the mapped memory outlives this
/// object.
#[pyclass(frozen, module = "gunicorn_prometheus_exporter._native")]
#[derive(Default)]
pub(crate) struct Processes {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    gathering: Gatherer,
    running: HashMap<u32, Arc<WorkerStore>>,
    current: Option<u32>,
    /// Number of stores made so far.
    stores: u64,
}

#[pymethods]
impl Processes {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Makes this the process `pid` from now on; creates that process if there is none.
    fn become_process(&self, pid: u32) -> PyResult<()> {
        let mut inner = lock(&self.inner);
        if inner.current == Some(pid) {
            return Ok(());
        }
        let store = inner.store_of(pid).map_err(python_error)?;
        inner.current = Some(pid);
        process::use_store(store);
        Ok(())
    }

    /// Ends that process. A later process with the same id is another one.
    fn end_process(&self, pid: u32) -> PyResult<()> {
        let mut inner = lock(&self.inner);
        if inner.running.remove(&pid).is_none() {
            return Ok(());
        }
        if inner.current == Some(pid) {
            inner.current = None;
        }
        inner.gathering.end(pid).map_err(python_error)
    }

    /// Returns the page of all of them, as OpenMetrics text.
    fn page<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let request = ExposeRequest {
            format: Format::OpenMetrics,
            ..ExposeRequest::default()
        };
        let page = lock(&self.inner).gathering.page(&request);
        Ok(PyBytes::new(py, &page.map_err(python_error)?))
    }
}

impl Inner {
    fn store_of(&mut self, pid: u32) -> Result<Arc<WorkerStore>, StoreError> {
        if let Some(store) = self.running.get(&pid) {
            return Ok(Arc::clone(store));
        }
        self.stores += 1;
        let identity = Identity {
            role: Role::Child,
            number: self.stores,
            slot: 0,
            name: pid.to_string(),
        };
        let file = StoreFile::create(&identity)?;
        let copy = file
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| StoreError::System {
                action: "duplicate a descriptor",
                source: rustix::io::Errno::from_io_error(&error)
                    .unwrap_or(rustix::io::Errno::MFILE),
            })?;
        let played = Process {
            pid,
            start_time: self.stores,
        };
        let store = Arc::new(file.adopt_as(played)?);
        self.gathering.join(StoreReader::open(copy)?);
        self.running.insert(pid, Arc::clone(&store));
        Ok(store)
    }
}

fn python_error(error: impl Into<GatherError>) -> PyErr {
    PyRuntimeError::new_err(error.into().to_string())
}

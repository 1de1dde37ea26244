//! The slot and the store that the arbiter keeps for one worker.

use std::sync::{Arc, Mutex};

use metrics_model::{is_whole_text, number_text};
use metrics_settings::HttpSettings;
use metrics_store::Counter;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Supervisor;
use crate::endpoints::EndpointTable;
use crate::process::{self, lock};
use crate::recorder::Options;
use crate::value::fill_store;

/// The slot and the store of one worker.
#[pyclass(frozen, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct WorkerSlot {
    /// Number of the store.
    #[pyo3(get)]
    number: u64,
    /// Number of the slot.
    #[pyo3(get)]
    slot: u32,
    /// `<instance>:<slot>`.
    #[pyo3(get)]
    worker_id: String,
    /// Bounds of request durations by endpoint, in seconds, as `le` has them.
    #[pyo3(get)]
    duration_bounds: Vec<String>,
    /// Bounds of sizes by endpoint, in bytes, as `le` has them.
    #[pyo3(get)]
    size_bounds: Vec<String>,
    /// Whether the worker notes where it hangs when the arbiter aborts it.
    #[pyo3(get)]
    stacks: bool,
    options: Options,
    endpoint_limit: usize,
    instance: Arc<Mutex<Supervisor>>,
}

impl WorkerSlot {
    pub(super) fn new(
        number: u64,
        slot: u32,
        worker_id: String,
        http: &HttpSettings,
        instance: Arc<Mutex<Supervisor>>,
    ) -> Self {
        Self {
            number,
            slot,
            worker_id,
            duration_bounds: http.buckets.iter().copied().map(bound_text).collect(),
            size_bounds: http.size_buckets.iter().copied().map(bound_text).collect(),
            stacks: http.stacks,
            options: http.into(),
            endpoint_limit: http.endpoint_limit as usize,
            instance,
        }
    }

    pub(crate) fn worker_id(&self) -> &str {
        &self.worker_id
    }

    /// Returns how many scrapes this instance has answered.
    pub(crate) fn scrapes(&self) -> u64 {
        lock(&self.instance).control.counted(Counter::Scrapes)
    }

    /// Returns the options of recording.
    pub(crate) fn options(&self) -> Options {
        self.options.clone()
    }

    /// Returns the table of paths that may become labels.
    pub(crate) fn endpoints(&self) -> EndpointTable {
        EndpointTable::new(
            Arc::clone(&lock(&self.instance).control),
            self.endpoint_limit,
        )
    }
}

#[pymethods]
impl WorkerSlot {
    /// Makes this process, the worker, the writer of the slot's store.
    fn adopt(&self, py: Python<'_>) -> PyResult<()> {
        let stores = std::mem::take(&mut lock(&self.instance).stores);
        let store = stores
            .into_iter()
            .find_map(|(number, held)| (number == self.number).then_some(held.file))
            .ok_or_else(|| PyRuntimeError::new_err("this worker's store is not there"))?;
        let store = store
            .adopt()
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        process::use_store(store);
        fill_store(py);
        Ok(())
    }
}

/// Returns the text of a bound as `prometheus_client` writes it: Go's spelling of the number, and
/// `1.0` for whole ones.
fn bound_text(bound: f64) -> String {
    let mut text = number_text(bound);
    if is_whole_text(&text) {
        text.push_str(".0");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_have_the_spelling_of_prometheus_client() {
        let bounds = [0.0, -1.0, 0.005, 1.0, 2.5, 100_000.0, 1e6, 1_048_576.0];
        let texts = bounds.map(bound_text);
        let expected = [
            "0.0",
            "-1.0",
            "0.005",
            "1.0",
            "2.5",
            "100000.0",
            "1e+06",
            "1.048576e+06",
        ];
        assert_eq!(texts, expected);
    }
}

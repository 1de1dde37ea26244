//! Single series of this process' store, for rare events that Python code records.

use metrics_store::catalogue::{Described, WORKER_STATE};
use metrics_store::{Series, StoreError};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::instance::ENDS;
use crate::process::store;

/// Adds to a counter of this process; `by` may be 0, which shows the series from the start.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "a list becomes a vector of its own"
)]
pub(crate) fn count_event(name: &str, labels: Vec<(String, String)>, by: u32) -> PyResult<()> {
    let family = Described::of(name)
        .ok_or_else(|| PyValueError::new_err(format!("'{name}' is none of our families")))?;
    series(family, &labels)?.add(0, by.into());
    Ok(())
}

/// Notes that this worker has entered a state, at that Unix time in seconds.
#[pyfunction]
pub(crate) fn set_worker_state(worker_id: String, state: &str, second: u64) -> PyResult<()> {
    let labels = [
        ("worker_id".to_owned(), worker_id),
        ("state".to_owned(), state.to_owned()),
        ("timestamp".to_owned(), second.to_string()),
    ];
    series(&WORKER_STATE, &labels)?.set(0, 1.0);
    Ok(())
}

/// Adds to a counter of this process.
pub(crate) fn add_to(
    family: &Described,
    labels: &[(&str, &str)],
    by: u32,
) -> Result<(), StoreError> {
    if let Some(store) = store() {
        let family = store.family(&family.spec(), None)?;
        store.series(&family, labels)?.add(0, by.into());
    }
    Ok(())
}

fn series(family: &Described, labels: &[(String, String)]) -> PyResult<Series> {
    let store =
        store().ok_or_else(|| PyRuntimeError::new_err("this process has no metrics store"))?;
    let labels: Vec<_> = labels.iter().map(|(n, v)| (&**n, &**v)).collect();
    let found: Result<Series, StoreError> = store
        .family(&family.spec(), None)
        .and_then(|family| store.series(&family, &labels));
    found.map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// Stores, in a worker, why it is about to end, which its arbiter may not know (`quit`, `term` or
/// `max_requests`); the first reason stays.
#[pyfunction]
pub(crate) fn say_end(reason: &str) -> PyResult<()> {
    let Some(number) = ENDS.iter().position(|known| *known == reason) else {
        let allowed = ENDS.join(", ");
        return Err(PyValueError::new_err(format!(
            "'{reason}' is no end, allowed are {allowed}"
        )));
    };
    if let Some(store) = store() {
        store.say_last(number as u64 + 1);
    }
    Ok(())
}

/// Stores, in a worker, where it hangs: lines of text, of which the arbiter logs 30 at most.
#[pyfunction]
pub(crate) fn say_stack(text: &str) -> PyResult<()> {
    match store() {
        Some(store) => store
            .say_stack(text)
            .map_err(|error| PyRuntimeError::new_err(error.to_string())),
        None => Ok(()),
    }
}

//! What becomes of failures: they are counted, logged once, and never reach the application.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Mutex;

use metrics_store::catalogue::ERRORS;
use pyo3::prelude::*;

use crate::process::{lock, store};

static LOGGED: Mutex<Option<HashSet<Cow<'static, str>>>> = Mutex::new(None);

/// Counts a failure in `gunicorn_exporter_errors_total{where}`; the first of each place is logged.
pub(crate) fn report(py: Python<'_>, place: impl Into<Cow<'static, str>>, error: &dyn Display) {
    let place = place.into();
    count(&place);
    let is_first = lock(&LOGGED).get_or_insert_default().insert(place.clone());
    if is_first {
        let message = format!("metrics: {place}: {error} (logged once)");
        let logged = py
            .import("logging")
            .and_then(|logging| logging.call_method1("getLogger", ("gunicorn.error",)))
            .and_then(|logger| logger.call_method1("warning", ("%s", message)));
        if let Err(error) = logged {
            error.write_unraisable(py, None);
        }
    }
}

/// The same for what fails in Python.
#[pyfunction]
pub(crate) fn report_failure(py: Python<'_>, place: String, error: &str) {
    report(py, place, &error);
}

fn count(place: &str) {
    // Where even this fails there is no memory left, and nowhere to count.
    if let Some(store) = store()
        && let Ok(family) = store.family(&ERRORS.spec(), None)
        && let Ok(series) = store.series(&family, &[("where", place)])
    {
        series.add(0, 1.0);
    }
}

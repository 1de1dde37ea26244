//! Handles failures: counts them, logs each cause once, and keeps them from the application.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Mutex;

use metrics_store::catalogue::ERRORS;
use pyo3::prelude::*;

use crate::process::{lock, store};

/// Causes that were logged, see [`cause`].
static LOGGED: Mutex<Option<HashSet<String>>> = Mutex::new(None);
/// Maximum number of causes that one process logs; further failures are only counted.
const MAX_LOGGED: usize = 100;

/// Counts a failure in `gunicorn_exporter_errors_total{where}`, and logs the first of each place,
/// family and cause.
pub(crate) fn report(py: Python<'_>, place: impl Into<Cow<'static, str>>, error: &dyn Display) {
    let place = place.into();
    count(&place);
    let error = error.to_string();
    let is_first = {
        let mut logged = lock(&LOGGED);
        let logged = logged.get_or_insert_default();
        logged.len() < MAX_LOGGED && logged.insert(cause(&place, &error))
    };
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

/// Returns the cause of a failure: its place, and its text up to the second colon (after which an
/// application's exception stands), without numbers. Failures with equal causes count as the same.
fn cause(place: &str, error: &str) -> String {
    let text: Vec<&str> = error.splitn(3, ": ").take(2).collect();
    let mut cause = format!("{place}: {}", text.join(": "));
    cause.retain(|letter| !letter.is_ascii_digit());
    cause
}

/// Does the same for failures in Python code.
#[pyfunction]
pub(crate) fn report_failure(py: Python<'_>, place: String, error: &str) {
    report(py, place, &error);
}

/// Counts it in this process' store.
pub(crate) fn count(place: &str) {
    // If even this fails there is no memory left, and no place to count.
    if let Some(store) = store()
        && let Ok(family) = store.family(&ERRORS.spec(), None)
        && let Ok(series) = store.series(&family, &[("where", place)])
    {
        series.add(0, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_one_for_each_family_and_none_for_each_value() {
        let too_large = |name: &str, bytes: u32| {
            cause(
                "values",
                &format!("'{name}' takes {bytes} bytes, at most 49152 are allowed"),
            )
        };
        assert_eq!(too_large("orders", 50_000), too_large("orders", 60_001));
        assert_ne!(too_large("orders", 50_000), too_large("sales", 50_000));
        let raised = |text: &str| cause("set_function", &format!("level: KeyError: {text}"));
        assert_eq!(raised("'a'"), raised("'b'"));
    }
}

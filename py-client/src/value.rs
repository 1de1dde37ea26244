//! The values of `prometheus_client`'s metrics, stored in this process' store.
//!
//! # How it works
//!
//! `prometheus_client` makes one value for each number of a metric: one for a counter or gauge, two
//! for a summary, one for the sum and one for each bucket of a histogram. Values of one metric form
//! a [`Group`], which is one series of the store; it is complete when the last of them is made.
//!
//! # What if
//!
//! *The process forks*: the child's values begin at zero, in the child's own store, when they are
//! next used; an info or an enum stays valid in the child. *There is no store yet* (before the
//! arbiter has one, or between a fork and `init_process`): numbers are kept here, and move to the
//! store as soon as there is one. *A counter is reset, or removed and made again*: the store's
//! number never falls; the group keeps the difference. *A counter is removed before there is a
//! store*: what it has counted waits for the store. *The store has no memory*: the process
//! continues with numbers of its own.

mod group;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use metrics_model::{Exemplar, FamilyType, GaugeMode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::failure::report;
use crate::process::{self, lock};
pub(crate) use group::fill_store;
use group::{Group, Metric, remember};

/// A number of a metric; it is `prometheus_client.values.ValueClass` while this package is
/// installed.
#[pyclass(frozen, subclass, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct Value {
    group: Arc<Group>,
    cell: usize,
    /// The last exemplar that this process has set.
    exemplar: Mutex<Option<Py<PyAny>>>,
}

/// Groups that wait for the rest of their values, by name and labels.
static INCOMPLETE: Mutex<Option<HashMap<String, Arc<Group>>>> = Mutex::new(None);
/// Units by the names of their metrics: `prometheus_client` does not pass them to values.
static UNITS: Mutex<Option<HashMap<String, String>>> = Mutex::new(None);

#[pymethods]
impl Value {
    #[new]
    #[pyo3(signature = (typ, metric_name, name, labelnames, labelvalues, help_text, multiprocess_mode = "", **_kwargs))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the constructor that prometheus_client calls"
    )]
    fn new(
        py: Python<'_>,
        typ: &str,
        metric_name: String,
        name: &str,
        labelnames: Vec<String>,
        labelvalues: Vec<String>,
        help_text: String,
        multiprocess_mode: &str,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let family_type = family_type(typ, multiprocess_mode)?;
        let mut labels: Vec<_> = labelnames.into_iter().zip(labelvalues).collect();
        let part = name.strip_prefix(&metric_name).unwrap_or_default();
        let bound = match (family_type, part) {
            (FamilyType::Histogram, "_bucket") => labels.pop().map(|(_, bound)| bound),
            _ => None,
        };
        let is_first = match family_type {
            FamilyType::Histogram => part == "_sum",
            FamilyType::Summary => part == "_count",
            _ => true,
        };
        let (group, cell) = if is_first {
            let unit = lock(&UNITS)
                .as_ref()
                .and_then(|units| units.get(&metric_name).cloned());
            begin(Metric {
                family_type,
                name: metric_name,
                help: help_text,
                unit: unit.unwrap_or_default(),
                labels,
            })
        } else {
            join(&group_key(&metric_name, &labels), bound).ok_or_else(|| {
                PyValueError::new_err(format!("'{name}' has no metric that it belongs to"))
            })?
        };
        if lock(&group.state).complete {
            remember(&group);
            // Shows a metric from the start, at zero.
            drop(group.current(py));
        }
        Ok(Self {
            group,
            cell,
            exemplar: Mutex::new(None),
        })
    }

    /// Values of several processes are aggregated.
    #[classattr]
    fn _multiprocess() -> bool {
        true
    }

    /// Adds.
    fn inc(&self, py: Python<'_>, amount: f64) {
        let mut state = self.group.current(py);
        match state.series {
            Some(series) if self.group.is_timed() => {
                // As in prometheus_client: a change without a time is never the most recent.
                series.set_timed(series.get_timed().0 + amount, 0.0);
            }
            Some(series) => series.add(self.cell, amount),
            None => state.own[self.cell] += amount,
        }
    }

    /// Sets the value, now or at that Unix time.
    #[pyo3(signature = (value, timestamp = None))]
    fn set(&self, py: Python<'_>, value: f64, timestamp: Option<f64>) {
        let mut state = self.group.current(py);
        if state.has_function
            && state.series.is_none()
            && let Err(error) = self.group.show(&mut state)
        {
            // Logging may use metrics, this one among them.
            drop(state);
            return report(py, "values", &error);
        }
        let Some(series) = state.series else {
            state.own[self.cell] = value;
            state.time = timestamp.unwrap_or_default();
            return;
        };
        match self.group.metric.family_type {
            FamilyType::Gauge(mode) if mode.is_timed() => {
                series.set_timed(value, timestamp.unwrap_or_default());
            }
            FamilyType::Gauge(_) | FamilyType::Info | FamilyType::StateSet => {
                series.set(self.cell, value)
            }
            FamilyType::Counter
            | FamilyType::Histogram
            | FamilyType::NativeHistogram
            | FamilyType::Summary => {
                let now = series.get(self.cell) - state.own[self.cell];
                // A growth is counted; a fall is a reset, and what comes after it is new.
                let grown = if value >= now { value - now } else { value };
                series.add(self.cell, grown);
                state.own[self.cell] = series.get(self.cell) - value;
            }
        }
    }

    /// Returns what this process has added or set.
    fn get(&self, py: Python<'_>) -> f64 {
        let state = self.group.current(py);
        match state.series {
            Some(series) if self.group.is_timed() => series.get_timed().0,
            Some(series) => series.get(self.cell) - state.own[self.cell],
            None => state.own[self.cell],
        }
    }

    /// Stores an exemplar; `exemplar` is `prometheus_client`'s. Drops one that no registry would
    /// accept.
    fn set_exemplar(&self, py: Python<'_>, exemplar: &Bound<'_, PyAny>) {
        let (labels, value, time) =
            match exemplar.extract::<(HashMap<String, String>, f64, Option<f64>)>() {
                Ok(parts) => parts,
                Err(error) => return report(py, "exemplars", &error),
            };
        let labels = || {
            labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
        };
        let time = time.unwrap_or_else(process::unix_time);
        if let Err(error) = Exemplar::new(labels(), value, time) {
            return report(py, "exemplars", &error);
        }
        let series = self.group.current(py).series;
        if let (Some(series), Some(store)) = (series, process::store())
            && let Err(error) = store.set_exemplar(
                &series,
                self.cell as u32,
                &labels().collect::<Vec<_>>(),
                value,
                time,
            )
        {
            report(py, "exemplars", &error);
        }
        *lock(&self.exemplar) = Some(exemplar.clone().unbind());
    }

    /// Returns the exemplar that was set last.
    fn get_exemplar(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.exemplar)
            .as_ref()
            .map(|exemplar| exemplar.clone_ref(py))
    }

    /// Takes the value from the page until it is set in this process: a function gives it.
    fn set_by_function(&self, py: Python<'_>) {
        let mut state = self.group.current(py);
        state.has_function = true;
        if let Some(series) = state.series.take() {
            self.group.give_back(series, &state);
        }
        state.own.fill(0.0);
    }

    /// Ends what this process owns of this series, because the metric has removed it.
    fn retire(&self) {
        self.group.retire();
    }

    /// The metric has this series again after it was removed: a counter that is set goes on where it
    /// was, so what was counted before is not counted again.
    fn revive(&self, py: Python<'_>) {
        if let Err(error) = self.group.revive() {
            report(py, "values", &error);
        }
    }
}

/// Begins a group with its first value; returns the value's cell.
fn begin(metric: Metric) -> (Arc<Group>, usize) {
    let (has_more, cell) = match metric.family_type {
        FamilyType::Histogram => (true, 0),
        FamilyType::Summary => (true, 1),
        _ => (false, 0),
    };
    let key = group_key(&metric.name, &metric.labels);
    let group = Group::new(metric);
    if has_more {
        let mut incomplete = lock(&INCOMPLETE);
        let incomplete = incomplete.get_or_insert_default();
        incomplete.insert(key, Arc::clone(&group));
    } else {
        lock(&group.state).complete = true;
    }
    (group, cell)
}

/// Adds a value to the group that waits for it; returns the value's cell.
fn join(key: &str, bound: Option<String>) -> Option<(Arc<Group>, usize)> {
    let mut incomplete = lock(&INCOMPLETE);
    let incomplete = incomplete.as_mut()?;
    let group = Arc::clone(incomplete.get(key)?);
    let cell = group.join(bound);
    if lock(&group.state).complete {
        incomplete.remove(key);
    }
    Some((group, cell))
}

/// Notes the unit of a metric whose values are about to be made.
#[pyfunction]
pub(crate) fn set_unit(metric_name: String, unit: String) {
    lock(&UNITS)
        .get_or_insert_default()
        .insert(metric_name, unit);
}

fn group_key(name: &str, labels: &[(String, String)]) -> String {
    let mut key = name.to_owned();
    for (_, value) in labels {
        key.push('\0');
        key.push_str(value);
    }
    key
}

fn family_type(typ: &str, mode: &str) -> PyResult<FamilyType> {
    match typ {
        "counter" => Ok(FamilyType::Counter),
        "histogram" => Ok(FamilyType::Histogram),
        "summary" => Ok(FamilyType::Summary),
        "info" => Ok(FamilyType::Info),
        "stateset" => Ok(FamilyType::StateSet),
        "gauge" if mode.is_empty() => Ok(FamilyType::Gauge(GaugeMode::All)),
        "gauge" => mode
            .parse()
            .map(FamilyType::Gauge)
            .map_err(|error| PyValueError::new_err(format!("{error}"))),
        other => Err(PyValueError::new_err(format!(
            "unknown type '{other}', expected counter, gauge, histogram, summary, info or stateset"
        ))),
    }
}

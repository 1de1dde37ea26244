//! The values of `prometheus_client`'s metrics, kept in this process' store.
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
//! next used. *There is no store yet* (before the arbiter has one, or between a fork and
//! `init_process`): numbers are kept here, and go to the store as soon as there is one.
//! *A counter is reset, or removed and made again*: the store's number never goes down; the group
//! keeps the difference. *The store has no memory*: the process goes on with numbers of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use metrics_model::{FamilySpec, FamilyType, GaugeMode, Layout};
use metrics_store::{Series, StoreError, WorkerStore};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::failure::report;
use crate::process::{self, lock};

/// A number of a metric; what `prometheus_client.values.ValueClass` is while we are installed.
#[pyclass(frozen, subclass, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct Value {
    group: Arc<Group>,
    cell: usize,
}

/// One series, and the values that it is made of.
struct Group {
    family_type: FamilyType,
    name: String,
    help: String,
    labels: Vec<(String, String)>,
    state: Mutex<State>,
}

struct State {
    /// When `series` was looked up; see [`crate::process`].
    turn: u64,
    forks: u64,
    /// `None`: numbers are kept in `own` alone.
    series: Option<Series>,
    /// Where the group has no series: its numbers. Where it has one: what the store's numbers were
    /// when this process' began, which it takes off when it is asked for them.
    own: Vec<f64>,
    /// Of a histogram: its bounds as text.
    bounds: Vec<String>,
    /// All values are there.
    complete: bool,
    /// Removed from its metric; who still holds it counts for nobody.
    removed: bool,
    /// Of a `mostrecent` gauge without a series: when it was set.
    time: f64,
}

/// Groups that wait for their other values, by name and labels.
static INCOMPLETE: Mutex<Option<HashMap<String, Arc<Group>>>> = Mutex::new(None);
/// Every group, so that numbers kept without a store get into it.
static GROUPS: Mutex<Vec<Weak<Group>>> = Mutex::new(Vec::new());

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
        let key = group_key(&metric_name, &labels);
        let start = || Group::new(family_type, metric_name, help_text, labels);

        let (group, cell) = match (family_type, part) {
            (FamilyType::Counter | FamilyType::Gauge(_), _) => {
                let group = start();
                lock(&group.state).complete = true;
                (group, 0)
            }
            (FamilyType::Histogram, "_sum") | (FamilyType::Summary, "_count") => {
                let group = start();
                lock(&INCOMPLETE)
                    .get_or_insert_default()
                    .insert(key, Arc::clone(&group));
                let cell = usize::from(family_type == FamilyType::Summary);
                (group, cell)
            }
            _ => {
                let mut incomplete = lock(&INCOMPLETE);
                let incomplete = incomplete.get_or_insert_default();
                let Some(group) = incomplete.get(&key).cloned() else {
                    return Err(PyValueError::new_err(format!(
                        "'{name}' has no metric that it belongs to"
                    )));
                };
                let cell = group.join(bound);
                if lock(&group.state).complete {
                    incomplete.remove(&key);
                }
                (group, cell)
            }
        };
        if lock(&group.state).complete {
            remember(&group);
            // A metric is visible from the start, at zero.
            drop(group.current(py));
        }
        Ok(Self { group, cell })
    }

    /// Values of several processes are put together.
    #[classattr]
    fn _multiprocess() -> bool {
        true
    }

    fn inc(&self, py: Python<'_>, amount: f64) {
        let mut state = self.group.current(py);
        match state.series {
            Some(series) if self.group.is_timed() => {
                // As in prometheus_client: a change without a time is none that is the most recent.
                series.set_timed(series.get_timed().0 + amount, 0.0);
            }
            Some(series) => series.add(self.cell, amount),
            None => state.own[self.cell] += amount,
        }
    }

    #[pyo3(signature = (value, timestamp = None))]
    fn set(&self, py: Python<'_>, value: f64, timestamp: Option<f64>) {
        let mut state = self.group.current(py);
        let Some(series) = state.series else {
            state.own[self.cell] = value;
            state.time = timestamp.unwrap_or_default();
            return;
        };
        match self.group.family_type {
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
                // Up is counted; down is a reset, and what comes after it is new.
                let grown = if value >= now { value - now } else { value };
                series.add(self.cell, grown);
                state.own[self.cell] = series.get(self.cell) - value;
            }
        }
    }

    fn get(&self, py: Python<'_>) -> f64 {
        let state = self.group.current(py);
        match state.series {
            Some(series) if self.group.is_timed() => series.get_timed().0,
            Some(series) => series.get(self.cell) - state.own[self.cell],
            None => state.own[self.cell],
        }
    }

    /// Exemplars are not kept across processes yet.
    #[expect(clippy::unused_self, reason = "prometheus_client calls it on a value")]
    fn set_exemplar(&self, _exemplar: &Bound<'_, PyAny>) {}

    #[expect(clippy::unused_self, reason = "prometheus_client calls it on a value")]
    fn get_exemplar(&self) -> Option<Py<PyAny>> {
        None
    }

    /// The metric has removed this series: what this process owns of it ends.
    fn retire(&self, py: Python<'_>) {
        let mut state = self.group.current(py);
        if let Some(series) = state.series.take() {
            series.retire();
            for (cell, own) in state.own.iter_mut().enumerate() {
                *own = series.get(cell) - *own;
            }
        }
        state.removed = true;
    }
}

impl Group {
    fn new(
        family_type: FamilyType,
        name: String,
        help: String,
        labels: Vec<(String, String)>,
    ) -> Arc<Self> {
        let cells = match family_type {
            FamilyType::Summary => 2,
            _ => 1,
        };
        Arc::new(Self {
            family_type,
            name,
            help,
            labels,
            state: Mutex::new(State {
                turn: 0,
                forks: process::forks(),
                series: None,
                own: vec![0.0; cells],
                bounds: Vec::new(),
                complete: false,
                removed: false,
                time: 0.0,
            }),
        })
    }

    /// Another value of this group is made: the sum of a summary, or a bucket of a histogram.
    fn join(&self, bound: Option<String>) -> usize {
        let mut state = lock(&self.state);
        let Some(bound) = bound else {
            state.complete = true;
            return 0;
        };
        state.complete = bound == "+Inf";
        state.bounds.push(bound);
        state.own.push(0.0);
        state.own.len() - 1
    }

    fn is_timed(&self) -> bool {
        matches!(self.family_type, FamilyType::Gauge(mode) if mode.is_timed())
    }

    /// The state, with the series in the store that this process writes now.
    #[inline]
    fn current(&self, py: Python<'_>) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        if state.turn != process::turn()
            && let Err(error) = self.move_to_store(&mut state)
        {
            // Logging may use metrics, this one among them.
            drop(state);
            report(py, "values", &error);
            state = lock(&self.state);
        }
        state
    }

    #[cold]
    fn move_to_store(&self, state: &mut State) -> Result<(), StoreError> {
        if !state.complete || state.removed {
            return Ok(());
        }
        let forked = state.forks != process::forks();
        if forked || state.series.is_some() {
            // What the process before had counted is in its store, and stays there.
            state.own.fill(0.0);
            state.time = 0.0;
        }
        state.turn = process::turn();
        state.forks = process::forks();
        state.series = None;
        if let Some(store) = process::store() {
            let series = self.find(&store, state)?;
            self.begin(series, state);
            state.series = Some(series);
        }
        Ok(())
    }

    fn find(&self, store: &WorkerStore, state: &State) -> Result<Series, StoreError> {
        let layout = Layout::new(state.bounds.iter().map(String::as_str)).ok();
        let spec = FamilySpec {
            help: &self.help,
            ..FamilySpec::new(&self.name, self.family_type)
        };
        let family = store.family(&spec, layout.as_ref())?;
        let labels: Vec<_> = self.labels.iter().map(|(n, v)| (&**n, &**v)).collect();
        store.series(&family, &labels)
    }

    /// The numbers that were kept here go to the series.
    fn begin(&self, series: Series, state: &mut State) {
        let was_retired = series.is_retired();
        match self.family_type {
            FamilyType::Gauge(mode) if mode.is_timed() => {
                if was_retired || state.time > 0.0 {
                    series.set_timed(state.own[0], state.time);
                }
            }
            FamilyType::Gauge(_) | FamilyType::Info | FamilyType::StateSet => {
                // Another object of that name may have set it before.
                if was_retired || state.own[0] != 0.0 {
                    series.set(0, state.own[0]);
                }
            }
            FamilyType::Counter
            | FamilyType::Histogram
            | FamilyType::NativeHistogram
            | FamilyType::Summary => {
                for (cell, own) in state.own.iter_mut().enumerate() {
                    let already = series.get(cell);
                    series.add(cell, *own);
                    *own = already;
                }
            }
        }
        if was_retired {
            series.revive();
        }
    }
}

/// This process has a store now: the numbers that were kept without one go there.
pub(crate) fn fill_store(py: Python<'_>) {
    let groups: Vec<_> = lock(&GROUPS).iter().filter_map(Weak::upgrade).collect();
    for group in groups {
        let has_numbers = {
            let state = lock(&group.state);
            state.series.is_none() && state.forks == process::forks()
        };
        if has_numbers {
            drop(group.current(py));
        }
    }
}

fn remember(group: &Arc<Group>) {
    let mut groups = lock(&GROUPS);
    if groups.len() == groups.capacity() {
        groups.retain(|group| group.strong_count() > 0);
    }
    groups.push(Arc::downgrade(group));
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
        "gauge" if mode.is_empty() => Ok(FamilyType::Gauge(GaugeMode::All)),
        "gauge" => mode
            .parse()
            .map(FamilyType::Gauge)
            .map_err(|error| PyValueError::new_err(format!("{error}"))),
        other => Err(PyValueError::new_err(format!(
            "unknown type '{other}', expected counter, gauge, histogram or summary"
        ))),
    }
}

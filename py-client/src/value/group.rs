//! One series of a metric: the place of its numbers before and after forks, resets and removals.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use metrics_model::{FamilySpec, FamilyType, Layout, kept_name, passed_name};
use metrics_store::{Family, Role, Series, StoreError, WorkerStore};
use pyo3::prelude::*;

use crate::failure::{count, report};
use crate::process::{self, lock};

/// One series, and the values that it consists of.
pub(super) struct Group {
    pub(super) metric: Metric,
    pub(super) state: Mutex<State>,
}

/// The identity of a series.
pub(super) struct Metric {
    pub(super) family_type: FamilyType,
    pub(super) name: String,
    pub(super) help: String,
    pub(super) unit: String,
    pub(super) labels: Vec<(String, String)>,
}

pub(super) struct State {
    /// When `series` was looked up; see [`crate::process`].
    turn: u64,
    forks: u64,
    /// `None`: only `own` holds the numbers.
    pub(super) series: Option<Series>,
    /// Without a series: the group's numbers. With one: the store's numbers when this process'
    /// began, which are subtracted when the application reads them.
    pub(super) own: Vec<f64>,
    /// The bounds of a histogram, as text.
    pub(super) bounds: Vec<String>,
    /// Whether all values are there.
    pub(super) complete: bool,
    /// Whether its metric has removed it; values that the application still holds are not counted.
    pub(super) removed: bool,
    /// Whether a function gives its value. A process then has a series only after it has evaluated the
    /// function, which an arbiter that has loaded the application never does.
    pub(super) has_function: bool,
    /// Time of the last set, for a `mostrecent` gauge without a series.
    pub(super) time: f64,
}

/// Every group, so that numbers kept without a store can move to it.
static GROUPS: Mutex<Vec<Weak<Group>>> = Mutex::new(Vec::new());
/// Series that were counted and removed while this process had no store, by [`Group::key`].
static REMOVED: Mutex<Option<HashMap<String, Removed>>> = Mutex::new(None);

/// What was counted in a series that was removed while this process had no store.
struct Removed {
    /// The last group that had the series.
    group: Arc<Group>,
    forks: u64,
    counts: Vec<f64>,
}

impl Group {
    pub(super) fn new(metric: Metric) -> Arc<Self> {
        let cells = match metric.family_type {
            FamilyType::Summary => 2,
            _ => 1,
        };
        Arc::new(Self {
            metric,
            state: Mutex::new(State {
                turn: 0,
                forks: process::forks(),
                series: None,
                own: vec![0.0; cells],
                bounds: Vec::new(),
                complete: false,
                removed: false,
                has_function: false,
                time: 0.0,
            }),
        })
    }

    /// Adds a value to this group: the sum of a summary, or a bucket of a histogram.
    pub(super) fn join(&self, bound: Option<String>) -> usize {
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

    pub(super) fn is_timed(&self) -> bool {
        matches!(self.metric.family_type, FamilyType::Gauge(mode) if mode.is_timed())
    }

    /// Returns whether it states a fact, and does not count or measure what this process did: a
    /// child continues to state it.
    fn is_fact(&self) -> bool {
        matches!(
            self.metric.family_type,
            FamilyType::Info | FamilyType::StateSet
        )
    }

    /// Returns the state, with the series in the present store of this process.
    #[inline]
    pub(super) fn current(&self, py: Python<'_>) -> MutexGuard<'_, State> {
        let state = lock(&self.state);
        if state.turn == process::turn() {
            return state;
        }
        self.moved(py, state)
    }

    #[cold]
    fn moved<'a>(
        &'a self,
        py: Python<'_>,
        mut state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        let moved = self.move_to_store(&mut state);
        let without_store = process::take_failure();
        if moved.is_ok() && without_store.is_none() {
            return state;
        }
        // Logging may use metrics, this one among them.
        drop(state);
        if let Err(error) = moved {
            report(py, "values", &error);
        }
        if let Some(why) = without_store {
            report(py, "children", &why);
        }
        lock(&self.state)
    }

    #[cold]
    fn move_to_store(&self, state: &mut State) -> Result<(), StoreError> {
        if !state.complete || state.removed {
            return Ok(());
        }
        let forked = state.forks != process::forks();
        if self.is_fact() {
            if let Some(series) = state.series {
                state.own[0] = series.get(0);
            }
        } else if forked || state.series.is_some() {
            // The counts of the parent process are in its store, and stay there.
            state.own.fill(0.0);
            state.time = 0.0;
        }
        state.turn = process::turn();
        state.forks = process::forks();
        state.series = None;
        if state.has_function {
            return Ok(());
        }
        if let Some(store) = process::store() {
            if self.is_fact() && store.identity().role == Role::Arbiter {
                // An arbiter that has loaded the application does not run it.
                return Ok(());
            }
            let series = self.find(&store, state)?;
            self.begin(series, state);
            state.series = Some(series);
        }
        Ok(())
    }

    /// This group has removed its series, to which another group may still refer.
    pub(super) fn give_back(&self, series: Series, state: &State) {
        let store = process::store();
        let found = store.as_ref().map(|store| self.define(store, state));
        match (&store, found) {
            (Some(store), Some(Ok(family))) => store.give_back(&family, &self.labels()),
            _ => series.retire(),
        }
    }

    /// Ends what this process owns of this series, because the metric has removed it. What was counted
    /// is counted, also if there is no store yet. Logs nothing: the caller holds the metric's lock, and
    /// logging may use that metric.
    pub(super) fn retire(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        let is_stale = state.turn != process::turn();
        if is_stale && self.move_to_store(&mut state).is_err() {
            count("values");
        }
        if let Some(series) = state.series.take() {
            for (cell, own) in state.own.iter_mut().enumerate() {
                *own = series.get(cell) - *own;
            }
            self.give_back(series, &state);
        } else if !state.removed && process::store().is_none() {
            self.keep_counts(&state);
        }
        state.removed = true;
    }

    fn keep_counts(self: &Arc<Self>, state: &State) {
        let is_kept =
            state.complete && self.is_counted() && state.own.iter().any(|own| *own != 0.0);
        if !is_kept {
            return;
        }
        let mut removed = lock(&REMOVED);
        let removed = removed.get_or_insert_default();
        let before = removed.remove(&self.key(state.bounds.len()));
        let mut counts = state.own.clone();
        if let Some(before) = before.filter(|before| before.forks == state.forks) {
            let both = counts.iter_mut().zip(before.counts);
            both.for_each(|(count, before)| *count += before);
        }
        let kept = Removed {
            group: Arc::clone(self),
            forks: state.forks,
            counts,
        };
        removed.insert(self.key(state.bounds.len()), kept);
    }

    fn key(&self, bounds: usize) -> String {
        let key = super::group_key(&self.metric.name, &self.metric.labels);
        format!("{bounds}\0{key}")
    }

    /// Adds what was counted before its removal to the series in the store, which stays removed.
    fn add_removed(&self, store: &WorkerStore, counts: &[f64]) -> Result<(), StoreError> {
        let state = lock(&self.state);
        let series = self.find(store, &state)?;
        for (cell, count) in counts.iter().enumerate() {
            series.add(cell, *count);
        }
        self.give_back(series, &state);
        Ok(())
    }

    fn is_counted(&self) -> bool {
        let family_type = self.metric.family_type;
        family_type.gauge_mode().is_none()
            && !matches!(family_type, FamilyType::Info | FamilyType::StateSet)
    }

    /// Takes the series again that this group has removed.
    pub(super) fn revive(&self) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        if !state.removed {
            return Ok(());
        }
        state.removed = false;
        let Some(store) = process::store().filter(|_| state.turn == process::turn()) else {
            return Ok(());
        };
        let series = self.find(&store, &state)?;
        for (cell, own) in state.own.iter_mut().enumerate() {
            *own = series.get(cell) - *own;
        }
        series.revive();
        state.series = Some(series);
        Ok(())
    }

    /// Makes the series of a gauge whose function has been evaluated.
    #[cold]
    pub(super) fn show(&self, state: &mut State) -> Result<(), StoreError> {
        if let Some(store) = process::store().filter(|_| !state.removed) {
            let series = self.find(&store, state)?;
            self.begin(series, state);
            state.series = Some(series);
        }
        Ok(())
    }

    fn find(&self, store: &WorkerStore, state: &State) -> Result<Series, StoreError> {
        let family = self.define(store, state)?;
        store.series(&family, &self.labels())
    }

    /// Returns the family in the store.
    fn define(&self, store: &WorkerStore, state: &State) -> Result<Family, StoreError> {
        let family_type = self.metric.family_type;
        let name = passed_name(&self.metric.name, family_type);
        // Otherwise it would be hidden: names for the exporter alone begin with a control character.
        kept_name(&FamilySpec::new(&name, family_type))?;
        let layout = Layout::new(state.bounds.iter().map(String::as_str)).ok();
        let spec = FamilySpec {
            help: &self.metric.help,
            unit: &self.metric.unit,
            ..FamilySpec::new(&name, family_type)
        };
        store.family(&spec, layout.as_ref())
    }

    fn labels(&self) -> Vec<(&str, &str)> {
        let labels = self.metric.labels.iter();
        labels.map(|(name, value)| (&**name, &**value)).collect()
    }

    /// Moves the numbers that were kept here to the series.
    fn begin(&self, series: Series, state: &mut State) {
        let was_retired = series.is_retired();
        match self.metric.family_type {
            FamilyType::Gauge(mode) if mode.is_timed() => {
                if was_retired || state.time > 0.0 {
                    series.set_timed(state.own[0], state.time);
                }
            }
            FamilyType::Gauge(_) | FamilyType::Info | FamilyType::StateSet => {
                // Another object with that name may have set it before.
                if was_retired || state.own[0] != 0.0 {
                    series.set(0, state.own[0]);
                }
                state.own[0] = 0.0;
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

/// The application has dropped all its objects of a series without removing it: the series stays.
impl Drop for Group {
    fn drop(&mut self) {
        let state = lock(&self.state);
        if state.series.is_some()
            && state.turn == process::turn()
            && let Some(store) = process::store()
            && let Ok(family) = self.define(&store, &state)
        {
            store.drop_handle(&family, &self.labels());
        }
    }
}

/// Moves numbers that were kept without a store to the store that this process has now.
pub(crate) fn fill_store(py: Python<'_>) {
    fill_in_removed(py);
    let groups: Vec<_> = lock(&GROUPS).iter().filter_map(Weak::upgrade).collect();
    for group in groups {
        let has_numbers = {
            let state = lock(&group.state);
            state.series.is_none() && state.forks == process::forks() || group.is_fact()
        };
        if has_numbers {
            drop(group.current(py));
        }
    }
}

fn fill_in_removed(py: Python<'_>) {
    let Some(store) = process::store() else {
        return;
    };
    let removed = lock(&REMOVED).take().unwrap_or_default();
    // What a parent process has counted is in its store.
    let own = removed
        .into_values()
        .filter(|removed| removed.forks == process::forks());
    for Removed { group, counts, .. } in own {
        if let Err(error) = group.add_removed(&store, &counts) {
            report(py, "values", &error);
        }
    }
}

pub(super) fn remember(group: &Arc<Group>) {
    let mut groups = lock(&GROUPS);
    if groups.len() == groups.capacity() {
        groups.retain(|group| group.strong_count() > 0);
    }
    groups.push(Arc::downgrade(group));
}

//! Records requests: the two hooks that a worker calls for each of them.
//!
//! # What it costs
//!
//! Per request two readings of the clock, five attributes and two dictionary entries of Gunicorn's
//! objects, one table look-up and eleven additions to memory: no allocation, no lock that anybody
//! waits for, no I/O. The slow paths are the first request of a route and status, and errors.
//!
//! # What if
//!
//! *The worker is killed in the middle*: a request is counted when it begins and when it ends, so
//! the exporter knows how many were cut off. *Something is missing or fails*: see `facts.rs` and
//! `failure.rs`; no hook ever raises. *The application forks and the child comes back here*: it
//! records nothing, because the memory is its parent's.

mod facts;
mod families;
mod route;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hashbrown::HashMap;
use metrics_model::Layout;
use metrics_store::{Series, StoreError, WorkerStore};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::endpoints::EndpointTable;
use crate::failure::report;
use crate::process::{self, lock};
use families::{ErrorKind, RouteFamilies, RouteSeries, WorkerSeries};
use route::{
    EndpointKind, OTHER, OwnedRouteKey, Route, RouteKey, UNKNOWN, UNMATCHED, method_label,
};

/// How many classes of exceptions become label values; a program may make classes without end.
const MAX_ERROR_TYPES: usize = 100;

/// Counts the requests of one worker in the store of its process.
#[pyclass(frozen, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct Recorder {
    turn: u64,
    worker_id: String,
    store: Arc<WorkerStore>,
    endpoints: EndpointTable,
    families: RouteFamilies,
    state: Mutex<State>,
}

struct State {
    worker: WorkerSeries,
    /// Requests that have begun and not ended, by the address of Gunicorn's object.
    open: HashMap<usize, Instant>,
    routes: HashMap<OwnedRouteKey, RouteSeries>,
    errors: HashMap<(ErrorKind, &'static str, String, String), Series>,
    error_types: HashSet<String>,
    /// The request that failed last and its endpoint: `handle_error` is told of it, but not of that.
    last_failed: Option<(usize, String)>,
}

/// What is known of a request when it has ended.
struct Ended<'a> {
    seconds: f64,
    method: &'static str,
    status: u16,
    kind: EndpointKind,
    endpoint: &'a str,
    received: f64,
    sent: f64,
}

#[pymethods]
impl Recorder {
    /// Records in the store that this process has taken; `bounds` are those of durations by endpoint.
    #[new]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a list becomes a vector of its own"
    )]
    fn new(worker_id: String, endpoints: EndpointTable, bounds: Vec<String>) -> PyResult<Self> {
        let failed = |error: &dyn std::fmt::Display| PyRuntimeError::new_err(error.to_string());
        let store = process::store()
            .ok_or_else(|| PyRuntimeError::new_err("this process has no metrics store"))?;
        let bounds =
            Layout::new(bounds.iter().map(String::as_str)).map_err(|error| failed(&error))?;
        let families = RouteFamilies::new(&store, &bounds).map_err(|error| failed(&error))?;
        let worker = WorkerSeries::new(&store, &worker_id).map_err(|error| failed(&error))?;
        Ok(Self {
            turn: process::turn(),
            worker_id,
            store,
            endpoints,
            families,
            state: Mutex::new(State {
                worker,
                open: HashMap::new(),
                routes: HashMap::new(),
                errors: HashMap::new(),
                error_types: HashSet::new(),
                last_failed: None,
            }),
        })
    }

    /// Gunicorn's hook `pre_request`.
    fn pre_request(&self, _worker: &Bound<'_, PyAny>, req: &Bound<'_, PyAny>) {
        let now = Instant::now();
        if self.turn == process::turn() {
            let mut state = lock(&self.state);
            state.worker.started.add(0, 1.0);
            state.open.insert(req.as_ptr() as usize, now);
        }
    }

    /// Gunicorn's hook `post_request`.
    fn post_request(
        &self,
        _worker: &Bound<'_, PyAny>,
        req: &Bound<'_, PyAny>,
        environ: &Bound<'_, PyDict>,
        resp: &Bound<'_, PyAny>,
    ) {
        let now = Instant::now();
        let py = req.py();
        if self.turn != process::turn() {
            return;
        }
        let Some(start) = lock(&self.state).open.remove(&(req.as_ptr() as usize)) else {
            return;
        };

        let error = facts::current_exception(py);
        // Of what the application began and nothing was sent of, the client has never heard.
        let status = match &error {
            Some(error) if !facts::has_begun(resp) => Some(facts::status_of(error)),
            _ => facts::status(resp),
        };
        let method = req.getattr(intern!(py, "method")).ok();
        let method = method.as_ref().and_then(|method| method.cast().ok());
        let template = entry(
            environ,
            intern!(py, "gunicorn_prometheus_exporter.endpoint"),
        );
        let (kind, endpoint) = match template {
            Some(template) => (EndpointKind::Template, Some(template)),
            None => (EndpointKind::Path, entry(environ, intern!(py, "PATH_INFO"))),
        };
        let ended = Ended {
            seconds: (now - start).as_secs_f64(),
            method: method_label(method.and_then(text).unwrap_or_default()),
            status: status.unwrap_or(route::NO_STATUS),
            kind,
            endpoint: endpoint.as_ref().and_then(text).unwrap_or_default(),
            received: facts::bytes_received(req, environ),
            sent: facts::bytes_sent(resp),
        };
        if let Err(error) = self.finish(&ended) {
            report(py, "recorder", &error);
        }

        if let Some(error) = error {
            let name = facts::class_name(&error);
            self.failed(py, req.as_ptr() as usize, &ended, &name);
        }
        let swallowed = intern!(py, "gunicorn_prometheus_exporter.errors");
        if let Ok(Some(errors)) = environ.get_item(swallowed)
            && let Ok(errors) = errors.extract::<Vec<(String, bool)>>()
        {
            self.swallowed(py, &ended, &errors);
        }
    }

    /// The worker is about to answer an error, of the application or of a request that it could not
    /// read (`req` is `None`).
    #[pyo3(signature = (req, error))]
    fn handle_error(&self, req: Option<&Bound<'_, PyAny>>, error: &Bound<'_, PyAny>) {
        if self.turn != process::turn() {
            return;
        }
        let py = error.py();
        let method = req.and_then(|req| req.getattr(intern!(py, "method")).ok());
        let method = method
            .as_ref()
            .and_then(|method| method.cast().ok())
            .and_then(text)
            .map_or(UNKNOWN, method_label);
        let failed = lock(&self.state).last_failed.take();
        let endpoint = match (req, failed) {
            (Some(req), Some((failed, endpoint))) if failed == req.as_ptr() as usize => endpoint,
            _ => UNMATCHED.to_owned(),
        };
        let name = facts::class_name(error);
        self.count_error(py, ErrorKind::Handled, method, endpoint, name);
    }
}

impl Recorder {
    #[inline]
    fn finish(&self, ended: &Ended<'_>) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        let worker = &state.worker;
        worker.duration.observe(ended.seconds);
        worker.request_size.observe(ended.received);
        worker.response_size.observe(ended.sent);
        worker.requests.add(0, 1.0);
        worker.finished.add(0, 1.0);

        let key = RouteKey {
            kind: ended.kind,
            method: ended.method,
            status: ended.status,
            endpoint: ended.endpoint,
        };
        if let Some(route) = state.routes.get(&key) {
            route.count(ended.seconds);
            return Ok(());
        }
        self.finish_slowly(&mut state, key, ended)
    }

    /// The first request of its route, or one whose path may not become a label.
    #[cold]
    fn finish_slowly(
        &self,
        state: &mut State,
        key: RouteKey<'_>,
        ended: &Ended<'_>,
    ) -> Result<(), StoreError> {
        let endpoint = self.endpoint(ended);
        let status = match ended.status {
            route::NO_STATUS => "<none>".to_owned(),
            status => status.to_string(),
        };
        let series = self.families.route(
            &self.store,
            &Route {
                method: ended.method,
                endpoint,
                status: &status,
            },
        )?;
        series.count(ended.seconds);
        // Only what is bounded is remembered.
        if endpoint == ended.endpoint {
            state.routes.insert(key.to_owned(), series);
        }
        Ok(())
    }

    /// The label: a route's template, or a path that is or may now be in the table.
    fn endpoint<'a>(&self, ended: &Ended<'a>) -> &'a str {
        if ended.kind == EndpointKind::Template {
            return ended.endpoint;
        }
        let answered = (100..400).contains(&ended.status);
        if self.endpoints.holds(ended.endpoint, answered) {
            return ended.endpoint;
        }
        match ended.status {
            404 | 405 => UNMATCHED,
            _ => OTHER,
        }
    }

    /// The request has ended by an exception that the application did not catch.
    #[cold]
    fn failed(&self, py: Python<'_>, request: usize, ended: &Ended<'_>, name: &str) {
        let endpoint = self.endpoint(ended).to_owned();
        self.count_error(
            py,
            ErrorKind::Failed,
            ended.method,
            endpoint.clone(),
            name.to_owned(),
        );
        lock(&self.state).last_failed = Some((request, endpoint));
    }

    /// The framework has made an answer of these exceptions; `true`: one that nobody had expected.
    #[cold]
    fn swallowed(&self, py: Python<'_>, ended: &Ended<'_>, errors: &[(String, bool)]) {
        let endpoint = self.endpoint(ended);
        for (name, unexpected) in errors {
            let count = |kind| {
                self.count_error(py, kind, ended.method, endpoint.to_owned(), name.clone());
            };
            if *unexpected {
                count(ErrorKind::Failed);
            }
            count(ErrorKind::Handled);
        }
    }

    fn count_error(
        &self,
        py: Python<'_>,
        kind: ErrorKind,
        method: &'static str,
        endpoint: String,
        name: String,
    ) {
        let counted = {
            let mut state = lock(&self.state);
            self.error_series(&mut state, (kind, method, endpoint, name))
                .map(|series| series.add(0, 1.0))
        };
        if let Err(error) = counted {
            report(py, "recorder", &error);
        }
    }

    fn error_series(
        &self,
        state: &mut State,
        mut key: (ErrorKind, &'static str, String, String),
    ) -> Result<Series, StoreError> {
        if !state.error_types.contains(&key.3) {
            if state.error_types.len() >= MAX_ERROR_TYPES {
                OTHER.clone_into(&mut key.3);
            } else {
                state.error_types.insert(key.3.clone());
            }
        }
        if let Some(series) = state.errors.get(&key) {
            return Ok(*series);
        }
        let (kind, method, endpoint, name) = &key;
        let labels = [
            ("worker_id", &*self.worker_id),
            ("method", *method),
            ("endpoint", &**endpoint),
            ("error_type", &**name),
        ];
        let series = self.families.error(&self.store, *kind, &labels)?;
        state.errors.insert(key, series);
        Ok(series)
    }
}

impl RouteSeries {
    #[inline]
    fn count(&self, seconds: f64) {
        self.requests.add(0, 1.0);
        self.duration.observe(seconds);
    }
}

/// A text among the WSGI environment.
#[inline]
fn entry<'py>(
    environ: &Bound<'py, PyDict>,
    name: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyString>> {
    environ.get_item(name).ok()??.cast_into().ok()
}

#[inline]
fn text<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a str> {
    text.to_str().ok()
}

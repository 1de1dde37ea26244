//! Records requests: the two hooks that a WSGI worker calls for each request, and the same for the
//! adapters of other workers (`begin`, `end`).
//!
//! # What it costs
//!
//! Each request costs two readings of the clock, five attributes and three dictionary entries of
//! Gunicorn's objects, one table look-up and some twenty additions to memory: no allocation, no
//! contended lock, no I/O. The slow paths are the first request of a route and status, and errors.
//!
//! # What if
//!
//! *The worker is killed in the middle*: a request is counted when it begins and when it ends, so
//! the exporter knows how many were aborted. *Something is missing or fails*: see `facts.rs` and
//! `failure.rs`; no hook ever raises. *The application forks and the child returns into the
//! worker's code*: it records nothing, because the memory is its parent's.

mod collections;
mod errors;
mod facts;
mod families;
mod headers;
mod load;
mod options;
mod request_end;
mod route;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hashbrown::HashMap;
use metrics_model::Layout;
use metrics_store::{Method, WorkerStore};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::endpoints::EndpointTable;
use crate::failure::report;
use crate::instance::WorkerSlot;
use crate::process::{self, lock};
use collections::Collections;
use errors::{ErrorKind, Errors};
use facts::{Endpoint, entry, text};
use families::{Histogram, RouteFamilies, RouteSeries, WorkerSeries};
use load::Load;
pub(crate) use options::Options;
use request_end::{RequestEnd, Swallowed};
use route::{EndpointKind, OwnedRouteKey, UNMATCHED};

/// Counts the requests of one worker in the store of its process.
#[pyclass(frozen, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct Recorder {
    turn: u64,
    epoch: Instant,
    worker_id: String,
    options: Options,
    store: Arc<WorkerStore>,
    endpoints: EndpointTable,
    /// Whether the application has a framework that names routes: then no path becomes a label.
    has_routes: AtomicBool,
    /// Size of the server's page for a failed request, in bytes.
    error_page_bytes: f64,
    families: RouteFamilies,
    collections: Collections,
    state: Mutex<State>,
}

struct State {
    worker: WorkerSeries,
    load: Load,
    /// Requests that have begun and not ended, by the address of Gunicorn's object.
    open: HashMap<usize, Open>,
    routes: HashMap<OwnedRouteKey, RouteSeries>,
    /// Made when the first proxy sends the time at which it received a request.
    queue: Option<Histogram>,
    errors: Errors,
    /// The last failed request and its endpoint: `handle_error` gets the request, but not the
    /// endpoint.
    last_failed: Option<(usize, String)>,
}

struct Open {
    start: Instant,
    method: Method,
}

#[pymethods]
impl Recorder {
    /// Records in the store of this process. The bounds are those of durations and sizes by
    /// endpoint. `threads` is the worker's number of threads for requests, if it has a pool of
    /// them. `error_page_bytes` is the size of the server's page for a failed request.
    #[new]
    #[pyo3(signature = (slot, duration_bounds, size_bounds, threads=None, error_page_bytes=0))]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a list becomes a vector of its own"
    )]
    fn new(
        slot: &WorkerSlot,
        duration_bounds: Vec<String>,
        size_bounds: Vec<String>,
        threads: Option<u32>,
        error_page_bytes: u32,
    ) -> PyResult<Self> {
        let failed = |error: &dyn std::fmt::Display| PyRuntimeError::new_err(error.to_string());
        let store = process::store()
            .ok_or_else(|| PyRuntimeError::new_err("this process has no metrics store"))?;
        let layout = |bounds: &[String]| {
            Layout::new(bounds.iter().map(String::as_str)).map_err(|error| failed(&error))
        };
        let (durations, sizes) = (layout(&duration_bounds)?, layout(&size_bounds)?);
        let worker_id = slot.worker_id();
        let families =
            RouteFamilies::new(&store, &durations, &sizes).map_err(|error| failed(&error))?;
        let worker = WorkerSeries::new(&store, worker_id).map_err(|error| failed(&error))?;
        let load = Load::new(&store, worker_id, threads).map_err(|error| failed(&error))?;
        let collections = Collections::new(&store, worker_id).map_err(|error| failed(&error))?;
        Ok(Self {
            turn: process::turn(),
            epoch: Instant::now(),
            worker_id: worker_id.to_owned(),
            options: slot.options(),
            store,
            endpoints: slot.endpoints(),
            has_routes: AtomicBool::new(false),
            error_page_bytes: error_page_bytes.into(),
            families,
            collections,
            state: Mutex::new(State {
                worker,
                load,
                open: HashMap::new(),
                routes: HashMap::new(),
                queue: None,
                errors: Errors::default(),
                last_failed: None,
            }),
        })
    }

    /// Notes that the application has a framework that names the route of each request: from now on
    /// a request without one is `<unmatched>` or `<redirect>`, whatever its path.
    fn expect_routes(&self) {
        self.has_routes.store(true, Relaxed);
    }

    /// Gunicorn's hook `pre_request`.
    fn pre_request(&self, _worker: &Bound<'_, PyAny>, req: &Bound<'_, PyAny>) {
        let now = Instant::now();
        if self.turn != process::turn() {
            return;
        }
        let py = req.py();
        let attribute = |name| req.getattr(name).ok()?.cast_into::<PyString>().ok();
        let method = attribute(intern!(py, "method"));
        let method = method.as_ref().and_then(text).unwrap_or_default();
        if self.options.skips() {
            let path = attribute(intern!(py, "path"));
            let path = path.as_ref().and_then(text).unwrap_or_default();
            if self.options.skips_request(method, path) {
                return;
            }
        }
        let method = Method::named(method);
        let begun = {
            let mut state = lock(&self.state);
            let open = Open { start: now, method };
            state.open.insert(req.as_ptr() as usize, open);
            state.load.begin(&self.store, method, now)
        };
        if let Err(error) = begun {
            report(py, "recorder", &error);
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
        let error = facts::current_exception(py);
        let (mut status, mut sent) = (facts::status(resp), facts::bytes_sent(resp));
        // The client gets nothing of a response of which nothing was sent.
        if let Some(error) = &error
            && !facts::has_begun(resp)
        {
            let (answered, page) = facts::answer_to(req, error, self.error_page_bytes);
            (status, sent) = (Some(answered), page);
        }
        let status = status.unwrap_or(route::NO_STATUS);
        let known = facts::endpoint(environ, self.has_routes.load(Relaxed), status);
        let (kind, endpoint) = match &known {
            Endpoint::Named(template) => (EndpointKind::Template, text(template)),
            Endpoint::Without(label) => (EndpointKind::Template, Some(*label)),
            Endpoint::Path(path) => (EndpointKind::Path, path.as_ref().and_then(text)),
        };
        let queued = entry(environ, intern!(py, "HTTP_X_REQUEST_START"));
        let trace = if self.options.exemplars {
            entry(environ, intern!(py, "HTTP_TRACEPARENT"))
        } else {
            None
        };
        let mut end = RequestEnd {
            start: now,
            end: now,
            method: Method::UNKNOWN,
            status,
            kind,
            endpoint: endpoint.unwrap_or_default(),
            received: facts::bytes_received(req, environ),
            sent,
            queued: queued.as_ref().and_then(text),
            trace: trace.as_ref().and_then(text),
            reported_as: Some(req.as_ptr() as usize),
        };
        let answered = facts::answered_exceptions(environ, error.as_ref());
        let mut state = lock(&self.state);
        let Some(open) = state.open.remove(&(req.as_ptr() as usize)) else {
            return; // one that is not recorded
        };
        (end.start, end.method) = (open.start, open.method);
        self.end_request(py, state, &end, error.as_ref(), &answered);
    }

    /// For adapters: begins a request. Returns the argument for `end`; `None` if the request is not
    /// recorded.
    fn begin(&self, py: Python<'_>, method: &str, path: &str) -> Option<u64> {
        let now = Instant::now();
        if self.turn != process::turn() || self.options.skips_request(method, path) {
            return None;
        }
        let begun = lock(&self.state)
            .load
            .begin(&self.store, Method::named(method), now);
        if let Err(error) = begun {
            report(py, "recorder", &error);
        }
        u64::try_from((now - self.epoch).as_nanos()).ok()
    }

    /// For adapters: ends that request.
    ///
    /// `endpoint` is the route's template, if it is known; empty if the framework has found no
    /// route. `status` is 0 if there was none. `headers` are the values of `X-Request-Start` and
    /// `traceparent`. `errors` are the exceptions that the framework turned into responses, as in
    /// `frameworks`; `error` is the one that reached the server.
    #[pyo3(signature = (start, method, path, endpoint, status, sizes, headers, errors, error))]
    #[expect(
        clippy::too_many_arguments,
        reason = "called in one place, by position"
    )]
    fn end(
        &self,
        py: Python<'_>,
        start: u64,
        method: &str,
        path: &str,
        endpoint: Option<&str>,
        status: u16,
        sizes: (f64, f64),
        headers: (Option<&str>, Option<&str>),
        errors: Option<Vec<Swallowed>>,
        error: Option<&Bound<'_, PyAny>>,
    ) {
        if self.turn != process::turn() {
            return;
        }
        let (kind, endpoint) = self.endpoint_of(endpoint, path, status);
        let end = RequestEnd {
            start: self.since_epoch(start),
            end: Instant::now(),
            method: Method::named(method),
            status,
            kind,
            endpoint,
            received: sizes.0,
            sent: sizes.1,
            queued: headers.0,
            trace: headers.1.filter(|_| self.options.exemplars),
            reported_as: None,
        };
        let answered = errors.unwrap_or_default();
        self.end_request(py, lock(&self.state), &end, error, &answered);
    }

    /// Does the same for an ASGI request: method, path and headers are in its scope.
    #[pyo3(signature = (start, scope, endpoint, status, received, sent, errors, error))]
    #[expect(
        clippy::too_many_arguments,
        reason = "called in one place, by position"
    )]
    fn end_scope(
        &self,
        start: u64,
        scope: &Bound<'_, PyDict>,
        endpoint: Option<&str>,
        status: u16,
        received: u64,
        sent: u64,
        errors: Option<Vec<Swallowed>>,
        error: Option<&Bound<'_, PyAny>>,
    ) {
        if self.turn != process::turn() {
            return;
        }
        let py = scope.py();
        let (method, path) = (
            entry(scope, intern!(py, "method")),
            entry(scope, intern!(py, "path")),
        );
        let path = path.as_ref().and_then(text).unwrap_or_default();
        let (queued, trace) = headers::of_scope(scope, self.options.exemplars);
        let (kind, endpoint) = self.endpoint_of(endpoint, path, status);
        let end = RequestEnd {
            start: self.since_epoch(start),
            end: Instant::now(),
            method: Method::named(method.as_ref().and_then(text).unwrap_or_default()),
            status,
            kind,
            endpoint,
            received: received as f64,
            sent: sent as f64,
            queued: queued.as_deref(),
            trace: trace.as_deref(),
            reported_as: None,
        };
        let answered = errors.unwrap_or_default();
        self.end_request(py, lock(&self.state), &end, error, &answered);
    }

    /// Called when the worker is about to answer an error, of the application or of a request that
    /// it could not parse (`req` is `None`).
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
            .map_or(Method::UNKNOWN, Method::named);
        let name = facts::class_name(error);
        let failed = lock(&self.state).last_failed.take();
        match (req, failed) {
            (Some(req), Some((failed, endpoint))) if failed == req.as_ptr() as usize => {
                self.count_error(py, ErrorKind::Handled, method, &endpoint, &name);
            }
            _ => {
                self.count_error(py, ErrorKind::Handled, method, UNMATCHED, &name);
                self.count_error(py, ErrorKind::ByServer, method, UNMATCHED, &name);
            }
        }
    }

    /// One of Python's `gc.callbacks`.
    fn collected(&self, phase: &str, info: &Bound<'_, PyDict>) {
        if self.turn != process::turn() {
            return;
        }
        if phase == "start" {
            self.collections.begin();
            return;
        }
        let number = |name| info.get_item(name).ok()??.extract::<u32>().ok();
        let generation = number(intern!(info.py(), "generation")).unwrap_or(0);
        let objects = number(intern!(info.py(), "collected")).unwrap_or(0);
        self.collections.end(generation as usize, objects.into());
    }
}

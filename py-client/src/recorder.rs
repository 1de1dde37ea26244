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
mod in_flight;
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
use metrics_settings::InFlight;
use metrics_store::{Method, RequestId, RequestTable, WorkerStore, monotonic_ns};
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
    /// The same moment as `epoch`, by the clock of the table of requests.
    epoch_ns: u64,
    /// Returns the greenlet that runs, where requests are greenlets.
    current: Option<Py<PyAny>>,
    /// Whether the arbiter aborts this worker: a request that this ends is one that the worker took with it.
    is_aborted: AtomicBool,
    state: Mutex<State>,
}

struct State {
    requests: RequestTable,
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
    request: RequestId,
}

#[pymethods]
impl Recorder {
    /// Records in the store of this process. The bounds are those of durations and sizes by
    /// endpoint. `threads` is the worker's number of threads for requests, if it has a pool of
    /// them. `error_page_bytes` is the size of the server's page for a failed request. `current` returns
    /// the greenlet that runs, if each request has one.
    #[new]
    #[pyo3(signature = (slot, duration_bounds, size_bounds, threads=None, error_page_bytes=0, current=None))]
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
        current: Option<Py<PyAny>>,
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
            epoch_ns: monotonic_ns(),
            current,
            is_aborted: AtomicBool::new(false),
            worker_id: worker_id.to_owned(),
            options: slot.options(),
            endpoints: slot.endpoints(),
            has_routes: AtomicBool::new(false),
            error_page_bytes: error_page_bytes.into(),
            families,
            collections,
            state: Mutex::new(State {
                requests: RequestTable::new(&store),
                worker,
                load,
                open: HashMap::new(),
                routes: HashMap::new(),
                queue: None,
                errors: Errors::default(),
                last_failed: None,
            }),
            store,
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
        let path = if self.options.skips() || self.keeps_path() {
            attribute(intern!(py, "path"))
        } else {
            None
        };
        let path = path.as_ref().and_then(text).unwrap_or_default();
        if self.options.skips() && self.options.skips_request(method, path) {
            return;
        }
        let trace = if self.options.in_flight == InFlight::Off {
            0
        } else {
            headers::trace_of_request(req)
        };
        let method = Method::named(method);
        let thread = self.thread(py);
        let begun = {
            let mut state = lock(&self.state);
            let request = self.enter(&mut state, method, path, trace, thread, now);
            let open = Open {
                start: now,
                method,
                request,
            };
            if let Some(lost) = state.open.insert(req.as_ptr() as usize, open) {
                // Its object is gone, and its end was not reported.
                state.requests.end(lost.request);
            }
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
        if self.is_taken_along(error.as_ref()) {
            return;
        }
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
        state.requests.end(open.request);
        (end.start, end.method) = (open.start, open.method);
        self.end_request(py, state, &end, error.as_ref(), &answered);
    }

    /// For adapters: begins a request. Returns its number, for `name` and `end`; `None` if the request is
    /// not recorded. `trace` is the value of `traceparent`.
    #[pyo3(signature = (method, path, trace=None))]
    fn begin(&self, py: Python<'_>, method: &str, path: &str, trace: Option<&str>) -> Option<u32> {
        self.begin_request(py, method, path, trace)
    }

    /// Does the same for an ASGI request: method, path and headers are in its scope.
    fn begin_scope(&self, scope: &Bound<'_, PyDict>) -> Option<u32> {
        self.begin_request_of(scope)
    }

    /// Notes the template of the route that has matched a request of `begin`.
    fn name(&self, request: u32, template: &str) {
        self.name_request(request, template);
    }

    /// Notes the template of the route that has matched the request of this thread, or greenlet.
    fn name_current(&self, py: Python<'_>, template: &str) {
        self.name_request_here(py, template);
    }

    /// Notes that the arbiter aborts this worker. Returns the number of the oldest request, its thread
    /// (or the address of its greenlet), and whether the present one has a request; `None` if there are no
    /// requests.
    fn abort(&self, py: Python<'_>) -> Option<(u32, u64, bool)> {
        self.abort_requests(py)
    }

    /// For adapters: ends a request of `begin`.
    ///
    /// `endpoint` is the route's template, if it is known; empty if the framework has found no
    /// route. `status` is 0 if there was none. `headers` are the values of `X-Request-Start` and
    /// `traceparent`. `errors` are the exceptions that the framework turned into responses, as in
    /// `frameworks`; `error` is the one that reached the server.
    #[pyo3(signature = (request, method, path, endpoint, status, sizes, headers, errors, error))]
    #[expect(
        clippy::too_many_arguments,
        reason = "called in one place, by position"
    )]
    fn end(
        &self,
        py: Python<'_>,
        request: u32,
        method: &str,
        path: &str,
        endpoint: Option<&str>,
        status: u16,
        sizes: (f64, f64),
        headers: (Option<&str>, Option<&str>),
        errors: Option<Vec<Swallowed>>,
        error: Option<&Bound<'_, PyAny>>,
    ) {
        if self.turn != process::turn() || self.is_taken_along(error) {
            return;
        }
        let (kind, endpoint) = self.endpoint_of(endpoint, path, status);
        let mut state = lock(&self.state);
        let end = RequestEnd {
            start: self.leave(&mut state, request),
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
        self.end_request(py, state, &end, error, &answered);
    }

    /// Does the same for an ASGI request: method, path and headers are in its scope.
    #[pyo3(signature = (request, scope, endpoint, status, received, sent, errors, error))]
    #[expect(
        clippy::too_many_arguments,
        reason = "called in one place, by position"
    )]
    fn end_scope(
        &self,
        request: u32,
        scope: &Bound<'_, PyDict>,
        endpoint: Option<&str>,
        status: u16,
        received: u64,
        sent: u64,
        errors: Option<Vec<Swallowed>>,
        error: Option<&Bound<'_, PyAny>>,
    ) {
        if self.turn != process::turn() || self.is_taken_along(error) {
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
        let mut state = lock(&self.state);
        let end = RequestEnd {
            start: self.leave(&mut state, request),
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
        self.end_request(py, state, &end, error, &answered);
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

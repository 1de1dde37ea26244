//! Requests in progress: enters them into the table that outlives this worker.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use metrics_settings::InFlight;
use metrics_store::{Endpoint, Method, NewRequest, RequestId};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{ffi, intern};

use super::facts::{entry, text};
use super::{Recorder, State, headers};
use crate::failure::report;
use crate::process::{self, lock};

impl Recorder {
    /// See `begin`.
    pub(super) fn begin_request(
        &self,
        py: Python<'_>,
        method: &str,
        path: &str,
        trace: Option<&str>,
    ) -> Option<u32> {
        let now = Instant::now();
        if self.turn != process::turn() || self.options.skips_request(method, path) {
            return None;
        }
        let trace = match trace {
            Some(trace) if self.options.in_flight != InFlight::Off => headers::trace_id(trace),
            _ => 0,
        };
        let method = Method::named(method);
        let thread = self.thread(py);
        let (request, begun) = {
            let mut state = lock(&self.state);
            let request = self.enter(&mut state, method, path, trace, thread, now);
            (request, state.load.begin(&self.store, method, now))
        };
        if let Err(error) = begun {
            report(py, "recorder", &error);
        }
        Some(request.number())
    }

    /// See `begin_scope`.
    pub(super) fn begin_request_of(&self, scope: &Bound<'_, PyDict>) -> Option<u32> {
        let py = scope.py();
        let (method, path) = (
            entry(scope, intern!(py, "method")),
            entry(scope, intern!(py, "path")),
        );
        let trace = match self.options.in_flight {
            InFlight::Off => None,
            InFlight::Endpoint | InFlight::Path => headers::trace_of_scope(scope),
        };
        self.begin_request(
            py,
            method.as_ref().and_then(text).unwrap_or_default(),
            path.as_ref().and_then(text).unwrap_or_default(),
            trace.as_deref(),
        )
    }

    /// See `name`.
    pub(super) fn name_request(&self, request: u32, template: &str) {
        if self.turn == process::turn() {
            lock(&self.state)
                .requests
                .name(RequestId::from_number(request), template);
        }
    }

    /// See `name_current`.
    pub(super) fn name_request_here(&self, py: Python<'_>, template: &str) {
        if self.turn != process::turn() {
            return;
        }
        let thread = self.thread(py);
        let state = lock(&self.state);
        if let Some(request) = state.requests.of_thread(thread) {
            state.requests.name(request, template);
        }
    }

    /// See `abort`.
    pub(super) fn abort_requests(&self, py: Python<'_>) -> Option<(u32, u64, bool)> {
        if self.turn != process::turn() {
            return None;
        }
        self.is_aborted.store(true, Relaxed);
        let thread = self.thread(py);
        let state = lock(&self.state);
        let (oldest, of) = state.requests.oldest()?;
        Some((
            oldest.number(),
            of,
            state.requests.of_thread(thread).is_some(),
        ))
    }

    /// Enters a request into the table.
    #[inline]
    pub(super) fn enter(
        &self,
        state: &mut State,
        method: Method,
        path: &str,
        trace: u128,
        thread: u64,
        now: Instant,
    ) -> RequestId {
        let since_epoch = now.saturating_duration_since(self.epoch).as_nanos() as u64;
        let has_routes = self.has_routes.load(Relaxed);
        let endpoint = match (self.options.in_flight, has_routes) {
            (InFlight::Endpoint | InFlight::Off, true) => Endpoint::Unknown,
            (InFlight::Path, true) => Endpoint::Unmatched(path),
            // The reader shows it only if it is in the table of endpoints; a label needs it then.
            (_, false) => Endpoint::Path(path),
        };
        let request = NewRequest {
            method,
            start_ns: self.epoch_ns + since_epoch,
            thread,
            trace,
            endpoint,
        };
        state.requests.begin(&self.store, &request)
    }

    /// Removes a request of an adapter from the table; returns when it began.
    pub(super) fn leave(&self, state: &mut State, request: u32) -> Instant {
        let request = RequestId::from_number(request);
        let start_ns = state.requests.start_ns(request);
        state.requests.end(request);
        self.epoch + Duration::from_nanos(start_ns.saturating_sub(self.epoch_ns))
    }

    /// Returns whether the path of a request is entered.
    #[inline]
    pub(super) fn keeps_path(&self) -> bool {
        match self.options.in_flight {
            InFlight::Endpoint | InFlight::Off => !self.has_routes.load(Relaxed),
            InFlight::Path => true,
        }
    }

    /// Returns Python's identifier of this thread, or the address of the greenlet that runs.
    #[inline]
    pub(super) fn thread(&self, py: Python<'_>) -> u64 {
        match &self.current {
            None => {
                // SAFETY: it has no preconditions.
                unsafe { ffi::PyThread_get_thread_ident() }
            }
            Some(current) => current
                .call0(py)
                .map_or(0, |greenlet| greenlet.as_ptr() as u64),
        }
    }

    /// Returns whether a request ends only because the arbiter aborts this worker: with an exception that no
    /// application raises. It stays in the table, which the arbiter reads.
    #[inline]
    pub(super) fn is_taken_along(&self, error: Option<&Bound<'_, PyAny>>) -> bool {
        self.is_aborted.load(Relaxed)
            && error.is_some_and(|error| !error.is_instance_of::<PyException>())
    }
}

//! The end of a request, as hooks and adapters report it, and what the worker counts then.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use metrics_store::{Method, StoreError};
use pyo3::prelude::*;

use super::errors::{ErrorKey, ErrorKind};
use super::families::RouteSeries;
use super::headers;
use super::route::{EndpointKind, OTHER, Route, RouteKey, UNMATCHED, without_route};
use super::{Recorder, State, facts};
use crate::failure::report;
use crate::process::{lock, unix_time};

/// The lowest status of a response that is an error (RFC 9110, section 15).
const FIRST_ERROR: u16 = 400;

/// An exception that a framework turned into a response: the name of its class, whether it had no handler, and whether
/// the framework answers by such exceptions.
#[derive(Debug, FromPyObject)]
pub(super) struct Swallowed(String, bool, bool);

/// The facts of a request that has ended, from hooks or from an adapter.
pub(super) struct RequestEnd<'a> {
    pub(super) start: Instant,
    pub(super) end: Instant,
    pub(super) method: Method,
    pub(super) status: u16,
    pub(super) kind: EndpointKind,
    pub(super) endpoint: &'a str,
    pub(super) received: f64,
    pub(super) sent: f64,
    /// `X-Request-Start`; below, `traceparent` if its trace is kept.
    pub(super) queued: Option<&'a str>,
    pub(super) trace: Option<&'a str>,
    /// Address of the request's object, where Gunicorn reports an uncaught exception to `handle_error` afterwards.
    pub(super) reported_as: Option<usize>,
}

impl RequestEnd<'_> {
    #[inline]
    fn seconds(&self) -> f64 {
        self.end.saturating_duration_since(self.start).as_secs_f64()
    }
}

impl Recorder {
    /// Counts a request that has ended, and its exceptions. `uncaught` reached the server; the framework turned
    /// `answered` into responses.
    #[inline]
    pub(super) fn end_request(
        &self,
        py: Python<'_>,
        mut state: MutexGuard<'_, State>,
        end: &RequestEnd<'_>,
        uncaught: Option<&Bound<'_, PyAny>>,
        answered: &[Swallowed],
    ) {
        let counted = self.count(&mut state, end);
        drop(state);
        if let Err(error) = counted {
            report(py, "recorder", &error);
        }
        if let Some(error) = uncaught {
            self.count_uncaught(py, end, error);
        }
        if !answered.is_empty() {
            self.count_answered(py, end, answered, uncaught.is_some());
        }
    }

    #[inline]
    fn count(&self, state: &mut State, end: &RequestEnd<'_>) -> Result<(), StoreError> {
        let seconds = end.seconds();
        state.load.end(end.method, end.end);
        let worker = &state.worker;
        worker.duration.observe(seconds);
        worker.request_size.observe(end.received);
        worker.response_size.observe(end.sent);
        worker.requests.add(0, 1.0);

        let key = RouteKey {
            kind: end.kind,
            method: end.method,
            status: end.status,
            endpoint: end.endpoint,
        };
        if let Some(queued) = end.queued {
            self.count_wait(state, queued, seconds)?;
        }
        match state.routes.get(&key) {
            Some(route) => self.count_in(route, end, seconds),
            None => self.count_slowly(state, key, end, seconds),
        }
    }

    /// Handles the first request of its route, and those whose path may not become a label.
    fn count_slowly(
        &self,
        state: &mut State,
        key: RouteKey<'_>,
        end: &RequestEnd<'_>,
        seconds: f64,
    ) -> Result<(), StoreError> {
        let endpoint = self.endpoint(end);
        // Only a limited set of endpoints is remembered.
        let key = RouteKey { endpoint, ..key };
        if let Some(route) = state.routes.get(&key) {
            return self.count_in(route, end, seconds);
        }
        let route = Route {
            method: end.method.label(),
            endpoint,
            status: &self.options.status_label(end.status),
        };
        let series = self.families.route(&self.store, &route)?;
        let counted = self.count_in(&series, end, seconds);
        state.routes.insert(key.to_owned(), series);
        counted
    }

    #[inline]
    fn count_in(
        &self,
        route: &RouteSeries,
        end: &RequestEnd<'_>,
        seconds: f64,
    ) -> Result<(), StoreError> {
        route.requests.add(0, 1.0);
        let bucket = route.duration.observe(seconds);
        route.request_size.observe(end.received);
        route.response_size.observe(end.sent);
        let Some((trace, span)) = end.trace.and_then(headers::sampled_trace) else {
            return Ok(());
        };
        let labels = [("trace_id", trace), ("span_id", span)];
        let series = &route.duration.series;
        self.store
            .set_exemplar(series, bucket as u32, &labels, seconds, unix_time())
    }

    #[cold]
    fn count_wait(&self, state: &mut State, queued: &str, seconds: f64) -> Result<(), StoreError> {
        let begun = unix_time() - seconds;
        let wait = headers::request_start(queued).and_then(|start| headers::wait(start, begun));
        if let Some(wait) = wait {
            let series = match &state.queue {
                Some(series) => series,
                None => state.queue.insert(self.families.queue(&self.store)?),
            };
            series.observe(wait);
        }
        Ok(())
    }

    /// Returns the label: a route's template, or a path that is, or may now be, in the table.
    fn endpoint<'a>(&self, end: &RequestEnd<'a>) -> &'a str {
        if end.kind == EndpointKind::Template {
            return end.endpoint;
        }
        let answered = (100..400).contains(&end.status);
        if self.endpoints.holds(end.endpoint, answered) {
            return end.endpoint;
        }
        match end.status {
            404 | 405 => UNMATCHED,
            _ => OTHER,
        }
    }

    /// Returns the endpoint of an adapter's request.
    pub(super) fn endpoint_of<'a>(
        &self,
        template: Option<&'a str>,
        path: &'a str,
        status: u16,
    ) -> (EndpointKind, &'a str) {
        match template {
            Some("") => (EndpointKind::Template, without_route(status)),
            Some(template) => (EndpointKind::Template, template),
            None if self.has_routes.load(Relaxed) => {
                (EndpointKind::Template, without_route(status))
            }
            None => (EndpointKind::Path, path),
        }
    }

    /// Counts the exception that a request has ended by.
    #[cold]
    fn count_uncaught(&self, py: Python<'_>, end: &RequestEnd<'_>, error: &Bound<'_, PyAny>) {
        let name = facts::class_name(error);
        let endpoint = self.endpoint(end);
        let count = |kind| self.count_error(py, kind, end.method, endpoint, &name);
        count(ErrorKind::Failed);
        count(ErrorKind::ByServer);
        match end.reported_as {
            Some(request) => {
                lock(&self.state).last_failed = Some((request, endpoint.to_owned()));
            }
            None if end.status >= 500 => count(ErrorKind::Handled),
            None => {}
        }
    }

    /// Counts exceptions that the framework turned into responses. One by which a framework answers counts only if
    /// the response is an error. `has_failed` tells whether the request already counts as failed; it does so at most
    /// once.
    #[cold]
    fn count_answered(
        &self,
        py: Python<'_>,
        end: &RequestEnd<'_>,
        errors: &[Swallowed],
        mut has_failed: bool,
    ) {
        let endpoint = self.endpoint(end);
        for Swallowed(name, unexpected, is_answer) in errors {
            if *is_answer && end.status < FIRST_ERROR {
                continue;
            }
            let count = |kind| self.count_error(py, kind, end.method, endpoint, name);
            if *unexpected && !has_failed {
                has_failed = true;
                count(ErrorKind::Failed);
            }
            count(ErrorKind::Handled);
            count(ErrorKind::ByFramework);
        }
    }

    #[cold]
    pub(super) fn count_error(
        &self,
        py: Python<'_>,
        kind: ErrorKind,
        method: Method,
        endpoint: &str,
        name: &str,
    ) {
        let key = ErrorKey {
            kind,
            method,
            endpoint: endpoint.into(),
            name: name.into(),
        };
        let counted =
            lock(&self.state)
                .errors
                .count(&self.store, &self.families, &self.worker_id, key);
        if let Err(error) = counted {
            report(py, "recorder", &error);
        }
    }
}

//! Counts a request that has ended.

use std::time::Instant;

use metrics_store::StoreError;
use pyo3::Python;

use super::errors::{ErrorKey, ErrorKind};
use super::families::RouteSeries;
use super::headers;
use super::method::Method;
use super::route::{EndpointKind, OTHER, Route, RouteKey, UNMATCHED};
use super::{Recorder, State};
use crate::failure::report;
use crate::process::{lock, unix_time};

/// The facts of a request that has ended.
pub(super) struct Ended<'a> {
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
}

impl Ended<'_> {
    #[inline]
    fn seconds(&self) -> f64 {
        self.end.saturating_duration_since(self.start).as_secs_f64()
    }
}

impl Recorder {
    #[inline]
    pub(super) fn finish(&self, py: Python<'_>, ended: &Ended<'_>) {
        let counted = self.count(&mut lock(&self.state), ended);
        if let Err(error) = counted {
            report(py, "recorder", &error);
        }
    }

    #[inline]
    pub(super) fn count(&self, state: &mut State, ended: &Ended<'_>) -> Result<(), StoreError> {
        let seconds = ended.seconds();
        state.load.end(ended.method, ended.end);
        let worker = &state.worker;
        worker.duration.observe(seconds);
        worker.request_size.observe(ended.received);
        worker.response_size.observe(ended.sent);
        worker.requests.add(0, 1.0);

        let key = RouteKey {
            kind: ended.kind,
            method: ended.method,
            status: ended.status,
            endpoint: ended.endpoint,
        };
        if let Some(queued) = ended.queued {
            self.count_wait(state, queued, seconds)?;
        }
        match state.routes.get(&key) {
            Some(route) => self.count_in(route, ended, seconds),
            None => self.count_slowly(state, key, ended, seconds),
        }
    }

    /// Handles the first request of its route, and one whose path may not become a label.
    #[cold]
    fn count_slowly(
        &self,
        state: &mut State,
        key: RouteKey<'_>,
        ended: &Ended<'_>,
        seconds: f64,
    ) -> Result<(), StoreError> {
        let endpoint = self.endpoint(ended);
        let route = Route {
            method: ended.method.label(),
            endpoint,
            status: &self.options.status_label(ended.status),
        };
        let series = self.families.route(&self.store, &route)?;
        let counted = self.count_in(&series, ended, seconds);
        // Only a limited set of endpoints is remembered.
        if endpoint == ended.endpoint {
            state.routes.insert(key.to_owned(), series);
        }
        counted
    }

    #[inline]
    fn count_in(
        &self,
        route: &RouteSeries,
        ended: &Ended<'_>,
        seconds: f64,
    ) -> Result<(), StoreError> {
        route.requests.add(0, 1.0);
        let bucket = route.duration.observe(seconds);
        route.request_size.observe(ended.received);
        route.response_size.observe(ended.sent);
        let Some((trace, span)) = ended.trace.and_then(headers::sampled_trace) else {
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

    /// Counts an exception that the application did not catch. Returns the request's endpoint.
    #[cold]
    pub(super) fn failed(&self, py: Python<'_>, ended: &Ended<'_>, name: &str) -> String {
        let endpoint = self.endpoint(ended);
        for kind in [ErrorKind::Failed, ErrorKind::ByServer] {
            self.count_error(py, kind, ended.method, endpoint, name);
        }
        endpoint.to_owned()
    }

    /// Counts exceptions that the framework turned into responses; `true` marks one without a
    /// handler. `has_failed` tells whether the request already counts as failed; it does so at most
    /// once.
    #[cold]
    pub(super) fn swallowed(
        &self,
        py: Python<'_>,
        ended: &Ended<'_>,
        errors: &[(String, bool)],
        mut has_failed: bool,
    ) {
        let endpoint = self.endpoint(ended);
        for (name, unexpected) in errors {
            let count = |kind| self.count_error(py, kind, ended.method, endpoint, name);
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

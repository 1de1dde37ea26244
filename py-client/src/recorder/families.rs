//! The families that a request feeds, and the series of one worker among them.

use metrics_model::{FamilySpec, FamilyType, Layout};
use metrics_store::{Family, Series, StoreError, WorkerStore};

use super::route::{Route, UNKNOWN};

/// The documented bounds of a worker's request durations, in seconds.
pub(crate) const DURATION_BOUNDS: [&str; 8] =
    ["0.1", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0"];
/// The documented bounds of a worker's request and response sizes, in bytes.
pub(crate) const SIZE_BOUNDS: [&str; 7] = [
    "1024.0",
    "4096.0",
    "16384.0",
    "65536.0",
    "262144.0",
    "1.048576e+06",
    "4.194304e+06",
];

/// A histogram's series with its bounds at hand.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    series: Series,
    bounds: Vec<f64>,
}

impl Histogram {
    #[inline]
    pub(super) fn observe(&self, value: f64) {
        // Most requests are quick and small, so looking from the lowest bound is the short way.
        let bucket = self
            .bounds
            .iter()
            .take_while(|bound| **bound < value)
            .count();
        self.series.observe(bucket, value);
    }
}

/// What every request of a worker is counted in.
#[derive(Debug)]
pub(super) struct WorkerSeries {
    /// Hidden (names beginning with `__` are not shown): what the exporter needs to know of a worker
    /// that was killed in the middle of a request.
    pub(super) started: Series,
    pub(super) finished: Series,
    pub(super) requests: Series,
    pub(super) duration: Histogram,
    pub(super) request_size: Histogram,
    pub(super) response_size: Histogram,
}

impl WorkerSeries {
    pub(super) fn new(store: &WorkerStore, worker_id: &str) -> Result<Self, StoreError> {
        let labels = [("worker_id", worker_id)];
        let counter = |name, help| store.series(&counter_family(store, name, help)?, &labels);
        let histogram = |name, help, bounds| histogram(store, name, help, bounds, &labels);
        // Written by the exporter when this worker has died in the middle of requests.
        let aborted = counter_family(
            store,
            "gunicorn_http_aborted",
            "Requests that were cut off by the end of their worker",
        )?;
        store.series(&aborted, &[("method", UNKNOWN)])?;
        Ok(Self {
            started: counter("__requests_started", "")?,
            finished: counter("__requests_finished", "")?,
            requests: counter(
                "gunicorn_worker_requests",
                "Total number of requests handled by this worker",
            )?,
            duration: histogram(
                "gunicorn_worker_request_duration_seconds",
                "Request duration in seconds",
                &layout(DURATION_BOUNDS),
            )?,
            request_size: histogram(
                "gunicorn_worker_request_size_bytes",
                "Request size in bytes",
                &layout(SIZE_BOUNDS),
            )?,
            response_size: histogram(
                "gunicorn_worker_response_size_bytes",
                "Response size in bytes",
                &layout(SIZE_BOUNDS),
            )?,
        })
    }
}

/// What a request of one route and status is counted in.
#[derive(Debug, Clone)]
pub(super) struct RouteSeries {
    pub(super) requests: Series,
    pub(super) duration: Histogram,
}

/// Makes the series of routes and errors as they are met.
#[derive(Debug)]
pub(super) struct RouteFamilies {
    requests: Family,
    duration: Family,
    duration_bounds: Vec<f64>,
    failed: Family,
    handled: Family,
}

impl RouteFamilies {
    pub(super) fn new(store: &WorkerStore, bounds: &Layout) -> Result<Self, StoreError> {
        Ok(Self {
            requests: counter_family(
                store,
                "gunicorn_http_requests",
                "Requests answered, by method, endpoint and status",
            )?,
            duration: store.family(
                &FamilySpec {
                    help: "Seconds from the end of a request's head to the end of its response",
                    unit: "seconds",
                    ..FamilySpec::new(
                        "gunicorn_http_request_duration_seconds",
                        FamilyType::Histogram,
                    )
                },
                Some(bounds),
            )?,
            duration_bounds: bounds.values().collect(),
            failed: counter_family(
                store,
                "gunicorn_worker_failed_requests",
                "Total number of failed requests handled by this worker",
            )?,
            handled: counter_family(
                store,
                "gunicorn_worker_error_handling",
                "Total number of errors handled by this worker",
            )?,
        })
    }

    pub(super) fn route(
        &self,
        store: &WorkerStore,
        route: &Route<'_>,
    ) -> Result<RouteSeries, StoreError> {
        let (method, endpoint) = (("method", route.method), ("endpoint", route.endpoint));
        Ok(RouteSeries {
            requests: store.series(
                &self.requests,
                &[method, endpoint, ("status", route.status)],
            )?,
            duration: Histogram {
                series: store.series(&self.duration, &[method, endpoint])?,
                bounds: self.duration_bounds.clone(),
            },
        })
    }

    /// The series of an error: a request that failed by it, or one that somebody handled.
    pub(super) fn error(
        &self,
        store: &WorkerStore,
        kind: ErrorKind,
        labels: &[(&str, &str)],
    ) -> Result<Series, StoreError> {
        let family = match kind {
            ErrorKind::Failed => &self.failed,
            ErrorKind::Handled => &self.handled,
        };
        store.series(family, labels)
    }
}

/// Which of the two documented families an error is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ErrorKind {
    /// The request ended by it.
    Failed,
    /// The server or the framework made an answer of it.
    Handled,
}

fn counter_family(store: &WorkerStore, name: &str, help: &str) -> Result<Family, StoreError> {
    let spec = FamilySpec {
        help,
        ..FamilySpec::new(name, FamilyType::Counter)
    };
    store.family(&spec, None)
}

fn histogram(
    store: &WorkerStore,
    name: &str,
    help: &str,
    bounds: &Layout,
    labels: &[(&str, &str)],
) -> Result<Histogram, StoreError> {
    let spec = FamilySpec {
        help,
        ..FamilySpec::new(name, FamilyType::Histogram)
    };
    let family = store.family(&spec, Some(bounds))?;
    Ok(Histogram {
        series: store.series(&family, labels)?,
        bounds: bounds.values().collect(),
    })
}

fn layout<const N: usize>(bounds: [&str; N]) -> Layout {
    // The bounds are those above: finite, and ascending.
    Layout::new(bounds).unwrap_or_else(|_| Layout::none())
}

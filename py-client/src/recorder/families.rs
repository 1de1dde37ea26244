//! The families that a request feeds, and the series of one worker among them.

use std::sync::Arc;

use metrics_model::{FamilySpec, FamilyType, Layout};
use metrics_store::{Family, Series, StoreError, WorkerStore};

use super::errors::{ErrorKey, ErrorKind};
use super::headers::queue_layout;
use super::route::Route;

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
    pub(super) series: Series,
    bounds: Arc<[f64]>,
}

impl Histogram {
    /// Returns the bucket.
    #[inline]
    pub(super) fn observe(&self, value: f64) -> usize {
        // Most requests are quick and small, so looking from the lowest bound is the short way.
        let bucket = self
            .bounds
            .iter()
            .take_while(|bound| **bound < value)
            .count();
        self.series.observe(bucket, value);
        bucket
    }
}

/// What every request of a worker is counted in.
#[derive(Debug)]
pub(super) struct WorkerSeries {
    pub(super) requests: Series,
    pub(super) duration: Histogram,
    pub(super) request_size: Histogram,
    pub(super) response_size: Histogram,
}

impl WorkerSeries {
    pub(super) fn new(store: &WorkerStore, worker_id: &str) -> Result<Self, StoreError> {
        let labels = [("worker_id", worker_id)];
        let counter = |name, help| store.series(&counter_family(store, name, help)?, &labels);
        let histogram = |name, help, bounds| {
            HistogramFamily::new(store, name, "", help, bounds)?.series(store, &labels)
        };
        Ok(Self {
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
    pub(super) request_size: Histogram,
    pub(super) response_size: Histogram,
}

/// Makes the series of routes and errors as they are met.
#[derive(Debug)]
pub(super) struct RouteFamilies {
    requests: Family,
    duration: HistogramFamily,
    request_size: HistogramFamily,
    response_size: HistogramFamily,
    queue: HistogramFamily,
    failed: Family,
    handled: Family,
    exceptions: Family,
}

impl RouteFamilies {
    /// `durations` and `sizes` are the bounds of the settings.
    pub(super) fn new(
        store: &WorkerStore,
        durations: &Layout,
        sizes: &Layout,
    ) -> Result<Self, StoreError> {
        let counter = |name, help| counter_family(store, name, help);
        let histogram =
            |name, unit, help, bounds| HistogramFamily::new(store, name, unit, help, bounds);
        Ok(Self {
            requests: counter(
                "gunicorn_http_requests",
                "Requests answered, by method, endpoint and status",
            )?,
            duration: histogram(
                "gunicorn_http_request_duration_seconds",
                "seconds",
                "Seconds from the end of a request's head to the end of its response",
                durations,
            )?,
            request_size: histogram(
                "gunicorn_http_request_size_bytes",
                "bytes",
                "Bytes of request bodies that were read",
                sizes,
            )?,
            response_size: histogram(
                "gunicorn_http_response_size_bytes",
                "bytes",
                "Bytes of response bodies that were sent",
                sizes,
            )?,
            queue: histogram(
                "gunicorn_http_request_queue_seconds",
                "seconds",
                "Seconds from the X-Request-Start of a proxy to the beginning of a request",
                &queue_layout(),
            )?,
            failed: counter(
                "gunicorn_worker_failed_requests",
                "Total number of failed requests handled by this worker",
            )?,
            handled: counter(
                "gunicorn_worker_error_handling",
                "Total number of errors handled by this worker",
            )?,
            exceptions: counter(
                "gunicorn_http_exceptions",
                "Exceptions of requests, by who has answered them: framework or server",
            )?,
        })
    }

    pub(super) fn route(
        &self,
        store: &WorkerStore,
        route: &Route<'_>,
    ) -> Result<RouteSeries, StoreError> {
        let (method, endpoint) = (("method", route.method), ("endpoint", route.endpoint));
        let labels = [method, endpoint];
        Ok(RouteSeries {
            requests: store.series(
                &self.requests,
                &[method, endpoint, ("status", route.status)],
            )?,
            duration: self.duration.series(store, &labels)?,
            request_size: self.request_size.series(store, &labels)?,
            response_size: self.response_size.series(store, &labels)?,
        })
    }

    /// Where the times are kept that requests have waited.
    pub(super) fn queue(&self, store: &WorkerStore) -> Result<Histogram, StoreError> {
        self.queue.series(store, &[])
    }

    /// The series of an error.
    pub(super) fn error(
        &self,
        store: &WorkerStore,
        worker_id: &str,
        error: &ErrorKey,
    ) -> Result<Series, StoreError> {
        let common = [
            ("method", error.method.label()),
            ("endpoint", &*error.endpoint),
        ];
        let of_worker = |family| {
            let [method, endpoint] = common;
            let name = ("error_type", &*error.name);
            store.series(family, &[("worker_id", worker_id), method, endpoint, name])
        };
        let of_all = |handled_by| {
            let [method, endpoint] = common;
            let (name, by) = (("exception", &*error.name), ("handled_by", handled_by));
            store.series(&self.exceptions, &[method, endpoint, name, by])
        };
        match error.kind {
            ErrorKind::Failed => of_worker(&self.failed),
            ErrorKind::Handled => of_worker(&self.handled),
            ErrorKind::ByFramework => of_all("framework"),
            ErrorKind::ByServer => of_all("server"),
        }
    }
}

/// A family of histograms with its bounds at hand.
#[derive(Debug)]
struct HistogramFamily {
    family: Family,
    bounds: Arc<[f64]>,
}

impl HistogramFamily {
    fn new(
        store: &WorkerStore,
        name: &str,
        unit: &str,
        help: &str,
        bounds: &Layout,
    ) -> Result<Self, StoreError> {
        let spec = FamilySpec {
            help,
            unit,
            ..FamilySpec::new(name, FamilyType::Histogram)
        };
        Ok(Self {
            family: store.family(&spec, Some(bounds))?,
            bounds: bounds.values().collect(),
        })
    }

    fn series(
        &self,
        store: &WorkerStore,
        labels: &[(&str, &str)],
    ) -> Result<Histogram, StoreError> {
        Ok(Histogram {
            series: store.series(&self.family, labels)?,
            bounds: Arc::clone(&self.bounds),
        })
    }
}

pub(super) fn counter_family(
    store: &WorkerStore,
    name: &str,
    help: &str,
) -> Result<Family, StoreError> {
    let spec = FamilySpec {
        help,
        ..FamilySpec::new(name, FamilyType::Counter)
    };
    store.family(&spec, None)
}

pub(super) fn layout<const N: usize>(bounds: [&str; N]) -> Layout {
    // The bounds are those above: finite, and ascending.
    Layout::new(bounds).unwrap_or_else(|_| Layout::none())
}

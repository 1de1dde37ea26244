//! The families in which requests are counted, and the series of one worker among them.

use std::sync::Arc;

use metrics_model::Layout;
use metrics_store::catalogue::{
    Described, HTTP_EXCEPTIONS, HTTP_REQUEST_DURATION, HTTP_REQUEST_QUEUE, HTTP_REQUEST_SIZE,
    HTTP_REQUESTS, HTTP_RESPONSE_SIZE, WORKER_ERROR_HANDLING, WORKER_FAILED_REQUESTS,
    WORKER_REQUEST_DURATION, WORKER_REQUEST_SIZE, WORKER_REQUESTS, WORKER_RESPONSE_SIZE,
};
use metrics_store::{Family, Series, StoreError, WorkerStore};

use super::errors::{ErrorKey, ErrorKind};
use super::route::Route;

/// A histogram's series with its bounds.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    pub(super) series: Series,
    bounds: Arc<[f64]>,
}

impl Histogram {
    /// Returns the bucket.
    #[inline]
    pub(super) fn observe(&self, value: f64) -> usize {
        // Most requests are quick and small, so the search starts at the lowest bound.
        let bucket = self
            .bounds
            .iter()
            .take_while(|bound| **bound < value)
            .count();
        self.series.observe(bucket, value);
        bucket
    }
}

/// The series in which every request of a worker is counted.
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
        let histogram = |family: &Described| {
            HistogramFamily::new(store, family, &layout(family))?.series(store, &labels)
        };
        let requests = store.family(&WORKER_REQUESTS.spec(), None)?;
        Ok(Self {
            requests: store.series(&requests, &labels)?,
            duration: histogram(&WORKER_REQUEST_DURATION)?,
            request_size: histogram(&WORKER_REQUEST_SIZE)?,
            response_size: histogram(&WORKER_RESPONSE_SIZE)?,
        })
    }
}

/// The series in which a request of one route and status is counted.
#[derive(Debug, Clone)]
pub(super) struct RouteSeries {
    pub(super) requests: Series,
    pub(super) duration: Histogram,
    pub(super) request_size: Histogram,
    pub(super) response_size: Histogram,
}

/// Makes the series of routes and errors when they first occur.
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
        let counter = |family: &Described| store.family(&family.spec(), None);
        let histogram = |family, bounds| HistogramFamily::new(store, family, bounds);
        Ok(Self {
            requests: counter(&HTTP_REQUESTS)?,
            duration: histogram(&HTTP_REQUEST_DURATION, durations)?,
            request_size: histogram(&HTTP_REQUEST_SIZE, sizes)?,
            response_size: histogram(&HTTP_RESPONSE_SIZE, sizes)?,
            queue: histogram(&HTTP_REQUEST_QUEUE, &layout(&HTTP_REQUEST_QUEUE))?,
            failed: counter(&WORKER_FAILED_REQUESTS)?,
            handled: counter(&WORKER_ERROR_HANDLING)?,
            exceptions: counter(&HTTP_EXCEPTIONS)?,
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

    /// Histogram of time spent in the proxy's queue.
    pub(super) fn queue(&self, store: &WorkerStore) -> Result<Histogram, StoreError> {
        self.queue.series(store, &[])
    }

    /// Returns the series of an error.
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

/// A family of histograms with its bounds.
#[derive(Debug)]
struct HistogramFamily {
    family: Family,
    bounds: Arc<[f64]>,
}

impl HistogramFamily {
    fn new(store: &WorkerStore, family: &Described, bounds: &Layout) -> Result<Self, StoreError> {
        Ok(Self {
            family: store.family(&family.spec(), Some(bounds))?,
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

/// Returns the bounds of the catalogue; a test there checks that they make a layout.
fn layout(family: &Described) -> Layout {
    Layout::new(family.bounds.iter().copied()).unwrap_or_else(|_| Layout::none())
}

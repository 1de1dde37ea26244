//! Requests that a worker has begun and not finished: its activity, and what its death aborted.
//!
//! A worker counts begun and finished requests in hidden series, by method if it does so elsewhere.
//! The exporter completes the number of its requests when it has ended.

use metrics_model::Point;
use metrics_store::StoreReader;
use metrics_store::catalogue::WORKER_REQUESTS;
use metrics_store::hidden::{REQUESTS_FINISHED, REQUESTS_STARTED};

const REQUESTS: &str = WORKER_REQUESTS.name;

/// The places of these series in one store.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    started: Vec<usize>,
    finished: Vec<usize>,
    requests: Option<usize>,
    seen: usize,
}

impl InFlight {
    /// Finds series that are new.
    pub(crate) fn extend(&mut self, reader: &StoreReader) {
        for number in self.seen..reader.len() {
            match &*reader.series(number).family.name {
                REQUESTS_STARTED => self.started.push(number),
                REQUESTS_FINISHED => self.finished.push(number),
                REQUESTS => self.requests = Some(number),
                _ => {}
            }
        }
        self.seen = reader.len();
    }

    /// Returns the number of requests in progress.
    pub(crate) fn count(&self, reader: &StoreReader) -> f64 {
        // A request may finish between the two reads, but none begins unseen.
        let finished = sum(reader, &self.finished);
        (sum(reader, &self.started) - finished).max(0.0)
    }

    /// Notes that the worker has ended. Its open requests did reach the application, so they are
    /// added to its requests; the arbiter counts them as aborted. Repeating this changes nothing.
    pub(crate) fn abort(&self, reader: &StoreReader) {
        // Uses the worker's own series, so that the next exporter, repeating this, writes the same.
        if let Some(requests) = self.requests
            && self.count(reader) > 0.0
        {
            reader.complete(requests, sum(reader, &self.started));
        }
    }
}

fn sum(reader: &StoreReader, numbers: &[usize]) -> f64 {
    numbers.iter().map(|&number| value(reader, number)).sum()
}

fn value(reader: &StoreReader, number: usize) -> f64 {
    match reader.point(number) {
        Point::Scalar(value) => value,
        _ => 0.0,
    }
}

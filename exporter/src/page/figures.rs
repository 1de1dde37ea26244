//! The figures of the live page: totals since the start, added up from a registry's samples.

use std::collections::BTreeMap;

use serde::Serialize;

use super::samples::{Sample, samples};

/// A sample of each family that the page shows, in the form of `name[]`.
pub(crate) const FAMILIES: [&str; 16] = [
    "gunicorn_worker_requests_total",
    "gunicorn_worker_request_duration_seconds_bucket",
    "gunicorn_worker_failed_requests_total",
    "gunicorn_worker_memory_bytes",
    "gunicorn_worker_cpu_percent",
    "gunicorn_worker_uptime_seconds",
    "gunicorn_worker_state",
    "gunicorn_worker_restart_total",
    "gunicorn_master_worker_restart_total",
    "gunicorn_http_requests_total",
    "gunicorn_http_request_duration_seconds_bucket",
    "gunicorn_http_exceptions_total",
    "gunicorn_http_requests_in_progress",
    "gunicorn_http_aborted_total",
    "gunicorn_backlog_connections",
    "gunicorn_exporter_registry_missing",
];
/// Maximum number of workers, endpoints and exceptions on the page: those with the most requests.
/// The totals include the others, and `more_*` counts them.
const ROWS: usize = 200;

/// All figures of the page.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Time of the figures, in Unix milliseconds.
    pub(crate) time_ms: u64,
    /// Keys of Redis that should hold a registry and do not exist.
    pub(crate) missing_keys: Vec<String>,
    /// Number of requests, finished or aborted.
    pub(crate) requests: f64,
    /// Number of responses below 400, from 400 to 499, and from 500 on.
    pub(crate) statuses: Statuses,
    /// Number of requests that were aborted by the end of their worker.
    pub(crate) aborted: f64,
    /// Number of requests in progress, if the workers count them.
    pub(crate) in_progress: Option<f64>,
    /// Number of connections that no worker has accepted yet, if the system tells.
    pub(crate) waiting: Option<f64>,
    /// Durations of all requests: those of the endpoints, which are finer, or else of the workers.
    pub(crate) durations: Durations,
    #[serde(skip)]
    endpoint_durations: Durations,
    /// Number of running workers, listed or not.
    pub(crate) running: usize,
    pub(crate) workers: Vec<Worker>,
    pub(crate) more_workers: usize,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) more_endpoints: usize,
    pub(crate) exceptions: Vec<Exception>,
    /// Number of ended workers, by reason.
    pub(crate) restarts: BTreeMap<String, f64>,
    /// Number of signals that the arbiter received, by signal.
    pub(crate) signals: BTreeMap<String, f64>,
}

/// Number of responses by class.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Statuses {
    pub(crate) good: f64,
    pub(crate) client_errors: f64,
    pub(crate) server_errors: f64,
}

impl Statuses {
    fn add(&mut self, status: &str, count: f64) {
        match status.as_bytes().first() {
            Some(b'4') => self.client_errors += count,
            Some(b'5') => self.server_errors += count,
            _ => self.good += count,
        }
    }

    pub(crate) fn all(&self) -> f64 {
        self.good + self.client_errors + self.server_errors
    }
}

/// A histogram in seconds: ascending bounds (the infinite one is not stored), the number of
/// observations up to each, and the total.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub(crate) struct Durations {
    pub(crate) bounds: Vec<f64>,
    pub(crate) cumulative: Vec<f64>,
    pub(crate) count: f64,
    pub(crate) sum: f64,
}

impl Durations {
    fn add(&mut self, sample: &Sample<'_>) {
        if sample.name.ends_with("_sum") {
            self.sum += sample.value;
        } else if sample.name.ends_with("_count") {
            self.count += sample.value;
        } else if let Ok(bound) = sample.label("le").parse::<f64>()
            && bound.is_finite()
        {
            match self
                .bounds
                .binary_search_by(|known| known.total_cmp(&bound))
            {
                Ok(place) => self.cumulative[place] += sample.value,
                Err(place) => {
                    self.bounds.insert(place, bound);
                    self.cumulative.insert(place, sample.value);
                }
            }
        }
    }

    /// Returns the duration that a share of the requests (0 to 1) did not exceed, estimated like
    /// Prometheus' `histogram_quantile`; beyond the last bound, that bound.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        if self.count <= 0.0 {
            return None;
        }
        let rank = share * self.count;
        let place = self.cumulative.iter().position(|count| *count >= rank);
        let Some(place) = place else {
            return self.bounds.last().copied();
        };
        let (low, below) = match place.checked_sub(1) {
            Some(before) => (self.bounds[before], self.cumulative[before]),
            None => (0.0, 0.0),
        };
        let inside = self.cumulative[place] - below;
        let part = if inside > 0.0 {
            (rank - below) / inside
        } else {
            1.0
        };
        Some(low + (self.bounds[place] - low) * part)
    }
}

/// One worker slot of an instance.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) requests: f64,
    pub(crate) restarts: f64,
    pub(crate) memory_bytes: f64,
    pub(crate) cpu_percent: f64,
    pub(crate) uptime_seconds: f64,
}

impl Worker {
    pub(crate) fn is_running(&self) -> bool {
        self.state == "running"
    }
}

/// One route and method.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Endpoint {
    pub(crate) method: String,
    pub(crate) endpoint: String,
    pub(crate) statuses: Statuses,
    pub(crate) durations: Durations,
}

/// One class of exceptions at one endpoint.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Exception {
    pub(crate) method: String,
    pub(crate) endpoint: String,
    pub(crate) exception: String,
    pub(crate) count: f64,
}

impl Exception {
    fn new(([exception, endpoint, method], count): ([String; 3], f64)) -> Self {
        Self {
            method,
            endpoint,
            exception,
            count,
        }
    }
}

impl Figures {
    /// Computes the figures from a page in text 0.0.4 that has the [`FAMILIES`].
    pub(crate) fn of(page: &str, time_ms: u64) -> Self {
        let mut figures = Self {
            time_ms,
            ..Self::default()
        };
        let mut workers = BTreeMap::<String, Worker>::new();
        let mut endpoints = BTreeMap::<(String, String), Endpoint>::new();
        // Adds up over handlers and workers, which the page does not distinguish.
        let mut exceptions = BTreeMap::<[String; 3], f64>::new();
        let mut failures = BTreeMap::<[String; 3], f64>::new();
        for sample in samples(page) {
            if sample.name == "gunicorn_worker_failed_requests_total" {
                let key = ["error_type", "endpoint", "method"];
                let key = key.map(|name| sample.label(name).to_owned());
                *failures.entry(key).or_default() += sample.value;
            } else if let Some(metric) = sample.name.strip_prefix("gunicorn_worker_") {
                figures.add_of_worker(&sample, metric, &mut workers);
            } else if sample.name == "gunicorn_http_exceptions_total" {
                let key = ["exception", "endpoint", "method"];
                let key = key.map(|name| sample.label(name).to_owned());
                *exceptions.entry(key).or_default() += sample.value;
            } else if let Some(metric) = sample.name.strip_prefix("gunicorn_http_") {
                figures.add_of_endpoint(&sample, metric, &mut endpoints);
            } else if sample.name == "gunicorn_backlog_connections" {
                *figures.waiting.get_or_insert_default() += sample.value;
            } else if sample.name == "gunicorn_exporter_registry_missing" {
                figures.missing_keys.push(sample.label("key").to_owned());
            } else if sample.name == "gunicorn_master_worker_restart_total" {
                add_reason(&mut figures.signals, &sample);
            }
        }
        figures.workers = workers.into_values().collect();
        let running = figures.workers.iter().filter(|worker| worker.is_running());
        figures.running = running.count();
        figures.more_workers = figures.workers.len().saturating_sub(ROWS);
        figures.workers.truncate(ROWS);
        figures.endpoints = endpoints.into_values().collect();
        let busiest = |endpoint: &Endpoint| -endpoint.statuses.all();
        figures
            .endpoints
            .sort_by(|one, other| busiest(one).total_cmp(&busiest(other)));
        figures.more_endpoints = figures.endpoints.len().saturating_sub(ROWS);
        figures.endpoints.truncate(ROWS);
        if exceptions.is_empty() {
            exceptions = failures;
        }
        if figures.endpoint_durations.count > 0.0 {
            figures.durations = std::mem::take(&mut figures.endpoint_durations);
        }
        let exceptions = exceptions.into_iter().filter(|(_, count)| *count > 0.0);
        figures.exceptions = exceptions.map(Exception::new).collect();
        figures
            .exceptions
            .sort_by(|one, other| other.count.total_cmp(&one.count));
        figures.exceptions.truncate(ROWS);
        figures
    }

    fn add_of_worker(
        &mut self,
        sample: &Sample<'_>,
        metric: &str,
        workers: &mut BTreeMap<String, Worker>,
    ) {
        if metric.starts_with("request_duration_seconds") {
            self.durations.add(sample);
            return;
        }
        let id = sample.label("worker_id");
        if metric == "restart_total" {
            add_reason(&mut self.restarts, sample);
        }
        let worker = match workers.get_mut(id) {
            Some(worker) => worker,
            None => workers.entry(id.to_owned()).or_insert_with(|| Worker {
                id: id.to_owned(),
                ..Worker::default()
            }),
        };
        match metric {
            "requests_total" => {
                worker.requests += sample.value;
                self.requests += sample.value;
            }
            "restart_total" => worker.restarts += sample.value,
            "memory_bytes" => worker.memory_bytes = sample.value,
            "cpu_percent" => worker.cpu_percent = sample.value,
            "uptime_seconds" => worker.uptime_seconds = sample.value,
            // While the series of two states overlap, the state of a running worker is right.
            "state" if !worker.is_running() => sample.label("state").clone_into(&mut worker.state),
            _ => {}
        }
    }

    fn add_of_endpoint(
        &mut self,
        sample: &Sample<'_>,
        metric: &str,
        endpoints: &mut BTreeMap<(String, String), Endpoint>,
    ) {
        match metric {
            "aborted_total" => self.aborted += sample.value,
            "requests_in_progress" => {
                *self.in_progress.get_or_insert_default() += sample.value;
            }
            _ => {
                let method = sample.label("method").to_owned();
                let name = sample.label("endpoint").to_owned();
                let key = (name.clone(), method.clone());
                let endpoint = endpoints.entry(key).or_insert_with(|| Endpoint {
                    method,
                    endpoint: name,
                    ..Endpoint::default()
                });
                if metric == "requests_total" {
                    endpoint.statuses.add(sample.label("status"), sample.value);
                    self.statuses.add(sample.label("status"), sample.value);
                } else if metric.starts_with("request_duration_seconds") {
                    endpoint.durations.add(sample);
                    self.endpoint_durations.add(sample);
                }
            }
        }
    }
}

/// Reasons that never occurred are left out.
fn add_reason(reasons: &mut BTreeMap<String, f64>, sample: &Sample<'_>) {
    if sample.value > 0.0 {
        let reason = sample.label("reason").to_owned();
        *reasons.entry(reason).or_default() += sample.value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"
gunicorn_worker_requests_total{worker_id="a:0"} 3
gunicorn_worker_requests_total{worker_id="a:1"} 1
gunicorn_worker_state{worker_id="a:0",state="running",timestamp="5"} 1
gunicorn_worker_state{worker_id="a:1",state="stopped",timestamp="5"} 0
gunicorn_worker_restart_total{worker_id="a:1",reason="kill"} 2
gunicorn_worker_request_duration_seconds_bucket{worker_id="a:0",le="0.1"} 2
gunicorn_worker_request_duration_seconds_bucket{worker_id="a:1",le="0.1"} 0
gunicorn_worker_request_duration_seconds_bucket{worker_id="a:0",le="0.5"} 3
gunicorn_worker_request_duration_seconds_bucket{worker_id="a:1",le="0.5"} 1
gunicorn_worker_request_duration_seconds_bucket{worker_id="a:0",le="+Inf"} 3
gunicorn_worker_request_duration_seconds_bucket{worker_id="a:1",le="+Inf"} 1
gunicorn_worker_request_duration_seconds_count{worker_id="a:0"} 3
gunicorn_worker_request_duration_seconds_count{worker_id="a:1"} 1
gunicorn_http_requests_total{method="GET",endpoint="/slow",status="500"} 1
gunicorn_http_requests_total{method="GET",endpoint="/",status="200"} 2
gunicorn_http_requests_total{method="GET",endpoint="/",status="404"} 1
gunicorn_http_exceptions_total{method="GET",endpoint="/slow",exception="E",handled_by="flask"} 1
gunicorn_http_exceptions_total{method="GET",endpoint="/slow",exception="E",handled_by="nobody"} 1
"#;

    #[test]
    fn a_page_is_added_up_by_worker_and_by_endpoint() {
        let figures = Figures::of(PAGE, 1);
        assert_eq!(figures.requests, 4.0);
        assert_eq!(figures.running, 1);
        assert_eq!(figures.statuses.server_errors, 1.0);
        assert_eq!(figures.restarts["kill"], 2.0);
        assert_eq!(figures.endpoints[0].endpoint, "/");
        assert_eq!(figures.endpoints[0].statuses.all(), 3.0);
        assert_eq!(figures.exceptions.len(), 1);
        assert_eq!(figures.exceptions[0].count, 2.0);
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let durations = Figures::of(PAGE, 1).durations;
        assert_eq!(durations.bounds, [0.1, 0.5]);
        assert_eq!(durations.quantile(0.5), Some(0.1));
        assert!(
            durations
                .quantile(0.75)
                .is_some_and(|value| (value - 0.3).abs() < 1e-9)
        );
        assert_eq!(Durations::default().quantile(0.5), None);
    }

    #[test]
    fn only_the_busiest_endpoints_are_listed() {
        let lines: Vec<_> = (0..ROWS + 5)
            .map(|n| format!("gunicorn_http_requests_total{{endpoint=\"/{n}\"}} {n}"))
            .collect();
        let figures = Figures::of(&lines.join("\n"), 1);
        assert_eq!(figures.endpoints[0].endpoint, format!("/{}", ROWS + 4));
        assert_eq!((figures.endpoints.len(), figures.more_endpoints), (ROWS, 5));
    }
}

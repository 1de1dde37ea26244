//! Metrics of each worker, by its slot: a worker that replaces another in its slot continues its
//! series.

use super::bounds::{WORKER_BYTES, WORKER_SECONDS};
use super::{COUNTER, Described, GAUGE, HISTOGRAM, Page};

pub(super) const OF_WORKERS: &[&Described] = &[
    &WORKER_REQUESTS,
    &WORKER_REQUEST_DURATION,
    &WORKER_REQUEST_SIZE,
    &WORKER_RESPONSE_SIZE,
    &WORKER_FAILED_REQUESTS,
    &WORKER_ERROR_HANDLING,
    &WORKER_BUSY,
    &WORKER_THREADS,
    &WORKERS,
    &WORKER_STATE,
    &WORKER_MEMORY,
    &WORKER_CPU,
    &WORKER_UPTIME,
    &WORKER_OPEN_FILES,
    &WORKER_GC_COLLECTIONS,
    &WORKER_GC_OBJECTS,
    &WORKER_GC_SECONDS,
    &WORKER_RESTART,
    &WORKER_RESTART_COUNT,
    &MASTER_WORKER_RESTART,
    &MASTER_WORKER_RESTART_COUNT,
];

const OF_WORKER: &[&str] = &["worker_id"];
const OF_ERROR: &[&str] = &["worker_id", "method", "endpoint", "error_type"];
const OF_GENERATION: &[&str] = &["worker_id", "generation"];
const OF_END: &[&str] = &["worker_id", "reason", "restart_type"];

/// Requests.
pub const WORKER_REQUESTS: Described = Described {
    name: "gunicorn_worker_requests",
    family_type: COUNTER,
    unit: "",
    help: "Total number of requests handled by this worker",
    labels: OF_WORKER,
    bounds: &[],
    meaning: "Finished ones, and those that the worker's death cut off: all that has reached the application. \
              `worker_id` is the instance and the worker's slot, as `host:8000:0`.",
    query: "sum(rate(gunicorn_worker_requests_total[5m]))",
    page: Page::Metrics,
};
/// Durations.
pub const WORKER_REQUEST_DURATION: Described = Described {
    name: "gunicorn_worker_request_duration_seconds",
    family_type: HISTOGRAM,
    unit: "",
    help: "Request duration in seconds",
    labels: OF_WORKER,
    bounds: &WORKER_SECONDS,
    meaning: "Bounds: 0.1, 0.5, 1, 2.5, 5, 10, 30 and 60.",
    query: "histogram_quantile(0.95, sum by (le, worker_id) (rate(gunicorn_worker_request_duration_seconds_bucket[5m])))",
    page: Page::Metrics,
};
/// Bytes received.
pub const WORKER_REQUEST_SIZE: Described = Described {
    name: "gunicorn_worker_request_size_bytes",
    family_type: HISTOGRAM,
    unit: "",
    help: "Request size in bytes",
    labels: OF_WORKER,
    bounds: &WORKER_BYTES,
    meaning: "Bodies. Bounds: 1024, 4096, 16384, 65536, 262144, 1048576 and 4194304.",
    query: "sum(rate(gunicorn_worker_request_size_bytes_sum[5m]))",
    page: Page::Metrics,
};
/// Bytes sent.
pub const WORKER_RESPONSE_SIZE: Described = Described {
    name: "gunicorn_worker_response_size_bytes",
    family_type: HISTOGRAM,
    unit: "",
    help: "Response size in bytes",
    labels: OF_WORKER,
    bounds: &WORKER_BYTES,
    meaning: "Bodies. The same bounds.",
    query: "sum(rate(gunicorn_worker_response_size_bytes_sum[5m]))",
    page: Page::Metrics,
};
/// Requests that failed.
pub const WORKER_FAILED_REQUESTS: Described = Described {
    name: "gunicorn_worker_failed_requests",
    family_type: COUNTER,
    unit: "",
    help: "Total number of failed requests handled by this worker",
    labels: OF_ERROR,
    bounds: &[],
    meaning: "Unexpected exceptions: the application did not catch them, or its framework answered \
              500 in their place. `error_type` is the name of the class.",
    query: "sum by (error_type) (rate(gunicorn_worker_failed_requests_total[5m]))",
    page: Page::Metrics,
};
/// Errors that Gunicorn has answered.
pub const WORKER_ERROR_HANDLING: Described = Described {
    name: "gunicorn_worker_error_handling",
    family_type: COUNTER,
    unit: "",
    help: "Total number of errors handled by this worker",
    labels: OF_ERROR,
    bounds: &[],
    meaning: "Exceptions that became an answer: of Gunicorn (also to what it cannot read as a request), or of the \
              framework, expected ones as a 404 too.",
    query: "sum by (worker_id, error_type) (increase(gunicorn_worker_error_handling_total[1h]))",
    page: Page::Metrics,
};
/// Time with at least one request.
pub const WORKER_BUSY: Described = Described {
    name: "gunicorn_worker_busy_seconds",
    family_type: COUNTER,
    unit: "",
    help: "Seconds in which the worker had at least one request",
    labels: OF_WORKER,
    bounds: &[],
    meaning: "Its rate is the share of time in which a worker works: at 1 it has no reserve (sync workers).",
    query: "avg(rate(gunicorn_worker_busy_seconds_total[5m]))",
    page: Page::Metrics,
};
/// Threads.
pub const WORKER_THREADS: Described = Described {
    name: "gunicorn_worker_threads",
    family_type: GAUGE,
    unit: "",
    help: "Threads of the worker, by what they do: busy or idle",
    labels: &["worker_id", "state"],
    bounds: &[],
    meaning: "Of `gthread` workers.",
    query: "sum(gunicorn_worker_threads{state=\"busy\"}) / sum(gunicorn_worker_threads)",
    page: Page::Metrics,
};
/// Workers.
pub const WORKERS: Described = Described {
    name: "gunicorn_workers",
    family_type: GAUGE,
    unit: "",
    help: "Workers by what they do: starting, idle or busy",
    labels: &["state"],
    bounds: &[],
    meaning: "Starting: forked, and not yet ready for requests.",
    query: "sum by (state) (gunicorn_workers)",
    page: Page::Metrics,
};
/// States.
pub const WORKER_STATE: Described = Described {
    name: "gunicorn_worker_state",
    family_type: GAUGE,
    unit: "",
    help: "Current state of the worker (1=running, 0=stopped)",
    labels: &["worker_id", "state", "timestamp"],
    bounds: &[],
    meaning: "One series for each slot; `timestamp` is the second in which it entered that state. A stopped one is shown \
              until its slot is taken again or `ttl_seconds` have passed.",
    query: "count(gunicorn_worker_state == 1)",
    page: Page::Metrics,
};
/// Resident memory.
pub const WORKER_MEMORY: Described = Described {
    name: "gunicorn_worker_memory_bytes",
    family_type: GAUGE,
    unit: "",
    help: "Memory usage of the worker process",
    labels: OF_WORKER,
    bounds: &[],
    meaning: "Resident, with what it shares with others. Read from outside, so it is fresh when the worker is stuck.",
    query: "max by (worker_id) (gunicorn_worker_memory_bytes)",
    page: Page::Metrics,
};
/// Processor time.
pub const WORKER_CPU: Described = Described {
    name: "gunicorn_worker_cpu_percent",
    family_type: GAUGE,
    unit: "",
    help: "CPU usage of the worker process",
    labels: OF_WORKER,
    bounds: &[],
    meaning: "100 is one processor; over a second or more, from outside.",
    query: "avg_over_time(gunicorn_worker_cpu_percent[5m])",
    page: Page::Metrics,
};
/// Age.
pub const WORKER_UPTIME: Described = Described {
    name: "gunicorn_worker_uptime_seconds",
    family_type: GAUGE,
    unit: "",
    help: "Uptime of the worker process",
    labels: OF_WORKER,
    bounds: &[],
    meaning: "Since its process was forked.",
    query: "min(gunicorn_worker_uptime_seconds) < 60",
    page: Page::Metrics,
};
/// Descriptors.
pub const WORKER_OPEN_FILES: Described = Described {
    name: "gunicorn_worker_open_files",
    family_type: GAUGE,
    unit: "",
    help: "Files that the worker process has open",
    labels: OF_WORKER,
    bounds: &[],
    meaning: "Sockets and pipes too. Where the system does not let the exporter look, it is not there.",
    query: "deriv(gunicorn_worker_open_files[1h]) > 0",
    page: Page::Metrics,
};
/// Garbage collections.
pub const WORKER_GC_COLLECTIONS: Described = Described {
    name: "gunicorn_worker_gc_collections",
    family_type: COUNTER,
    unit: "",
    help: "Garbage collections, by generation",
    labels: OF_GENERATION,
    bounds: &[],
    meaning: "0 is the youngest and cheapest, 2 goes through everything.",
    query: "sum by (generation) (rate(gunicorn_worker_gc_collections_total[5m]))",
    page: Page::Metrics,
};
/// Objects that garbage collections freed.
pub const WORKER_GC_OBJECTS: Described = Described {
    name: "gunicorn_worker_gc_collected_objects",
    family_type: COUNTER,
    unit: "",
    help: "Objects that garbage collections have freed, by generation",
    labels: OF_GENERATION,
    bounds: &[],
    meaning: "Objects in reference cycles; all others are freed without a collection.",
    query: "sum by (generation) (rate(gunicorn_worker_gc_collected_objects_total[5m]))",
    page: Page::Metrics,
};
/// Time that garbage collections took.
pub const WORKER_GC_SECONDS: Described = Described {
    name: "gunicorn_worker_gc_seconds",
    family_type: COUNTER,
    unit: "",
    help: "Seconds that garbage collections have taken",
    labels: OF_WORKER,
    bounds: &[],
    meaning: "Time in which the worker did nothing else.",
    query: "sum by (worker_id) (rate(gunicorn_worker_gc_seconds_total[5m]))",
    page: Page::Metrics,
};
/// Ends of workers, by reason.
pub const WORKER_RESTART: Described = Described {
    name: "gunicorn_worker_restart",
    family_type: COUNTER,
    unit: "",
    help: "Total number of worker restarts by reason",
    labels: &["worker_id", "reason"],
    bounds: &[],
    meaning: "Every end of a worker, once: `hup`, `quit`, `int`, `term`, `ttou`, `winch`, `max_requests`, `reload`, `halt`; \
              `abort` (a timeout), `kill`, `oom` (out of memory); `boot_error`, `exit`, `unknown`, or the signal that \
              ended it (`segv`).",
    query: "sum by (reason) (increase(gunicorn_worker_restart_total[1h]))",
    page: Page::Metrics,
};
/// Ends of workers, by kind.
pub const WORKER_RESTART_COUNT: Described = Described {
    name: "gunicorn_worker_restart_count",
    family_type: COUNTER,
    unit: "",
    help: "Total number of worker restarts by worker and restart type",
    labels: OF_END,
    bounds: &[],
    meaning: "The same ends; `restart_type` is `graceful`, `forced` (`abort`, `kill`, `oom`) or `crash`.",
    query: "sum(increase(gunicorn_worker_restart_count_total{restart_type!=\"graceful\"}[10m])) > 0",
    page: Page::Metrics,
};
/// Signals to the master.
pub const MASTER_WORKER_RESTART: Described = Described {
    name: "gunicorn_master_worker_restart",
    family_type: COUNTER,
    unit: "",
    help: "Total number of Gunicorn worker restarts",
    labels: &["reason"],
    bounds: &[],
    meaning: "Signals that the arbiter got: `hup`, `usr1`, `usr2`, `ttin`, `ttou`, `chld`, `int`, `term`, `quit`, `winch`.",
    query: "increase(gunicorn_master_worker_restart_total{reason=\"hup\"}[1d])",
    page: Page::Metrics,
};
/// Ends that the master has requested.
pub const MASTER_WORKER_RESTART_COUNT: Described = Described {
    name: "gunicorn_master_worker_restart_count",
    family_type: COUNTER,
    unit: "",
    help: "Total number of worker restarts by reason and worker",
    labels: OF_END,
    bounds: &[],
    meaning: "Those ends of workers that the arbiter has requested.",
    query: "sum by (reason) (increase(gunicorn_master_worker_restart_count_total[1d]))",
    page: Page::Metrics,
};

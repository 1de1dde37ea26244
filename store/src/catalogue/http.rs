//! Requests by endpoint, of all workers together, and the queue in front of them.

use super::bounds::QUEUE_SECONDS;
use super::{COUNTER, Described, GAUGE, HISTOGRAM, Page};

pub(super) const OF_REQUESTS: &[&Described] = &[
    &HTTP_REQUESTS,
    &HTTP_REQUEST_DURATION,
    &HTTP_REQUEST_SIZE,
    &HTTP_RESPONSE_SIZE,
    &HTTP_EXCEPTIONS,
    &HTTP_REQUESTS_IN_PROGRESS,
    &HTTP_ABORTED,
    &HTTP_LONGEST_REQUEST,
    &HTTP_REQUEST_QUEUE,
    &BACKLOG_CONNECTIONS,
    &BACKLOG_LIMIT,
];

const OF_ENDPOINT: &[&str] = &["method", "endpoint"];

/// Requests that were answered.
pub const HTTP_REQUESTS: Described = Described {
    name: "gunicorn_http_requests",
    family_type: COUNTER,
    unit: "",
    help: "Requests answered, by method, endpoint and status",
    labels: &["method", "endpoint", "status"],
    bounds: &[],
    meaning: "`endpoint` is the route of the framework (`/users/<int:id>`), never a raw path: with a framework that \
              tells routes, a request without one is `<redirect>` where the answer was one (to the path with a slash), \
              and `<unmatched>` otherwise. Without such a framework the first `http.endpoint_limit` paths that were \
              answered are endpoints, and the others `<other>`; none with Redis or a `multiproc_dir`, where the paths of \
              all instances and starts together would have no bound. `method` is one of the IANA registry's, or \
              `<other>`. With `http.group_status` the status is `2xx`. WebSockets of ASGI applications are not counted; \
              one of a WSGI application is a request until its connection ends.",
    query: "sum by (endpoint) (rate(gunicorn_http_requests_total[5m]))",
    page: Page::Metrics,
};
/// Durations of answered requests.
pub const HTTP_REQUEST_DURATION: Described = Described {
    name: "gunicorn_http_request_duration_seconds",
    family_type: HISTOGRAM,
    unit: "seconds",
    help: "Seconds from the end of a request's head to the end of its response",
    labels: OF_ENDPOINT,
    bounds: &[],
    meaning: "The bounds are those of `http.buckets`. With `http.exemplars` buckets carry the trace of a request.",
    query: "histogram_quantile(0.99, sum by (le, endpoint) (rate(gunicorn_http_request_duration_seconds_bucket[5m])))",
    page: Page::Metrics,
};
/// Sizes of request bodies.
pub const HTTP_REQUEST_SIZE: Described = Described {
    name: "gunicorn_http_request_size_bytes",
    family_type: HISTOGRAM,
    unit: "bytes",
    help: "Bytes of request bodies that were read",
    labels: OF_ENDPOINT,
    bounds: &[],
    meaning: "What the application has read, not what the client has announced. The bounds are those of \
              `http.size_buckets`.",
    query: "sum by (endpoint) (rate(gunicorn_http_request_size_bytes_sum[5m]))",
    page: Page::Metrics,
};
/// Sizes of response bodies.
pub const HTTP_RESPONSE_SIZE: Described = Described {
    name: "gunicorn_http_response_size_bytes",
    family_type: HISTOGRAM,
    unit: "bytes",
    help: "Bytes of response bodies that were sent",
    labels: OF_ENDPOINT,
    bounds: &[],
    meaning: "Chunked, streamed, sent by `sendfile` or broken off: what was really sent, without headers.",
    query: "sum by (endpoint) (rate(gunicorn_http_response_size_bytes_sum[5m]))",
    page: Page::Metrics,
};
/// Exceptions, including those that the framework has answered.
pub const HTTP_EXCEPTIONS: Described = Described {
    name: "gunicorn_http_exceptions",
    family_type: COUNTER,
    unit: "",
    help: "Exceptions of requests, by who has answered them: framework or server",
    labels: &["method", "endpoint", "exception", "handled_by"],
    bounds: &[],
    meaning: "`exception` is the name of its class. Those that a framework turns into an answer are counted too, with \
              `handled_by=\"framework\"`. Not counted are the exceptions by which a framework answers \
              (`Http404`, `HTTPException`, `HTTPError`, a redirect) if the answer has a status below 400: \
              a 404 that becomes the redirect to the path with a slash is no exception. Every other \
              exception counts, whatever the answer.",
    query: "topk(5, sum by (endpoint, exception) (increase(gunicorn_http_exceptions_total[1h])))",
    page: Page::Metrics,
};
/// Requests in progress.
pub const HTTP_REQUESTS_IN_PROGRESS: Described = Described {
    name: "gunicorn_http_requests_in_progress",
    family_type: GAUGE,
    unit: "",
    help: "Requests that have begun and not ended",
    labels: &["method"],
    bounds: &[],
    meaning: "A worker that dies takes its own with it.",
    query: "sum(gunicorn_http_requests_in_progress)",
    page: Page::Metrics,
};
/// Requests that were aborted by the end of their worker.
pub const HTTP_ABORTED: Described = Described {
    name: "gunicorn_http_aborted",
    family_type: COUNTER,
    unit: "",
    help: "Requests that were cut off by the end of their worker",
    labels: &["method", "endpoint", "reason"],
    bounds: &[],
    meaning: "By a timeout, a SIGKILL, a crash. `reason` is that of `gunicorn_worker_restart_total`. `endpoint` is \
              the template of the route if it had matched, `<unmatched>` before that; without a framework that tells \
              routes, the path, one of the first `http.endpoint_limit`, or `<other>`. Of more than 4,096 requests in \
              one worker the others have `<unknown>` and `<other>` for method and endpoint. They are among \
              `gunicorn_worker_requests_total`, and not among `gunicorn_http_requests_total`, because they got no \
              response. The arbiter's error log names each such worker and its longest requests.",
    query: "sum by (endpoint, reason) (increase(gunicorn_http_aborted_total[1h])) > 0",
    page: Page::Metrics,
};
/// Age of the oldest request of a worker.
pub const HTTP_LONGEST_REQUEST: Described = Described {
    name: "gunicorn_http_longest_request_seconds",
    family_type: GAUGE,
    unit: "seconds",
    help: "Seconds since the oldest request of this worker began that has not ended",
    labels: &["worker_id"],
    bounds: &[],
    meaning: "0 while the worker has none. The exporter reads it from outside when it answers a scrape, so it grows \
              while a worker is stopped, or spins in C. `/requests` and the live page show which request it is.",
    query: "gunicorn_http_longest_request_seconds > 30",
    page: Page::Metrics,
};
/// Time that requests waited in front of the server.
pub const HTTP_REQUEST_QUEUE: Described = Described {
    name: "gunicorn_http_request_queue_seconds",
    family_type: HISTOGRAM,
    unit: "seconds",
    help: "Seconds from the X-Request-Start of a proxy to the beginning of a request",
    labels: &[],
    bounds: &QUEUE_SECONDS,
    meaning: "There only where a proxy sets that header (nginx: `proxy_set_header X-Request-Start \"t=${msec}\"`).",
    query: "histogram_quantile(0.95, sum by (le) (rate(gunicorn_http_request_queue_seconds_bucket[5m])))",
    page: Page::Metrics,
};
/// Connections that wait to be accepted.
pub const BACKLOG_CONNECTIONS: Described = Described {
    name: "gunicorn_backlog_connections",
    family_type: GAUGE,
    unit: "",
    help: "Connections that wait to be accepted",
    labels: &["listener"],
    bounds: &[],
    meaning: "Of each address that Gunicorn is bound to; on Linux. When it grows, workers are too few or too slow.",
    query: "max by (listener) (gunicorn_backlog_connections / gunicorn_backlog_limit) > 0.5",
    page: Page::Metrics,
};
/// Maximum number of waiting connections.
pub const BACKLOG_LIMIT: Described = Described {
    name: "gunicorn_backlog_limit",
    family_type: GAUGE,
    unit: "",
    help: "Connections that may wait to be accepted",
    labels: &["listener"],
    bounds: &[],
    meaning: "The smaller of Gunicorn's `backlog` and the system's `net.core.somaxconn`.",
    query: "gunicorn_backlog_connections / gunicorn_backlog_limit",
    page: Page::Metrics,
};

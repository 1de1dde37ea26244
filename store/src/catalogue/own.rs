//! Metrics of the metrics system itself.

use metrics_model::{FamilyType, GaugeMode};

use super::bounds::SCRAPE_SECONDS;
use super::{COUNTER, Described, FACT, GAUGE, HISTOGRAM, Page};

pub(super) const OF_OURSELVES: &[&Described] = &[
    &BUILD,
    &ERRORS,
    &COLLECTED_TIMESTAMP,
    &REGISTRY_INFO,
    &REJECTED_SAMPLES,
    &OWN_BUILD,
    &OWN_SCRAPES,
    &OWN_SCRAPE_DURATION,
    &OWN_PUSHES,
    &OWN_PUSH_LAG,
    &OWN_LEFT_OUT,
    &OWN_GIVEN_UP,
    &OWN_ERRORS,
    &OWN_CONNECTIONS,
    &OWN_CONNECTIONS_EVICTED,
    &OWN_LISTENING,
];

/// Versions of the package, Gunicorn and Python.
pub const BUILD: Described = Described {
    name: "gunicorn_build_info",
    family_type: FACT,
    unit: "",
    help: "Versions of what runs here; always 1",
    labels: &[
        "version",
        "gunicorn_version",
        "python_version",
        "python_implementation",
        "worker_class",
    ],
    bounds: &[],
    meaning: "`version` is that of this package.",
    query: "count by (version, gunicorn_version, python_version) (gunicorn_build_info)",
    page: Page::Metrics,
};
/// Failures in workers and the arbiter.
pub const ERRORS: Described = Described {
    name: "gunicorn_exporter_errors",
    family_type: COUNTER,
    unit: "",
    help: "Failures of the metrics system itself, by the part that met them",
    labels: &["where"],
    bounds: &[],
    meaning: "In workers and the arbiter; there when there was one. The first of each part is in Gunicorn's error log. \
              No request is affected. `declaration` is of the exporter: a metric was declared anew while live processes \
              hold another declaration. `children`: processes that a worker has started and that could make no store.",
    query: "increase(gunicorn_exporter_errors_total[1h]) > 0",
    page: Page::Metrics,
};
/// Age of the values that workers evaluate.
pub const COLLECTED_TIMESTAMP: Described = Described {
    name: "gunicorn_exporter_collected_timestamp_seconds",
    family_type: FamilyType::Gauge(GaugeMode::LiveMin),
    unit: "",
    help: "When custom collectors and functions of gauges were asked, where it is longest ago",
    labels: &[],
    bounds: &[],
    meaning: "There only where the application has custom collectors, or gauges with `set_function`. A worker evaluates \
              them once a second for five minutes after each scrape and after its start, for at most a hundredth of its \
              time; an idle one too, whatever its `timeout` is. The first page after a longer pause is held until the \
              workers have evaluated them, 1.8 s at most. With Redis, where pages are read elsewhere, workers evaluate \
              them all the time.",
    query: "time() - gunicorn_exporter_collected_timestamp_seconds",
    page: Page::Metrics,
};
/// The registry of a page.
pub const REGISTRY_INFO: Described = Described {
    name: "gunicorn_exporter_registry_info",
    family_type: FamilyType::Gauge(GaugeMode::Sum),
    unit: "",
    help: "The shared registry that this page comes from",
    labels: &["registry"],
    bounds: &[],
    meaning: "On pages of a registry in Redis; always 1. Two targets of one Prometheus that say the same count \
              everything twice.",
    query: "count by (registry) (gunicorn_exporter_registry_info) > 1",
    page: Page::Metrics,
};
/// Marks a page without a registry. It is in no list, because such a page contains nothing else.
pub const REGISTRY_MISSING: Described = Described {
    name: "gunicorn_exporter_registry_missing",
    family_type: FamilyType::Gauge(GaugeMode::Sum),
    unit: "",
    help: "There is no registry at this key of Redis: no application has pushed there yet, or exporter.redis.key_prefix \
           is another than theirs",
    labels: &["key"],
    bounds: &[],
    meaning: "1 on the page of a registry in Redis that is not there, which has nothing else. An empty registry has \
              `gunicorn_exporter_registry_info`.",
    query: "gunicorn_exporter_registry_missing == 1",
    page: Page::Metrics,
};
/// Entries that a registry has left out.
pub const REJECTED_SAMPLES: Described = Described {
    name: "metrics_rejected_samples",
    family_type: COUNTER,
    unit: "",
    help: "Entries of batches that the registry left out, by reason.",
    labels: &["reason"],
    bounds: &[],
    meaning: "By a limit of the module (`max_series`, `max_label_bytes`), or because two processes say different things \
              of one name (`conflict`); there when there was one.",
    query: "increase(metrics_rejected_samples_total[1h]) > 0",
    page: Page::Metrics,
};
/// The version of an exporter.
pub const OWN_BUILD: Described = Described {
    name: "gunicorn_exporter_build",
    family_type: FamilyType::Info,
    unit: "",
    help: "Version of the exporter",
    labels: &["version"],
    bounds: &[],
    meaning: "Always 1.",
    query: "count by (version) (gunicorn_exporter_build_info)",
    page: Page::Own,
};
/// Scrapes.
pub const OWN_SCRAPES: Described = Described {
    name: "gunicorn_exporter_scrapes",
    family_type: COUNTER,
    unit: "",
    help: "Scrapes answered",
    labels: &["path", "result"],
    bounds: &[],
    meaning: "`result` is `complete`; `unavailable`, answered 503, as while Redis is away; or `broken_off`, it failed or \
              the scraper left after the first page.",
    query: "sum by (result) (rate(gunicorn_exporter_scrapes_total[5m]))",
    page: Page::Own,
};
/// Durations of scrapes.
pub const OWN_SCRAPE_DURATION: Described = Described {
    name: "gunicorn_exporter_scrape_duration_seconds",
    family_type: HISTOGRAM,
    unit: "seconds",
    help: "Time from a request to the end of its page",
    labels: &[],
    bounds: &SCRAPE_SECONDS,
    meaning: "With the push that goes before it.",
    query: "histogram_quantile(0.99, rate(gunicorn_exporter_scrape_duration_seconds_bucket[5m]))",
    page: Page::Own,
};
/// Batches sent to the shared registry.
pub const OWN_PUSHES: Described = Described {
    name: "gunicorn_exporter_pushes",
    family_type: COUNTER,
    unit: "",
    help: "Batches sent, by the registry's answer",
    labels: &["status"],
    bounds: &[],
    meaning: "`ok`; `dup`, it had arrived before; `resync`, `gone` and `forgotten`, the registry asks for everything \
              anew; `failed`, there was no answer. Of an instance with Redis.",
    query: "rate(gunicorn_exporter_pushes_total{status=\"failed\"}[5m]) > 0",
    page: Page::Own,
};
/// How far the shared registry is behind.
pub const OWN_PUSH_LAG: Described = Described {
    name: "gunicorn_exporter_push_lag_seconds",
    family_type: GAUGE,
    unit: "seconds",
    help: "Age of the oldest change that the shared registry has not acknowledged",
    labels: &[],
    bounds: &[],
    meaning: "Of an instance with Redis. It grows while Redis is away; nothing is lost then.",
    query: "gunicorn_exporter_push_lag_seconds > 60",
    page: Page::Own,
};
/// Series that the shared registry leaves out.
pub const OWN_LEFT_OUT: Described = Described {
    name: "gunicorn_exporter_left_out_series",
    family_type: GAUGE,
    unit: "",
    help: "Series of workers that the shared registry leaves out",
    labels: &[],
    bounds: &[],
    meaning: "Redis is at `maxmemory`, the registry at `metrics.max-series`, or a name or a label is refused:               `METRICS.INFO` counts the reasons. Nothing is lost: the exporter sends the values again until they are               accepted, also those of workers that have ended. Of an instance with Redis.",
    query: "gunicorn_exporter_left_out_series > 0",
    page: Page::Own,
};
/// Values that are lost.
pub const OWN_GIVEN_UP: Described = Described {
    name: "gunicorn_exporter_given_up_series",
    family_type: COUNTER,
    unit: "",
    help: "Series of ended workers whose last values are lost",
    labels: &["registry"],
    bounds: &[],
    meaning: "`shared`: the shared registry left them out until the instance ended; `instance`: the instance's own \
              registry refuses a name or a label. The first is in the exporter's log.",
    query: "increase(gunicorn_exporter_given_up_series_total[1h]) > 0",
    page: Page::Own,
};
/// Failures in an exporter.
pub const OWN_ERRORS: Described = Described {
    name: "gunicorn_exporter_errors",
    family_type: COUNTER,
    unit: "",
    help: "Errors, by where they happened",
    labels: &["where"],
    bounds: &[],
    meaning: "In the exporter, there when there was one; each is in its log.",
    query: "increase(gunicorn_exporter_errors_total[1h]) > 0",
    page: Page::Own,
};
/// Open connections.
pub const OWN_CONNECTIONS: Described = Described {
    name: "gunicorn_exporter_connections",
    family_type: GAUGE,
    unit: "",
    help: "Open connections of scrapers",
    labels: &[],
    bounds: &[],
    meaning: "Browsers that show the live page are among them.",
    query: "max_over_time(gunicorn_exporter_connections[1h])",
    page: Page::Own,
};
/// Evicted connections.
pub const OWN_CONNECTIONS_EVICTED: Described = Described {
    name: "gunicorn_exporter_connections_evicted",
    family_type: COUNTER,
    unit: "",
    help: "Connections ended early to make room for others",
    labels: &[],
    bounds: &[],
    meaning: "There is a bound to how many there may be; the one that was silent longest goes.",
    query: "increase(gunicorn_exporter_connections_evicted_total[1h]) > 0",
    page: Page::Own,
};
/// Whether the port is bound.
pub const OWN_LISTENING: Described = Described {
    name: "gunicorn_exporter_listening",
    family_type: GAUGE,
    unit: "",
    help: "Whether the port of the metrics is ours",
    labels: &[],
    bounds: &[],
    meaning: "0 while another process holds it. With Redis, pushes continue meanwhile.",
    query: "gunicorn_exporter_listening == 0",
    page: Page::Own,
};

//! The exporter's own metrics, which it serves at `/-/metrics`, also without Redis.

use std::time::Duration;

use metrics_model::PushStatus;
use metrics_store::catalogue::{
    Described, OWN_BUILD, OWN_CONNECTIONS, OWN_CONNECTIONS_EVICTED, OWN_ERRORS, OWN_GIVEN_UP,
    OWN_LEFT_OUT, OWN_LISTENING, OWN_PUSH_LAG, OWN_PUSHES, OWN_SCRAPE_DURATION, OWN_SCRAPES,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};
use std::sync::atomic::AtomicU64;

/// Counts of this process since its start.
#[derive(Debug)]
pub struct OwnMetrics {
    registry: Registry,
    scrapes: Family<ScrapeLabels, Counter>,
    scrape_seconds: Histogram,
    pushes: Family<PushLabels, Counter>,
    push_lag_seconds: Gauge<f64, AtomicU64>,
    left_out: Gauge,
    given_up: Family<GivenUpLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    connections: Gauge,
    made_room: Counter,
    listening: Gauge,
}

/// The end of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrapeResult {
    /// The page is complete.
    Complete,
    /// There was no page: the response was 503.
    Unavailable,
    /// It failed, or the scraper disconnected, after the first page.
    BrokenOff,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScrapeLabels {
    path: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PushLabels {
    status: &'static str,
}

/// The registry that does not accept the lost values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUpBy {
    /// That of the instance.
    Instance,
    /// The shared registry.
    Shared,
}

impl GivenUpBy {
    /// Returns the reason, as the end of a sentence.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Instance => "this instance's registry does not accept them",
            Self::Shared => {
                "the shared registry does not have them and the instance ends, or more are not kept"
            }
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Shared => "shared",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GivenUpLabels {
    registry: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    r#where: &'static str,
}

impl OwnMetrics {
    /// Returns metrics that are all zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let scrapes = Family::default();
        let bounds = OWN_SCRAPE_DURATION.bounds.iter();
        let scrape_seconds = Histogram::new(bounds.filter_map(|bound| bound.parse().ok()));
        let pushes = Family::default();
        let push_lag_seconds = Gauge::default();
        let left_out = Gauge::default();
        let given_up = Family::<GivenUpLabels, Counter>::default();
        for registry in [GivenUpBy::Instance, GivenUpBy::Shared] {
            let registry = registry.word();
            drop(given_up.get_or_create(&GivenUpLabels { registry }));
        }
        let errors = Family::default();
        let connections = Gauge::default();
        let made_room = Counter::default();
        let listening = Gauge::default();
        register(&mut registry, &OWN_BUILD, version);
        register(&mut registry, &OWN_SCRAPES, scrapes.clone());
        register(&mut registry, &OWN_SCRAPE_DURATION, scrape_seconds.clone());
        register(&mut registry, &OWN_PUSHES, pushes.clone());
        register(&mut registry, &OWN_PUSH_LAG, push_lag_seconds.clone());
        register(&mut registry, &OWN_LEFT_OUT, left_out.clone());
        register(&mut registry, &OWN_GIVEN_UP, given_up.clone());
        register(&mut registry, &OWN_ERRORS, errors.clone());
        register(&mut registry, &OWN_CONNECTIONS, connections.clone());
        register(&mut registry, &OWN_CONNECTIONS_EVICTED, made_room.clone());
        register(&mut registry, &OWN_LISTENING, listening.clone());
        Self {
            registry,
            scrapes,
            scrape_seconds,
            pushes,
            push_lag_seconds,
            left_out,
            given_up,
            errors,
            connections,
            made_room,
            listening,
        }
    }

    /// Renders the page in `OpenMetrics` 1.0.0.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        encode(&mut page, &self.registry)?;
        Ok(page)
    }

    /// Counts a finished scrape of `path`.
    pub fn scraped(&self, path: &'static str, result: ScrapeResult, took: Duration) {
        let result = match result {
            ScrapeResult::Complete => "complete",
            ScrapeResult::Unavailable => "unavailable",
            ScrapeResult::BrokenOff => "broken_off",
        };
        self.scrapes
            .get_or_create(&ScrapeLabels { path, result })
            .inc();
        self.scrape_seconds.observe(took.as_secs_f64());
    }

    /// Counts an answer of the shared registry to a batch or a LEAVE.
    pub fn pushed(&self, status: PushStatus) {
        let status = match status {
            PushStatus::Ok => "ok",
            PushStatus::Dup => "dup",
            PushStatus::Resync => "resync",
            PushStatus::Gone => "gone",
            PushStatus::Forgotten => "forgotten",
        };
        self.pushes.get_or_create(&PushLabels { status }).inc();
    }

    /// Counts a batch without an answer.
    pub fn push_failed(&self) {
        self.pushes
            .get_or_create(&PushLabels { status: "failed" })
            .inc();
    }

    /// Sets the age of the oldest change that the shared registry lacks.
    pub fn set_push_lag(&self, lag: Duration) {
        self.push_lag_seconds.set(lag.as_secs_f64());
    }

    /// Sets the number of series that the shared registry has left out.
    pub fn set_left_out(&self, series: usize) {
        self.left_out.set(i64::try_from(series).unwrap_or(i64::MAX));
    }

    /// Counts series whose values are lost; returns whether these are the first for that registry.
    pub fn gave_up(&self, registry: GivenUpBy, series: usize) -> bool {
        let registry = registry.word();
        let given_up = self.given_up.get_or_create(&GivenUpLabels { registry });
        given_up.inc_by(series as u64) == 0
    }

    /// Counts a failure other than of a scrape or a push.
    pub fn failed(&self, r#where: &'static str) {
        self.errors.get_or_create(&ErrorLabels { r#where }).inc();
    }

    /// Sets whether the port is bound.
    pub fn set_listening(&self, listening: bool) {
        self.listening.set(i64::from(listening));
    }

    /// Counts an open connection.
    pub fn connected(&self) {
        self.connections.inc();
    }

    /// Counts a connection that was closed to make room for others.
    pub fn made_room(&self) {
        self.made_room.inc();
    }

    /// Counts a connection that has ended.
    pub fn disconnected(&self) {
        self.connections.dec();
    }
}

fn register(registry: &mut Registry, family: &Described, metric: impl Metric) {
    match family.name.strip_suffix(family.unit) {
        // The encoder appends the unit to the name.
        Some(stem) if !family.unit.is_empty() => {
            let unit = Unit::Other(family.unit.to_owned());
            registry.register_with_unit(stem.trim_end_matches('_'), family.help, unit, metric);
        }
        _ => registry.register(family.name, family.help, metric),
    }
}

impl Default for OwnMetrics {
    fn default() -> Self {
        Self::new()
    }
}

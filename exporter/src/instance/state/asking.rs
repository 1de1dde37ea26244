//! Values that workers evaluate only while pages are read: gauges with a function, custom collectors.
//!
//! A worker looks once a second how many scrapes there have been, and evaluates for five minutes after
//! the last one. So the first scrape after a longer pause finds values from before it. That scrape is
//! held until the workers have evaluated them, which takes a second; all later ones find them ready.
//!
//! Pages of a registry in Redis are read where the exporter of this instance cannot see it: then its
//! workers evaluate all the time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use metrics_store::{Counter, Role};

use super::{Life, State};
use crate::instance::now_ms;

/// After so long without a scrape, workers may have stopped evaluating; a little less than they go on.
const PAUSE: Duration = Duration::from_secs(4 * 60 + 50);
/// Longest time that a page is held: workers look once a second, and a sidecar sees them a flush later.
const HOLD: Duration = Duration::from_millis(1_800);
/// Values that are younger than this are shown.
const FRESH: f64 = 1.5;

/// When pages were read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// When they began to be, after a pause or for the first time.
    since: Cell<Option<Instant>>,
    last: Cell<Option<Instant>>,
}

impl State {
    /// A scrape is going to be answered: workers evaluate what it asks for.
    pub(crate) fn scraped(&self, now: Instant) {
        let last = self.reading.last.replace(Some(now));
        if last.is_none_or(|last| now.saturating_duration_since(last) > PAUSE) {
            self.reading.since.set(Some(now));
        }
        self.control.count(Counter::Scrapes);
        self.mark_scraped();
    }

    /// Whether a page that is asked for now should wait a moment for values that are old.
    pub(crate) fn awaits_values(&self, now: Instant) -> bool {
        let since = self.reading.since.get();
        if since.is_none_or(|since| now.saturating_duration_since(since) >= HOLD) {
            return false;
        }
        let oldest = now_ms() as f64 / 1e3 - FRESH;
        let inner = self.inner.borrow();
        let mut workers = inner
            .writers
            .values()
            .filter(|entry| entry.life == Life::Live && entry.writer.role() == Role::Worker);
        workers.any(|entry| entry.writer.collected_at().is_some_and(|at| at < oldest))
    }
}

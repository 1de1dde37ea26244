//! Values that workers evaluate only while pages are read: gauges with a function, custom
//! collectors.
//!
//! A worker checks once a second how many scrapes there have been, and evaluates for five minutes
//! after the last one. So the first scrape after a longer pause finds old values. The exporter
//! holds that scrape until the workers have evaluated them, which takes a second; later scrapes
//! find them ready.
//!
//! The exporter of an instance cannot see when pages of a registry in Redis are read, so its
//! workers then evaluate all the time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use metrics_store::{Counter, Role};

use super::{Life, State};
use crate::clock::now_ms;
use crate::refresh::{RefreshRequest, WaitingScrapes};

/// Time without a scrape after which workers may have stopped evaluating; a little less than they
/// continue.
const PAUSE: Duration = Duration::from_secs(4 * 60 + 50);
/// Maximum time that a page is held: workers check once a second, and a sidecar sees the values a
/// flush later.
const HOLD: Duration = Duration::from_millis(1_800);
/// Maximum age of values that are shown at once, in seconds.
const FRESH: f64 = 1.5;

/// Times at which pages were read.
#[derive(Debug, Default)]
pub(super) struct PageReads {
    /// Start of the present period of reading.
    since: Cell<Option<Instant>>,
    last: Cell<Option<Instant>>,
}

impl State {
    /// Flushes once for `first` and all scrapes that wait by now. Returns those that are ready to be
    /// answered, and holds the others.
    pub fn flush_for(
        &self,
        scrapes: &mut WaitingScrapes,
        first: Option<RefreshRequest>,
    ) -> Vec<RefreshRequest> {
        let now = Instant::now();
        let asking = scrapes.asking(first);
        if !asking.is_empty() {
            self.scraped(now);
        }
        self.flush();
        scrapes.ready(asking, self.awaits_values(now))
    }

    /// Notes that a scrape will be answered: workers evaluate what it needs.
    pub fn scraped(&self, now: Instant) {
        let last = self.reading.last.replace(Some(now));
        if last.is_none_or(|last| now.saturating_duration_since(last) > PAUSE) {
            self.reading.since.set(Some(now));
        }
        self.control.count(Counter::Scrapes);
        self.mark_scraped();
    }

    /// Returns whether a page that is requested now should wait a moment for old values.
    fn awaits_values(&self, now: Instant) -> bool {
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

//! The exporter's own store, with its figures of the workers.

use std::os::fd::OwnedFd;

use metrics_store::{Role, monotonic_ns};

use super::{Entry, Inner, Life, ProcessWatch, State};
use crate::clock::now_ms;
use crate::figures::Figures;

impl State {
    /// Continues in a new store for figures; the old one leaves. The newest counts, whichever
    /// arbiter has made it.
    pub(super) fn open_own(&self, inner: &mut Inner, number: u64, file: &OwnedFd) {
        let before = inner.figures.take();
        let old = before.as_ref().map(|(number, _)| *number);
        let opened = match before {
            Some((_, figures)) => figures.move_to(file, &self.facts),
            None => Figures::open(file, &self.facts),
        };
        match opened {
            Ok(figures) => inner.figures = Some((number, figures)),
            Err(error) => self.report("figures", number, &error),
        }
        inner.has_asked_for_store = false;
        if let Some(entry) = old.and_then(|old| inner.writers.get_mut(&old))
            && entry.life == Life::Live
        {
            entry.life = Life::Ended;
        }
        // The new store has to include them again.
        for entry in inner.writers.values_mut() {
            entry.is_in_figures = false;
        }
    }

    /// Returns whether to request another store; true once.
    pub fn needs_store(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        let is_mostly_retired =
            matches!(&inner.figures, Some((_, figures)) if figures.is_mostly_retired());
        is_mostly_retired && !std::mem::replace(&mut inner.has_asked_for_store, true)
    }

    /// Writes into the exporter's own store which workers have stopped, and how the others are.
    pub(super) fn keep_figures(&self, inner: &mut Inner) {
        let Some((_, figures)) = &mut inner.figures else {
            return;
        };
        let is_worker = |entry: &&Entry| entry.writer.role() == Role::Worker;
        for (&number, entry) in &inner.writers {
            let is_own = entry.watched != ProcessWatch::ByFile;
            if entry.life != Life::Ended || !is_worker(&entry) || !is_own {
                continue;
            }
            let name = entry.writer.name();
            let mut others = inner.writers.values().filter(is_worker);
            let is_replaced =
                others.any(|other| other.life == Life::Live && other.writer.name() == name);
            if !is_replaced && let Err(error) = figures.worker_stopped(name, now_ms() / 1000) {
                self.report("figures", number, &error);
            }
        }
        let live = inner.writers.values().filter(is_worker);
        let live = live.filter(|entry| entry.life == Life::Live);
        let now_ns = monotonic_ns();
        for entry in live.clone().filter(|entry| entry.is_own()) {
            let longest = entry.writer.longest_request(now_ns);
            figures.show_longest(entry.writer.name(), longest);
        }
        figures.measure(live.map(|entry| entry.writer.activity()));
    }
}

//! The state of an exporter process: the writers of its instance, and the progress of each.
//!
//! Both tasks of the process use it, one after the other: no borrow outlives a call, and no call
//! waits.

mod asking;
mod beginning;
mod carrying_over;
mod committing;
mod comparing;
mod entry;
mod files;
mod measuring;
mod overview;
mod shared;

pub use beginning::Beginning;
pub use carrying_over::CarryOverStore;
pub(crate) use entry::{Entry, Life, ProcessWatch};
pub(crate) use files::FilesBoot;
pub use overview::{LoggedDeath, Overview, OverviewRequests, Overviews, RunningRequest, overviews};
pub(crate) use shared::FinalLeave;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use metrics_settings::InFlight;
use metrics_store::{Control, Facts, NewStore, Process, Role, Snapshots, StoreReader};
use tokio::sync::{Notify, mpsc};

use crate::embedded::EmbeddedRegistry;
use crate::error::StartError;
use crate::figures::Figures;
use crate::own_metrics::{GivenUpBy, OwnMetrics};
use crate::stores::{Writer, WriterOptions};
use crate::watch::watch;
use files::{Files, Role as DirectoryRole};

/// The state of an exporter process; see the [module](self).
pub struct State {
    /// The registry of this instance.
    pub registry: EmbeddedRegistry,
    /// The exporter's own metrics.
    pub own: Arc<OwnMetrics>,
    /// Signals that a writer has left the shared registry.
    pub settled: Notify,
    /// The directory, in file mode.
    pub(super) files: Option<RefCell<Files>>,
    pub(super) control: Control,
    facts: Facts,
    snapshots: Snapshots,
    pub(super) options: WriterOptions,
    /// What is shown of requests in progress.
    pub(super) in_flight: InFlight,
    ended: mpsc::UnboundedSender<u64>,
    pub(super) inner: RefCell<Inner>,
    reading: asking::PageReads,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct Inner {
    pub(super) writers: BTreeMap<u64, Entry>,
    /// The exporter's own store, with its number.
    figures: Option<(u64, Figures)>,
    has_asked_for_store: bool,
    /// A carry-over store that the arbiter has not confirmed yet, and the stores that it replaces.
    /// Until then neither sends anything to the shared registry.
    carry_over: Option<(u64, Vec<u64>)>,
    pub(super) has_new_series: bool,
    committed_at: Option<Instant>,
    /// Whether it was logged that the registry cannot be committed.
    is_commit_refused: bool,
    /// Whether a module was found that is older than this exporter.
    has_old_module: bool,
    comparing: comparing::DeclarationCheck,
}

impl Inner {
    /// Makes the next commit due now.
    pub(super) fn commit_soon(&mut self) {
        self.has_new_series = true;
        self.committed_at = None;
    }
}

impl State {
    /// Continues from the exporter before: with the newest snapshot, or an empty registry. Values
    /// also go to a shared registry of `shards` keys; 0 if there is none.
    pub fn new(
        beginning: Beginning,
        shards: usize,
        ended: mpsc::UnboundedSender<u64>,
    ) -> Result<Self, StartError> {
        let own = Arc::new(OwnMetrics::new());
        let kept = beginning
            .files
            .as_ref()
            .map(|files| (files.role, files.read_snapshot()));
        let (snapshot, generation) = match kept {
            Some((DirectoryRole::Reader, Some((generation, snapshot)))) => {
                (Some(snapshot), generation)
            }
            Some((DirectoryRole::Reader, None)) => (None, 0),
            _ => (beginning.snapshots.read()?, 0),
        };
        let registry = committing::open_registry(snapshot.as_deref(), &own)?;
        let options = WriterOptions {
            instance: beginning.instance,
            ttl_ms: beginning.settings.redis.ttl_seconds * 1000,
            shards,
        };
        let registry = EmbeddedRegistry::new(Arc::new(Mutex::new(registry)));
        let (settings, control) = (&beginning.settings, &beginning.control);
        let files = beginning
            .files
            .map(|files| Files::new(files, generation, &registry, settings, control));
        let state = Self {
            registry,
            own,
            settled: Notify::new(),
            files,
            control: beginning.control,
            facts: beginning.facts,
            snapshots: beginning.snapshots,
            in_flight: beginning.settings.http.in_flight,
            options,
            ended,
            inner: RefCell::new(Inner {
                writers: BTreeMap::new(),
                figures: None,
                has_asked_for_store: false,
                carry_over: None,
                has_new_series: false,
                committed_at: None,
                is_commit_refused: false,
                has_old_module: false,
                comparing: comparing::DeclarationCheck::default(),
            }),
            reading: asking::PageReads::default(),
        };
        Ok(state)
    }

    /// Begins to read a store.
    pub fn open(&self, store: &NewStore, file: OwnedFd) {
        let number = store.number;
        let mut inner = self.inner.borrow_mut();
        if inner.writers.contains_key(&number) {
            return;
        }
        self.forget_copy_of(&mut inner, number);
        if store.role == Role::Exporter {
            self.open_own(&mut inner, number, &file);
        }
        let reader = match StoreReader::open(file) {
            Ok(reader) => reader,
            Err(error) => return self.report("store", number, &error),
        };
        if let Some((_, replaced)) = inner
            .carry_over
            .take_if(|(carry_over, _)| *carry_over == number)
        {
            inner.writers.retain(|number, _| !replaced.contains(number));
        }
        let writer = Writer::new(reader, store.process, &self.options);
        let mut entry = Entry::new(writer, ProcessWatch::No);
        if store.role == Role::CarryOver {
            // This instance's registry already has its values.
            entry.life = Life::Committed;
        } else if entry
            .writer
            .process()
            .is_some_and(|process| !process.is_alive())
        {
            // It may have left the shared registry, where only a living writer comes back.
            entry.life = Life::Ended;
        }
        inner.writers.insert(number, entry);
        inner.has_new_series = true;
    }

    /// Notes that a writer's process has ended.
    pub fn ended(&self, number: u64) {
        if let Some(entry) = self.inner.borrow_mut().writers.get_mut(&number)
            && entry.life == Life::Live
        {
            entry.life = Life::Ended;
        }
    }

    /// Returns whether a writer has ended and was not folded yet. A failed one is tried again with
    /// the next flush, not at once.
    pub fn has_ended(&self) -> bool {
        let inner = self.inner.borrow();
        let mut writers = inner.writers.values();
        writers.any(|entry| entry.life == Life::Ended && !entry.was_refused)
    }

    /// Looks for ends that were not reported.
    pub fn find_ended(&self) {
        for entry in self.inner.borrow_mut().writers.values_mut() {
            let is_over = |process: Process| !process.is_alive();
            if entry.is_own()
                && entry.life == Life::Live
                && entry.writer.process().is_some_and(is_over)
            {
                entry.life = Life::Ended;
            }
        }
    }

    /// Returns whether any writer in these roles still runs.
    pub fn any_alive(&self, roles: &[Role]) -> bool {
        let inner = self.inner.borrow();
        inner.writers.values().any(|entry| {
            entry.is_own()
                && entry.life == Life::Live
                && roles.contains(&entry.writer.role())
                && entry.writer.process().is_some_and(Process::is_alive)
        })
    }

    /// Notes that the instance ends: none of its processes writes any more, including this one.
    /// Other instances whose copies are read here continue.
    pub fn all_ended(&self) {
        for entry in self.inner.borrow_mut().writers.values_mut() {
            if entry.is_own() && entry.life == Life::Live {
                entry.life = Life::Ended;
            }
        }
    }

    /// Brings the content of all stores into this instance's registry, and commits it if a writer
    /// has ended.
    pub fn flush(&self) {
        self.scan();
        self.flush_writers();
        self.flush_db_files();
        self.registry.settle();
        self.publish();
    }

    fn flush_writers(&self) {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        for (&number, entry) in &mut inner.writers {
            if entry.life == Life::Live {
                let figures = inner.figures.as_mut().map(|(_, figures)| figures);
                self.look_after(number, entry, figures);
            }
        }
        self.keep_figures(inner);
        // The exporter's own store is one of them, and contains the new findings.
        for (&number, entry) in &mut inner.writers {
            if matches!(entry.life, Life::Live | Life::Ended) {
                inner.has_new_series |= self.flush_writer(number, entry);
            }
        }
        self.compare_local(inner);
        self.commit(inner);
    }

    /// Returns the finished writers, and forgets them.
    pub fn settle(&self) -> Vec<u64> {
        let mut inner = self.inner.borrow_mut();
        let delivers = self.delivers();
        let is_over = |entry: &Entry| {
            entry.life == Life::Committed
                && entry.writer.has_left_shared()
                && (entry.is_delivered || !delivers)
        };
        let over = inner.writers.extract_if(.., |_, entry| is_over(entry));
        let over = over.map(|(number, _)| number).collect();
        drop(inner);
        self.remove_files(over)
    }

    /// Notices a writer's start and, if the system does not report it, its end.
    fn look_after(&self, number: u64, entry: &mut Entry, figures: Option<&mut Figures>) {
        let Some(process) = entry.writer.process() else {
            return;
        };
        let is_asked = matches!(entry.watched, ProcessWatch::No | ProcessWatch::ByAsking);
        if is_asked && !process.is_alive() {
            entry.life = Life::Ended;
            // The end that the exporter before may have noted stays, with its second.
            return;
        }
        if entry.watched == ProcessWatch::No {
            entry.watched = if watch(process, number, self.ended.clone()) {
                ProcessWatch::BySystem
            } else {
                ProcessWatch::ByAsking
            };
        }
        if let (Role::Worker, false, Some(figures)) =
            (entry.writer.role(), entry.is_in_figures, figures)
        {
            entry.is_in_figures = true;
            if let Err(error) = figures.worker_started(entry.writer.name(), process) {
                self.report("figures", number, &error);
            }
        }
    }

    fn flush_writer(&self, number: u64, entry: &mut Entry) -> bool {
        let has_new = entry.writer.refresh().unwrap_or_else(|error| {
            self.report("store", number, &error);
            false
        });
        let flushed = if entry.life == Life::Ended {
            entry.writer.read_again();
            entry.writer.count_aborted();
            let left = entry.writer.leave_local(&self.registry);
            left.map(|given_up| self.give_up_series(GivenUpBy::Instance, given_up))
        } else {
            entry.writer.flush_local(&self.registry)
        };
        match flushed {
            Ok(()) if entry.life == Life::Ended => entry.life = Life::Folded,
            // The readers of copies know nothing of records that are used again.
            Ok(()) if self.files.is_none() => entry.writer.release_removed(),
            Ok(()) => {}
            Err(error) => {
                entry.was_refused = true;
                self.report("registry", number, &error);
            }
        }
        has_new
    }

    /// Notes that values of so many series are lost: counts them, and logs it once.
    pub(super) fn give_up_series(&self, registry: GivenUpBy, series: usize) {
        if series > 0 && self.own.gave_up(registry, series) {
            let reason = registry.reason();
            tracing::warn!(
                "the last values of {series} series of workers that have ended are given up, because {reason}; \
                 further ones are only counted (gunicorn_exporter_given_up_series_total)"
            );
        }
    }

    pub(super) fn report(&self, r#where: &'static str, number: u64, error: &dyn std::fmt::Display) {
        tracing::error!("store {number}: {error}");
        self.own.failed(r#where);
    }
}

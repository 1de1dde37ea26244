//! The state of an exporter process: the writers of its instance, and the progress of each.
//!
//! Both tasks of the process use it, one after the other: no borrow outlives a call, and no call
//! waits.

mod asking;
mod beginning;
mod committing;
mod comparing;
mod files;
mod passing_on;
mod shared;

pub use beginning::Beginning;
pub(crate) use files::FilesBoot;
pub use passing_on::CarryOverStore;
pub(crate) use shared::FinalLeave;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use metrics_store::{Control, Facts, NewStore, Process, Role, Snapshots, StoreReader};
use tokio::sync::{Notify, mpsc};

use crate::clock::now_ms;
use crate::embedded::Embedded;
use crate::error::StartError;
use crate::figures::Figures;
use crate::own_metrics::{GivenUpBy, OwnMetrics};
use crate::stores::{Writer, WriterOptions};
use crate::watch::watch;
use files::{Files, Role as DirectoryRole};

/// The state of an exporter process; see the [module](self).
pub struct State {
    /// The registry of this instance.
    pub registry: Embedded,
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
    ended: mpsc::UnboundedSender<u64>,
    pub(super) inner: RefCell<Inner>,
    reading: asking::Reading,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct Inner {
    pub(super) writers: BTreeMap<u64, Entry>,
    /// The exporter's own store, with its number.
    figures: Option<(u64, Figures)>,
    has_asked_for_store: bool,
    /// A carry-over store that the arbiter has not confirmed yet, and the stores that it replaces.
    /// Until then neither sends anything to the shared registry.
    heir: Option<(u64, Vec<u64>)>,
    pub(super) has_new_series: bool,
    committed_at: Option<Instant>,
    /// Whether it was logged that the registry cannot be committed.
    is_commit_refused: bool,
    /// Whether a module was found that is older than this exporter.
    has_old_module: bool,
    comparing: comparing::Comparing,
}

impl Inner {
    /// Makes the next commit due now.
    pub(super) fn commit_soon(&mut self) {
        self.has_new_series = true;
        self.committed_at = None;
    }
}

pub(super) struct Entry {
    pub(super) writer: Writer,
    pub(super) life: Life,
    pub(super) watched: Watched,
    /// Whether the figures include it.
    is_told_of: bool,
    /// Whether this instance's registry refused its last values.
    was_refused: bool,
    /// File mode: whether the reader of the directory has its last copy.
    pub(super) is_delivered: bool,
}

/// The progress of a writer. The next exporter repeats a step that it does not know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Its process runs, or has not started.
    Live,
    /// Its process has ended.
    Ended,
    /// Its last values are in this instance's registry, which it has left.
    Folded,
    /// That registry is committed.
    Committed,
}

/// How the end of its process is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// Not yet: no process has adopted the store.
    No,
    /// The system reports it.
    BySystem,
    /// The exporter checks it at each flush.
    ByAsking,
    /// By its copy in the directory: the process may be in another pid namespace (see `files.rs`).
    ByFile,
}

impl Entry {
    pub(super) fn new(writer: Writer, watched: Watched) -> Self {
        Self {
            writer,
            life: Life::Live,
            watched,
            is_told_of: false,
            was_refused: false,
            is_delivered: false,
        }
    }

    /// Returns whether it belongs to this instance: the arbiter has announced it.
    fn is_own(&self) -> bool {
        self.watched != Watched::ByFile
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
        let registry = Embedded::new(Arc::new(Mutex::new(registry)));
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
            options,
            ended,
            inner: RefCell::new(Inner {
                writers: BTreeMap::new(),
                figures: None,
                has_asked_for_store: false,
                heir: None,
                has_new_series: false,
                committed_at: None,
                is_commit_refused: false,
                has_old_module: false,
                comparing: comparing::Comparing::default(),
            }),
            reading: asking::Reading::default(),
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
        self.told_of(&mut inner, number);
        if store.role == Role::Exporter {
            self.open_own(&mut inner, number, &file);
        }
        let reader = match StoreReader::open(file) {
            Ok(reader) => reader,
            Err(error) => return self.report("store", number, &error),
        };
        if let Some((_, replaced)) = inner.heir.take_if(|(heir, _)| *heir == number) {
            inner.writers.retain(|number, _| !replaced.contains(number));
        }
        let writer = Writer::new(reader, store.process, &self.options);
        let mut entry = Entry::new(writer, Watched::No);
        if store.role == Role::Heir {
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

    /// Continues in a new store for figures; the old one leaves. The newest counts, whichever
    /// arbiter has made it.
    fn open_own(&self, inner: &mut Inner, number: u64, file: &OwnedFd) {
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
            entry.is_told_of = false;
        }
    }

    /// Returns whether to request another store; true once.
    pub fn needs_store(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        let is_worn = matches!(&inner.figures, Some((_, figures)) if figures.is_worn());
        is_worn && !std::mem::replace(&mut inner.has_asked_for_store, true)
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
        let is_asked = matches!(entry.watched, Watched::No | Watched::ByAsking);
        if is_asked && !process.is_alive() {
            entry.life = Life::Ended;
            // The end that the exporter before may have noted stays, with its second.
            return;
        }
        if entry.watched == Watched::No {
            entry.watched = if watch(process, number, self.ended.clone()) {
                Watched::BySystem
            } else {
                Watched::ByAsking
            };
        }
        if let (Role::Worker, false, Some(figures)) =
            (entry.writer.role(), entry.is_told_of, figures)
        {
            entry.is_told_of = true;
            if let Err(error) = figures.worker_started(entry.writer.name(), process) {
                self.report("figures", number, &error);
            }
        }
    }

    /// Writes into the exporter's own store which workers have stopped, and how the others are.
    fn keep_figures(&self, inner: &mut Inner) {
        let Some((_, figures)) = &mut inner.figures else {
            return;
        };
        let is_worker = |entry: &&Entry| entry.writer.role() == Role::Worker;
        for (&number, entry) in &inner.writers {
            let is_own = entry.watched != Watched::ByFile;
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
        figures.measure(live.map(|entry| entry.writer.activity()));
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

//! The arbiter's side of an instance: its control memory, its workers' stores, and the exporter that
//! it keeps running.
//!
//! # How it works
//!
//! The arbiter calls [`Instance::supervise`] whenever it looks after its workers, at least once a
//! second. Nothing here waits, but for the exporter's last word at an orderly end.
//!
//! # What if
//!
//! *There are two arbiters* (USR2): see `peer.rs`. *The exporter dies or hangs*: another is started, with growing pauses, and is given every store
//! that the one before had not released. *A child is forked*: it drops all of this at once
//! ([`Instance::forked`]), so that the exporter sees the end of the arbiter, and memory of ended
//! workers is not kept by their siblings.

mod exporter;
mod listener;
mod pages;
mod peer;
mod slot;
mod stores;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gunicorn_prometheus_exporter::settings::Settings;
use gunicorn_prometheus_exporter::{TlsError, TlsFiles};
use metrics_store::{
    Boot, Control, Facts, ListenerFacts, NurseryLink, Role, Snapshots, StoreFile, ToExporter,
};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::process::{self, lock};
use crate::settings::LoadedSettings;
use crate::value::fill_store;
use exporter::{End, Exporter, Pause};
use listener::Listener;
use peer::{Inheritance, Peer};
pub(crate) use slot::WorkerSlot;
use stores::Held;

/// What workers say of their end, in the order of their numbers, from 1.
pub(crate) const ENDS: [&str; 3] = ["quit", "term", "max_requests"];

/// A line for the log: its level as `logging` spells it, and the text.
type Line = (&'static str, String);

/// All that an arbiter keeps for its metrics.
#[pyclass(frozen, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct Instance {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// File mode: where stores are.
    directory: Option<PathBuf>,
    control: Arc<Control>,
    /// `None` in a child.
    snapshots: Option<Snapshots>,
    /// Stores that no exporter has released, by number.
    stores: BTreeMap<u64, Held>,
    /// What workers have said whose store is released already, though the arbiter has yet to see that
    /// they have ended: the exporter may be the first to notice.
    last_words: BTreeMap<u64, u64>,
    /// What the exporter is to do; `None` until the arbiter is ready.
    task: Option<Task>,
    listener: Listener,
    /// The certificates that it is served with, in memory of their own: workers drop the descriptor,
    /// and have no key.
    certificates: Option<OwnedFd>,
    /// Where processes of this instance ask for its page.
    pages: Option<OwnedFd>,
    exporter: Option<Exporter>,
    pause: Pause,
    /// The other arbiter, while there are two of this instance.
    peer: Option<Peer>,
    /// Where children of workers hand over their stores; `None` in a child.
    nursery: Option<NurseryLink>,
}

#[derive(Clone, PartialEq)]
struct Task {
    interpreter: OsString,
    extension: PathBuf,
    owner: Option<(u32, u32)>,
    name: String,
    serves: bool,
    facts: Facts,
    settings: Settings,
}

#[pymethods]
impl Instance {
    /// Makes the memory of an instance, with a store for this process and one for the exporter. An
    /// arbiter that replaces another goes on with what that one has: `inherited` is the descriptor
    /// which it was given ([`hand_over`](Self::hand_over)). With a directory, stores are files there.
    #[new]
    #[pyo3(signature = (directory = None, inherited = None))]
    fn new(py: Python<'_>, directory: Option<PathBuf>, inherited: Option<RawFd>) -> PyResult<Self> {
        let create = || -> Result<Self, Box<dyn std::error::Error>> {
            match inherited {
                Some(fd) => Ok(Self::create(directory, peer::inherit(fd)?)?),
                None => Ok(Self::create(directory, Inheritance::begin()?)?),
            }
        };
        let instance = create().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        fill_store(py);
        Ok(instance)
    }

    /// Another arbiter is about to be executed in the place of this one: answers the descriptor that
    /// it inherits, by which it gets everything. `None` while there is another one already.
    fn hand_over(&self) -> PyResult<Option<RawFd>> {
        let handed = lock(&self.inner).hand_over();
        handed.map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// It was started, or was not: the descriptor is for it alone.
    fn handed_over(&self, fd: RawFd, has_started: bool) {
        lock(&self.inner).handed_over(fd, has_started);
    }

    /// The next process that is forked is a worker, and gets its store when it adopts it; any other
    /// makes one for itself as soon as it needs one.
    #[staticmethod]
    fn expect_worker(is_expected: bool) {
        process::expect_worker(is_expected);
    }

    /// Why that worker ended, in its own words; `None` if it said nothing.
    fn last_words(&self, number: u64) -> Option<&'static str> {
        let inner = lock(&self.inner);
        let said = match inner.stores.get(&number) {
            Some(held) => held.file.last_words(),
            None => *inner.last_words.get(&number)?,
        };
        ENDS.get(usize::try_from(said).ok()?.checked_sub(1)?)
            .copied()
    }

    /// Takes the lowest free slot and a store for a worker that is about to be forked.
    fn take_slot(&self, name: &str, settings: &LoadedSettings) -> PyResult<WorkerSlot> {
        let http = &settings.settings().http;
        let mut inner = lock(&self.inner);
        let (number, slot, worker_id) = inner
            .take_slot(name)
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        let instance = Arc::clone(&self.inner);
        Ok(WorkerSlot::new(number, slot, worker_id, http, instance))
    }

    /// The worker of that slot runs as `pid`.
    fn worker_began(&self, number: u64, pid: u32) {
        lock(&self.inner).begin(number, pid);
    }

    /// The worker of that slot has ended, or was never forked.
    fn worker_ended(&self, number: u64) {
        lock(&self.inner).end(number);
    }

    /// Reads the files that the metrics are served with, if the settings name some, and passes them
    /// on. Raises `ValueError`, with one line, where that is not possible; those from before stay.
    fn read_certificates(&self, settings: &LoadedSettings) -> PyResult<()> {
        let read = || -> Result<Option<OwnedFd>, TlsError> {
            let files = TlsFiles::read(&settings.settings().prometheus.ssl)?;
            files.as_ref().map(TlsFiles::to_memory).transpose()
        };
        let certificates = read().map_err(|error| PyValueError::new_err(error.to_string()))?;
        lock(&self.inner).use_certificates(certificates);
        Ok(())
    }

    /// Opens the socket on which processes of this instance ask for its page, and answers its name;
    /// `None` where the system has no names that go with their socket.
    fn open_pages<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Some((socket, name)) = pages::open()? else {
            return Ok(None);
        };
        lock(&self.inner).pages = Some(socket);
        Ok(Some(PyBytes::new(py, &name)))
    }

    /// What the exporter is to do, from the next [`supervise`](Self::supervise) on. A running one is
    /// replaced if that has changed. `owner` are the ids that it gives up its privileges for;
    /// `listeners` the application's sockets: inode, whether it is a unix socket, and name; `build`
    /// the labels of `gunicorn_build_info`.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is named where it is called"
    )]
    fn configure(
        &self,
        interpreter: OsString,
        extension: PathBuf,
        name: String,
        settings: &LoadedSettings,
        serves: bool,
        owner: Option<(u32, u32)>,
        listeners: Vec<(u64, bool, String)>,
        mut build: Vec<(String, String)>,
    ) {
        build.push(("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
        let listeners = listeners
            .into_iter()
            .map(|(inode, is_unix, name)| ListenerFacts {
                inode,
                is_unix,
                name,
            });
        let facts = Facts {
            listeners: listeners.collect(),
            build,
        };
        let mut settings = settings.settings().clone();
        // Said by a hook, it means the same: a sidecar reads the directory.
        settings.sidecar_mode |= !serves;
        lock(&self.inner).configure(Task {
            interpreter,
            extension,
            owner,
            name,
            serves,
            facts,
            settings,
        });
    }

    /// Does what there is to do: listener, exporter, messages. Answers lines for the log.
    fn supervise(&self) -> Vec<Line> {
        lock(&self.inner).supervise(Instant::now())
    }

    /// An orderly end: the exporter pushes what is left, and is waited for, but not for long.
    fn shut_down(&self, py: Python<'_>, seconds: f64) -> PyResult<Vec<Line>> {
        let patience = Duration::try_from_secs_f64(seconds)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(py.detach(|| lock(&self.inner).shut_down(patience)))
    }

    /// The process id of the running exporter.
    #[getter]
    fn exporter_pid(&self) -> Option<u32> {
        let inner = lock(&self.inner);
        inner.exporter.as_ref().map(|exporter| exporter.process.pid)
    }

    /// In a child that was just forked: it has nothing to do with all this.
    fn forked(&self) {
        lock(&self.inner).forked();
        process::forked();
    }
}

impl Instance {
    fn create(
        directory: Option<PathBuf>,
        from: Inheritance,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let (nursery, for_children) = NurseryLink::pair()?;
        let control = Arc::new(from.control);
        process::give_birth_to(Arc::clone(&control), directory.clone(), for_children);
        let mut inner = Inner {
            directory,
            control,
            snapshots: Some(from.snapshots),
            stores: BTreeMap::new(),
            last_words: BTreeMap::new(),
            task: None,
            listener: Listener::default(),
            certificates: None,
            pages: None,
            exporter: None,
            pause: Pause::default(),
            peer: from.peer,
            nursery: Some(nursery),
        };
        let own = inner.new_store(Role::Arbiter, 0, "arbiter")?;
        inner.begin(own, std::process::id());
        inner.new_exporter_store()?;
        let file = inner.duplicate(own)?;
        process::use_store(StoreFile::from_fd(file).adopt()?);
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
        })
    }
}

impl Inner {
    fn configure(&mut self, task: Task) {
        if self.task.as_ref() == Some(&task) {
            return;
        }
        let address = |task: &Task| {
            let prometheus = &task.settings.prometheus;
            (
                task.serves,
                prometheus.bind_address.clone(),
                prometheus.metrics_port,
            )
        };
        if let Some(before) = &self.task
            && address(before) != address(&task)
        {
            self.listener = Listener::default();
        }
        self.task = Some(task);
        self.pause = Pause::default();
        if let Some(exporter) = &mut self.exporter {
            exporter.send(&ToExporter::Replace, Vec::new());
        }
    }

    fn use_certificates(&mut self, certificates: Option<OwnedFd>) {
        self.certificates = certificates;
        self.pass_certificates();
    }

    fn pass_certificates(&mut self) {
        let Some(exporter) = &mut self.exporter else {
            return;
        };
        match self.certificates.as_ref().map(OwnedFd::try_clone) {
            None => {}
            Some(Ok(copy)) => exporter.send(&ToExporter::Tls, vec![copy]),
            Some(Err(error)) => exporter.lose(format!("cannot be given certificates: {error}")),
        }
    }

    fn supervise(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        let Some(task) = self.task.clone() else {
            return lines;
        };
        self.receive_from_peer();
        if task.serves
            && let Some(listener) = self.listener.open(&task.settings, &mut lines)
            && let Some(exporter) = &mut self.exporter
        {
            exporter.send(&ToExporter::Listener, vec![listener]);
        }
        self.attend_children();
        self.attend(now, &mut lines);
        self.attend_peer(now, &mut lines);
        let is_our_turn = self.peer.as_ref().is_none_or(|peer| !peer.has_our_turn());
        if is_our_turn
            && self.exporter.is_none()
            && self.snapshots.is_some()
            && self.pause.is_over(now)
        {
            self.start(&task, now, &mut lines);
        }
        if self.directory.is_some()
            && let Some(own) = process::store()
            && let Err(error) = own.hold()
        {
            // Copies of its descriptor were closed here, and the lock with them.
            lines.push(("error", error.to_string()));
        }
        lines
    }

    /// Listens to the exporter, and notices its end.
    fn attend(&mut self, now: Instant, lines: &mut Vec<Line>) {
        let Some(exporter) = &mut self.exporter else {
            return;
        };
        let said = exporter.attend(now);
        for number in said.released {
            self.release(number);
        }
        for (new, file, replaces) in said.heirs {
            self.take_heir(new, file, replaces);
        }
        if said.is_worn {
            self.renew_exporter(lines);
        }
        let Some(exporter) = &mut self.exporter else {
            return;
        };
        if let Some(why) = exporter.end() {
            match why {
                End::Failed(_) if self.peer.as_ref().is_some_and(Peer::has_our_turn) => {}
                End::Failed(why) => {
                    self.pause.lengthen(now, exporter.started);
                    lines.push((
                        "warning",
                        format!("the metrics exporter {why}; starting another"),
                    ));
                }
                End::Asked => self.pause = Pause::default(),
            }
            self.exporter = None;
        }
    }

    /// Another exporter with another store of its own follows, which leaves behind what is no more.
    fn renew_exporter(&mut self, lines: &mut Vec<Line>) {
        if let Err(error) = self.new_exporter_store() {
            // The old one does: it grows.
            lines.push(("warning", format!("the exporter keeps its store: {error}")));
            return;
        }
        if let Some(exporter) = &mut self.exporter {
            exporter.send(&ToExporter::Replace, Vec::new());
        }
    }

    fn start(&mut self, task: &Task, now: Instant, lines: &mut Vec<Line>) {
        match self.boot(task, now) {
            Ok(exporter) => self.exporter = Some(exporter),
            Err(error) => {
                self.pause.lengthen(now, now);
                lines.push((
                    "error",
                    format!("cannot start the metrics exporter: {error}"),
                ));
                return;
            }
        }
        let numbers: Vec<_> = self.stores.keys().copied().collect();
        for number in numbers {
            self.tell_of(number);
        }
        self.pass_certificates();
        if let Some(exporter) = &mut self.exporter
            && let Some(Ok(pages)) = self.pages.as_ref().map(OwnedFd::try_clone)
        {
            exporter.send(&ToExporter::Pages, vec![pages]);
        }
        if let Some(listener) = self.listener.duplicate()
            && let Some(exporter) = &mut self.exporter
        {
            exporter.send(&ToExporter::Listener, vec![listener]);
        }
    }

    fn boot(&self, task: &Task, now: Instant) -> Result<Exporter, Box<dyn std::error::Error>> {
        let Some(snapshots) = &self.snapshots else {
            return Err("this process is no arbiter".into());
        };
        let mut memory = vec![self.control.as_fd().try_clone_to_owned()?];
        for snapshot in snapshots.as_fds() {
            memory.push(snapshot.try_clone_to_owned()?);
        }
        let boot = Boot {
            settings: serde_json::to_value(&task.settings)?,
            instance: task.name.clone(),
            facts: task.facts.clone(),
        };
        let mut exporter = Exporter::start(&task.interpreter, &task.extension, task.owner, now)?;
        exporter.send(&ToExporter::Boot(boot), memory);
        Ok(exporter)
    }

    fn shut_down(&mut self, patience: Duration) -> Vec<Line> {
        let numbers: Vec<_> = self.stores.keys().copied().collect();
        for number in numbers {
            if self.stores[&number].is_to_end() {
                self.end(number);
            }
        }
        self.task = None;
        let Some(mut exporter) = self.exporter.take() else {
            return Vec::new();
        };
        // With another arbiter there is another exporter, which goes on with what there is.
        let end = match self.peer {
            Some(_) => ToExporter::Replace,
            None => ToExporter::Shutdown,
        };
        exporter.send(&end, Vec::new());
        match exporter.wait_for_bye(patience) {
            Ok(()) => Vec::new(),
            Err(why) => vec![("warning", format!("the metrics exporter {why}"))],
        }
    }

    fn forked(&mut self) {
        self.exporter = None;
        self.listener = Listener::default();
        self.certificates = None;
        self.pages = None;
        self.snapshots = None;
        self.task = None;
        self.peer = None;
        self.nursery = None;
        // What has no process yet is that of the worker which this child may be about to become.
        self.stores.retain(|_, held| !held.is_begun);
    }
}

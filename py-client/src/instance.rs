//! The arbiter's side of an instance: its control memory, its workers' stores, and the exporter
//! that it keeps running.
//!
//! # How it works
//!
//! The arbiter calls [`Instance::supervise`] whenever it checks its workers, at least once a
//! second. Nothing here waits, except for the exporter's `Bye` at an orderly end.
//!
//! # What if
//!
//! *There are two arbiters* (USR2): see `peer.rs`. *The exporter dies or hangs*: another is
//! started, with growing pauses, and gets every store that the one before had not released
//! (`supervisor.rs`). *A child is forked*: it drops all of this at once ([`Instance::forked`]), so
//! that the exporter notices the end of the arbiter, and siblings do not keep the memory of ended
//! workers.

mod deaths;
mod descriptors;
mod exporter;
mod listener;
mod pages;
mod peer;
mod slot;
mod stores;
mod supervisor;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gunicorn_prometheus_exporter::{TlsError, TlsFiles};
use metrics_store::{
    ChildListener, ChildrenLink, Descriptor, Facts, ListenerFacts, Role, StoreFile,
};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::exporter_process::Program;
use crate::process::{self, lock};
use crate::settings::LoadedSettings;
use crate::value::fill_store;
use deaths::WorkerEnd;
use exporter::Pause;
use listener::Listener;
use peer::Inheritance;
pub(crate) use slot::WorkerSlot;
use supervisor::{Supervisor, Task};

/// Reasons of workers to end, in the order of their codes, from 1.
pub(crate) const ENDS: [&str; 3] = ["quit", "term", "max_requests"];

/// A line for the log: its level as `logging` spells it, and the text.
type Line = (&'static str, String);

/// The metrics state of an arbiter.
#[pyclass(frozen, module = "gunicorn_prometheus_exporter._native")]
pub(crate) struct Instance {
    inner: Arc<Mutex<Supervisor>>,
    /// The current directory at the start: an application may change it while it is imported.
    start_directory: PathBuf,
}

#[pymethods]
impl Instance {
    /// Creates the memory of an instance, with a store for this process and one for the exporter.
    /// An arbiter that replaces another continues with the other's: `inherited` names the socket
    /// that it got ([`hand_over`](Self::hand_over)).
    #[new]
    #[pyo3(signature = (inherited = None))]
    fn new(py: Python<'_>, inherited: Option<&str>) -> PyResult<Self> {
        let create = || -> Result<Self, Box<dyn std::error::Error>> {
            match inherited {
                Some(handover) => Ok(Self::create(peer::inherit(handover)?)?),
                None => Ok(Self::create(Inheritance::begin()?)?),
            }
        };
        let instance = create().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        fill_store(py);
        Ok(instance)
    }

    /// Prepares another arbiter that will be executed in place of this one: returns the name of the
    /// socket that it inherits, over which it gets everything. `None` while there is another one
    /// already.
    fn hand_over(&self) -> PyResult<Option<String>> {
        let handed = lock(&self.inner).hand_over();
        handed.map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// Notes that it was started, or was not: the socket is for it alone.
    fn handed_over(&self, has_started: bool) {
        lock(&self.inner).handed_over(has_started);
    }

    /// The next forked process is a worker, and adopts its store; any other process makes a store
    /// for itself when it needs one.
    #[staticmethod]
    fn expect_worker(is_expected: bool) {
        process::expect_worker(is_expected);
    }

    /// Returns the reason why that worker ended, as it stated it; `None` if it stated none.
    fn last_words(&self, number: u64) -> Option<&'static str> {
        let inner = lock(&self.inner);
        let said = match inner.stores.get(&number) {
            Some(held) => held.file.last_words(),
            None => inner.remains.get(&number)?.last_words,
        };
        ENDS.get(usize::try_from(said).ok()?.checked_sub(1)?)
            .copied()
    }

    /// Takes the lowest free slot and a store for a worker that will be forked.
    fn take_slot(&self, name: &str, settings: &LoadedSettings) -> PyResult<WorkerSlot> {
        let http = &settings.settings().http;
        let mut inner = lock(&self.inner);
        let (number, slot, worker_id) = descriptors::are_free(descriptors::RESERVE)
            .map_err(|few| few.to_string())
            .and_then(|()| inner.take_slot(name).map_err(|error| error.to_string()))
            .map_err(PyRuntimeError::new_err)?;
        let instance = Arc::clone(&self.inner);
        Ok(WorkerSlot::new(number, slot, worker_id, http, instance))
    }

    /// Notes that the worker of that slot runs as `pid`.
    fn worker_began(&self, number: u64, pid: u32) {
        lock(&self.inner).begin(number, pid);
    }

    /// Reports the end of a worker, before `worker_ended`: counts the requests that it took with it, and
    /// remembers them. Returns a line for the log, unless it ended in order and was answering nothing. `how` is
    /// the reason in words; `memory` is its largest resident size in bytes, 0 if it is not known.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is named where it is called"
    )]
    fn report_end(
        &self,
        number: u64,
        worker_id: String,
        pid: u32,
        reason: String,
        how: String,
        is_orderly: bool,
        memory: u64,
        settings: &LoadedSettings,
    ) -> PyResult<Option<Line>> {
        let http = &settings.settings().http;
        let end = WorkerEnd {
            worker_id,
            pid,
            reason,
            how,
            is_orderly,
            memory,
        };
        lock(&self.inner)
            .report_end(number, end, http.in_flight, http.endpoint_limit as usize)
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// Notes that the worker of that slot has ended, or was never forked.
    fn worker_ended(&self, number: u64) {
        lock(&self.inner).end(number);
    }

    /// Reads the certificate files of the settings, if there are any, and passes them on. Raises
    /// `ValueError`, with one line, if that fails; the certificates from before stay.
    fn read_certificates(&self, settings: &LoadedSettings) -> PyResult<()> {
        let read = || -> Result<Option<OwnedFd>, TlsError> {
            let files = TlsFiles::read(&settings.settings().prometheus.ssl)?;
            files.as_ref().map(TlsFiles::to_memory).transpose()
        };
        let certificates = read().map_err(|error| PyValueError::new_err(error.to_string()))?;
        lock(&self.inner).use_certificates(certificates);
        Ok(())
    }

    /// Opens the socket on which processes of this instance request its page, and returns its name;
    /// `None` if the system has no abstract names.
    fn open_pages<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Some((socket, name)) = pages::open()? else {
            return Ok(None);
        };
        lock(&self.inner).pages = Some(Descriptor::new(socket));
        Ok(Some(PyBytes::new(py, &name)))
    }

    /// Returns the name under which children without an inherited descriptor hand over their
    /// stores.
    fn children_name<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let inner = lock(&self.inner);
        let children = inner.children.as_ref()?;
        Some(PyBytes::new(py, children.name()))
    }

    /// Sets the task of the exporter, from the next [`supervise`](Self::supervise) on. A running
    /// exporter with another task is replaced. `command` is the program and its first words, and
    /// `takes_owner` whether it gets the ids as an argument. `owner` are the ids that it runs with
    /// after it has given up its privileges. `listeners` are the application's sockets: inode,
    /// whether it is a unix socket, and name. `build` are the labels of `gunicorn_build_info`.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is named where it is called"
    )]
    fn configure(
        &self,
        command: Vec<OsString>,
        takes_owner: bool,
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
        // A hook that sets this has the same effect: a sidecar reads the directory.
        settings.sidecar_mode |= !serves;
        // The exporter has another current directory.
        if let Some(directory) = &mut settings.prometheus.multiproc_dir {
            *directory = self.start_directory.join(&directory);
        }
        lock(&self.inner).configure(Task {
            program: Program {
                command,
                takes_owner,
            },
            owner,
            name,
            serves,
            facts,
            settings,
        });
    }

    /// Does the pending work: listener, exporter, messages. Returns lines for the log.
    fn supervise(&self) -> Vec<Line> {
        lock(&self.inner).supervise(Instant::now())
    }

    /// Ends in order: the exporter pushes the rest, and this waits for it, but not for long.
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

    /// Drops everything, in a child that was just forked.
    fn forked(&self) {
        lock(&self.inner).forked();
        process::forked();
    }
}

impl Instance {
    fn create(from: Inheritance) -> Result<Self, Box<dyn std::error::Error>> {
        descriptors::are_free(descriptors::TO_BEGIN)?;
        let (from_children, for_children) = ChildrenLink::pair()?;
        let children = ChildListener::open()?;
        let control = Arc::new(from.control);
        process::prepare_children(Arc::clone(&control), for_children, children.name());
        let mut inner = Supervisor {
            life: None,
            control,
            snapshots: Some(from.snapshots),
            stores: BTreeMap::new(),
            remains: BTreeMap::new(),
            task: None,
            listener: Listener::default(),
            certificates: None,
            pages: None,
            exporter: None,
            pause: Pause::default(),
            cannot_start: None,
            peer: from.peer,
            handed_over: None,
            from_children: Some(from_children),
            children: Some(children),
            connected: Vec::new(),
        };
        let own = inner.new_store(Role::Arbiter, 0, "arbiter")?;
        inner.begin(own, std::process::id());
        inner.new_exporter_store()?;
        let file = inner.duplicate(own)?;
        process::use_store(StoreFile::from_fd(file).adopt()?);
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
            start_directory: std::env::current_dir().unwrap_or_default(),
        })
    }
}

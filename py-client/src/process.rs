//! The store of this process, and how a fork is noticed.
//!
//! Code that keeps a [`metrics_store::Series`] also keeps the [`turn`] at which it got the series.
//! A fork, or a new store, begins a new turn; code that finds a newer turn looks its series up
//! again. So a child never writes into its parent's memory, whatever code has forked it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics_store::{
    ChildLink, Control, Counter, Descriptor, FromChild, Identity, LinkError, NewStore, Process,
    Role, StoreError, StoreFile, WorkerStore,
};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::rand::{GetRandomFlags, getrandom};

static TURN: AtomicU64 = AtomicU64::new(1);
static FORKS: AtomicU64 = AtomicU64::new(0);
static STORE: Mutex<Option<Arc<WorkerStore>>> = Mutex::new(None);

/// How a child makes a store that its exporter knows.
struct StoreMaker {
    /// The arbiter's control memory; `None` in a child that was started as another program.
    control: Option<Arc<Control>>,
    /// The link to the arbiter, which all forked children share.
    link: Option<Descriptor>,
    /// The name under which the arbiter listens to children without that link.
    name: Vec<u8>,
}

/// The reason why a child has no store that its exporter knows.
#[derive(Debug, thiserror::Error)]
enum MakeStoreError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("the arbiter has not taken its store within a second")]
    Busy,
}

static STORE_MAKER: Mutex<Option<StoreMaker>> = Mutex::new(None);
/// Whether this is a child without a store that is no worker.
static HAS_NO_STORE: AtomicBool = AtomicBool::new(false);
/// The reason for that, until it is reported.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);
static IS_WORKER_EXPECTED: AtomicBool = AtomicBool::new(false);
/// Time limit for a busy arbiter, once in a child's life.
const ARBITER_TAKES: Duration = Duration::from_secs(1);

/// Returns the turn, which increases whenever this process begins to write another store, or none.
#[inline]
pub(crate) fn turn() -> u64 {
    TURN.load(Ordering::Relaxed)
}

/// Returns how many forks lie between the first process and this one.
#[inline]
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Returns the store of this process; `None` before it has one. A forked child that is no worker
/// makes one for itself, at the first call.
pub(crate) fn store() -> Option<Arc<WorkerStore>> {
    let mut store = lock(&STORE);
    if store.is_none() && HAS_NO_STORE.swap(false, Ordering::Relaxed) {
        // No new turn: all callers look for the first time since the fork.
        match lock(&STORE_MAKER).as_ref().map(StoreMaker::store) {
            Some(Ok(new)) => *store = Some(Arc::new(new)),
            Some(Err(error)) => {
                *lock(&FAILURE) = Some(format!(
                    "what this child (pid {}) counts is on no page: {error}",
                    std::process::id()
                ));
            }
            None => {}
        }
    }
    store.clone()
}

/// Returns the reason why this process has no store, if it was not reported yet.
pub(crate) fn take_failure() -> Option<String> {
    lock(&FAILURE).take()
}

/// Stores, in an arbiter, what its descendants need to make stores for themselves.
pub(crate) fn prepare_children(control: Arc<Control>, link: OwnedFd, name: &[u8]) {
    *lock(&STORE_MAKER) = Some(StoreMaker {
        control: Some(control),
        link: Some(Descriptor::new(link)),
        name: name.to_vec(),
    });
}

/// Connects a program that a worker has started as its child (`multiprocessing` by spawn or
/// forkserver): its numbers go to the arbiter that listens under that name.
#[pyfunction]
pub(crate) fn become_child(name: Vec<u8>) -> PyResult<()> {
    let mut birth = lock(&STORE_MAKER);
    if birth.is_some() {
        return Err(PyRuntimeError::new_err(
            "this process has a store, or makes one for itself",
        ));
    }
    *birth = Some(StoreMaker {
        control: None,
        link: None,
        name,
    });
    HAS_NO_STORE.store(true, Ordering::Relaxed);
    TURN.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Sets whether the next fork makes a worker, which gets its store.
pub(crate) fn expect_worker(is_expected: bool) {
    IS_WORKER_EXPECTED.store(is_expected, Ordering::Relaxed);
}

/// Makes `store` the store of this process from now on.
pub(crate) fn use_store(store: impl Into<Arc<WorkerStore>>) {
    *lock(&STORE) = Some(store.into());
    TURN.fetch_add(1, Ordering::Relaxed);
}

/// Notes that this process is a child that has just been forked.
#[pyfunction]
pub(crate) fn forked() {
    *lock(&STORE) = None;
    let is_worker = IS_WORKER_EXPECTED.swap(false, Ordering::Relaxed);
    HAS_NO_STORE.store(!is_worker, Ordering::Relaxed);
    FORKS.fetch_add(1, Ordering::Relaxed);
    TURN.fetch_add(1, Ordering::Relaxed);
}

impl StoreMaker {
    /// Returns a new store; if there is none, the arbiter counts this child, which cannot count
    /// itself.
    fn store(&self) -> Result<WorkerStore, MakeStoreError> {
        self.new_store().inspect_err(|_| {
            if let Some(control) = &self.control {
                control.count(Counter::LostChildren);
            }
        })
    }

    /// Makes a store and hands it to the arbiter. If that fails, the numbers stay in this process.
    fn new_store(&self) -> Result<WorkerStore, MakeStoreError> {
        let process = Process::current();
        let identity = Identity {
            role: Role::Child,
            number: self.store_number()?,
            slot: 0,
            name: format!("child-{}", process.pid),
        };
        let file = StoreFile::create(&identity)?;
        let new = FromChild::Store(NewStore {
            number: identity.number,
            role: identity.role,
            slot: identity.slot,
            process: Some(process),
        });
        // The inherited descriptor may be closed, and its number may belong to the application.
        let inherited = self.link.as_ref().and_then(|link| link.duplicate().ok());
        let is_sent = match inherited {
            Some(link) => send(ChildLink::from_fd(link), &new, file.duplicate_fd()?).is_ok(),
            None => false,
        };
        if !is_sent {
            send(ChildLink::connect(&self.name)?, &new, file.duplicate_fd()?)?;
        }
        Ok(file.adopt()?)
    }

    /// Returns a number that no other store of the instance has.
    fn store_number(&self) -> Result<u64, MakeStoreError> {
        if let Some(control) = &self.control {
            return Ok(control.next_store_number());
        }
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty()).map_err(|source| StoreError::System {
            action: "draw the number of a store",
            source,
        })?;
        // Counted numbers begin at 1; the exporter uses the highest bit, for stores of other
        // instances.
        Ok(u64::from_ne_bytes(random) >> 1 | 1 << 62)
    }
}

fn send(mut link: ChildLink, message: &FromChild, file: OwnedFd) -> Result<(), MakeStoreError> {
    link.send(message, vec![file])?;
    if link.queued() > 0 {
        let timeout = Timespec::try_from(ARBITER_TAKES).ok();
        let mut writable = [PollFd::new(&link, PollFlags::OUT)];
        rustix::event::poll(&mut writable, timeout.as_ref()).map_err(|source| {
            StoreError::System {
                action: "wait for the arbiter",
                source,
            }
        })?;
        link.flush()?;
    }
    if link.queued() > 0 {
        return Err(MakeStoreError::Busy);
    }
    Ok(())
}

/// Returns Unix time in seconds; 0 if the machine's clock is before 1970.
pub(crate) fn unix_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// Locks a value that is consistent at every step, even after a panic.
///
/// These locks are never held across a call into Python. They are taken with the GIL held, and
/// forks happen with the GIL held: so a child never inherits a locked one.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

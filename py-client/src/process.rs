//! Which store this process writes, and whether it is still the process that it was.
//!
//! Everything that keeps a [`metrics_store::Series`] also keeps the [`turn`] at which it got it. A
//! fork, and a new store, begin a new turn; who finds that its turn is over looks its series up
//! again. So a child never writes into its parent's memory, whoever has forked it.

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

/// How a child gets a store that its exporter knows of.
struct Birth {
    /// That of the arbiter; a child that was started as another program has none.
    control: Option<Arc<Control>>,
    /// To the arbiter; all that are forked share it.
    link: Option<Descriptor>,
    /// The name under which the arbiter listens to those that have no such link, or have closed it.
    name: Vec<u8>,
}

/// Why a child has no store that its exporter knows of.
#[derive(Debug, thiserror::Error)]
enum BirthError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("the arbiter has not taken its store within a second")]
    Busy,
}

static BIRTH: Mutex<Option<Birth>> = Mutex::new(None);
/// A child that has no store and is no worker.
static IS_ORPHAN: AtomicBool = AtomicBool::new(false);
/// Why this child has none, until that is reported.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);
static IS_WORKER_EXPECTED: AtomicBool = AtomicBool::new(false);
/// How long an arbiter that is busy is waited for, once in a child's life.
const ARBITER_TAKES: Duration = Duration::from_secs(1);

/// Grows whenever this process begins to write another store, or none.
#[inline]
pub(crate) fn turn() -> u64 {
    TURN.load(Ordering::Relaxed)
}

/// How many forks lie between the first process and this one.
#[inline]
pub(crate) fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// The store of this process; `None` before it has one. A child that somebody has forked makes one
/// for itself, the first time that it is asked for.
pub(crate) fn store() -> Option<Arc<WorkerStore>> {
    let mut store = lock(&STORE);
    if store.is_none() && IS_ORPHAN.swap(false, Ordering::Relaxed) {
        // No new turn: whoever looks, looks for the first time since the fork.
        match lock(&BIRTH).as_ref().map(Birth::store) {
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

/// Why this process has no store, if that has not been reported yet.
pub(crate) fn take_failure() -> Option<String> {
    lock(&FAILURE).take()
}

/// In an arbiter: what its descendants need to make stores for themselves.
pub(crate) fn give_birth_to(control: Arc<Control>, link: OwnedFd, name: &[u8]) {
    *lock(&BIRTH) = Some(Birth {
        control: Some(control),
        link: Some(Descriptor::new(link)),
        name: name.to_vec(),
    });
}

/// In a program that a worker has started as its child (`multiprocessing` by spawn or forkserver): its
/// numbers go to the arbiter that listens under that name.
#[pyfunction]
pub(crate) fn become_child(name: Vec<u8>) -> PyResult<()> {
    let mut birth = lock(&BIRTH);
    if birth.is_some() {
        return Err(PyRuntimeError::new_err(
            "this process has a store, or makes one for itself",
        ));
    }
    *birth = Some(Birth {
        control: None,
        link: None,
        name,
    });
    IS_ORPHAN.store(true, Ordering::Relaxed);
    TURN.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// The next fork makes a worker, which is given its store.
pub(crate) fn expect_worker(is_expected: bool) {
    IS_WORKER_EXPECTED.store(is_expected, Ordering::Relaxed);
}

/// From now on this process writes `store`.
pub(crate) fn use_store(store: impl Into<Arc<WorkerStore>>) {
    *lock(&STORE) = Some(store.into());
    TURN.fetch_add(1, Ordering::Relaxed);
}

/// This process is a child that has just been forked.
#[pyfunction]
pub(crate) fn forked() {
    *lock(&STORE) = None;
    let is_worker = IS_WORKER_EXPECTED.swap(false, Ordering::Relaxed);
    IS_ORPHAN.store(!is_worker, Ordering::Relaxed);
    FORKS.fetch_add(1, Ordering::Relaxed);
    TURN.fetch_add(1, Ordering::Relaxed);
}

impl Birth {
    /// A new store; where there is none, the arbiter counts this child, which has no place to count
    /// itself in.
    fn store(&self) -> Result<WorkerStore, BirthError> {
        self.new_store().inspect_err(|_| {
            if let Some(control) = &self.control {
                control.count(Counter::LostChildren);
            }
        })
    }

    /// Makes a store and hands it to the arbiter. Where that is not possible, the numbers stay in this
    /// process.
    fn new_store(&self) -> Result<WorkerStore, BirthError> {
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
        // What was inherited may be closed, and its number something of the application's.
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

    /// A number that no other store of the instance has.
    fn store_number(&self) -> Result<u64, BirthError> {
        if let Some(control) = &self.control {
            return Ok(control.next_store_number());
        }
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty()).map_err(|source| StoreError::System {
            action: "draw the number of a store",
            source,
        })?;
        // Those that are counted begin at 1; the highest bit is the exporter's, for stores of other instances.
        Ok(u64::from_ne_bytes(random) >> 1 | 1 << 62)
    }
}

fn send(mut link: ChildLink, message: &FromChild, file: OwnedFd) -> Result<(), BirthError> {
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
        return Err(BirthError::Busy);
    }
    Ok(())
}

/// Unix time in seconds; 0 on a machine whose clock is before 1970.
pub(crate) fn unix_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// Locks what is consistent at every step, whatever a holder has met.
///
/// These locks are never held across a call into Python. They are taken with the GIL held, and
/// forks happen with the GIL held: so a child never inherits one that is taken.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

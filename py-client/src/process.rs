//! Which store this process writes, and whether it is still the process that it was.
//!
//! Everything that keeps a [`metrics_store::Series`] also keeps the [`turn`] at which it got it. A
//! fork, and a new store, begin a new turn; who finds that its turn is over looks its series up
//! again. So a child never writes into its parent's memory, whoever has forked it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics_store::{
    ChildLink, Control, FromChild, Identity, NewStore, Place, Process, Role, StoreFile, WorkerStore,
};
use rustix::event::{PollFd, PollFlags, Timespec};

static TURN: AtomicU64 = AtomicU64::new(1);
static FORKS: AtomicU64 = AtomicU64::new(0);
static STORE: Mutex<Option<Arc<WorkerStore>>> = Mutex::new(None);

/// How a child gets a store that its exporter knows of.
struct Birth {
    control: Arc<Control>,
    /// Where stores are files.
    directory: Option<PathBuf>,
    /// To the arbiter; all descendants share it.
    link: OwnedFd,
}

static BIRTH: Mutex<Option<Birth>> = Mutex::new(None);
/// A child that has no store and is no worker.
static IS_ORPHAN: AtomicBool = AtomicBool::new(false);
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
        *store = lock(&BIRTH).as_ref().and_then(Birth::new_store);
    }
    store.clone()
}

/// In an arbiter: what its descendants need to make stores for themselves.
pub(crate) fn give_birth_to(control: Arc<Control>, directory: Option<PathBuf>, link: OwnedFd) {
    *lock(&BIRTH) = Some(Birth {
        control,
        directory,
        link,
    });
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
pub(crate) fn forked() {
    *lock(&STORE) = None;
    let is_worker = IS_WORKER_EXPECTED.swap(false, Ordering::Relaxed);
    IS_ORPHAN.store(!is_worker, Ordering::Relaxed);
    FORKS.fetch_add(1, Ordering::Relaxed);
    TURN.fetch_add(1, Ordering::Relaxed);
}

impl Birth {
    /// Makes a store and hands it to the arbiter; `None` where that is not possible: then the numbers
    /// stay in this process.
    fn new_store(&self) -> Option<Arc<WorkerStore>> {
        let process = Process::current();
        let identity = Identity {
            role: Role::Child,
            number: self.control.next_store_number(),
            slot: 0,
            name: format!("child-{}", process.pid),
        };
        let place = self
            .directory
            .as_deref()
            .map_or(Place::Memory, Place::Directory);
        let file = StoreFile::create(&identity, place).ok()?;
        let copy = file.as_fd().try_clone_to_owned().ok()?;
        let new = NewStore {
            number: identity.number,
            role: identity.role,
            slot: identity.slot,
            process: Some(process),
        };
        let mut link = ChildLink::from_fd(self.link.try_clone().ok()?);
        link.send(&FromChild::Store(new), vec![copy]).ok()?;
        if link.queued() > 0 {
            let timeout = Timespec::try_from(ARBITER_TAKES).ok();
            let mut writable = [PollFd::new(&link, PollFlags::OUT)];
            rustix::event::poll(&mut writable, timeout.as_ref()).ok()?;
            link.flush().ok()?;
        }
        if link.queued() > 0 {
            return None;
        }
        Some(Arc::new(file.adopt().ok()?))
    }
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

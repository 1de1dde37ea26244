//! Which store this process writes, and whether it is still the process that it was.
//!
//! Everything that keeps a [`metrics_store::Series`] also keeps the [`turn`] at which it got it. A
//! fork, and a new store, begin a new turn; who finds that its turn is over looks its series up
//! again. So a child never writes into its parent's memory, whoever has forked it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics_store::WorkerStore;

static TURN: AtomicU64 = AtomicU64::new(1);
static FORKS: AtomicU64 = AtomicU64::new(0);
static STORE: Mutex<Option<Arc<WorkerStore>>> = Mutex::new(None);

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

/// The store of this process; `None` before it has one, and in a child that nobody gave one.
pub(crate) fn store() -> Option<Arc<WorkerStore>> {
    lock(&STORE).clone()
}

/// From now on this process writes `store`.
pub(crate) fn use_store(store: impl Into<Arc<WorkerStore>>) {
    *lock(&STORE) = Some(store.into());
    TURN.fetch_add(1, Ordering::Relaxed);
}

/// This process is a child that has just been forked.
pub(crate) fn forked() {
    *lock(&STORE) = None;
    FORKS.fetch_add(1, Ordering::Relaxed);
    TURN.fetch_add(1, Ordering::Relaxed);
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

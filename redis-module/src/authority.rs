//! Since when this server may speak for its values.
//!
//! A value that was loaded (RDB, RESTORE, AOF), or that this server held as a replica before it was
//! promoted, may be behind what scrapers and writers have seen of it; the registry then has to heal
//! ("Rolled back" in the README). This is found out without walking through the keys: each value
//! keeps the *authority* under which it was last known to be the newest there is, the server counts
//! its own up when it loses track, and the first access on a primary compares the two.

use std::sync::atomic::{AtomicU64, Ordering};

/// One stretch of time in which this server knew all that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authority(u64);

static CURRENT: AtomicU64 = AtomicU64::new(1);

impl Authority {
    /// That of a value from elsewhere: older than any of the server's.
    pub(crate) const NONE: Self = Self(0);

    /// The server's.
    pub(crate) fn current() -> Self {
        Self(CURRENT.load(Ordering::Relaxed))
    }

    /// The server was promoted, or has loaded: what it holds may be behind.
    pub(crate) fn renew() {
        CURRENT.fetch_add(1, Ordering::Relaxed);
    }
}

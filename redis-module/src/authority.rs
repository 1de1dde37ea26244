//! Since when this server knows that its values are the newest.
//!
//! A value may be older than what scrapers and writers have seen of it: one that the server loaded
//! (RDB, RESTORE, AOF), or one that it held as a replica before its promotion. Then the registry
//! has to heal ("Rolled back" in the README). The server finds this out without a walk through the
//! keys. Each value keeps the *authority* under which it was last known to be the newest. The
//! server increments its own authority whenever it may have missed writes. The first access on a
//! primary compares the two.

use std::sync::atomic::{AtomicU64, Ordering};

/// A period in which this server knew every decision about its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authority(u64);

static CURRENT: AtomicU64 = AtomicU64::new(1);

impl Authority {
    /// The authority of a value from elsewhere: older than each of the server's own.
    pub(crate) const NONE: Self = Self(0);

    /// Returns the server's present authority.
    pub(crate) fn current() -> Self {
        Self(CURRENT.load(Ordering::Relaxed))
    }

    /// Begins a new authority after a promotion or a load: what the server holds may be out of
    /// date.
    pub(crate) fn renew() {
        CURRENT.fetch_add(1, Ordering::Relaxed);
    }
}

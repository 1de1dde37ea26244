//! The descriptors that an arbiter leaves to Gunicorn.
//!
//! A process may have only so many open files (`ulimit -n`). Gunicorn needs some for each worker,
//! and ends when it has none. So the metrics never take the last ones: if too few are free at the
//! start, nothing is recorded; later, a new worker or child is not recorded.

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};

/// Number of descriptors that must be free when metrics start: they take some 15, and one for each
/// worker.
pub(super) const TO_BEGIN: u64 = 64;
/// Number of descriptors that are left to Gunicorn after that.
pub(super) const RESERVE: u64 = 24;

/// Too few descriptors are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "at most {limit} files may be open, and fewer than {wanted} of them are free: raise the limit (ulimit -n, LimitNOFILE)"
)]
pub(super) struct TooFewDescriptors {
    limit: u64,
    wanted: u64,
}

/// Checks whether `wanted` descriptors are free. The system uses the lowest number first, so the
/// next one shows how many are in use.
pub(super) fn are_free(wanted: u64) -> Result<(), TooFewDescriptors> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let few = TooFewDescriptors { limit, wanted };
    match fcntl_dupfd_cloexec(std::io::stderr(), 0) {
        Ok(next) => {
            use std::os::fd::AsRawFd;
            let used = u64::try_from(next.as_raw_fd()).unwrap_or(0);
            if used + wanted <= limit {
                Ok(())
            } else {
                Err(few)
            }
        }
        Err(Errno::MFILE) => Err(few),
        // Standard error is closed; the next call finds out what is missing.
        Err(_) => Ok(()),
    }
}

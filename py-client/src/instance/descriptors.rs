//! How many descriptors an arbiter leaves to Gunicorn.
//!
//! A process may have so many files open and no more (`ulimit -n`), and Gunicorn, which needs some for
//! each worker, ends when it has none. So the metrics never take the last ones: below a limit nothing is
//! metered, and later a worker, or a child of one, is not.

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};

/// Descriptors that have to be free when metrics begin: they take some 15, and one for each worker.
pub(super) const TO_BEGIN: u64 = 64;
/// Descriptors that are left to Gunicorn after that.
pub(super) const RESERVE: u64 = 24;

/// The limit is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "at most {limit} files may be open, and fewer than {wanted} of them are free: raise the limit (ulimit -n, LimitNOFILE)"
)]
pub(super) struct TooFewDescriptors {
    limit: u64,
    wanted: u64,
}

/// Whether `wanted` descriptors are free. They are given out from the lowest number on, so the next one
/// tells how many there are.
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
        // There is no standard error: whatever is missing is found out by the next call.
        Err(_) => Ok(()),
    }
}

//! Descriptors that are kept for long in a process that runs the code of others.
//!
//! A descriptor is a number, and the application may give the number away: it closes all descriptors
//! that it does not know (`os.closerange`, python-daemon), and the next socket or file that it opens
//! has the number of ours. So what is kept is the number and what it stood for, device and inode, and
//! each use asks the system whether it still does. One question costs a tenth of a microsecond.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use rustix::fs::fstat;
use rustix::io::Errno;

/// A descriptor, and what it is a descriptor of.
///
/// When it is dropped it is closed, if it is still ours; a number that is the application's by now is
/// left alone.
#[derive(Debug)]
pub struct Descriptor {
    file: Option<OwnedFd>,
    /// Device and inode; `None` where the system could not tell them, and then it is never used.
    identity: Option<(u64, u64)>,
}

impl Descriptor {
    /// Keeps a descriptor that is this process' own now.
    pub fn new(file: impl Into<OwnedFd>) -> Self {
        let file = file.into();
        let identity = identity(file.as_fd()).ok();
        Self {
            file: Some(file),
            identity,
        }
    }

    /// The descriptor, if the number still stands for what was kept.
    ///
    /// # Errors
    ///
    /// `EBADF` where the application has closed it, or has something else under its number.
    pub fn get(&self) -> Result<BorrowedFd<'_>, Errno> {
        let file = self.file.as_ref().ok_or(Errno::BADF)?.as_fd();
        let now = identity(file)?;
        (self.identity == Some(now))
            .then_some(file)
            .ok_or(Errno::BADF)
    }

    /// Another descriptor of the same, which is not inherited by programs.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and when this process may not open more.
    pub fn duplicate(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(self.get()?, 0)
    }

    /// Gives it away; `None` where it is not ours any more.
    pub fn into_owned(mut self) -> Option<OwnedFd> {
        self.get().ok()?;
        self.file.take()
    }

    /// The number alone, for an event loop to wait on, or to be looked at.
    pub fn unchecked(&self) -> BorrowedFd<'_> {
        // There is always one, until it is given away or dropped; this one can be neither read nor written.
        self.file.as_ref().map_or(rustix::fs::CWD, AsFd::as_fd)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.get().is_err()
            && let Some(file) = self.file.take()
        {
            let _not_ours_to_close = file.into_raw_fd();
        }
    }
}

fn identity(file: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn file() -> OwnedFd {
        rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn a_number_that_stands_for_something_else_is_neither_used_nor_closed() {
        let mut kept = Descriptor::new(file());
        assert!(kept.duplicate().is_ok());
        // What `os.closerange` and a later `open` come to, in one step.
        let mut owned = kept.file.take().unwrap();
        rustix::io::dup2(file(), &mut owned).unwrap();
        let number = owned.as_raw_fd();
        kept.file = Some(owned);

        assert_eq!(kept.get().unwrap_err(), Errno::BADF);
        assert_eq!(kept.duplicate().unwrap_err(), Errno::BADF);
        drop(kept);
        assert!(std::path::Path::new(&format!("/proc/self/fd/{number}")).exists());
    }
}

//! Long-lived descriptors in a process that also runs other people's code.
//!
//! A descriptor is a number, and the application may close it: it closes all descriptors that it
//! does not know (`os.closerange`, python-daemon), and the next socket or file that it opens gets
//! the number of ours. So this type stores the number together with its device and inode, and each
//! use asks the system whether they still match. One check costs a tenth of a microsecond.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use rustix::fs::fstat;
use rustix::io::Errno;

/// A descriptor, with the device and inode of its file.
///
/// Dropping it closes the descriptor if it is still ours; a number that the application uses by now
/// is left alone.
#[derive(Debug)]
pub struct Descriptor {
    file: Option<OwnedFd>,
    /// Device and inode; `None` if the system could not tell them: then it is never used.
    identity: Option<(u64, u64)>,
}

impl Descriptor {
    /// Stores a descriptor of this process.
    pub fn new(file: impl Into<OwnedFd>) -> Self {
        let file = file.into();
        let identity = identity(file.as_fd()).ok();
        Self {
            file: Some(file),
            identity,
        }
    }

    /// Returns the descriptor, if the number still refers to the same file.
    ///
    /// # Errors
    ///
    /// `EBADF` if the application has closed it, or uses its number for something else.
    pub fn get(&self) -> Result<BorrowedFd<'_>, Errno> {
        let file = self.file.as_ref().ok_or(Errno::BADF)?.as_fd();
        let now = identity(file)?;
        (self.identity == Some(now))
            .then_some(file)
            .ok_or(Errno::BADF)
    }

    /// Returns another descriptor of the same file, which programs do not inherit.
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get); or this process may not open more files.
    pub fn duplicate(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(self.get()?, 0)
    }

    /// Gives up ownership; `None` if the descriptor is not ours any more.
    pub fn into_owned(mut self) -> Option<OwnedFd> {
        self.get().ok()?;
        self.file.take()
    }

    /// Returns the bare number, for an event loop or for inspection.
    pub fn unchecked(&self) -> BorrowedFd<'_> {
        // There is a file until it is given up or dropped; the substitute can be neither read nor
        // written.
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
        // The effect of `os.closerange` and a later `open`, in one step.
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

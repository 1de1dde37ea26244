//! A directory of files that applications write and one exporter reads (file mode).
//!
//! That one holds the `fcntl` write lock on a file of the directory: valid between containers that
//! share the directory and not their process ids, and gone with its process, however it ends.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use metrics_store::{STORE_SUFFIX, Snapshots};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType};

const LOCK: &str = "exporter.lock";
const SNAPSHOTS: [&str; 2] = ["registry-0.snapshot", "registry-1.snapshot"];

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Opened once, and closed with the process: closing any descriptor of it ends the lock.
    lock: File,
}

/// What is in it, by name.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Stores.
    pub(crate) stores: Vec<String>,
    /// What `prometheus_client` writes.
    pub(crate) db_files: Vec<String>,
}

impl Directory {
    /// Opens it, and makes it where it is not there yet.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self {
            lock: open(&path.join(LOCK))?,
            path: path.to_owned(),
        })
    }

    /// Becomes the one that reads it, if no other process is.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::fcntl_lock(&self.lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether no other process reads it now.
    pub(crate) fn is_free(&self) -> bool {
        let any = Flock::from(FlockType::WriteLock);
        matches!(rustix::process::fcntl_getlk(&self.lock, &any), Ok(None))
    }

    /// Where the reader keeps its registry.
    pub(crate) fn snapshots(&self) -> io::Result<Snapshots> {
        let [first, second] = SNAPSHOTS.map(|name| open(&self.path.join(name)));
        Ok(Snapshots::from_fds(first?.into(), second?.into()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for entry in fs::read_dir(&self.path)? {
            // Names that are no text are none of ours.
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if name.ends_with(STORE_SUFFIX) {
                listing.stores.push(name);
            } else if Path::new(&name)
                .extension()
                .is_some_and(|found| found == "db")
            {
                listing.db_files.push(name);
            }
        }
        listing.stores.sort_unstable();
        listing.db_files.sort_unstable();
        Ok(listing)
    }

    /// Device and inode of a store, for which nobody needs the right to read it.
    pub(crate) fn identity(&self, name: &str) -> io::Result<(u64, u64)> {
        let found = fs::metadata(self.path.join(name))?;
        Ok((found.dev(), found.ino()))
    }

    /// Opens a store of it.
    pub(crate) fn open_store(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))
    }

    /// Deletes a store of it; it may be gone already.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

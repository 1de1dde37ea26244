//! The metrics directory (file mode): applications write to it, and one exporter reads it.
//!
//! ```text
//! exporter.lock                  the reader holds the fcntl lock on it
//! registry-{0,1}.snapshot        the reader's registry, replaced alternately
//! <instance>-<number>.store      a copy of one store, written by the exporter of that instance
//! <instance>-<number>.store.taken  the reader has all of the last copy, and the exporter removes this
//! <instance>.instance            the exporter and the arbiter of a living instance hold the flock on it
//! <kind>_<pid>.db, retired.json  see `db.rs`
//! ```
//!
//! Locks work between containers that share the directory but not their process ids, and end with
//! their processes, even killed ones.
//!
//! # Where the files are
//!
//! In the directory itself, if only this user and root can write it. If others can (an `emptyDir`
//! of Kubernetes is writable for everyone), in a subdirectory that only this user can write.
//! `prometheus_client`'s `.db` files are read from the directory itself: see `folder.rs` for the
//! rules.

mod folder;
mod opening;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use metrics_store::{STORE_SUFFIX, snapshot_from_bytes, snapshot_to_bytes};
use rustix::fs::{FileType, FlockOperation, Timestamps};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType};

pub use folder::FileError;
pub(crate) use folder::{Folder, Stamp, read_range};
pub use opening::{DirectoryError, create_directory};

const LOCK: &str = "exporter.lock";
const SNAPSHOTS: [&str; 2] = ["registry-0.snapshot", "registry-1.snapshot"];
/// Maximum size of a snapshot that is read, in bytes.
const MAX_SNAPSHOT_BYTES: usize = 1 << 30;
const LIFE_SUFFIX: &str = ".instance";
const TAKEN_SUFFIX: &str = ".taken";
/// Time limit for an exporter to notice that a last copy was taken.
const TAKEN_PATIENCE: Duration = Duration::from_mins(1);
/// Maximum number of attempts to hold the file of an instance, a millisecond apart.
const MAX_TRIES: u32 = 100;

/// See the [module](self).
#[derive(Debug)]
pub struct Directory {
    /// The path in the settings.
    path: PathBuf,
    origin: Origin,
    top: Folder,
    home: Folder,
    home_path: PathBuf,
    /// Opened once, and closed with the process: closing any descriptor of it ends the lock.
    lock: File,
}

/// What was at the path when this process opened it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Whether the path itself is a symbolic link.
    is_link: bool,
    /// The owner of the directory.
    owner: u32,
}

/// The names in the directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Copies of stores.
    pub(crate) copies: Vec<CopyName>,
    /// Files of `prometheus_client`.
    pub(crate) db_files: Vec<String>,
    /// Instances with a file of their own.
    pub(crate) instances: Vec<String>,
    /// Files that a process left unfinished.
    unfinished: Vec<String>,
    /// Last copies that the reader has taken.
    taken: Vec<String>,
    /// Whether there are more files than were listed.
    pub(crate) is_cut: bool,
}

/// The name of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CopyName {
    /// Its instance ([`metrics_store::Control::instance_id`]).
    pub(crate) instance: String,
    /// The number of its store there.
    pub(crate) number: u64,
}

impl CopyName {
    fn parse(name: &str) -> Option<Self> {
        let (instance, number) = name.strip_suffix(STORE_SUFFIX)?.split_once('-')?;
        let is_id = instance.len() == 32 && instance.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = number.parse().ok()?;
        let parsed = Self {
            instance: instance.to_owned(),
            number,
        };
        (is_id && parsed.to_string() == name).then_some(parsed)
    }
}

impl std::fmt::Display for CopyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}{STORE_SUFFIX}", self.instance, self.number)
    }
}

/// Whether an instance lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstanceLife {
    /// Its arbiter or its exporter is alive.
    Held,
    /// Neither is alive.
    Free,
    /// Its file does not exist: it was removed, and will come back if the instance lives.
    Missing,
}

impl Directory {
    /// Returns the path of this package's files.
    pub fn home_path(&self) -> &Path {
        &self.home_path
    }

    /// Returns the folder of this package's files.
    pub(crate) fn home(&self) -> &Folder {
        &self.home
    }

    /// Returns the folder of `.db` files.
    pub(crate) fn top(&self) -> &Folder {
        &self.top
    }

    /// Returns what was found at its path.
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns whether its path still leads to it, in the same way, and its lock has not been
    /// removed.
    pub(crate) fn is_current(&self) -> bool {
        let top = rustix::fs::lstat(&self.path);
        let is_link = top.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink());
        if is_link && !self.origin.is_link {
            return false;
        }
        let at_path = rustix::fs::stat(&self.home_path).map(|stat| Stamp::of(&stat).identity);
        let opened = rustix::fs::fstat(&self.home.fd).map(|stat| Stamp::of(&stat).identity);
        let lock = rustix::fs::fstat(&self.lock).map(|stat| Stamp::of(&stat).identity);
        let named = self.home.stamp(LOCK).map(|stamp| stamp.identity);
        at_path == opened && named.ok() == lock.ok()
    }

    /// Becomes the reader, if no other process is.
    pub fn try_lock(&self) -> std::io::Result<bool> {
        match rustix::fs::fcntl_lock(&self.lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether no other process reads it now.
    pub(crate) fn is_free(&self) -> bool {
        let any = Flock::from(FlockType::WriteLock);
        matches!(rustix::process::fcntl_getlk(&self.lock, &any), Ok(None))
    }

    /// Notes for the applications that the reader was scraped.
    pub(crate) fn mark_scraped(&self) {
        let now = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let now = Timestamps {
            last_access: now,
            last_modification: now,
        };
        // Without it, custom collectors of an application beside a sidecar are evaluated later.
        let _not_needed = rustix::fs::futimens(&self.lock, &now);
    }

    /// Returns the time of the reader's last scrape, for comparison.
    pub(crate) fn scraped_at(&self) -> Option<(i64, u64)> {
        let stat = rustix::fs::fstat(&self.lock).ok()?;
        Some((stat.st_mtime as _, stat.st_mtime_nsec as _))
    }

    /// Returns the newest intact snapshot, and its generation. Logs a damaged one.
    pub(crate) fn read_snapshot(&self) -> Option<(u64, Vec<u8>)> {
        let read = |name: &str| match self.home.read(name, MAX_SNAPSHOT_BYTES) {
            Ok((bytes, _)) => {
                let read = snapshot_from_bytes(&bytes)
                    .map(|(generation, bytes)| (generation, bytes.to_vec()));
                if read.is_none() {
                    tracing::error!("{name} in {} is damaged", self.home_path.display());
                }
                read
            }
            Err(error) if error.is_missing() => None,
            Err(error) => {
                tracing::error!("{name} in {}: {error}", self.home_path.display());
                None
            }
        };
        SNAPSHOTS
            .iter()
            .filter_map(|name| read(name))
            .max_by_key(|(generation, _)| *generation)
    }

    /// Writes a snapshot of that generation, which is one higher than the newest.
    pub(crate) fn write_snapshot(&self, generation: u64, bytes: &[u8]) -> Result<(), FileError> {
        let name = SNAPSHOTS[(generation % 2) as usize];
        let bytes = snapshot_to_bytes(generation, bytes);
        self.home.replace(name, &bytes, false).map(drop)
    }

    /// Shows the reader that the instance lives, as long as any process has the file open.
    pub(crate) fn hold_life(&self, instance: &str) -> Result<OwnedFd, FileError> {
        let name = format!("{instance}{LIFE_SUFFIX}");
        let mut tries = 0;
        loop {
            let file = match self.home.open_lock(&name) {
                // The name belongs to something that is not a regular file.
                Err(error) if !matches!(error, FileError::Io(_)) && tries == 0 => {
                    self.home.remove(&name)?;
                    self.home.open_lock(&name)?
                }
                other => other?,
            };
            // A shared lock: the next exporter holds it beside this one.
            let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
            // A reader removes a file that is not locked.
            if locked.is_ok() && self.is_life_of(&file, instance) {
                return Ok(file.into());
            }
            tries += 1;
            if tries == MAX_TRIES {
                return Err(Errno::AGAIN.into());
            }
            // A reader holds the lock for a moment.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns whether an open file is still the one of that instance.
    pub(crate) fn is_life_of(&self, file: impl AsFd, instance: &str) -> bool {
        let name = format!("{instance}{LIFE_SUFFIX}");
        let opened = rustix::fs::fstat(file).map(|stat| Stamp::of(&stat).identity);
        self.home.stamp(&name).map(|stamp| stamp.identity).ok() == opened.ok()
    }

    /// Whether an instance lives.
    pub(crate) fn life_of(&self, instance: &str) -> InstanceLife {
        let Ok((file, _)) = self.home.open(&format!("{instance}{LIFE_SUFFIX}")) else {
            return InstanceLife::Missing;
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => InstanceLife::Free,
            // If the system cannot tell, the instance counts as alive.
            Err(_) => InstanceLife::Held,
        }
    }

    /// Removes what an ended instance has left beside its copies.
    pub(crate) fn forget_instance(&self, instance: &str) -> Result<(), FileError> {
        self.home.remove(&format!("{instance}{LIFE_SUFFIX}"))
    }

    /// Tells the exporter of that instance that the reader's registry has all of a last copy. Until
    /// then the exporter writes the copy again if it is damaged.
    pub(crate) fn take_copy(&self, name: &CopyName) -> Result<(), FileError> {
        let (copy, taken) = (name.to_string(), format!("{name}{TAKEN_SUFFIX}"));
        match rustix::fs::renameat(&self.home, &*copy, &self.home, &*taken) {
            Err(Errno::NOENT) => self.home.replace(&taken, &[], false).map(drop),
            other => Ok(other?),
        }
    }

    /// Returns whether the reader has told that; true only once.
    pub(crate) fn is_taken(&self, name: &CopyName) -> bool {
        let taken = format!("{name}{TAKEN_SUFFIX}");
        self.home.stamp(&taken).is_ok() && self.home.remove(&taken).is_ok()
    }

    /// Removes unfinished files of processes that are gone, and files that no exporter waits for.
    pub(crate) fn clean_up(&self, listing: &Listing) {
        for name in &listing.taken {
            let stamp = self.home.stamp(name);
            if stamp.is_ok_and(|stamp| stamp.age() > TAKEN_PATIENCE) {
                let _next_time = self.home.remove(name);
            }
        }
        for name in &listing.unfinished {
            let instance = name.split_once('-').map_or("", |(instance, _)| instance);
            if self.life_of(instance) == InstanceLife::Free {
                let _next_time = self.home.remove(name);
            }
        }
    }

    /// Lists the names in the directory.
    pub(crate) fn list(&self) -> Result<Listing, FileError> {
        let mut listing = Listing::default();
        let (names, mut is_cut) = self.home.names()?;
        let is_one = self.home_path == self.path;
        for name in names {
            if let Some(copy) = CopyName::parse(&name) {
                listing.copies.push(copy);
            } else if let Some(instance) = name.strip_suffix(LIFE_SUFFIX) {
                listing.instances.push(instance.to_owned());
            } else if name.ends_with(TAKEN_SUFFIX) {
                listing.taken.push(name);
            } else if name.ends_with(folder::UNFINISHED_SUFFIX) {
                listing.unfinished.push(name);
            } else if is_one && is_db_file(&name) {
                listing.db_files.push(name);
            }
        }
        if !is_one {
            let (mut names, is_more) = self.top.names()?;
            names.retain(|name| is_db_file(name));
            listing.db_files = names;
            is_cut |= is_more;
        }
        listing.is_cut = is_cut;
        Ok(listing)
    }
}

fn is_db_file(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| found == "db")
}

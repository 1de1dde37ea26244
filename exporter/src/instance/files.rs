//! An exporter in file mode: what it writes into the metrics directory, and what it reads there.
//!
//! # How it works
//!
//! Values live in sealed memory that only descriptors lead to. After each flush the exporter of an
//! instance writes a copy of every store that has changed (`publishing.rs`), so that a sidecar, or
//! the next instance, knows all that a page has shown. One process reads the directory, the holder of
//! its lock: a sidecar, or the exporter of one of the instances (`reading.rs`). It keeps the registry
//! of the whole directory there, and removes the copies of writers that have ended once their values
//! are in it.
//!
//! # What if
//!
//! *A copy is damaged, truncated or removed:* the values are not in it, they are in memory. The
//! exporter writes the copy again with its next flush, and the reader keeps what it knew.
//! *The directory is full, or gone:* pages stay right, one line names the cause, and it is tried again
//! with each flush; what ended writers had waits in memory, with a limit. *The whole instance is
//! killed at once:* what was counted after the last flush is lost, at most `flush_interval`, and
//! nothing that any page has shown.

mod publishing;
mod reading;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use metrics_store::Control;

use super::now_ms;
use super::state::State;
use crate::backend::Embedded;
use crate::stores::{CopyName, DbFiles, Directory, DirectoryError, FileError};
use metrics_settings::Settings;
use publishing::Publishing;
use reading::Known;

/// Numbers of stores that no arbiter has told of begin here; an arbiter counts from 1.
pub(super) const FOREIGN: u64 = 1 << 63;
/// How long what has vanished may take to come back: a file that was removed, a store whose copy is
/// not there.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a directory that cannot be used is tried.
const TRY_AGAIN: Duration = Duration::from_secs(1);

const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What an exporter does with the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It reads it: it holds the lock.
    Reader,
    /// Another process reads it, or will. With `takes_over`, the next exporter of this instance, as
    /// soon as nothing else does.
    Writer { takes_over: bool },
}

/// With what an exporter begins.
#[derive(Debug)]
pub(crate) struct FilesBoot {
    pub(crate) role: Role,
    pub(crate) directory: Result<Directory, DirectoryError>,
}

impl FilesBoot {
    /// Opens the directory of the settings, if there is one, and becomes its reader if that is wanted
    /// and no other process is.
    pub(crate) async fn open(settings: &Settings) -> Option<Self> {
        let path = settings.store_directory()?;
        let directory = Directory::open(path, settings.prometheus.multiproc_group);
        let takes_over = !settings.sidecar_mode;
        let mut role = Role::Writer { takes_over };
        if let Ok(directory) = &directory
            && takes_over
        {
            match lock_soon(directory).await {
                Ok(true) => role = Role::Reader,
                Ok(false) => tracing::warn!(
                    "another process reads {}: until it ends, this instance shows its own metrics alone (with a sidecar, set SIDECAR_MODE=true)",
                    path.display()
                ),
                Err(error) => tracing::error!("{} cannot be locked: {error}", path.display()),
            }
        }
        Some(Self { role, directory })
    }

    /// For a reader: the registry that is kept there.
    pub(crate) fn read_snapshot(&self) -> Option<(u64, Vec<u8>)> {
        match &self.directory {
            Ok(directory) if self.role == Role::Reader => directory.read_snapshot(),
            _ => None,
        }
    }
}

/// A predecessor that is just ending lets go of this lock after all others.
async fn lock_soon(directory: &Directory) -> std::io::Result<bool> {
    for _ in 0..LOCK_TRIES {
        if directory.try_lock()? {
            return Ok(true);
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    directory.try_lock()
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Files {
    path: PathBuf,
    is_shared: bool,
    role: Role,
    directory: Option<Directory>,
    tried: Instant,
    /// What was logged of the directory, until it can be used again.
    said: Option<String>,
    /// The lock was lost: another process reads the directory now.
    is_replaced: bool,
    /// Of the last snapshot.
    generation: u64,
    instance: String,
    publishing: Publishing,
    began: Instant,
    db: Option<DbFiles>,
    db_names: Vec<String>,
    known: HashMap<CopyName, Known>,
    foreign: u64,
    /// Since when the file of an instance is not there.
    missing: HashMap<String, Instant>,
    /// Names that were logged, each with the reason.
    refused: HashMap<String, String>,
    has_left_unknown: bool,
}

impl Files {
    /// `generation` is that of the snapshot that was read.
    pub(crate) fn new(
        boot: FilesBoot,
        generation: u64,
        registry: &Embedded,
        settings: &Settings,
        control: &Control,
    ) -> RefCell<Self> {
        let mut files = Self {
            path: settings.store_directory().unwrap_or("/".as_ref()).into(),
            is_shared: settings.prometheus.multiproc_group,
            role: boot.role,
            directory: None,
            tried: Instant::now(),
            said: None,
            is_replaced: false,
            generation,
            instance: control.instance_id(),
            publishing: Publishing::default(),
            began: Instant::now(),
            db: None,
            db_names: Vec::new(),
            known: HashMap::new(),
            foreign: FOREIGN,
            missing: HashMap::new(),
            refused: HashMap::new(),
            has_left_unknown: false,
        };
        match boot.directory {
            Ok(directory) => {
                if files.role == Role::Reader {
                    let ttl_ms = settings.redis.ttl_seconds * 1000;
                    let removes_dead = settings.cleanup_db_files;
                    files.db = Some(DbFiles::open(&directory, registry, removes_dead, ttl_ms));
                }
                files.directory = Some(directory);
            }
            Err(error) => files.cannot_use(&error),
        }
        RefCell::new(files)
    }

    pub(super) fn is_reader(&self) -> bool {
        self.role == Role::Reader
    }

    /// Writes the registry of the whole directory. Only its reader does.
    pub(super) fn write_snapshot(&mut self, snapshot: &[u8]) -> Result<(), FileError> {
        let Some(directory) = &self.directory else {
            let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(gone.into());
        };
        directory.write_snapshot(self.generation + 1, snapshot)?;
        self.generation += 1;
        Ok(())
    }

    /// Opens the directory where that was not possible, or where it is another one now. Answers whether
    /// it did: then nothing is in it.
    fn look_after_directory(&mut self) -> bool {
        match &self.directory {
            Some(directory) if directory.is_current() => return false,
            None if self.tried.elapsed() < TRY_AGAIN => return false,
            _ => {}
        }
        self.tried = Instant::now();
        self.directory = None;
        let opened = Directory::open(&self.path, self.is_shared);
        let directory = match opened {
            Ok(directory) => directory,
            Err(error) => {
                self.cannot_use(&error);
                return false;
            }
        };
        if self.role == Role::Reader && !directory.try_lock().unwrap_or(false) {
            tracing::error!(
                "{} was taken away, and another process reads it now",
                self.path.display()
            );
            self.is_replaced = true;
            return false;
        }
        if self.said.take().is_some() {
            tracing::warn!("{} can be used again", self.path.display());
        } else {
            tracing::warn!(
                "{} was emptied or replaced, and is written again",
                self.path.display()
            );
        }
        self.publishing.begin_anew();
        self.directory = Some(directory);
        true
    }

    /// Logs why, once for each reason.
    fn cannot_use(&mut self, error: &dyn std::fmt::Display) {
        let error = error.to_string();
        if self.said.as_ref() == Some(&error) {
            return;
        }
        let until = if self.role == (Role::Writer { takes_over: false }) {
            "until then the sidecar shows nothing new of this instance"
        } else {
            "until then the metrics are in memory alone"
        };
        tracing::error!(
            "PROMETHEUS_MULTIPROC_DIR={} cannot be used: {error}; {until}",
            self.path.display()
        );
        self.said = Some(error);
    }

    /// Logs what is wrong with a file, once for each reason. Answers whether it was logged.
    fn refuse(&mut self, name: &str, reason: &dyn std::fmt::Display) -> bool {
        let reason = reason.to_string();
        if self.refused.get(name) == Some(&reason) {
            return false;
        }
        tracing::error!("{name} in {} is left out: {reason}", self.path.display());
        self.refused.insert(name.to_owned(), reason);
        true
    }

    /// Forgets what was logged of files that are gone.
    fn forget_refused(&mut self, names: &HashSet<String>) {
        self.refused.retain(|name, _| names.contains(name));
    }
}

impl State {
    /// Whether the next exporter of this instance has to read the directory, or this one must not.
    pub(super) fn is_to_be_replaced(&self) -> bool {
        let Some(files) = &self.files else {
            return false;
        };
        let files = files.borrow();
        let is_free = || files.directory.as_ref().is_some_and(Directory::is_free);
        let waits = files.role == (Role::Writer { takes_over: true });
        files.is_replaced || waits && is_free()
    }

    /// Whether an ended writer has to be in a last copy before it is forgotten here.
    pub(super) fn delivers(&self) -> bool {
        let files = self.files.as_ref();
        files.is_some_and(|files| !files.borrow().is_reader())
    }

    /// Tells applications that publish into the directory that its reader was scraped.
    pub(super) fn mark_scraped(&self) {
        let Some(files) = &self.files else { return };
        let files = files.borrow();
        if let (true, Some(directory)) = (files.is_reader(), &files.directory) {
            directory.mark_scraped();
        }
    }

    /// Whether another process has taken the directory that this one read.
    pub(crate) fn has_lost_directory(&self) -> bool {
        let files = self.files.as_ref();
        files.is_some_and(|files| files.borrow().is_replaced)
    }

    /// Brings what `prometheus_client` has written into this instance's registry.
    pub(super) fn flush_db_files(&self) {
        let Some(files) = &self.files else { return };
        let files = &mut *files.borrow_mut();
        let (Some(db), Some(directory)) = (&mut files.db, &files.directory) else {
            return;
        };
        if let Err(error) = db.flush(directory, &files.db_names, &self.registry, now_ms()) {
            tracing::error!("{error}");
            self.own.failed("db_files");
        }
    }
}

//! File mode: what an exporter writes into the metrics directory, and what it reads there.
//!
//! # How it works
//!
//! Values are in sealed memory that can only be reached through descriptors. After each flush the
//! exporter of an instance writes a copy of every changed store (`publishing.rs`), so that a
//! sidecar, or the next instance, has everything that a page has shown. One process reads the
//! directory and holds its lock: a sidecar, or the exporter of one of the instances (`reading.rs`).
//! It stores the registry of the whole directory there, and removes the copies of ended writers
//! once their values are in that registry.
//!
//! # What if
//!
//! *A copy is damaged, truncated or removed:* the values are still in memory. The exporter writes
//! the copy again with its next flush, and the reader keeps the values it has read. *The directory
//! is full, or gone:* pages stay correct, one line names the cause, and each flush tries again;
//! values of ended writers wait in memory, up to a limit. *The whole instance is killed at once:*
//! counts since the last flush are lost, at most `flush_interval`, and none that a page has shown.

mod publishing;
mod reading;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use metrics_store::Control;

use super::State;
use crate::clock::now_ms;
use crate::embedded::EmbeddedRegistry;
use crate::stores::{CopyName, DbFiles, Directory, DirectoryError, FileError, Origin};
use metrics_settings::Settings;
use publishing::Publisher;
use reading::CopyReader;

/// First number of stores of other instances; an arbiter counts from 1.
pub(super) const FOREIGN: u64 = 1 << 63;
/// How long something may be missing before it counts as gone: a removed file, a store without a
/// copy.
const PATIENCE: Duration = Duration::from_mins(1);
/// Time between two attempts to open a directory that cannot be used.
const TRY_AGAIN: Duration = Duration::from_secs(1);

const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What an exporter does with the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads it and holds the lock.
    Reader,
    /// Leaves reading to another process. With `takes_over`, the next exporter of this instance
    /// becomes the reader as soon as no other process is.
    Writer { takes_over: bool },
}

/// The directory at the start of an exporter.
#[derive(Debug)]
pub(crate) struct FilesBoot {
    pub(crate) role: Role,
    pub(crate) directory: Result<Directory, DirectoryError>,
}

impl FilesBoot {
    /// Opens the directory of the settings, if there is one, and becomes its reader if the settings
    /// want that and no other process is.
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

    /// Returns the stored registry, for a reader.
    pub(crate) fn read_snapshot(&self) -> Option<(u64, Vec<u8>)> {
        match &self.directory {
            Ok(directory) if self.role == Role::Reader => directory.read_snapshot(),
            _ => None,
        }
    }
}

/// Takes the lock, with some patience: an ending exporter releases it last.
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
    /// What was at the path when the directory was opened first.
    origin: Option<Origin>,
    tried: Instant,
    /// The logged reason why the directory cannot be used, until it can be used again.
    said: Option<String>,
    /// Whether the lock was lost: another process reads the directory now.
    is_replaced: bool,
    /// Generation of the last snapshot.
    generation: u64,
    instance: String,
    publishing: Publisher,
    began: Instant,
    db: Option<DbFiles>,
    db_names: Vec<String>,
    known: HashMap<CopyName, CopyReader>,
    foreign: u64,
    /// Since when the file of an instance has been missing.
    missing: HashMap<String, Instant>,
    /// Refused names, each with the logged reason.
    refused: HashMap<String, String>,
    has_left_unknown: bool,
}

impl Files {
    /// `generation` is that of the snapshot that was read.
    pub(crate) fn new(
        boot: FilesBoot,
        generation: u64,
        registry: &EmbeddedRegistry,
        settings: &Settings,
        control: &Control,
    ) -> RefCell<Self> {
        let mut files = Self {
            path: settings.store_directory().unwrap_or("/".as_ref()).into(),
            is_shared: settings.prometheus.multiproc_group,
            role: boot.role,
            directory: None,
            origin: None,
            tried: Instant::now(),
            said: None,
            is_replaced: false,
            generation,
            instance: control.instance_id(),
            publishing: Publisher::default(),
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
                files.origin = Some(directory.origin());
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

    /// Opens the directory again if that was not possible before, or if its path leads to another
    /// one now, of the same kind and owner. Returns whether it did: the new one is empty.
    fn look_after_directory(&mut self) -> bool {
        match &self.directory {
            Some(directory) if directory.is_current() => return false,
            None if self.tried.elapsed() < TRY_AGAIN => return false,
            _ => {}
        }
        self.tried = Instant::now();
        self.directory = None;
        let opened = Directory::open_like(&self.path, self.is_shared, self.origin);
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
        self.origin.get_or_insert(directory.origin());
        self.directory = Some(directory);
        true
    }

    /// Logs the reason, once for each reason.
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

    /// Logs what is wrong with a file, once for each reason. Returns whether it was logged.
    fn refuse(&mut self, name: &str, reason: &dyn std::fmt::Display) -> bool {
        let reason = reason.to_string();
        if self.refused.get(name) == Some(&reason) {
            return false;
        }
        tracing::error!("{name} in {} is left out: {reason}", self.path.display());
        self.refused.insert(name.to_owned(), reason);
        true
    }

    /// Forgets the logged reasons of files that are gone.
    fn forget_refused(&mut self, names: &HashSet<String>) {
        self.refused.retain(|name, _| names.contains(name));
    }
}

impl State {
    /// Returns whether the next exporter of this instance has to read the directory, or this one
    /// must stop.
    pub fn is_to_be_replaced(&self) -> bool {
        let Some(files) = &self.files else {
            return false;
        };
        let files = files.borrow();
        let is_free = || files.directory.as_ref().is_some_and(Directory::is_free);
        let waits = files.role == (Role::Writer { takes_over: true });
        files.is_replaced || waits && is_free()
    }

    /// Returns whether an ended writer must be in a last copy before this exporter forgets it.
    pub(super) fn delivers(&self) -> bool {
        let files = self.files.as_ref();
        files.is_some_and(|files| !files.borrow().is_reader())
    }

    /// Notes for the other applications that the directory's reader was scraped.
    pub(super) fn mark_scraped(&self) {
        let Some(files) = &self.files else { return };
        let files = files.borrow();
        if let (true, Some(directory)) = (files.is_reader(), &files.directory) {
            directory.mark_scraped();
        }
    }

    /// Returns whether another process has taken over the directory that this one read.
    pub fn has_lost_directory(&self) -> bool {
        let files = self.files.as_ref();
        files.is_some_and(|files| files.borrow().is_replaced)
    }

    /// Brings the values of `prometheus_client`'s files into this instance's registry.
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

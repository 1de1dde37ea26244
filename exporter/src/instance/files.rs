//! What an exporter reads in a directory: stores whose arbiter is another one's, or gone, and what
//! `prometheus_client` itself writes there.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use metrics_store::{Role, StoreReader};

use super::now_ms;
use super::state::{Entry, Life, State, Watched};
use crate::backend::Embedded;
use crate::settings::Settings;
use crate::stores::{DbFiles, Directory, Writer};

/// Numbers of stores that no arbiter has told of begin here; an arbiter counts from 1.
const FOREIGN: u64 = 1 << 63;
/// How long a store that nobody holds may wait: for the worker that it was made for, for the next of
/// the exporters that pass theirs on, or for its arbiter.
const PATIENCE: Duration = Duration::from_mins(1);

/// The files of a directory that was locked.
#[derive(Debug)]
pub(crate) struct Files {
    directory: Directory,
    db: DbFiles,
    db_names: Vec<String>,
    /// By device and inode: the numbers of stores that are read.
    numbers: HashMap<(u64, u64), u64>,
    /// By number: the names of stores that are read.
    names: HashMap<u64, String>,
    /// Names that need not be looked at again.
    seen: HashSet<String>,
    foreign: u64,
    free_since: HashMap<u64, Instant>,
}

impl Files {
    pub(crate) fn open(
        directory: Directory,
        registry: &Embedded,
        settings: &Settings,
    ) -> io::Result<RefCell<Self>> {
        let ttl_ms = settings.redis.ttl_seconds * 1000;
        let db = DbFiles::open(
            directory.path(),
            registry,
            settings.cleanup_db_files,
            ttl_ms,
        )?;
        Ok(RefCell::new(Self {
            directory,
            db,
            db_names: Vec::new(),
            numbers: HashMap::new(),
            names: HashMap::new(),
            seen: HashSet::new(),
            foreign: FOREIGN,
            free_since: HashMap::new(),
        }))
    }

    /// The arbiter has told of a store, which may be a file here. Answers the number under which it
    /// was found before, and is not to be read any more.
    pub(crate) fn told_of(&mut self, number: u64, file: &OwnedFd) -> Option<u64> {
        let found = rustix::fs::fstat(file).ok()?;
        let before = self.numbers.insert((found.st_dev, found.st_ino), number)?;
        let name = self.names.remove(&before)?;
        self.names.insert(number, name);
        Some(before)
    }
}

impl State {
    /// Looks for stores that have come, and for the ends of those that nobody tells of.
    pub(crate) fn scan(&self) {
        let Some(files) = &self.files else { return };
        let mut files = files.borrow_mut();
        let listing = match files.directory.list() {
            Ok(listing) => listing,
            Err(error) => return self.report("directory", 0, &error),
        };
        files.db_names = listing.db_files;
        for name in listing.stores {
            if files.seen.contains(&name) {
                continue;
            }
            if let Ok(identity) = files.directory.identity(&name)
                && let Some(&number) = files.numbers.get(&identity)
            {
                files.names.insert(number, name.clone());
                files.seen.insert(name);
                continue;
            }
            match files.directory.open_store(&name) {
                Ok(file) => self.found(&mut files, name, file),
                // Deleted since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!("{name} cannot be read: {error}");
                    self.own.failed("directory");
                    files.seen.insert(name);
                }
            }
        }
        let mut inner = self.inner.borrow_mut();
        for (&number, entry) in &mut inner.writers {
            if entry.watched == Watched::ByLock
                && entry.life == Life::Live
                && files.has_ended(number, entry)
            {
                entry.life = Life::Ended;
            }
        }
    }

    fn found(&self, files: &mut Files, name: String, file: File) {
        files.seen.insert(name.clone());
        let identity = file.metadata().map(|found| (found.dev(), found.ino()));
        let reader = match StoreReader::open(file.into()) {
            Ok(reader) => reader,
            Err(error) => {
                tracing::error!("{name} is left out: {error}");
                self.own.failed("store");
                return;
            }
        };
        files.foreign += 1;
        if let Ok(identity) = identity {
            files.numbers.insert(identity, files.foreign);
        }
        let writer = Writer::new(reader, None, &self.options);
        let mut inner = self.inner.borrow_mut();
        inner
            .writers
            .insert(files.foreign, Entry::new(writer, Watched::ByLock));
        inner.has_new_series = true;
        files.names.insert(files.foreign, name);
    }

    /// Brings what `prometheus_client` has written into this instance's registry.
    pub(crate) fn flush_db_files(&self) {
        let Some(files) = &self.files else { return };
        let files = &mut *files.borrow_mut();
        if let Err(error) = files.db.flush(&files.db_names, &self.registry, now_ms()) {
            tracing::error!("{error}");
            self.own.failed("db_files");
        }
    }

    /// Nothing is left to be done for these: their files go. Answers those of the arbiter.
    pub(crate) fn remove_files(&self, mut settled: Vec<u64>) -> Vec<u64> {
        let Some(files) = &self.files else {
            return settled;
        };
        let mut files = files.borrow_mut();
        for number in &settled {
            files.free_since.remove(number);
            files.numbers.retain(|_, known| known != number);
            let Some(name) = files.names.remove(number) else {
                continue;
            };
            files.seen.remove(&name);
            if let Err(error) = files.directory.remove(&name) {
                tracing::error!("{name} cannot be deleted: {error}");
                self.own.failed("directory");
                files.seen.insert(name);
            }
        }
        settled.retain(|&number| number < FOREIGN);
        settled
    }
}

impl Files {
    fn has_ended(&mut self, number: u64, entry: &Entry) -> bool {
        let writer = &entry.writer;
        // What the system cannot tell is taken for alive.
        if writer.is_held().unwrap_or(true) {
            self.free_since.remove(&number);
            return false;
        }
        // An arbiter lets go of its own for a moment, whenever it hands on a copy of the descriptor.
        let waits =
            writer.process().is_none() || matches!(writer.role(), Role::Exporter | Role::Arbiter);
        if !waits {
            return true;
        }
        let since = self.free_since.entry(number).or_insert_with(Instant::now);
        since.elapsed() >= PATIENCE
    }
}

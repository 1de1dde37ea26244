//! The `.db` files that `prometheus_client` itself writes into a directory, as one writer of this
//! instance's registry.
//!
//! # How it works
//! All files together are one writer, whose values are the aggregates (`view.rs`). A session sends
//! them like any other writer's. But here a counter may fall: its process called `reset()`, or a
//! user deleted a file. Then the writer leaves, the fallen series are removed, and a new writer
//! continues with all others where the old one was. So the page agrees with
//! `MultiProcessCollector`.
//!
//! # When a process dies
//!
//! Its files are folded into one (`retired.rs`) and deleted, if the process is proven dead: it was
//! seen with its file open before. A process in another pid namespace can never be proven dead, so
//! its files stay.

mod file;
mod pushing;
mod retired;
mod view;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use metrics_model::Session;
use metrics_store::Process;

use crate::embedded::{BatchError, EmbeddedRegistry};
use crate::progress::Progress;
use file::{DbError, DbFile, DbName};
use pushing::{new_session, writer_of};
use retired::{Last, RetiredValues};
use view::{DbView, Target};

use super::directory::{Directory, FileError};

const WRITER: &str = "db-files/";
/// Prefix of the writers of gauges with a `pid` label, before the process.
const PROCESS: &str = "db-process/";
/// Time between two searches for a process that was not found.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Maximum memory for the content of all files, in bytes.
const MAX_BYTES: usize = 256 << 20;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct DbFiles {
    view: DbView,
    files: HashMap<String, OpenFile>,
    /// Files that are left out, each with the logged reason.
    refused: HashMap<String, String>,
    /// Memory for the content of all files, in bytes.
    taken: usize,
    retired: RetiredValues,
    /// Targets of the retired values; empty when they must be looked up again.
    retired_targets: Vec<(Target, f64, f64, Box<str>)>,
    /// Sessions by the text of `pid`.
    sessions: HashMap<Box<str>, Session>,
    /// Whether this exporter continues one before: then a value that the registry refuses has
    /// fallen in between.
    is_resumed: bool,
    /// Which series the page shows.
    shown: Vec<bool>,
    removes_dead: bool,
    ttl_ms: u64,
}

#[derive(Debug)]
struct OpenFile {
    name: DbName,
    file: DbFile,
    read_to: usize,
    values: Vec<(usize, Target)>,
    process: Option<Process>,
    looked_at: Option<Instant>,
    is_damaged: bool,
}

/// The reason why some `.db` files are not on the page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DbFilesError {
    #[error(transparent)]
    Registry(#[from] BatchError),
    #[error("what remains of processes that are gone cannot be kept: {0}")]
    Retired(#[from] FileError),
    #[error("{name} is left out: {reason}")]
    File { name: String, reason: DbError },
}

impl DbFiles {
    /// Continues where `registry` shows that the exporter before was. With `removes_dead`, files of
    /// processes that are proven dead are folded and deleted.
    pub(crate) fn open(
        directory: &Directory,
        registry: &EmbeddedRegistry,
        removes_dead: bool,
        ttl_ms: u64,
    ) -> Self {
        let (id, is_resumed) = writer_of(registry);
        Self {
            view: DbView::new(ttl_ms),
            files: HashMap::new(),
            refused: HashMap::new(),
            taken: 0,
            retired: RetiredValues::open(directory.home()),
            retired_targets: Vec::new(),
            sessions: HashMap::from([(Box::default(), new_session(id))]),
            is_resumed,
            shown: Vec::new(),
            removes_dead,
            ttl_ms,
        }
    }

    /// Brings the present content of the files into the registry. `names` are the existing `.db`
    /// files. Returns the first error, after everything else is done.
    pub(crate) fn flush(
        &mut self,
        directory: &Directory,
        names: &[String],
        registry: &EmbeddedRegistry,
        now_ms: u64,
    ) -> Result<(), DbFilesError> {
        let read = self.read(directory, names);
        let folded = if self.removes_dead {
            self.fold_dead(directory, now_ms)
        } else {
            Ok(())
        };
        self.add_up();
        let changed = self.view.settle();
        self.bring(registry, &changed, now_ms)?;
        folded?;
        read
    }

    /// `names` are sorted.
    fn read(&mut self, directory: &Directory, names: &[String]) -> Result<(), DbFilesError> {
        let mut first_error = Ok(());
        let mut progress = Progress::new("reading .db files", names.len());
        self.files
            .retain(|name, _| names.binary_search(name).is_ok());
        self.refused
            .retain(|name, _| names.binary_search(name).is_ok());
        self.taken = self.files.values().map(|known| known.file.len()).sum();
        for name in names {
            progress.step();
            match self.read_one(directory, name) {
                Ok(()) => {}
                // Deleted since the directory was listed, like the live gauges of a dead process.
                Err(DbError::File(error)) if error.is_missing() => {
                    self.files.remove(name);
                }
                Err(reason) => {
                    if let Some(known) = self.files.get_mut(name) {
                        known.is_damaged = true;
                    }
                    // Logs each file once for each reason, and one file per flush.
                    let text = reason.to_string();
                    if first_error.is_ok() && self.refused.get(name) != Some(&text) {
                        self.refused.insert(name.clone(), text);
                        let name = name.clone();
                        first_error = Err(DbFilesError::File { name, reason });
                    }
                }
            }
        }
        first_error
    }

    fn read_one(&mut self, directory: &Directory, name: &str) -> Result<(), DbError> {
        let Some(db_name) = DbName::parse(name) else {
            return Ok(());
        };
        let folder = directory.top();
        let identity = folder.stamp(name)?.identity;
        let is_known = |known: &OpenFile| known.file.identity() == identity;
        if !self.files.get(name).is_some_and(is_known) {
            self.files.remove(name);
            let file = DbFile::open(folder, name)?;
            if self.retired.is_folded(file.identity()) {
                folder.remove(name)?;
                return Ok(());
            }
            let known = OpenFile {
                name: db_name,
                file,
                read_to: 0,
                values: Vec::new(),
                process: None,
                looked_at: None,
                is_damaged: false,
            };
            self.files.insert(name.to_owned(), known);
        }
        let Some(known) = self.files.get_mut(name) else {
            return Ok(());
        };
        let others = self.taken.saturating_sub(known.file.len());
        let used = known.file.read(MAX_BYTES.saturating_sub(others))?;
        self.taken = others + used;
        if used < known.read_to {
            known.read_to = 0;
            known.values.clear();
        }
        for entry in known.file.entries(known.read_to) {
            let entry = entry?;
            let (_, key) = known.file.key(entry)?;
            if let Some(target) = self.view.target(&known.name, key) {
                known.values.push((entry.value_at, target));
            }
            known.read_to = entry.end;
        }
        Ok(())
    }

    /// Folds files whose process was seen with them and is gone.
    fn fold_dead(&mut self, directory: &Directory, now_ms: u64) -> Result<(), DbFilesError> {
        let mut dead = Vec::new();
        for (name, known) in &mut self.files {
            if known.process.is_none() {
                if known.looked_at.is_none_or(|at| at.elapsed() >= LOOK_AGAIN) {
                    known.looked_at = Some(Instant::now());
                    known.process = holder(&known.name.pid, known.file.identity());
                }
                continue;
            }
            let is_over = known.process.is_some_and(|process| !process.is_alive());
            // A later process with the same id may have continued the file.
            if is_over && !known.is_damaged {
                known.process = holder(&known.name.pid, known.file.identity());
                if known.process.is_none() {
                    dead.push(name.clone());
                }
            }
        }
        let expired_ms = now_ms.saturating_sub(self.ttl_ms);
        if self.ttl_ms > 0 && self.retired.expire(directory.home(), expired_ms)? {
            self.retired_targets.clear();
        }
        if dead.is_empty() {
            return Ok(());
        }
        // Reads them once more: no process writes them now.
        for name in &dead {
            if let Err(reason) = self.read_one(directory, name) {
                let name = name.clone();
                return Err(DbFilesError::File { name, reason });
            }
        }
        let files = dead.iter().filter_map(|name| {
            let known = self.files.get(name)?;
            let last = |entry: file::DbEntry| {
                let (key, _) = known.file.key(entry).ok()?;
                let (value, time) = known.file.value(entry.value_at);
                Some(Last {
                    key,
                    value,
                    time,
                    pid: &known.name.pid,
                })
            };
            let values = known.file.entries(0).flatten().filter_map(last).collect();
            Some((&known.name, known.file.identity(), values))
        });
        self.retired.fold(directory.home(), files, now_ms)?;
        self.retired_targets.clear();
        let mut deleted = Vec::new();
        for name in &dead {
            let known = self.files.remove(name);
            directory.top().remove(name)?;
            deleted.extend(known.map(|known| known.file.identity()));
        }
        Ok(self.retired.forget(directory.home(), &deleted)?)
    }

    fn add_up(&mut self) {
        if self.retired_targets.is_empty() {
            for (name, last) in self.retired.values() {
                if let Ok(key) = serde_json::from_str(last.key)
                    && let Some(target) = self.view.target(&name, key)
                {
                    let kept = (target, last.value, last.time, last.pid.into());
                    self.retired_targets.push(kept);
                }
            }
        }
        self.view.clear();
        for (target, value, time, pid) in &self.retired_targets {
            self.view.add(*target, *value, *time, pid);
        }
        for known in self.files.values() {
            for &(value_at, target) in &known.values {
                let (value, time) = known.file.value(value_at);
                self.view.add(target, value, time, &known.name.pid);
            }
        }
    }
}

/// Returns the process with that id, if it has that file open.
fn holder(pid: &str, identity: (u64, u64)) -> Option<Process> {
    let process = Process::of(pid.parse().ok()?)?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut files = descriptors
        .flatten()
        .filter_map(|entry| fs::metadata(entry.path()).ok());
    files
        .any(|file| (file.dev(), file.ino()) == identity)
        .then_some(process)
}

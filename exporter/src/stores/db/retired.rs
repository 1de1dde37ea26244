//! What remains of processes whose `.db` files are gone: their counts, in one file that is replaced
//! as a whole.
//!
//! It names the files that are folded in and not yet deleted, so that one who dies between the two
//! leaves nothing that would be counted twice.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use metrics_model::{FamilyType, GaugeMode};
use serde::{Deserialize, Serialize};

use super::file::DbName;

const NAME: &str = "retired.json";

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Retired {
    path: PathBuf,
    kept: Kept,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Kept {
    /// Folded in, and to be deleted: device, inode.
    folded: Vec<(u64, u64)>,
    entries: Vec<Entry>,
}

/// One value, of one process in the modes that tell processes apart, else of all.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    /// Type and mode, as in the batch format.
    family_type: (u8, u8),
    pid: Box<str>,
    key: Box<str>,
    /// The bits: JSON has no NaN.
    value: u64,
    time: u64,
    /// When its process was found dead, in Unix milliseconds.
    died_ms: u64,
}

/// A value of a process that has died.
pub(crate) struct Last<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: f64,
    pub(crate) time: f64,
}

impl Retired {
    /// What was kept in that directory.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, kept })
    }

    /// Whether a file is folded in already, and only waits to be deleted.
    pub(crate) fn is_folded(&self, identity: (u64, u64)) -> bool {
        self.kept.folded.contains(&identity)
    }

    /// Folds the last values of processes that have died: (name of the file, its identity, values).
    /// On disk when this returns; then the files may be deleted.
    pub(crate) fn fold<'a>(
        &mut self,
        files: impl IntoIterator<Item = (&'a DbName, (u64, u64), Vec<Last<'a>>)>,
        now_ms: u64,
    ) -> io::Result<()> {
        let mut kept = self.kept.clone();
        let mut entries = by_key(kept.entries);
        for (name, identity, values) in files {
            kept.folded.push(identity);
            for last in values {
                fold_one(&mut entries, name, &last, now_ms);
            }
        }
        kept.entries = entries.into_values().collect();
        self.write(kept)
    }

    /// These files are deleted.
    pub(crate) fn forget(&mut self, deleted: &[(u64, u64)]) -> io::Result<()> {
        let mut kept = self.kept.clone();
        kept.folded.retain(|identity| !deleted.contains(identity));
        self.write(kept)
    }

    /// Gauges that tell processes apart, of processes that died before `died_before_ms`, are no
    /// longer shown.
    pub(crate) fn expire(&mut self, died_before_ms: u64) -> io::Result<bool> {
        let is_over = |entry: &Entry| !entry.pid.is_empty() && entry.died_ms < died_before_ms;
        if !self.kept.entries.iter().any(is_over) {
            return Ok(false);
        }
        let mut kept = self.kept.clone();
        kept.entries.retain(|entry| !is_over(entry));
        self.write(kept)?;
        Ok(true)
    }

    /// What is kept: as if one more file held it.
    pub(crate) fn values(&self) -> impl Iterator<Item = (DbName, Last<'_>)> {
        self.kept.entries.iter().filter_map(|entry| {
            let (kind, mode) = entry.family_type;
            let name = DbName {
                family_type: FamilyType::from_numbers(kind, mode)?,
                pid: entry.pid.clone(),
            };
            let last = Last {
                key: &entry.key,
                value: f64::from_bits(entry.value),
                time: f64::from_bits(entry.time),
            };
            Some((name, last))
        })
    }

    fn write(&mut self, kept: Kept) -> io::Result<()> {
        let new = self.path.with_extension("json.new");
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.kept = kept;
        Ok(())
    }
}

type ByKey = BTreeMap<((u8, u8), Box<str>, Box<str>), Entry>;

fn by_key(entries: Vec<Entry>) -> ByKey {
    let key = |entry: &Entry| (entry.family_type, entry.pid.clone(), entry.key.clone());
    entries
        .into_iter()
        .map(|entry| (key(&entry), entry))
        .collect()
}

fn fold_one(entries: &mut ByKey, name: &DbName, last: &Last<'_>, now_ms: u64) {
    let mode = name.family_type.gauge_mode();
    // What only the living say ends with them.
    if mode.is_some_and(GaugeMode::is_live) {
        return;
    }
    let pid = match mode {
        Some(GaugeMode::All) => name.pid.clone(),
        _ => Box::default(),
    };
    let family_type = name.family_type.to_numbers();
    let new = Entry {
        family_type,
        pid: pid.clone(),
        key: last.key.into(),
        value: last.value.to_bits(),
        time: last.time.to_bits(),
        died_ms: now_ms,
    };
    let Some(known) = entries.get_mut(&(family_type, pid.clone(), last.key.into())) else {
        entries.insert((family_type, pid, last.key.into()), new);
        return;
    };
    let before = f64::from_bits(known.value);
    let value = match mode {
        Some(GaugeMode::Min) if last.value < before => last.value,
        Some(GaugeMode::Max) if last.value > before => last.value,
        Some(GaugeMode::Min | GaugeMode::Max) => before,
        Some(GaugeMode::MostRecent) if last.time > f64::from_bits(known.time) => last.value,
        Some(GaugeMode::MostRecent) => return,
        Some(GaugeMode::All) => last.value,
        _ => before + last.value,
    };
    known.value = value.to_bits();
    known.time = new.time;
    known.died_ms = now_ms;
}

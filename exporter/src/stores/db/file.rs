//! One file of `prometheus_client`'s multiprocess mode, as its `mmap_dict.py` writes it. Never
//! written here.
//!
//! ```text
//! i32 used, i32 0, then entries: i32 length, key, spaces to a multiple of 8, f64 value, f64 time
//! ```
//!
//! The key is JSON: family, sample, labels, help. An entry stays where it is while its process
//! lives, so keys are read once and values wherever they were.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::str::FromStr;

use metrics_model::{FamilyType, GaugeMode};
use serde::Deserialize;

const HEADER: usize = 8;
/// A file larger than this is none of `prometheus_client`.
const MAX_FILE: usize = 1 << 30;

/// Why a file is left out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DbError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is damaged at byte {0}")]
    Damaged(usize),
}

/// What the name of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DbName {
    /// Type, and a gauge's mode.
    pub(crate) family_type: FamilyType,
    /// The process, in its own words: `prometheus_client` lets applications choose them.
    pub(crate) pid: Box<str>,
}

impl DbName {
    /// `counter_<pid>.db`, `gauge_<mode>_<pid>.db`, and so on; `None` for other files.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".db")?.split('_');
        let family_type = match parts.next()? {
            "counter" => FamilyType::Counter,
            "histogram" => FamilyType::Histogram,
            "summary" => FamilyType::Summary,
            "gauge" => FamilyType::Gauge(GaugeMode::from_str(parts.next()?).ok()?),
            _ => return None,
        };
        let pid = parts.next()?.into();
        parts.next().is_none().then_some(Self { family_type, pid })
    }
}

/// What an entry is about.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct DbKey(
    pub(crate) String,
    pub(crate) String,
    pub(crate) std::collections::BTreeMap<String, String>,
    /// Versions before 0.10 had no help there.
    #[serde(default)]
    pub(crate) String,
);

/// An entry: where its key and its value are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DbEntry {
    pub(crate) key: (usize, usize),
    pub(crate) value_at: usize,
    pub(crate) end: usize,
}

/// An open file, and what was read of it last.
#[derive(Debug)]
pub(crate) struct DbFile {
    file: File,
    identity: (u64, u64),
    bytes: Vec<u8>,
}

impl DbFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        Ok(Self {
            file,
            identity: (found.dev(), found.ino()),
            bytes: Vec::new(),
        })
    }

    /// Tells it apart from a later one of the same name.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Reads what is in it now; answers how many bytes are in use.
    pub(crate) fn read(&mut self) -> Result<usize, DbError> {
        let mut head = [0; HEADER];
        if self.file.metadata()?.len() < HEADER as u64 {
            // Just being made.
            self.bytes.clear();
            return Ok(0);
        }
        self.file.read_exact_at(&mut head, 0)?;
        let used = i32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
        let used = usize::try_from(used).map_err(|_| DbError::Damaged(0))?;
        if used > MAX_FILE {
            return Err(DbError::Damaged(0));
        }
        self.bytes.resize(used, 0);
        self.file.read_exact_at(&mut self.bytes, 0)?;
        Ok(used)
    }

    /// The entries from byte `at` (0: the first) to the end of what was read.
    pub(crate) fn entries(&self, at: usize) -> impl Iterator<Item = Result<DbEntry, DbError>> {
        let mut at = at.max(HEADER);
        let mut is_damaged = false;
        std::iter::from_fn(move || {
            if is_damaged || at >= self.bytes.len() {
                return None;
            }
            let entry = self.entry(at).ok_or(DbError::Damaged(at));
            match &entry {
                Ok(entry) => at = entry.end,
                Err(_) => is_damaged = true,
            }
            Some(entry)
        })
    }

    fn entry(&self, at: usize) -> Option<DbEntry> {
        let len = i32::from_ne_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?);
        let len = usize::try_from(len).ok()?;
        let key = at + 4;
        // There is always at least one space.
        let value_at = key + len + 8 - (len + 4) % 8;
        let end = value_at + 16;
        (end <= self.bytes.len()).then_some(DbEntry {
            key: (key, len),
            value_at,
            end,
        })
    }

    /// The key of an entry as it stands there, and what it says.
    pub(crate) fn key(&self, entry: DbEntry) -> Result<(&str, DbKey), DbError> {
        let (at, len) = entry.key;
        let read = || {
            let text = std::str::from_utf8(self.bytes.get(at..at + len)?).ok()?;
            Some((text, serde_json::from_str(text).ok()?))
        };
        read().ok_or(DbError::Damaged(at))
    }

    /// Value and time; zeros beyond what was read.
    pub(crate) fn value(&self, value_at: usize) -> (f64, f64) {
        let float = |at: usize| {
            let bytes = self.bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map_or(0.0, f64::from_ne_bytes)
        };
        (float(value_at), float(value_at + 8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_says_type_mode_and_process() {
        let of = |name| DbName::parse(name).map(|name| (name.family_type, name.pid.to_string()));
        assert_eq!(
            of("counter_12.db"),
            Some((FamilyType::Counter, "12".to_owned()))
        );
        assert_eq!(
            of("gauge_livesum_uwsgi-1.db"),
            Some((FamilyType::Gauge(GaugeMode::LiveSum), "uwsgi-1".to_owned()))
        );
        for other in [
            "gauge_12.db",
            "counter_12.txt",
            "info_1.db",
            "counter_1_2.db",
            "x",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}

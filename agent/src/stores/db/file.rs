//! One file of `prometheus_client`'s multiprocess mode, in the format of its `mmap_dict.py`. The
//! exporter never writes it.
//!
//! ```text
//! i32 used, i32 0, then entries: i32 length, key, spaces to a multiple of 8, f64 value, f64 time
//! ```
//!
//! The key is JSON: family, sample, labels, help. An entry does not move while its process lives,
//! so keys are read once, and values at their places.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::str::FromStr;

use metrics_model::{FamilyType, GaugeMode};
use serde::Deserialize;

use crate::stores::directory::{FileError, Folder, read_range};

const HEADER: usize = 8;
/// Maximum size of a file, in bytes: some 500,000 series.
pub(crate) const MAX_FILE_BYTES: usize = 64 << 20;
/// Number of bytes to read before entries are checked; doubled after each check.
const FIRST_READ: usize = 256 << 10;

/// The reason why a file is left out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DbError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("it is damaged at byte {0}")]
    Damaged(usize),
    #[error("it claims {claimed} bytes and has {bytes}")]
    Short { claimed: usize, bytes: u64 },
    #[error("all files together have more than {0} bytes")]
    Room(usize),
}

impl From<io::Error> for DbError {
    fn from(error: io::Error) -> Self {
        Self::File(error.into())
    }
}

/// The parts of a file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DbName {
    /// Type, and a gauge's mode.
    pub(crate) family_type: FamilyType,
    /// The process; `prometheus_client` lets applications choose this text.
    pub(crate) pid: Box<str>,
}

impl DbName {
    /// Parses `counter_<pid>.db`, `gauge_<mode>_<pid>.db`, and so on; `None` for other files.
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

/// The key of an entry.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct DbKey(
    pub(crate) String,
    pub(crate) String,
    pub(crate) std::collections::BTreeMap<String, String>,
    /// Versions before 0.10 had no help in the key.
    #[serde(default)]
    pub(crate) String,
);

/// The places of an entry's key and value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DbEntry {
    pub(crate) key: (usize, usize),
    pub(crate) value_at: usize,
    pub(crate) end: usize,
}

/// An open file, and its content at the last read.
#[derive(Debug)]
pub(crate) struct DbFile {
    file: File,
    identity: (u64, u64),
    bytes: Vec<u8>,
}

impl DbFile {
    pub(crate) fn open(folder: &Folder, name: &str) -> Result<Self, FileError> {
        let (file, stamp) = folder.open(name)?;
        Ok(Self {
            file,
            identity: stamp.identity,
            bytes: Vec::new(),
        })
    }

    /// Returns what tells it apart from a later file of the same name.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Returns the bytes of memory that it takes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Reads its present content, if that is at most `room` bytes; returns how many bytes are in
    /// use.
    pub(crate) fn read(&mut self, room: usize) -> Result<usize, DbError> {
        let mut head = [0; HEADER];
        let bytes = self.file.metadata()?.size();
        if bytes < HEADER as u64 {
            // The file is just being created.
            self.bytes = Vec::new();
            return Ok(0);
        }
        self.file.read_exact_at(&mut head, 0)?;
        let used = i32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
        let used = usize::try_from(used).map_err(|_| DbError::Damaged(0))?;
        if used as u64 > bytes {
            let claimed = used;
            return Err(DbError::Short { claimed, bytes });
        }
        if used > MAX_FILE_BYTES {
            let (bytes, limit) = (used as u64, MAX_FILE_BYTES);
            return Err(FileError::TooLarge { bytes, limit }.into());
        }
        if used > room {
            return Err(DbError::Room(room));
        }
        // The claimed size reserves memory only as far as there are entries.
        let mut wanted = self.bytes.len().max(FIRST_READ);
        let mut seen = HEADER;
        while wanted < used {
            let begun = read_range(&self.file, wanted as u64, MAX_FILE_BYTES)?;
            while let Some(end) = entry(&begun, seen)?.map(|entry| entry.end) {
                seen = end;
            }
            wanted *= 2;
        }
        let whole = read_range(&self.file, used as u64, MAX_FILE_BYTES)?;
        if whole.len() < used {
            let (claimed, bytes) = (used, whole.len() as u64);
            return Err(DbError::Short { claimed, bytes });
        }
        self.bytes = whole;
        Ok(used)
    }

    /// Returns the entries from byte `at` (0: the first) to the end of what was read.
    pub(crate) fn entries(&self, at: usize) -> impl Iterator<Item = Result<DbEntry, DbError>> {
        let mut at = at.max(HEADER);
        let mut is_damaged = false;
        std::iter::from_fn(move || {
            if is_damaged || at >= self.bytes.len() {
                return None;
            }
            let entry = entry(&self.bytes, at).and_then(|entry| entry.ok_or(DbError::Damaged(at)));
            match &entry {
                Ok(entry) => at = entry.end,
                Err(_) => is_damaged = true,
            }
            Some(entry)
        })
    }

    /// Returns the key of an entry, as text and parsed.
    pub(crate) fn key(&self, entry: DbEntry) -> Result<(&str, DbKey), DbError> {
        let (at, len) = entry.key;
        let read = || {
            let text = std::str::from_utf8(self.bytes.get(at..at + len)?).ok()?;
            Some((text, serde_json::from_str(text).ok()?))
        };
        read().ok_or(DbError::Damaged(at))
    }

    /// Returns value and time; zeros beyond what was read.
    pub(crate) fn value(&self, value_at: usize) -> (f64, f64) {
        let float = |at: usize| {
            let bytes = self.bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map_or(0.0, f64::from_ne_bytes)
        };
        (float(value_at), float(value_at + 8))
    }
}

/// Returns the entry at a byte; `None` if it goes beyond what was read.
fn entry(bytes: &[u8], at: usize) -> Result<Option<DbEntry>, DbError> {
    let Some(Ok(head)) = bytes.get(at..at + 4).map(<[u8; 4]>::try_from) else {
        return Ok(None);
    };
    // The shortest key is two brackets, so zeros are no entry.
    let len = usize::try_from(i32::from_ne_bytes(head))
        .ok()
        .filter(|&len| len >= 2)
        .ok_or(DbError::Damaged(at))?;
    let key = at + 4;
    // There is always at least one space.
    let value_at = key + len + 8 - (len + 4) % 8;
    let end = value_at + 16;
    Ok((end <= bytes.len()).then_some(DbEntry {
        key: (key, len),
        value_at,
        end,
    }))
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

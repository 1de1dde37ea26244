//! The counts of processes whose `.db` files are gone, in one file that is always replaced as a
//! whole.
//!
//! The file names the `.db` files that are folded in and not yet deleted. So an exporter that dies
//! between the two steps leaves nothing that would be counted twice.

use std::collections::BTreeMap;

use metrics_model::{AfterLeave, FamilyType, Setting};
use serde::{Deserialize, Serialize};

use super::file::DbName;
use crate::stores::directory::{FileError, Folder};

const NAME: &str = "retired.json";
/// New name of a damaged file, for inspection.
const DAMAGED: &str = "retired.json.damaged";
/// Maximum size of the file, in bytes.
const MAX_BYTES: usize = 256 << 20;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct RetiredValues {
    kept: RetiredFile,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct RetiredFile {
    /// Device and inode of files that are folded in and still have to be deleted.
    folded: Vec<(u64, u64)>,
    entries: Vec<Entry>,
}

/// One value: of one process in the modes that distinguish processes, else of all.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    /// Type and mode, numbered as in batches.
    family_type: (u8, u8),
    pid: Box<str>,
    key: Box<str>,
    /// The bits of the value: JSON has no NaN.
    value: u64,
    time: u64,
    /// The process of the value, for a gauge that all processes share.
    #[serde(default)]
    set_by: Box<str>,
    /// When its process was found dead, in Unix milliseconds.
    died_ms: u64,
}

/// The last value of a process that has died.
pub(crate) struct Last<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: f64,
    pub(crate) time: f64,
    pub(crate) pid: &'a str,
}

impl RetiredValues {
    /// Reads the file of that directory. A damaged one is logged and renamed.
    pub(crate) fn open(folder: &Folder) -> Self {
        let damaged = match folder.read(NAME, MAX_BYTES) {
            Ok((bytes, _)) => match serde_json::from_slice(&bytes) {
                Ok(kept) => return Self { kept },
                Err(error) => error.to_string(),
            },
            Err(error) if error.is_missing() => return Self::default(),
            Err(error) => error.to_string(),
        };
        let aside = rustix::fs::renameat(folder, NAME, folder, DAMAGED);
        tracing::error!(
            "what remains of processes that are gone is lost: {NAME} is damaged ({damaged}){}",
            aside.map_or_else(
                |error| format!(" and stays ({error})"),
                |()| format!("; it is {DAMAGED} now")
            ),
        );
        Self::default()
    }

    /// Returns whether a file is already folded in, and only waits to be deleted.
    pub(crate) fn is_folded(&self, identity: (u64, u64)) -> bool {
        self.kept.folded.contains(&identity)
    }

    /// Folds the last values of processes that have died: (name of the file, its identity, values).
    /// They are on disk when this returns; then the files may be deleted.
    pub(crate) fn fold<'a>(
        &mut self,
        folder: &Folder,
        files: impl IntoIterator<Item = (&'a DbName, (u64, u64), Vec<Last<'a>>)>,
        now_ms: u64,
    ) -> Result<(), FileError> {
        let mut kept = self.kept.clone();
        let mut entries = by_key(kept.entries);
        for (name, identity, values) in files {
            kept.folded.push(identity);
            for last in values {
                fold_one(&mut entries, name, &last, now_ms);
            }
        }
        kept.entries = entries.into_values().collect();
        self.write(folder, kept)
    }

    /// Notes that these files are deleted.
    pub(crate) fn forget(
        &mut self,
        folder: &Folder,
        deleted: &[(u64, u64)],
    ) -> Result<(), FileError> {
        let mut kept = self.kept.clone();
        kept.folded.retain(|identity| !deleted.contains(identity));
        self.write(folder, kept)
    }

    /// Hides gauges with a `pid` label of processes that died before `died_before_ms`.
    pub(crate) fn expire(
        &mut self,
        folder: &Folder,
        died_before_ms: u64,
    ) -> Result<bool, FileError> {
        let is_over = |entry: &Entry| !entry.pid.is_empty() && entry.died_ms < died_before_ms;
        if !self.kept.entries.iter().any(is_over) {
            return Ok(false);
        }
        let mut kept = self.kept.clone();
        kept.entries.retain(|entry| !is_over(entry));
        self.write(folder, kept)?;
        Ok(true)
    }

    /// Returns the values, as if one more file contained them.
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
                pid: if entry.pid.is_empty() {
                    &entry.set_by
                } else {
                    &entry.pid
                },
            };
            Some((name, last))
        })
    }

    fn write(&mut self, folder: &Folder, kept: RetiredFile) -> Result<(), FileError> {
        let bytes = serde_json::to_vec(&kept).map_err(std::io::Error::from)?;
        folder.replace(NAME, &bytes, true)?;
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
    if mode.is_some_and(|mode| mode.after_leave() == AfterLeave::Hidden) {
        return;
    }
    let pid = match mode {
        Some(mode) if mode.is_per_writer() => name.pid.clone(),
        _ => Box::default(),
    };
    let family_type = name.family_type.to_numbers();
    let id = (family_type, pid.clone(), Box::from(last.key));
    let before = entries.get(&id);
    let new = Setting {
        value: last.value,
        time: last.time,
        writer: last.pid.as_bytes(),
    };
    let mut set_by: Box<str> = last.pid.into();
    let (value, time) = match (before, mode) {
        (Some(before), Some(mode)) => {
            let old = Setting {
                value: f64::from_bits(before.value),
                time: f64::from_bits(before.time),
                writer: before.set_by.as_bytes(),
            };
            let both = mode.fold(old, new).unwrap_or(new);
            if std::ptr::eq(both.writer, old.writer) {
                set_by.clone_from(&before.set_by);
            }
            (both.value, both.time)
        }
        (Some(before), None) => (f64::from_bits(before.value) + last.value, last.time),
        (None, _) => (last.value, last.time),
    };
    let entry = Entry {
        family_type,
        pid,
        key: last.key.into(),
        value: value.to_bits(),
        time: time.to_bits(),
        set_by,
        died_ms: now_ms,
    };
    entries.insert(id, entry);
}

#[cfg(test)]
mod tests {
    use super::super::view::DbView;
    use super::*;
    use crate::stores::Directory;
    use metrics_model::{GaugeMode, Source};

    /// Returns the value of the only series, with its time in a timed mode.
    fn shown(
        retired: &RetiredValues,
        live: &[(&str, f64, f64)],
        mode: GaugeMode,
    ) -> Option<(f64, f64)> {
        let mut view = DbView::new(0);
        let key = || serde_json::from_str::<super::super::file::DbKey>(KEY).unwrap();
        let name = |pid: &str| DbName {
            family_type: FamilyType::Gauge(mode),
            pid: pid.into(),
        };
        view.clear();
        for (name, last) in retired.values() {
            let target = view.target(&name, key()).unwrap();
            view.add(target, last.value, last.time, last.pid);
        }
        for &(pid, value, time) in live {
            let target = view.target(&name(pid), key()).unwrap();
            view.add(target, value, time, pid);
        }
        let part = view.part("");
        (part.len() == 1).then(|| match part.point(0) {
            metrics_model::Point::Timed { value, time } => (value, time),
            metrics_model::Point::Scalar(value) => (value, 0.0),
            other => panic!("{other:?}"),
        })
    }

    const KEY: &str = r#"["g", "g", {}, "help"]"#;

    #[test]
    fn a_gauge_is_the_same_whichever_of_its_processes_have_died() {
        let directory = std::env::temp_dir().join(format!("retired-{}", std::process::id()));
        let opened = Directory::open(&directory, false).unwrap();
        let folder = opened.home();
        let values = [0.0, -0.0, 5.0, -5.0, f64::INFINITY, f64::NAN, 5e-324];
        let folded = [
            GaugeMode::Min,
            GaugeMode::Max,
            GaugeMode::Sum,
            GaugeMode::MostRecent,
        ];
        for mode in folded {
            for (first, second) in values.iter().flat_map(|a| values.map(|b| (*a, b))) {
                // Set at the same time: the larger id wins.
                let both = [("11", first, 100.0), ("12", second, 100.0)];
                let mut pages = Vec::new();
                for dead in 0..4_usize {
                    folder.remove(NAME).unwrap();
                    let mut retired = RetiredValues::open(folder);
                    let is_dead = |number: usize| dead >> number & 1 == 1;
                    let mut live = Vec::new();
                    for (number, (pid, value, time)) in both.into_iter().enumerate() {
                        if !is_dead(number) {
                            live.push((pid, value, time));
                            continue;
                        }
                        let name = DbName {
                            family_type: FamilyType::Gauge(mode),
                            pid: pid.into(),
                        };
                        let last = Last {
                            key: KEY,
                            value,
                            time,
                            pid,
                        };
                        let identity = (0, number as u64);
                        let files = [(&name, identity, vec![last])];
                        retired.fold(folder, files, 1).unwrap();
                    }
                    pages.push(
                        shown(&retired, &live, mode).map(|(v, t)| (v.to_bits(), t.to_bits())),
                    );
                }
                let expected = mode.fold(
                    Setting {
                        value: first,
                        time: 100.0,
                        writer: b"11",
                    },
                    Setting {
                        value: second,
                        time: 100.0,
                        writer: b"12",
                    },
                );
                let expected = expected.unwrap().value;
                for page in pages {
                    let (value, _) = page.unwrap();
                    let is_same = value == expected.to_bits()
                        || f64::from_bits(value).is_nan() && expected.is_nan();
                    assert!(
                        is_same,
                        "{mode:?} of {first} and {second}: {}",
                        f64::from_bits(value)
                    );
                }
            }
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}

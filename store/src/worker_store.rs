//! The writer's side: finds and creates the series that a worker records into.

mod memory;
mod reuse;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics_model::{FamilySpec, FamilyType, Layout, MAX_BOUNDS, MAX_LABELS};

use crate::layout::{AT_LAST_WORDS, AT_PID, AT_START_TIME, KIND_PADDING, MAX_RECORD, Shape};
use crate::memory::{WORD, segment_of};
use crate::reader::{FamilyDef, StoreReader};
use crate::{Descriptor, Identity, Process, Series, StoreError, record};
use memory::{Slot, map};

/// The store of this process. It finds and creates series; recording uses only [`Series`].
///
/// A forked child has the parent's store mapped and must not write to it: it makes its own.
#[derive(Debug)]
pub struct WorkerStore {
    file: Descriptor,
    identity: Identity,
    writer_id: String,
    inner: Mutex<Inner>,
}

/// A family of a [`WorkerStore`], only for that store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    number: u32,
    shape: Shape,
}

impl Family {
    /// Returns how many cells a series of it has.
    pub fn cells(self) -> usize {
        self.shape.cells()
    }
}

/// A family's number, and the labels of a series of it.
type Key = (u32, record::Labels);

/// A series that has a record.
#[derive(Debug, Clone, Copy)]
struct Known {
    series: Series,
    /// Where the record is, and its words.
    at: usize,
    words: usize,
    /// How often it was handed out and not given back.
    handles: u32,
    /// It is among [`Inner::returned`], perhaps since before it came back.
    is_listed: bool,
}

#[derive(Debug)]
struct Inner {
    segments: Vec<&'static [AtomicU64]>,
    used: usize,
    families: Vec<FamilyDef>,
    /// Families with one name differ only in their layout.
    families_by_name: HashMap<Box<str>, Vec<u32>>,
    series: HashMap<Key, Known>,
    /// How many records of series there are.
    count: u32,
    /// Series that were given back, from the first on, by family and length of the record.
    returned: HashMap<(u32, usize), VecDeque<(Key, u32)>>,
    /// The place of the exemplar of a series' cell.
    exemplars: HashMap<(u32, u32), Slot>,
}

impl WorkerStore {
    pub(crate) fn adopt(file: OwnedFd, process: Process) -> Result<Self, StoreError> {
        let copy = file.try_clone().map_err(|error| {
            StoreError::system("duplicate a descriptor")(crate::error::errno(&error))
        })?;
        // The reader checks everything, and knows the places of the records.
        let reader = StoreReader::open(copy)?;
        let mut segments = Vec::new();
        while segments.len() <= segment_of(reader.used() - 1) {
            segments.push(map(file.as_fd(), segments.len())?);
        }
        let mut inner = Inner {
            segments,
            used: reader.used(),
            families: Vec::new(),
            families_by_name: HashMap::new(),
            series: HashMap::new(),
            count: 0,
            returned: HashMap::new(),
            exemplars: HashMap::new(),
        };
        for def in reader.families() {
            inner.remember(def.clone());
        }
        for record in reader.records() {
            let known = Known {
                series: inner.series_at(record.at, record.shape),
                at: record.at,
                words: record.words,
                handles: 0,
                is_listed: false,
            };
            if record.is_defined {
                let key = (record.family as u32, record.labels.clone());
                inner.series.insert(key, known);
            }
        }
        for (series, cell, at, words) in reader.exemplar_records() {
            let slot = inner.slot_at(at, words);
            inner.exemplars.insert((series, cell), slot);
        }

        let (identity, writer_id) = (reader.identity().clone(), reader.writer_id());
        let header = inner.segments[0];
        header[AT_START_TIME].store(process.start_time, Relaxed);
        header[AT_PID].store(process.pid.into(), Release);
        Ok(Self {
            identity,
            writer_id,
            file: Descriptor::new(file),
            inner: Mutex::new(inner),
        })
    }

    /// Returns the owner of the store.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns its writer id in registries.
    pub fn writer_id(&self) -> &str {
        &self.writer_id
    }

    /// Finds or creates a family. `layout` is a histogram's (without one it has only the `+Inf`
    /// bucket) and ignored for other types. One family may have several layouts; the first help and
    /// unit stay.
    ///
    /// # Errors
    ///
    /// The name belongs to a family of another type or mode, the record is too large, or no memory
    /// is left.
    pub fn family(
        &self,
        spec: &FamilySpec<'_>,
        layout: Option<&Layout>,
    ) -> Result<Family, StoreError> {
        let only_infinity = Layout::none();
        let layout = match spec.family_type {
            FamilyType::Histogram => Some(layout.unwrap_or(&only_infinity)),
            _ => None,
        };
        self.lock().family(&self.file, spec, layout)
    }

    /// Finds or creates a series: the same labels, in any order, are the same series, and an empty
    /// value stands for an absent label. A retired series comes back only by [`Series::revive`].
    ///
    /// # Errors
    ///
    /// The record is too large, or no memory is left.
    pub fn series(&self, family: &Family, labels: &[(&str, &str)]) -> Result<Series, StoreError> {
        self.lock().series(&self.file, *family, key_of(labels))
    }

    /// Returns the series with these labels, if there is one.
    pub fn find_series(&self, family: &Family, labels: &[(&str, &str)]) -> Option<Series> {
        self.lock().find_series(*family, key_of(labels))
    }

    /// The application has removed the series of these labels, and the caller keeps no handle. With the
    /// last handle the series is retired, and the record of a gauge is used for another series once
    /// the exporter has released it.
    pub fn give_back(&self, family: &Family, labels: &[(&str, &str)]) {
        self.lock().give_back(*family, key_of(labels));
    }

    /// The caller keeps no handle of the series of these labels, which stays.
    pub fn drop_handle(&self, family: &Family, labels: &[(&str, &str)]) {
        self.lock().drop_handle(*family, key_of(labels));
    }

    /// Returns the number of written bytes.
    pub fn used_bytes(&self) -> usize {
        self.lock().used * WORD
    }

    /// Stores an exemplar: an observation, or an increment, with labels of its own. It overwrites
    /// the one before of the same cell.
    ///
    /// # Errors
    ///
    /// The labels are too large, or no memory is left.
    pub fn set_exemplar(
        &self,
        series: &Series,
        cell: u32,
        labels: &[(&str, &str)],
        value: f64,
        time: f64,
    ) -> Result<(), StoreError> {
        let words = record::exemplar(series.number(), cell, labels, value, time)
            .map_err(|words| too_large("an exemplar", words * WORD, MAX_RECORD * WORD))?;
        let mut inner = self.lock();
        match inner.exemplars.get(&(series.number(), cell)) {
            Some(slot) if slot.0.len() >= words.len() => slot.write(&words),
            _ => {
                let at = inner.append(&self.file, &words)?;
                let slot = inner.slot_at(at, words.len());
                inner.exemplars.insert((series.number(), cell), slot);
            }
        }
        Ok(())
    }

    /// Stores why this process ends, as a code above 0 that the caller chooses; the first reason
    /// stays.
    pub fn say_last(&self, words: u64) {
        let said = &self.lock().segments[0][AT_LAST_WORDS];
        if said.load(Relaxed) == 0 {
            said.store(words, Release);
        }
    }

    /// Returns a word of the header.
    pub(crate) fn header(&self, at: usize) -> &'static AtomicU64 {
        &self.lock().segments[0][at]
    }

    /// Appends a record of zeros that readers skip; returns its place and its words.
    pub(crate) fn append_hidden(
        &self,
        words: usize,
    ) -> Result<(usize, &'static [AtomicU64]), StoreError> {
        let mut content = vec![0; words];
        content[0] = record::head(KIND_PADDING, words);
        let mut inner = self.lock();
        let at = inner.append(&self.file, &content)?;
        Ok((at, inner.slot_at(at, words).0))
    }

    /// Drops all series, and returns the mapped memory that they were in, for
    /// [`TemporaryStore`](crate::TemporaryStore) alone: this store is unusable afterwards.
    pub(crate) fn take_segments(&self) -> Vec<&'static [AtomicU64]> {
        let mut inner = self.lock();
        inner.series.clear();
        inner.exemplars.clear();
        std::mem::take(&mut inner.segments)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The data behind the lock is consistent at every step, even after a panic of its holder.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for WorkerStore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.unchecked()
    }
}

impl Inner {
    fn family(
        &mut self,
        file: &Descriptor,
        spec: &FamilySpec<'_>,
        layout: Option<&Layout>,
    ) -> Result<Family, StoreError> {
        let Some(shape) = Shape::of(spec.family_type, layout) else {
            return Err(StoreError::Type {
                name: spec.name.to_owned(),
            });
        };
        let mut first = None;
        for &number in self.families_by_name.get(spec.name).into_iter().flatten() {
            let known = &self.families[number as usize];
            if known.family_type != spec.family_type {
                return Err(StoreError::Conflict {
                    name: spec.name.to_owned(),
                    existing: known.family_type.describe(),
                    asked: spec.family_type.describe(),
                });
            }
            if known.layout.as_ref() == layout {
                return Ok(Family { number, shape });
            }
            first.get_or_insert(number);
        }
        let (help, unit) = match first {
            Some(first) => {
                let first = &self.families[first as usize];
                (first.help.clone(), first.unit.clone())
            }
            None => (spec.help.into(), spec.unit.into()),
        };
        let spec = FamilySpec {
            help: &help,
            unit: &unit,
            ..*spec
        };
        let bounds = layout.map_or(0, Layout::len);
        if bounds > MAX_BOUNDS {
            return Err(too_large(spec.name, bounds * WORD, MAX_BOUNDS * WORD));
        }
        let words = record::family(&spec, layout)
            .map_err(|words| too_large(spec.name, words * WORD, MAX_RECORD * WORD))?;
        let def = FamilyDef {
            name: spec.name.into(),
            family_type: spec.family_type,
            help: help.clone(),
            unit: unit.clone(),
            layout: layout.cloned(),
        };
        self.append(file, &words)?;
        Ok(Family {
            number: self.remember(def),
            shape,
        })
    }

    fn series(
        &mut self,
        file: &Descriptor,
        family: Family,
        labels: record::Labels,
    ) -> Result<Series, StoreError> {
        let key = (family.number, labels);
        if let Some(known) = self.series.get_mut(&key)
            && known.series.take_back()
        {
            known.handles += 1;
            return Ok(known.series);
        }
        let pairs = key.1.iter().map(|(name, value)| (&**name, &**value));
        let name = || &*self.families[family.number as usize].name;
        if key.1.len() > MAX_LABELS {
            return Err(too_large(
                name(),
                key.1.len() * 2 * WORD,
                MAX_LABELS * 2 * WORD,
            ));
        }
        let words = record::series(family.number as usize, family.shape, pairs)
            .map_err(|words| too_large(name(), words * WORD, MAX_RECORD * WORD))?;
        let own = self.series.get(&key).copied();
        let own = own.filter(|known| known.series.is_free());
        let free = own.or_else(|| self.free_record(family.number, words.len()));
        let known = if let Some(free) = free {
            self.write_over(&free, &words);
            free
        } else {
            let at = self.append(file, &words)?;
            Known {
                series: self.series_at(at, family.shape),
                at,
                words: words.len(),
                handles: 0,
                is_listed: false,
            }
        };
        let known = Known {
            handles: 1,
            ..known
        };
        self.series.insert(key, known);
        Ok(known.series)
    }

    fn find_series(&self, family: Family, labels: record::Labels) -> Option<Series> {
        let known = self.series.get(&(family.number, labels));
        known.map(|known| known.series)
    }

    fn remember(&mut self, def: FamilyDef) -> u32 {
        let number = self.families.len() as u32;
        self.families_by_name
            .entry(def.name.clone())
            .or_default()
            .push(number);
        self.families.push(def);
        number
    }
}

/// Returns labels in their order, without empty ones.
fn key_of(labels: &[(&str, &str)]) -> record::Labels {
    let has_value = labels.iter().filter(|(_, value)| !value.is_empty());
    let mut key: Vec<_> = has_value
        .map(|&(name, value)| (name.into(), value.into()))
        .collect();
    key.sort_unstable();
    key.into_boxed_slice()
}

fn too_large(name: &str, bytes: usize, limit: usize) -> StoreError {
    StoreError::TooLarge {
        name: name.to_owned(),
        bytes,
        limit,
    }
}

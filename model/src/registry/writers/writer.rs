//! Writers, and what a registry remembers of them.

use hashbrown::DefaultHashBuilder;
use std::hash::BuildHasher;

use super::entry::{BucketMemory, Entry, NO_PLACE};
use crate::bits::Bits;
use crate::footprint::allocated;
use crate::id_table::IdTable;
use crate::ids::{LayoutId, SeriesId};
use crate::measured::HeapBytes;
use crate::pieces::Pieces;
use crate::registry::Relocate;
use crate::registry::apply::Unnamed;
use crate::registry::catalog::series::{NONE, Total};
use crate::{LeftOut, NativeHistogram};

/// The phases of a writer's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum Phase {
    /// Its lease runs.
    Live,
    /// Its lease is over; it may come back.
    Ended,
    /// It has left for good.
    Closed,
    /// It was silent for so long that the registry keeps only its last seq.
    Forgotten,
}

#[derive(Debug, Clone)]
pub(in crate::registry) struct Writer {
    pub(in crate::registry) id: Box<[u8]>,
    /// The text of the `pid` label of its series in the per-writer modes.
    pub(in crate::registry) pid: Box<str>,
    /// How many of its entries are of such series: as long as there is one, the text stays.
    pub(in crate::registry) with_pid: u32,
    pub(in crate::registry) phase: Phase,
    pub(in crate::registry) seq: u64,
    pub(in crate::registry) lease_end_ms: u64,
    /// When it ceased to own series: the end of its lease, or its LEAVE if that came first.
    pub(in crate::registry) end_ms: u64,
    /// When it left or was forgotten.
    pub(in crate::registry) gone_ms: u64,
    /// When it will be forgotten, once its lease is over.
    pub(in crate::registry) retires_ms: u64,
    /// When it last came back after its lease was over.
    pub(in crate::registry) back_ms: u64,
    /// Number of the last rollback after which it sent something.
    pub(in crate::registry) healed_in: u32,
    /// What it last sent, one entry per series.
    pub(in crate::registry) entries: Pieces<Entry>,
    /// Index of the entries by series.
    by_series: IdTable<u32>,
    hasher: DefaultHashBuilder,
    /// What it last sent of histograms and summaries.
    pub(in crate::registry) buckets: Pieces<BucketMemory>,
    /// What it last sent of native histograms.
    pub(in crate::registry) natives: Pieces<NativeHistogram>,
    /// Memory of those, in bytes.
    pub(in crate::registry) memory_bytes: usize,
    /// Its index table: places in `entries`, or `NONE`.
    pub(in crate::registry) index: Pieces<u32>,
    /// The entries that an unfinished full state has named.
    pub(in crate::registry) run: Option<Bits>,
    /// What its last full state has not named, as long as that is not all marked.
    pub(in crate::registry) unnamed: Option<Box<Unnamed>>,
    /// The series that its last batch has left out, if the batch asked.
    pub(in crate::registry) left_out: LeftOut,
    /// The entry at which settling continues.
    pub(in crate::registry) settle_from: u32,
    /// Entries from here on owned their series until the end of its lease, whether marked or not.
    pub(in crate::registry) owed_from: u32,
    pub(in crate::registry) is_queued: bool,
    /// The first of its entries that were forgotten; each names the next. `NO_PLACE`: there is none.
    pub(in crate::registry) first_hole: u32,
    /// How many there are.
    pub(in crate::registry) holes: u32,
}

impl Writer {
    pub(in crate::registry) fn new(id: &[u8]) -> Self {
        Self {
            id: id.into(),
            pid: Box::default(),
            with_pid: 0,
            phase: Phase::Live,
            seq: 0,
            lease_end_ms: u64::MAX,
            end_ms: 0,
            gone_ms: 0,
            retires_ms: 0,
            back_ms: 0,
            healed_in: 0,
            entries: Pieces::default(),
            by_series: IdTable::default(),
            hasher: DefaultHashBuilder::default(),
            buckets: Pieces::default(),
            natives: Pieces::default(),
            memory_bytes: 0,
            index: Pieces::default(),
            run: None,
            unnamed: None,
            left_out: LeftOut::default(),
            settle_from: 0,
            owed_from: NONE,
            is_queued: false,
            first_hole: NO_PLACE,
            holes: 0,
        }
    }

    /// Moves its memory.
    pub(in crate::registry) fn relocate(&mut self, by: &mut impl Relocate) {
        by.slice(&mut self.id);
        by.text(&mut self.pid);
        self.entries
            .vectors_mut()
            .for_each(|piece| by.vector(piece));
        self.index.vectors_mut().for_each(|piece| by.vector(piece));
        for piece in self.buckets.vectors_mut() {
            by.vector(piece);
            for memory in piece {
                by.slice(&mut memory.counts);
            }
        }
    }

    /// Returns whether it has series under another `pid`, which stays.
    pub(in crate::registry) fn has_other_pid(&self, pid: &str) -> bool {
        self.with_pid > 0 && !pid.is_empty() && *self.pid != *pid
    }

    /// Returns whether its table of definitions may grow: it has at most two places for each of its
    /// series, and `beyond` more.
    pub(in crate::registry) fn has_room_in_index(&self, beyond: usize) -> bool {
        self.index.len() <= 2 * self.entries.len() + beyond
    }

    /// Returns whether it has never sent a batch, and all its entries agree with its phase.
    pub(in crate::registry) fn is_direct(&self) -> bool {
        let has_pushed = self.seq > 0 || self.run.is_some() || !self.index.is_empty();
        !has_pushed && !self.is_queued && self.holes == 0
    }

    /// Returns whether it has left or was forgotten, so that nothing of it is remembered.
    pub(in crate::registry) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Closed | Phase::Forgotten)
    }

    /// Returns whether an entry owned its series until the end of the lease, although it is not
    /// marked.
    pub(in crate::registry) fn is_owed(&self, at: usize) -> bool {
        at >= self.owed_from as usize
    }

    /// Whether its last full state has not named an entry, which is not marked yet.
    pub(in crate::registry) fn is_given_up(&self, at: usize) -> bool {
        self.unnamed
            .as_ref()
            .is_some_and(|unnamed| unnamed.is_pending(at))
    }

    /// Returns the place of the entry for a series.
    pub(in crate::registry) fn find(&self, series: SeriesId) -> Option<usize> {
        let is_it = |at: &u32| {
            self.entries
                .get(*at as usize)
                .is_some_and(|e| e.series == series)
        };
        let at = self.by_series.find(hash_of(&self.hasher, series), is_it);
        at.map(|at| at as usize)
    }

    /// Adds an entry and returns its place.
    pub(in crate::registry) fn remember(&mut self, entry: Entry) -> usize {
        let place = self.take_hole().unwrap_or(self.entries.len());
        if place < self.entries.len() {
            self.entries[place] = entry;
            if let Some(unnamed) = &mut self.unnamed {
                // That run knew the entry that was there before.
                unnamed.done.set(place);
            }
        } else {
            self.entries.push(entry);
            if let Some(named) = &mut self.run {
                named.push();
            }
        }
        self.index_entry(place);
        place
    }

    fn take_hole(&mut self) -> Option<usize> {
        let place = self.first_hole as usize;
        let hole = self.entries.get(place).filter(|_| self.holes > 0)?;
        self.first_hole = hole.place();
        self.holes -= 1;
        Some(place)
    }

    /// Forgets an entry that no index stands for; its place is for another one. Returns the series.
    pub(in crate::registry) fn leave_hole(&mut self, at: usize) -> SeriesId {
        let series = self.entries[at].series;
        self.by_series
            .remove(hash_of(&self.hasher, series), at as u32);
        self.entries[at] = Entry::hole(self.first_hole);
        self.first_hole = at as u32;
        self.holes += 1;
        series
    }

    /// Whether every entry that was forgotten is found from the first one on, once. `holes` is how many
    /// entries say that they were.
    pub(in crate::registry) fn finds_holes(&self, holes: u32) -> bool {
        let mut next = self.first_hole;
        for _ in 0..holes {
            match self.entries.get(next as usize) {
                Some(hole) if hole.is_hole() => next = hole.place(),
                _ => return false,
            }
        }
        next == NO_PLACE
    }

    /// Returns the bucket layout of a histogram or summary whose entry has that place.
    pub(in crate::registry) fn layout_at(&self, place: u32) -> Option<LayoutId> {
        let memory = self.buckets.get(place as usize)?;
        Some(memory.layout)
    }

    /// Returns the place in `entries` for an index of its table.
    #[inline]
    pub(in crate::registry) fn indexed(&self, index: u32) -> Option<usize> {
        match self.index.get(index as usize) {
            Some(&NONE) | None => None,
            Some(&place) => Some(place as usize),
        }
    }

    /// Rebuilds the index by series after decoding; returns false if one series has two entries.
    pub(in crate::registry) fn index_entries(&mut self) -> bool {
        for at in 0..self.entries.len() {
            if self.entries[at].is_hole() {
                continue;
            }
            if self.find(self.entries[at].series).is_some() {
                return false;
            }
            self.index_entry(at);
        }
        true
    }

    /// Adds the entry at that place to the index by series.
    fn index_entry(&mut self, at: usize) {
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = |at: u32| hash_of(hasher, entries[at as usize].series);
        self.by_series.insert(hash(at as u32), at as u32, hash);
    }

    /// Frees the memory, once nothing is remembered.
    pub(in crate::registry) fn forget_all(&mut self) {
        (self.is_queued, self.owed_from) = (false, NONE);
        self.forget_holes();
        self.entries = Pieces::default();
        self.by_series = IdTable::default();
        self.buckets = Pieces::default();
        self.natives = Pieces::default();
        self.memory_bytes = 0;
    }

    /// Nothing takes the place of an entry any more.
    pub(in crate::registry) fn forget_holes(&mut self) {
        (self.first_hole, self.holes) = (NO_PLACE, 0);
    }

    /// Removes what was remembered of a histogram along with its last entry.
    pub(in crate::registry) fn drop_memory(&mut self, total: &Total, place: u32) {
        let place = place as usize;
        match total {
            Total::Buckets(_) if place + 1 == self.buckets.len() => {
                let memory = self.buckets.pop();
                self.memory_bytes -= memory.map_or(0, |memory| memory.heap_bytes());
            }
            Total::Native(_) if place + 1 == self.natives.len() => {
                let memory = self.natives.pop();
                self.memory_bytes -= memory.map_or(0, |memory| memory.heap_bytes());
            }
            _ => {}
        }
    }

    /// Removes the entry of a series, for a writer without index table; the last entry moves to its
    /// place.
    pub(in crate::registry) fn forget(&mut self, series: SeriesId) {
        let Some(at) = self.find(series) else { return };
        let last = self.entries.len() - 1;
        let places = [(series, at), (self.entries[last].series, last)];
        for (series, at) in places {
            let hash = hash_of(&self.hasher, series);
            self.by_series.remove(hash, at as u32);
        }
        self.entries.swap_remove(at);
        if at < self.entries.len() {
            self.index_entry(at);
        }
    }

    /// Stores what it last sent of a histogram or summary; returns the place.
    pub(in crate::registry) fn remember_buckets(&mut self, memory: BucketMemory) -> u32 {
        self.memory_bytes += memory.heap_bytes();
        self.buckets.push(memory);
        (self.buckets.len() - 1) as u32
    }

    /// Stores what it last sent of a native histogram; returns the place.
    pub(in crate::registry) fn remember_native(&mut self, memory: NativeHistogram) -> u32 {
        self.memory_bytes += memory.heap_bytes();
        self.natives.push(memory);
        (self.natives.len() - 1) as u32
    }

    /// Replaces what it last sent of a native histogram.
    pub(in crate::registry) fn replace_native(&mut self, place: usize, now: &NativeHistogram) {
        let memory = &mut self.natives[place];
        self.memory_bytes -= memory.heap_bytes();
        memory.clone_from(now);
        self.memory_bytes += memory.heap_bytes();
    }
}

/// Returns the hash of a series in the index of entries.
fn hash_of(hasher: &DefaultHashBuilder, series: SeriesId) -> u32 {
    hasher.hash_one(series) as u32
}

impl HeapBytes for Writer {
    /// Includes its entries in the indexes of the registry.
    fn heap_bytes(&self) -> usize {
        allocated(self.id.len())
            + allocated(self.pid.len())
            + allocated(self.left_out.heap_bytes())
            + self.entries.heap_bytes()
            + self.by_series.heap_bytes()
            + self.index.heap_bytes()
            + self.buckets.heap_bytes()
            + self.natives.heap_bytes()
            + self.run.as_ref().map_or(0, Bits::heap_bytes)
            + self.unnamed.as_ref().map_or(0, |unnamed| {
                allocated(size_of::<Unnamed>()) + unnamed.done.heap_bytes()
            })
            + self.memory_bytes
            + 120
    }
}

#[cfg(test)]
impl Writer {
    /// Returns [`Writer::memory_bytes`] by a walk.
    pub(in crate::registry) fn walked_memory_bytes(&self) -> usize {
        let buckets = self.buckets.iter().map(BucketMemory::heap_bytes);
        let natives = self.natives.iter().map(NativeHistogram::heap_bytes);
        buckets.chain(natives).sum()
    }
}

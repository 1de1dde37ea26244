//! The exporter's side: reads a store at any time, however its writer ended.

mod mapping;
mod records;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use metrics_model::{FamilySpec, FamilyType, Layout, Point, SourceExemplar};

use crate::file::{hex, may_be_mapped};
use crate::hidden::HIDDEN;
use crate::layout::{
    AT_FLAGS, AT_PID, AT_REUSED, AT_START_TIME, AT_USED, FREE, HEADER, MAX_STORE, RETIRED,
    RETURNED, SERIES_HEAD, STATE, Shape, WRITING,
};
use crate::memory::{FIRST_SEGMENT, Segment, segment_bounds, segment_of, words};
use crate::record::{self, Labels, Record};
use crate::requests::{OpenRequests, read_requests};
use crate::{Identity, Process, StoreError};
use mapping::{damaged, map, read_identity, size_of_file, timed};

/// A family of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilyDef {
    /// The name as its writer passed it.
    pub name: Box<str>,
    /// The type and mode.
    pub family_type: FamilyType,
    /// The text of `# HELP`.
    pub help: Box<str>,
    /// The text of `# UNIT`.
    pub unit: Box<str>,
    /// The buckets of a histogram.
    pub layout: Option<Layout>,
}

impl FamilyDef {
    /// Returns the declaration for batches and registries.
    pub fn spec(&self) -> FamilySpec<'_> {
        FamilySpec {
            name: &self.name,
            family_type: self.family_type,
            help: &self.help,
            unit: &self.unit,
        }
    }

    /// Returns whether it is only for the exporter, and never shown.
    pub fn is_hidden(&self) -> bool {
        self.name.starts_with(HIDDEN)
    }
}

/// A series of a store.
#[derive(Debug, Clone, Copy)]
pub struct SeriesView<'a> {
    /// Its family.
    pub family: &'a FamilyDef,
    /// Its labels, sorted by name.
    pub labels: &'a [(Box<str>, Box<str>)],
}

/// A store, open for reading values and for storing the push state. It trusts nothing in the
/// memory.
#[derive(Debug)]
pub struct StoreReader {
    file: OwnedFd,
    identity: Identity,
    id: [u8; 16],
    pub(crate) segments: Vec<Segment>,
    used: usize,
    families: Vec<FamilyDef>,
    series: Vec<Place>,
    /// Places of the exemplars, by the number of their series: nearly no series has any.
    exemplars: HashMap<u32, Vec<ExemplarPlace>>,
    /// How many records were used again when this was last looked at.
    reused: u64,
}

/// The place of an exemplar's record.
#[derive(Debug)]
struct ExemplarPlace {
    at: usize,
    words: usize,
    cell: u32,
}

/// The place of a series' record.
#[derive(Debug)]
struct Place {
    at: usize,
    words: usize,
    family: usize,
    shape: Shape,
    labels: Labels,
    /// How often the record had been used again when the labels were read.
    uses: u64,
}

/// The record of a series, for its writer.
pub(crate) struct SeriesRecord<'a> {
    pub(crate) family: usize,
    pub(crate) labels: &'a Labels,
    pub(crate) shape: Shape,
    pub(crate) at: usize,
    pub(crate) words: usize,
    /// Its labels are those of a series: it is not between two of them.
    pub(crate) is_defined: bool,
}

impl StoreReader {
    /// Opens a store and reads its records.
    ///
    /// # Errors
    ///
    /// It cannot be mapped, or is damaged; the error names the place.
    pub fn open(file: OwnedFd) -> Result<Self, StoreError> {
        if !may_be_mapped(file.as_fd()) {
            return Err(damaged("store: its memory may shrink", 0));
        }
        if size_of_file(&file)? < FIRST_SEGMENT {
            return Err(damaged("store: it is too short", 0));
        }
        let first = map(file.as_fd(), 0)?;
        let (identity, id) = read_identity(&first)?;
        let mut reader = Self {
            file,
            identity,
            id,
            segments: vec![first],
            used: HEADER,
            families: Vec::new(),
            series: Vec::new(),
            exemplars: HashMap::new(),
            reused: 0,
        };
        reader.refresh()?;
        Ok(reader)
    }

    /// Finds new records. Costs one load if there are none.
    ///
    /// # Errors
    ///
    /// New records are damaged or cannot be mapped; those before them stay readable.
    pub fn refresh(&mut self) -> Result<(), StoreError> {
        let reused = self.segments[0][AT_REUSED].load(Acquire);
        if std::mem::replace(&mut self.reused, reused) != reused {
            self.read_again();
        }
        let used = self.segments[0][AT_USED].load(Acquire) as usize;
        if used == self.used {
            return Ok(());
        }
        if used < self.used || used > MAX_STORE {
            return Err(damaged("length of a store", AT_USED));
        }
        if size_of_file(&self.file)? < used {
            return Err(damaged("store: it is shorter than its records", used));
        }
        while self.segments.len() <= segment_of(used - 1) {
            self.segments
                .push(map(self.file.as_fd(), self.segments.len())?);
        }
        while self.used < used {
            self.used += self.read_record(self.used, used)?;
        }
        Ok(())
    }

    /// Looks for records that were used again since they were read. To be called once more when their
    /// writer has ended: it may have been killed before it counted the last of them.
    pub fn read_again(&mut self) {
        for number in 0..self.series.len() {
            let Place { at, words: len, .. } = self.series[number];
            let Some(all) = words(&self.segments, at, len) else {
                continue;
            };
            let flags = all[AT_FLAGS].load(Acquire);
            if flags & !STATE == self.series[number].uses || flags & (FREE | WRITING) != 0 {
                continue;
            }
            if let Some(Record::Series { labels, uses, .. }) = record::read(all, &self.families) {
                let place = &mut self.series[number];
                (place.labels, place.uses) = (labels, uses);
            }
        }
    }

    /// Returns how many series there have ever been.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Returns a series. Series are numbered from 0 in the order of their creation.
    ///
    /// # Panics
    ///
    /// If there is no series with that number; the same holds for the methods below.
    pub fn series(&self, number: usize) -> SeriesView<'_> {
        let place = &self.series[number];
        SeriesView {
            family: &self.families[place.family],
            labels: &place.labels,
        }
    }

    /// Returns its present value.
    pub fn point(&self, number: usize) -> Point {
        let (shape, record) = self.record(number);
        let cells = &record[SERIES_HEAD..SERIES_HEAD + shape.cells()];
        match shape {
            Shape::Timed => timed(cells),
            _ => shape.point(|i| cells[i].load(Relaxed)),
        }
    }

    /// Returns its present exemplars: the last one of each cell.
    pub fn exemplars(&self, number: usize) -> Vec<SourceExemplar> {
        let places = u32::try_from(number)
            .ok()
            .and_then(|number| self.exemplars.get(&number));
        places
            .into_iter()
            .flatten()
            .filter_map(|place| {
                words(&self.segments, place.at, place.words).and_then(record::read_exemplar)
            })
            .collect()
    }

    /// Returns whether its writer has removed it (it may come back), or has put another series into the
    /// record since the labels were read: what the record says now is not said of these labels.
    pub fn is_retired(&self, number: usize) -> bool {
        let flags = self.record(number).1[AT_FLAGS].load(Acquire);
        flags & RETIRED != 0 || flags & !STATE != self.series[number].uses
    }

    /// Whether its writer has removed it and keeps no handle, so that it may be
    /// [released](Self::release).
    pub fn is_returned(&self, number: usize) -> bool {
        self.record(number).1[AT_FLAGS].load(Acquire) & STATE == RETIRED | RETURNED
    }

    /// Lets the writer use the record for another series: no registry knows this one, and nothing of
    /// it is under way. Its push state is empty from now on. False where its writer has taken it back.
    pub fn release(&self, number: usize) -> bool {
        let (_, record) = self.record(number);
        let flags = &record[AT_FLAGS];
        let before = flags.load(Acquire);
        if before & STATE != RETIRED | RETURNED {
            return false;
        }
        let under_way = before | FREE | WRITING;
        if flags
            .compare_exchange(before, under_way, AcqRel, Relaxed)
            .is_err()
        {
            return false;
        }
        let zero = self.base(number).zero();
        self.set_base(number, &zero);
        self.restart_push(number, &zero);
        flags.store(before | FREE, Release);
        true
    }

    /// Returns the requests in progress. [`refresh`](Self::refresh) finds new blocks of the table.
    pub fn requests(&self) -> OpenRequests {
        read_requests(&self.segments)
    }

    /// Sets a counter or gauge on behalf of an ended writer that was interrupted; other types stay
    /// as they are.
    pub fn complete(&self, number: usize, value: f64) {
        let (shape, record) = self.record(number);
        if shape == Shape::Scalar {
            record[SERIES_HEAD].store(value.to_bits(), Relaxed);
        }
    }

    /// Returns the owner of the store.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the process that writes it; `None` until one has adopted it.
    pub fn process(&self) -> Option<Process> {
        let pid = self.segments[0][AT_PID].load(Acquire);
        let pid = u32::try_from(pid).ok().filter(|&pid| pid != 0)?;
        let start_time = self.segments[0][AT_START_TIME].load(Relaxed);
        Some(Process { pid, start_time })
    }

    /// Returns its writer id in registries: the name, and 128 random bits.
    pub fn writer_id(&self) -> String {
        self.writer_id_of(0)
    }

    /// Returns its writer id in a shared registry that has made it take a new one so many times
    /// ([`PushHeader::incarnation`](crate::PushHeader::incarnation)).
    pub fn writer_id_of(&self, incarnation: u64) -> String {
        let (name, id) = (&self.identity.name, hex(self.id));
        match incarnation {
            0 => format!("{name}/{id}"),
            incarnation => format!("{name}/{id}.{incarnation}"),
        }
    }

    /// Returns the series of a family, found by a walk through all series: only for the few that
    /// the exporter needs once in a writer's life.
    pub fn find<'a>(&'a self, family: &'a str) -> impl Iterator<Item = usize> + 'a {
        (0..self.len()).filter(move |&number| &*self.series(number).family.name == family)
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Returns its families, in the order of their creation.
    pub fn families(&self) -> &[FamilyDef] {
        &self.families
    }

    /// Returns a series' shape, and the words of its record.
    pub(crate) fn record(&self, number: usize) -> (Shape, &[AtomicU64]) {
        let Place { at, shape, .. } = self.series[number];
        // `read_record` has checked that all of them are there.
        let segment = segment_of(at);
        let start = at - segment_bounds(segment).0;
        (
            shape,
            &self.segments[segment][start..start + shape.text_at()],
        )
    }
}

impl AsFd for StoreReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

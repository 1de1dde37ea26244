//! Encodes and decodes records: the text that defines families and series, as words.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, fence};

use metrics_model::{FamilySpec, FamilyType, Layout, MAX_BOUNDS, MAX_LABELS, SourceExemplar};

use crate::layout::{
    AT_CELL, AT_FLAGS, AT_TEXT_LEN, AT_TIME, AT_TURN, AT_VALUE, EXEMPLAR_HEAD, FAMILY_HEAD, FREE,
    KIND_EXEMPLAR, KIND_FAMILY, KIND_PADDING, KIND_SERIES, MAX_RECORD, SERIES_HEAD, STATE, Shape,
    WRITING,
};
use crate::memory::WORD;
use crate::reader::FamilyDef;

/// Minimum size for the labels of an exemplar, in bytes: a trace and a span with their names.
const MIN_EXEMPLAR_TEXT: usize = 128;

/// Names and values of labels.
pub(crate) type Labels = Box<[(Box<str>, Box<str>)]>;

/// A decoded record.
pub(crate) enum Record {
    /// The next family.
    Family(FamilyDef),
    /// The next series.
    Series {
        family: usize,
        shape: Shape,
        /// None as long as it is between two series.
        labels: Labels,
        /// How often the record had been used again when these were its labels.
        uses: u64,
    },
    /// Space for an exemplar of that series' cell.
    Exemplar { series: u32, cell: u32 },
    /// The rest of a segment.
    Padding,
}

/// Returns the first word of a record.
pub(crate) fn head(kind: u64, words: usize) -> u64 {
    kind | (words as u64) << 8
}

/// Returns the length in words that a record's first word gives, if it is possible.
pub(crate) fn length_of(head: u64) -> Option<usize> {
    let words = usize::try_from(head >> 8).ok()?;
    let limit = match head & 0xff {
        KIND_PADDING => usize::MAX,
        _ => MAX_RECORD,
    };
    (words > 0 && words <= limit).then_some(words)
}

/// Encodes a family; the error is its length in words if that is too large.
pub(crate) fn family(spec: &FamilySpec<'_>, layout: Option<&Layout>) -> Result<Vec<u64>, usize> {
    let (kind, mode) = spec.family_type.to_numbers();
    let mut text = Vec::new();
    for part in [spec.name, spec.help, spec.unit] {
        put(&mut text, part);
    }
    for bound in layout.iter().flat_map(|layout| layout.texts()) {
        put(&mut text, bound);
    }
    let mut words = vec![
        0,
        text.len() as u64 | u64::from(kind) << 32 | u64::from(mode) << 40,
    ];
    finish(&mut words, KIND_FAMILY, &text)?;
    Ok(words)
}

/// Encodes a series with all its values zero; the error is its length in words if that is too
/// large.
pub(crate) fn series<'a>(
    family: usize,
    shape: Shape,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<u64>, usize> {
    let mut text = Vec::new();
    for (name, value) in labels {
        put(&mut text, name);
        put(&mut text, value);
    }
    let mut words = vec![0; shape.text_at()];
    words[2] = family as u64;
    words[3] = text.len() as u64;
    finish(&mut words, KIND_SERIES, &text)?;
    Ok(words)
}

/// Encodes an exemplar, with space for larger labels; the error is its length in words if that is
/// too large.
pub(crate) fn exemplar(
    series: u32,
    cell: u32,
    labels: &[(&str, &str)],
    value: f64,
    time: f64,
) -> Result<Vec<u64>, usize> {
    let mut text = Vec::new();
    for (name, value) in labels {
        put(&mut text, name);
        put(&mut text, value);
    }
    let len = text.len();
    text.resize(len.next_power_of_two().max(MIN_EXEMPLAR_TEXT), 0);
    let mut words = vec![0; EXEMPLAR_HEAD];
    words[AT_TURN] = 2;
    words[AT_CELL] = u64::from(series) | u64::from(cell) << 32;
    words[AT_TEXT_LEN] = len as u64;
    words[AT_VALUE] = value.to_bits();
    words[AT_TIME] = time.to_bits();
    finish(&mut words, KIND_EXEMPLAR, &text)?;
    Ok(words)
}

/// Decodes an exemplar; `None` while it is being written, or if it is invalid.
pub(crate) fn read_exemplar(record: &[AtomicU64]) -> Option<SourceExemplar> {
    let turn = record[AT_TURN].load(Acquire);
    let words: Vec<_> = record.iter().map(|word| word.load(Relaxed)).collect();
    fence(Acquire);
    if turn % 2 == 1 || record[AT_TURN].load(Relaxed) != turn {
        return None;
    }
    let len = usize::try_from(words[AT_TEXT_LEN]).ok()?;
    let text: Vec<u8> = words[EXEMPLAR_HEAD..]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let mut text = text.get(..len)?;
    let mut labels = Vec::new();
    while !text.is_empty() {
        labels.push((take(&mut text)?, take(&mut text)?));
    }
    Some(SourceExemplar {
        labels,
        value: f64::from_bits(words[AT_VALUE]),
        time: f64::from_bits(words[AT_TIME]),
    })
}

fn read_exemplar_place(record: &[AtomicU64]) -> Option<Record> {
    if record.len() < EXEMPLAR_HEAD {
        return None;
    }
    let place = record[AT_CELL].load(Relaxed);
    Some(Record::Exemplar {
        series: place as u32,
        cell: (place >> 32) as u32,
    })
}

/// Decodes a record. Reads every word once, so that nothing changes between check and use. `None`
/// if it is invalid.
pub(crate) fn read(record: &[AtomicU64], families: &[FamilyDef]) -> Option<Record> {
    match record.first()?.load(Relaxed) & 0xff {
        KIND_FAMILY => read_family(record).map(Record::Family),
        KIND_SERIES => read_series(record, families),
        KIND_EXEMPLAR => read_exemplar_place(record),
        KIND_PADDING => Some(Record::Padding),
        _ => None,
    }
}

fn read_family(record: &[AtomicU64]) -> Option<FamilyDef> {
    let word = record.get(1)?.load(Relaxed);
    let family_type = FamilyType::from_numbers((word >> 32) as u8, (word >> 40) as u8)?;
    let text = text_of(record, FAMILY_HEAD, word & 0xffff_ffff)?;
    let mut text = text.as_slice();
    let (name, help, unit) = (take(&mut text)?, take(&mut text)?, take(&mut text)?);
    let layout = if family_type == FamilyType::Histogram {
        let mut bounds = Vec::new();
        while !text.is_empty() {
            bounds.push(take(&mut text)?);
        }
        if bounds.len() > MAX_BOUNDS {
            return None;
        }
        Some(Layout::new(bounds.iter().map(|bound| &**bound)).ok()?)
    } else {
        None
    };
    text.is_empty().then_some(FamilyDef {
        name,
        family_type,
        help,
        unit,
        layout,
    })
}

fn read_series(record: &[AtomicU64], families: &[FamilyDef]) -> Option<Record> {
    let family = usize::try_from(record.get(2)?.load(Relaxed)).ok()?;
    let def = families.get(family)?;
    let shape = Shape::of(def.family_type, def.layout.as_ref())?;
    debug_assert!(shape.base_at() >= SERIES_HEAD);
    let flags = record[AT_FLAGS].load(Acquire);
    let labels = if flags & (FREE | WRITING) == 0 {
        read_labels(record, shape)
    } else {
        None
    };
    // A reader that looks on while another exporter releases the record may have read two halves.
    fence(Acquire);
    let after = record[AT_FLAGS].load(Relaxed);
    let uses = flags & !STATE;
    let is_between = (flags | after) & (FREE | WRITING) != 0 || after & !STATE != uses;
    let labels = if is_between {
        (record.len() >= shape.text_at()).then(Labels::default)
    } else {
        labels
    };
    Some(Record::Series {
        family,
        shape,
        labels: labels?,
        uses,
    })
}

fn read_labels(record: &[AtomicU64], shape: Shape) -> Option<Labels> {
    let text = text_of(record, shape.text_at(), record.get(3)?.load(Relaxed))?;
    let mut text = text.as_slice();
    let mut labels = Vec::new();
    while !text.is_empty() {
        if labels.len() == MAX_LABELS {
            return None;
        }
        labels.push((take(&mut text)?, take(&mut text)?));
    }
    Some(labels.into())
}

/// Sets the first word, and appends the text.
fn finish(words: &mut Vec<u64>, kind: u64, text: &[u8]) -> Result<(), usize> {
    words.extend(text.chunks(WORD).map(|chunk| {
        let mut bytes = [0; WORD];
        bytes[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(bytes)
    }));
    if words.len() > MAX_RECORD {
        return Err(words.len());
    }
    words[0] = head(kind, words.len());
    Ok(())
}

/// Returns the text after the fixed words of a record, which must end with it.
fn text_of(record: &[AtomicU64], at: usize, bytes: u64) -> Option<Vec<u8>> {
    let words = record.get(at..)?;
    let len = usize::try_from(bytes).ok()?;
    if words.len() != len.div_ceil(WORD) {
        return None;
    }
    let mut text = words
        .iter()
        .flat_map(|word| word.load(Relaxed).to_ne_bytes())
        .collect::<Vec<_>>();
    text.truncate(len);
    Some(text)
}

fn put(text: &mut Vec<u8>, part: &str) {
    text.extend_from_slice(&(part.len() as u32).to_ne_bytes());
    text.extend_from_slice(part.as_bytes());
}

fn take(text: &mut &[u8]) -> Option<Box<str>> {
    let (len, rest) = text.split_first_chunk()?;
    let len = u32::from_ne_bytes(*len) as usize;
    let (part, rest) = rest.split_at_checked(len)?;
    *text = rest;
    Some(std::str::from_utf8(part).ok()?.into())
}

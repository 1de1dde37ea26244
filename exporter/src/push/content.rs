//! A group's new content: adds the group's labels to every series, and encodes batches.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use metrics_model::{
    BatchHeader, BatchKind, BatchWriter, Labels, Layout, MAX_BATCH_BYTES, MAX_BATCH_CELLS,
    MAX_BATCH_ENTRIES, SourceExemplar, passed_name,
};

use super::reading::{Family, LabelPairs, ReadError, Series};
use super::{PushError, spec};

/// Returns the families with the group's labels on every series, checked by the registry's rules.
pub(super) fn with_labels(
    mut families: Vec<Family>,
    group: &[(String, String)],
) -> Result<Vec<Family>, PushError> {
    for family in &mut families {
        let mut known: HashMap<Labels, usize> = HashMap::with_capacity(family.series.len());
        let mut all = Vec::with_capacity(family.series.len());
        for (number, series) in family.series.iter().enumerate() {
            let is_own = |(name, _): &&(String, String)| group.iter().all(|(set, _)| set != name);
            let own = series.labels.iter().filter(is_own);
            let pairs: LabelPairs = own.chain(group).cloned().collect();
            let labels = Labels::new(borrowed(&pairs)).map_err(|error| {
                let reason = format!(
                    "{}: with the group's labels: {error}",
                    described(family, series)
                );
                ReadError::at(series.place, &reason)
            })?;
            if let Some(other) = known.insert(labels, number) {
                if family.series[other].labels == series.labels {
                    let reason = format!("{} is there twice", described(family, series));
                    return Err(ReadError::at(series.place, &reason).into());
                }
                let names = group.iter().map(|(name, _)| name.as_str());
                return Err(PushError::Merged {
                    place: series.place,
                    one: described(family, &family.series[other]),
                    other: described(family, series),
                    labels: names.collect::<Vec<_>>().join(", "),
                });
            }
            all.push(pairs);
        }
        for (series, labels) in family.series.iter_mut().zip(all) {
            series.labels = labels;
        }
    }
    Ok(families)
}

/// Returns one full state; no batch if there are no series.
pub(super) fn batches(families: &[&Family], ttl: Duration, now: SystemTime) -> Vec<Vec<u8>> {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
    let now = since_epoch.map_or(0.0, |since| since.as_secs_f64());
    let mut run = Run::default();
    for (index, (family, series)) in (0..).zip(all_series(families)) {
        run.write(family, series, index, ttl, now);
    }
    run.finish()
}

fn all_series<'f>(families: &'f [&Family]) -> impl Iterator<Item = (&'f Family, &'f Series)> {
    let of_family = |family: &&'f Family| {
        let family = *family;
        family.series.iter().map(move |series| (family, series))
    };
    families.iter().flat_map(of_family)
}

/// Batches in preparation.
#[derive(Default)]
struct Run<'f> {
    full: Vec<BatchWriter>,
    writer: BatchWriter,
    /// Name and number of the last family in the last batch.
    family: Option<(&'f str, usize)>,
    layout: Option<(&'f Layout, usize)>,
}

impl<'f> Run<'f> {
    fn write(&mut self, of: &'f Family, series: &'f Series, index: u32, ttl: Duration, now: f64) {
        if !self.has_room(series) {
            self.full.push(std::mem::take(&mut self.writer));
            (self.family, self.layout) = (None, None);
        }
        let writer = &mut self.writer;
        let family = match self.family {
            Some((name, number)) if name == of.name => number,
            _ => writer.family(&spec(of, &passed_name(&of.name, of.family_type))),
        };
        self.family = Some((&of.name, family));
        let layout = series.layout.as_ref().map(|layout| match self.layout {
            Some((last, number)) if last == layout => number,
            _ => writer.layout(layout),
        });
        self.layout = series.layout.as_ref().zip(layout).or(self.layout);
        let ttl_ms = ttl.as_millis() as u64;
        let labels = borrowed(&series.labels);
        writer.define(family, ttl_ms, labels, "", layout, &series.point, None);
        if let Some(start) = series.start {
            writer.start(index, start);
        }
        for exemplar in &series.exemplars {
            let pairs = exemplar.labels.iter();
            let exemplar = SourceExemplar {
                labels: pairs
                    .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
                    .collect(),
                value: exemplar.value,
                time: exemplar.time.unwrap_or(now),
            };
            writer.exemplar(index, &exemplar);
        }
    }

    /// Returns whether the series, its start time and its exemplars fit into the batch.
    fn has_room(&self, series: &Series) -> bool {
        const BYTES_OF_PAIR: usize = 8;
        const BYTES_OF_EXEMPLAR: usize = 32;
        let pairs = series.exemplars.iter().flat_map(|one| &one.labels);
        let (mut cells, mut bytes) = (0, BYTES_OF_EXEMPLAR * series.exemplars.len());
        for (name, value) in pairs {
            cells += 1;
            bytes += name.len() + value.len() + BYTES_OF_PAIR;
        }
        let entries = self.writer.len() + series.exemplars.len() + 4;
        self.writer.has_room()
            && entries <= MAX_BATCH_ENTRIES
            && self.writer.cells() + BatchWriter::MAX_CELLS_OF_SERIES + cells <= MAX_BATCH_CELLS
            && self.writer.size() + BatchWriter::MAX_BYTES_OF_SERIES + bytes <= MAX_BATCH_BYTES
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.writer.is_empty() {
            self.full.push(self.writer);
        }
        let count = self.full.len();
        let finish = |(number, writer): (usize, BatchWriter)| {
            writer.finish(BatchHeader {
                kind: if number == 0 {
                    BatchKind::Full { forgotten_seq: 0 }
                } else {
                    BatchKind::More
                },
                last: number + 1 == count,
                ..BatchHeader::FULL
            })
        };
        self.full.into_iter().enumerate().map(finish).collect()
    }
}

/// Returns a series in the form of the file.
fn described(family: &Family, series: &Series) -> String {
    match Labels::new(borrowed(&series.labels)) {
        Ok(labels) if !labels.as_str().is_empty() => {
            format!("{}{{{}}}", family.name, labels.as_str())
        }
        _ => family.name.clone(),
    }
}

fn borrowed(pairs: &LabelPairs) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
    pairs.iter().map(|(name, value)| (&**name, &**value))
}

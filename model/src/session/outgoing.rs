//! Filling batches: the full state, or what has changed.

use std::collections::{BTreeSet, HashMap};

use super::left_out::Retry;
use super::{InFlight, NO_INDEX, Push, SavedPoint, SeriesState, Session, Stage, is_gauge};
use crate::{
    BatchHeader, BatchKind, BatchWriter, FamilySpec, FamilyType, Layout, Point, SeriesLife, Source,
};

impl Session {
    /// Begins a full state: nothing that was sent before counts.
    pub(super) fn begin_full(&mut self, now_ms: u64) {
        let silent_ms = now_ms.saturating_sub(self.acked_at_ms);
        if self.acked_at_ms > 0 && silent_ms > self.options.tombstone_retention_ms {
            self.rebase(|saved| (!is_gauge(saved.family_type)).then(|| saved.acked.clone()));
        }
        for state in &mut self.series {
            state.index = NO_INDEX;
        }
        self.next_index = 0;
        self.retired = 0;
        self.retry = Retry::default();
        self.full_at_ms = None;
    }

    /// Returns a batch of the full state from series `from` on, with as much as fits.
    pub(super) fn send_state(&mut self, source: &dyn Source, from: usize, kind: BatchKind) -> Push {
        let mut batch = Contents::default();
        let mut number = from;
        while number < source.len() && batch.has_room() {
            self.know(source, number);
            if !self.has_ended(source, number) {
                self.define(&mut batch, source, number);
            }
            number += 1;
        }
        let is_last = number == source.len();
        let then = if is_last {
            Stage::Steady
        } else {
            Stage::More { number }
        };
        self.send(batch, kind, then)
    }

    /// Returns a batch of what has changed since it was last sent; `None` if nothing has.
    pub(super) fn send_changes(&mut self, source: &dyn Source, now_ms: u64) -> Option<Push> {
        let mut batch = Contents::default();
        let again = self.retry.due(now_ms);
        for number in self.series.len()..source.len() {
            self.know(source, number);
        }
        // In the order of `place_of_change`.
        for are_scalars in [false, true] {
            for number in 0..source.len() {
                if !batch.has_room() {
                    break;
                }
                if self.is_scalar(number) == are_scalars {
                    self.send_change(&mut batch, source, number, &again);
                }
            }
        }
        let has_news = !batch.writer.is_empty();
        has_news.then(|| self.send(batch, BatchKind::Incremental, Stage::Steady))
    }

    fn send_change<'s>(
        &mut self,
        batch: &mut Contents<'s>,
        source: &'s dyn Source,
        number: usize,
        again: &BTreeSet<usize>,
    ) {
        let index = self.series[number].index;
        match (self.has_ended(source, number), index != NO_INDEX) {
            (true, false) => self.retry.remove(number),
            (true, true) => {
                batch.writer.retire(index);
                let family_type = self.series[number].saved.family_type;
                self.retired += usize::from(is_gauge(family_type));
                self.series[number].index = NO_INDEX;
            }
            (false, false) => {
                let was_left_out = self.retry.contains(number);
                if was_left_out && !again.contains(&number) {
                    return;
                }
                batch.retried += usize::from(was_left_out);
                self.define(batch, source, number);
            }
            (false, true) => {
                let point = source.point(number);
                let sent = &mut self.series[number].saved.sent;
                if !point.is_same(sent) {
                    batch.writer.update(index, sent, &point);
                    *sent = point;
                    batch.sent.push(number);
                    self.send_exemplars(batch, source, number);
                }
            }
        }
    }

    /// Whether its writer has removed a series, and the registry has all that was counted before. A
    /// counter that was removed is sent like one that is live until then; a gauge ends at once.
    fn has_ended(&self, source: &dyn Source, number: usize) -> bool {
        let state = &self.series[number];
        let saved = &state.saved;
        match source.life(number) {
            SeriesLife::Live => false,
            SeriesLife::Gone => true,
            SeriesLife::Removed if is_gauge(saved.family_type) => true,
            SeriesLife::Removed => !state.may_be_lost && source.point(number).is_same(&saved.acked),
        }
    }

    fn is_scalar(&self, number: usize) -> bool {
        matches!(self.series[number].saved.sent, Point::Scalar(_))
    }

    /// Begins to keep the state of a series.
    fn know(&mut self, source: &dyn Source, number: usize) {
        if number == self.series.len() {
            let zero = source.point(number).zero();
            let family_type = source.series(number).family.family_type;
            let saved = SavedPoint {
                family_type,
                base: zero.clone(),
                acked: zero.clone(),
                sent: zero,
            };
            self.series.push(SeriesState::new(saved, 0));
        }
    }

    fn define<'s>(&mut self, batch: &mut Contents<'s>, source: &'s dyn Source, number: usize) {
        let def = source.series(number);
        let point = source.point(number);
        let family = batch.family(&def.family);
        let layout = def.layout.map(|layout| batch.layout(layout));
        let saved = &mut self.series[number].saved;
        let has_base =
            !saved.base.is_same(&saved.base.zero()) && !matches!(point, Point::Timed { .. });
        let labels = def.labels.iter().map(|(name, value)| (&**name, &**value));
        let base = has_base.then_some(&saved.base);
        batch
            .writer
            .define(family, def.ttl_ms, labels, def.pid, layout, &point, base);
        batch.sent.push(number);
        saved.sent = point;
        self.series[number].index = self.next_index;
        self.series[number].exemplars_until = 0.0;
        self.next_index += 1;
        self.send_exemplars(batch, source, number);
    }

    /// Adds exemplars that are newer than the last one sent. They travel with a value of their
    /// series, and again with every full state, so none needs its own acknowledgement.
    fn send_exemplars(&mut self, batch: &mut Contents<'_>, source: &dyn Source, number: usize) {
        let state = &mut self.series[number];
        let before = state.exemplars_until;
        for exemplar in source.exemplars(number) {
            if exemplar.time > before && batch.has_room() {
                batch.writer.exemplar(state.index, &exemplar);
                state.exemplars_until = state.exemplars_until.max(exemplar.time);
            }
        }
    }

    pub(super) fn send(&mut self, contents: Contents<'_>, kind: BatchKind, then: Stage) -> Push {
        let Contents {
            writer,
            sent,
            retried,
            ..
        } = contents;
        self.seq += 1;
        let last = kind != BatchKind::Incremental && then == Stage::Steady;
        let header = BatchHeader {
            kind,
            last,
            names_left_out: self.asks_left_out,
            left_out_before: match kind {
                BatchKind::Full { .. } => 0,
                _ => self.left_out_before,
            },
            registry_ttl_ms: self.options.registry_ttl_ms,
        };
        let push = Push {
            seq: self.seq,
            epoch: self.last_epoch,
            batch: writer.finish(header),
        };
        if !sent.is_empty() {
            self.sent_seq = self.seq;
            self.sent_full = kind != BatchKind::Incremental;
        }
        self.touched.extend(&sent);
        self.in_flight = Some(InFlight {
            push: push.clone(),
            sent,
            then,
            retried,
            sends: 1,
            errors: 0,
        });
        push
    }
}

/// A batch in preparation, with the numbers of the families and layouts that it has introduced.
#[derive(Default)]
pub(super) struct Contents<'s> {
    writer: BatchWriter,
    families: HashMap<(&'s str, FamilyType), usize>,
    layouts: Vec<&'s Layout>,
    /// The series, in the order of the bytes.
    sent: Vec<usize>,
    /// Number of them that were left out before.
    retried: usize,
}

impl<'s> Contents<'s> {
    /// Returns whether a series with its family and its layout still fits, whatever its size.
    fn has_room(&self) -> bool {
        self.writer.has_room()
    }

    fn family(&mut self, family: &FamilySpec<'s>) -> usize {
        let writer = &mut self.writer;
        let key = (family.name, family.family_type);
        *self
            .families
            .entry(key)
            .or_insert_with(|| writer.family(family))
    }

    fn layout(&mut self, layout: &'s Layout) -> usize {
        self.layouts
            .iter()
            .position(|known| *known == layout)
            .unwrap_or_else(|| {
                self.layouts.push(layout);
                self.writer.layout(layout)
            })
    }
}

//! The part of a session that outlives its process, and how another process continues with it.

use super::left_out::{Retry, sort_batch};
use super::{SeriesState, Session, SessionOptions, Stage, is_gauge};
use crate::{Epoch, FamilyType, Point};

/// The part of a session that must outlive its process, so that another can continue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Saved {
    /// The last seq that was sent.
    pub seq: u64,
    /// The seq of the last batch with values: those in [`SavedPoint::sent`].
    pub sent_seq: u64,
    /// Whether that batch was part of a full state.
    pub sent_full: bool,
    /// The last seq that was acknowledged.
    pub acked_seq: u64,
    /// The time of that acknowledgement, in Unix milliseconds.
    pub acked_at_ms: u64,
    /// The epoch of the registry that acknowledged it.
    pub epoch: Option<Epoch>,
    /// The saved point of each series, by its number.
    pub points: Vec<SavedPoint>,
    /// The series of the batch `sent_seq`, in any order.
    pub last_batch: Vec<usize>,
}

/// The part of a series' state that must outlive the process.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedPoint {
    /// Its type: gauges come back whole, other types continue from their base.
    pub family_type: FamilyType,
    /// The part of its value that a registry that does not know the series must not count.
    pub base: Point,
    /// The value that was last acknowledged.
    pub acked: Point,
    /// The value that was last sent.
    pub sent: Point,
}

impl Session {
    /// Returns a session that continues one whose process died: its last batch may or may not have
    /// arrived. So it first asks for the last seq, before new values replace those of that batch.
    pub fn resume(writer: Vec<u8>, options: SessionOptions, mut saved: Saved) -> Self {
        let mut unanswered = Vec::new();
        if saved.sent_seq > saved.acked_seq {
            sort_batch(&mut saved.last_batch, saved.sent_full, &saved.points);
            let point = |&number: &usize| Some((number, saved.points.get(number)?.sent.clone()));
            let points = saved.last_batch.iter().filter_map(point);
            unanswered.push((saved.sent_seq, points.collect()));
        }
        let points = saved.points.into_iter();
        let series = points.map(|point| SeriesState::new(point, saved.acked_seq));
        Self {
            writer,
            options,
            seq: saved.seq,
            sent_seq: saved.sent_seq,
            sent_full: saved.sent_full,
            acked_seq: saved.acked_seq,
            acked_at_ms: saved.acked_at_ms,
            epoch: saved.epoch,
            last_epoch: None,
            series: series.collect(),
            next_index: 0,
            retired: 0,
            stage: Stage::Hello,
            in_flight: None,
            unanswered,
            asks_left_out: true,
            left_out_before: 0,
            retry: Retry::default(),
            full_at_ms: None,
            touched: Vec::new(),
            not_applied: Vec::new(),
        }
    }

    /// Returns the same series under another writer id: what was acknowledged is not counted again.
    #[must_use]
    pub fn with_new_id(self, writer: Vec<u8>) -> Self {
        let points = self.series.into_iter().map(|state| {
            let SavedPoint {
                family_type, acked, ..
            } = state.saved;
            let base = if is_gauge(family_type) {
                acked.zero()
            } else {
                acked.clone()
            };
            SavedPoint {
                family_type,
                base,
                sent: acked.clone(),
                acked,
            }
        });
        let mut session = Self::new(writer, self.options);
        session.asks_left_out = self.asks_left_out;
        session.series = points
            .map(|saved| SeriesState::new(saved, 0))
            .collect::<Vec<_>>();
        session.touched = (0..session.series.len()).collect();
        session
    }

    /// Returns what [`resume`](Self::resume) needs: the state of the series that were sent, which
    /// are the first ones of the source.
    pub fn saved(&self) -> Saved {
        let in_flight = self.in_flight().unwrap_or_default().to_vec();
        let of_seq = |(seq, _): &&(u64, _)| *seq == self.sent_seq;
        let before = self.unanswered.iter().find(of_seq);
        let before = before.map(|(_, points)| points.iter().map(|(number, _)| *number).collect());
        Saved {
            seq: self.seq,
            sent_seq: self.sent_seq,
            sent_full: self.sent_full,
            acked_seq: self.acked_seq,
            acked_at_ms: self.acked_at_ms,
            epoch: self.epoch,
            points: self
                .series
                .iter()
                .map(|state| state.saved.clone())
                .collect(),
            last_batch: before.unwrap_or(in_flight),
        }
    }
}

//! What of a session outlives its process, and how another goes on with it.

use super::left_out::{Retry, sort_batch};
use super::{SeriesState, Session, SessionOptions, Stage, is_gauge};
use crate::{Epoch, FamilyType, Point};

/// What must outlive the process that runs a session, so that another can go on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Saved {
    /// The last seq that was sent.
    pub seq: u64,
    /// The seq of the last batch that had values in it: the ones that [`SavedPoint::sent`] holds.
    pub sent_seq: u64,
    /// Whether that batch was of a full state.
    pub sent_full: bool,
    /// The last seq that was acknowledged.
    pub acked_seq: u64,
    /// When that was, in Unix milliseconds.
    pub acked_at_ms: u64,
    /// The epoch of the registry that acknowledged it.
    pub epoch: Option<Epoch>,
    /// Of each series, by its number.
    pub points: Vec<SavedPoint>,
    /// The series of the batch `sent_seq`, in any order.
    pub last_batch: Vec<usize>,
}

/// What must outlive a session's process of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedPoint {
    /// Its type: gauges come back whole where others go on from their base.
    pub family_type: FamilyType,
    /// What of its value is not to be counted by a registry that does not know it.
    pub base: Point,
    /// What was last acknowledged.
    pub acked: Point,
    /// What was last sent.
    pub sent: Point,
}

impl Session {
    /// A writer whose session ended without its will: what was sent last may or may not have
    /// arrived. So it first asks for its last seq, before new values take the place of those.
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
            told: None,
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

    /// The same series under another writer id: what was acknowledged is not counted again.
    #[must_use]
    pub fn reborn(self, writer: Vec<u8>) -> Self {
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

    /// What [`resume`](Self::resume) goes on with: of the series that were sent, which are the
    /// source's first.
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

//! What of a session outlives its process, and how another goes on with it.

use super::{NO_INDEX, SeriesState, Session, SessionOptions, Stage, is_gauge};
use crate::{Epoch, FamilyType, Point};

/// What must outlive the process that runs a session, so that another can go on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Saved {
    /// The last seq that was sent.
    pub seq: u64,
    /// The seq of the last batch that had values in it: the ones that [`SavedPoint::sent`] holds.
    pub sent_seq: u64,
    /// The last seq that was acknowledged.
    pub acked_seq: u64,
    /// When that was, in Unix milliseconds.
    pub acked_at_ms: u64,
    /// The epoch of the registry that acknowledged it.
    pub epoch: Option<Epoch>,
    /// Of each series, by its number.
    pub points: Vec<SavedPoint>,
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
    pub fn resume(writer: Vec<u8>, options: SessionOptions, saved: Saved) -> Self {
        let is_new = |point: &SavedPoint| !point.sent.is_same(&point.acked);
        let points = saved
            .points
            .iter()
            .enumerate()
            .filter(|(_, point)| is_new(point));
        let points = points
            .map(|(number, point)| (number, point.sent.clone()))
            .collect();
        let has_unanswered = saved.sent_seq > saved.acked_seq;
        let unanswered = if has_unanswered {
            vec![(saved.sent_seq, points)]
        } else {
            Vec::new()
        };
        let series = saved.points.into_iter().map(|saved| SeriesState {
            saved,
            index: NO_INDEX,
            exemplars_until: 0.0,
        });
        Self {
            writer,
            options,
            seq: saved.seq,
            sent_seq: saved.sent_seq,
            acked_seq: saved.acked_seq,
            acked_at_ms: saved.acked_at_ms,
            epoch: saved.epoch,
            told: None,
            series: series.collect(),
            next_index: 0,
            stage: Stage::Hello,
            in_flight: None,
            unanswered,
            run_left_out: false,
            retry_full_at_ms: None,
            touched: Vec::new(),
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
        session.series = points
            .map(|saved| SeriesState {
                saved,
                index: NO_INDEX,
                exemplars_until: 0.0,
            })
            .collect::<Vec<_>>();
        session.touched = (0..session.series.len()).collect();
        session
    }

    /// What [`resume`](Self::resume) goes on with: of the series that were sent, which are the
    /// source's first.
    pub fn saved(&self) -> Saved {
        Saved {
            seq: self.seq,
            sent_seq: self.sent_seq,
            acked_seq: self.acked_seq,
            acked_at_ms: self.acked_at_ms,
            epoch: self.epoch,
            points: self
                .series
                .iter()
                .map(|state| state.saved.clone())
                .collect(),
        }
    }
}

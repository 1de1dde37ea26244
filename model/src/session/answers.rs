//! What an answer means: what is acknowledged, and what has to be sent again.

use super::{
    FULL_STATE_MS, InFlight, MAX_UNANSWERED, NO_INDEX, Outcome, SavedPoint, Session, Stage,
    is_gauge,
};
use crate::{FamilyType, GaugeMode, LeftOut, Point, PushReply, PushStatus};

impl Session {
    pub(super) fn acked(&mut self, in_flight: &InFlight, reply: &PushReply, now_ms: u64) {
        self.epoch = Some(reply.epoch);
        self.acked_seq = in_flight.push.seq;
        self.acked_at_ms = now_ms;
        let left_out = reply.series_left_out.as_ref().filter(|l| !l.is_empty());
        for (position, number) in in_flight.sent.iter().enumerate() {
            let state = &mut self.series[*number];
            if left_out.is_some_and(|left_out| left_out.contains(position)) {
                state.saved.sent.clone_from(&state.saved.acked);
                state.index = NO_INDEX;
                self.not_applied.push(*number);
            } else {
                state.saved.acked.clone_from(&state.saved.sent);
                (state.acked_seq, state.may_be_lost) = (self.acked_seq, false);
            }
        }
        self.touched.extend(&in_flight.sent);
        self.unanswered.clear();
        self.stage = in_flight.then;
        self.retry.on_applied(in_flight, left_out, now_ms);
        self.left_out_before = left_out.map_or(0, LeftOut::digest);
        let is_incomplete = match &reply.series_left_out {
            Some(_) => !self.retry.is_empty(),
            None => reply.left_out > 0,
        };
        if is_incomplete {
            self.full_at_ms = self.full_at_ms.or(Some(now_ms + FULL_STATE_MS));
        } else if reply.series_left_out.is_some() {
            self.full_at_ms = None;
        }
    }

    pub(super) fn keep_unanswered(&mut self, seq: u64, points: Vec<(usize, Point)>) {
        if !points.is_empty() {
            self.unanswered.push((seq, points));
        }
        if self.unanswered.len() > MAX_UNANSWERED {
            self.unanswered.remove(0);
        }
    }

    /// Acknowledges a batch whose answer was lost. No two batches of a writer have one seq, so if
    /// the registry names the seq of an unacknowledged batch, that batch has arrived.
    fn acknowledge_unanswered(&mut self, reply: &PushReply) {
        let of_reply = |(seq, _): &(u64, _)| *seq == reply.last_seq;
        let Some(at) = self.unanswered.iter().position(of_reply) else {
            return;
        };
        let arrived = self.unanswered.drain(..=at).next_back();
        let points = arrived.into_iter().flat_map(|(_, points)| points);
        let left_out = reply.series_left_out.as_ref();
        for (position, (number, point)) in points.enumerate() {
            if left_out.is_some_and(|left_out| left_out.contains(position)) {
                self.not_applied.push(number);
            } else {
                let state = &mut self.series[number];
                state.saved.acked = point;
                (state.acked_seq, state.may_be_lost) = (reply.last_seq, false);
            }
            self.touched.push(number);
        }
        self.acked_seq = reply.last_seq;
        self.epoch = Some(reply.epoch);
    }

    /// Prepares the full state: the registry does not know what the batch built on.
    pub(super) fn refused(&mut self, reply: &PushReply) -> Outcome {
        self.seq = self.seq.max(reply.last_seq);
        self.acknowledge_unanswered(reply);
        match reply.status {
            PushStatus::Gone => return Outcome::Gone,
            PushStatus::Forgotten => {
                self.rebase(|saved| {
                    // A gauge in mode `sum` was folded into the total.
                    let was_folded = saved.family_type == FamilyType::Gauge(GaugeMode::Sum);
                    (was_folded || !is_gauge(saved.family_type)).then(|| saved.acked.clone())
                });
                self.stage = Stage::Full {
                    forgotten_seq: reply.last_seq,
                };
            }
            _ => {
                if self.epoch.is_some_and(|epoch| epoch != reply.epoch) {
                    self.rebase(|saved| {
                        (!is_gauge(saved.family_type)).then(|| saved.acked.clone())
                    });
                } else {
                    self.note_rollback(reply.last_seq);
                }
                self.stage = Stage::Full { forgotten_seq: 0 };
            }
        }
        Outcome::Again
    }

    /// The registry knows this writer's batches up to that seq. Series that are live are sent again
    /// in any case; this is for those that were removed.
    fn note_rollback(&mut self, last_seq: u64) {
        for state in &mut self.series {
            state.may_be_lost |= state.acked_seq > last_seq;
        }
    }

    pub(super) fn rebase(&mut self, base: impl Fn(&SavedPoint) -> Option<Point>) {
        for (number, state) in self.series.iter_mut().enumerate() {
            let saved = &mut state.saved;
            saved.base = base(saved).unwrap_or_else(|| saved.base.zero());
            state.may_be_lost = false;
            self.touched.push(number);
        }
    }
}

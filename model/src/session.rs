//! The writer's side of PUSH, without any I/O: what to send, and what an answer means.
//!
//! # How it works
//!
//! One batch is in flight at a time, and it stays the same bytes until it is answered. A session
//! that knows nothing of its registry sends an empty batch to be told the epoch, then its *full
//! state*, a run of batches if it is large; from then on only what changes. Whenever the registry
//! says that it does not know what the session builds on, the full state follows again.
//!
//! Every answer names the last seq that was applied, so at any time there is at most one batch of
//! which it is not known whether it arrived: what was *sent*, beside what was *acknowledged*.
//!
//! # Why nothing is counted twice
//!
//! A registry that remembers a series of this writer adds the difference to what it remembers. One
//! that does not begins at the series' *base*, which says how much of the value another registry,
//! or an earlier life of this one, has already counted. See [`Session::on_reply`] for the three
//! cases in which a base changes.
//!
//! # What its writer removes
//!
//! A gauge that was removed ends with the next batch. Of other types, what was counted before is part
//! of the total: the last value is sent like that of a live series, and the series ends when the
//! registry has it. A registry that was rolled back is sent that value again, as it is sent all others.
//!
//! # What the registry leaves out
//!
//! A registry at a limit applies what fits and leaves out the rest, and each batch asks it to name
//! these series ([`LeftOut`]). What was left out was not sent: it is not acknowledged, so it becomes
//! no base. It is defined again a second later, one series at first and twice as many whenever all
//! of them are accepted, so that a limit costs little while it holds and is noticed at once when it
//! is lifted; and every 30 s with a full state. A writer leaves when nothing is left out
//! ([`Session::left_out_count`]).
//!
//! A registry of an older version does not know the question and refuses the batch
//! ([`Session::on_unknown_question`]). Its replies say only how many entries were left out.

mod left_out;
mod outgoing;
mod saved;

pub use saved::{Saved, SavedPoint};

use crate::{
    BatchKind, Epoch, FamilyType, GaugeMode, LeftOut, Point, PushReply, PushStatus, Source,
};
use left_out::Retry;
use outgoing::Contents;

/// Time between two full states while something is left out, in milliseconds.
const FULL_STATE_MS: u64 = 30_000;
/// So many gauges are retired before the registry is made to forget them by a full state.
const MIN_RETIRED: usize = 1000;
/// How many batches without an answer are remembered; more than one takes more than one fault.
const MAX_UNANSWERED: usize = 4;
/// A series without a place in the registry's index table.
const NO_INDEX: u32 = u32::MAX;

/// What a session is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// For how long the registry's key outlives the last lease of its writers; 0 = for ever.
    pub registry_ttl_ms: u64,
    /// For how long the registry remembers a writer's last seq.
    pub tombstone_retention_ms: u64,
}

/// A batch to send: `METRICS.PUSH key writer seq batch [EPOCH epoch]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Its seq.
    pub seq: u64,
    /// The epoch it is meant for; `None`: to be told.
    pub epoch: Option<Epoch>,
    /// Its bytes.
    pub batch: Vec<u8>,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The batch was applied, now or before.
    Acked,
    /// There is something else to send: ask for it.
    Again,
    /// The registry believes that this writer has left, which it has not: go on under another id
    /// ([`Session::reborn`]).
    Gone,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Session {
    writer: Vec<u8>,
    options: SessionOptions,
    seq: u64,
    sent_seq: u64,
    sent_full: bool,
    acked_seq: u64,
    acked_at_ms: u64,
    /// Of the last acknowledgement.
    epoch: Option<Epoch>,
    /// Of the last answer, whatever it was: the one to send to.
    told: Option<Epoch>,
    series: Vec<SeriesState>,
    next_index: u32,
    /// How many gauges were retired since the last full state began: of other types the registry goes
    /// on to remember what was sent.
    retired: usize,
    stage: Stage,
    in_flight: Option<InFlight>,
    /// Batches of which a copy may arrive, or have arrived, though none was acknowledged: seq and
    /// values.
    unanswered: Vec<(u64, Vec<(usize, Point)>)>,
    /// Whether the registry is asked to name what it leaves out.
    asks_left_out: bool,
    /// What the last batch that was acknowledged has left out, as a digest.
    left_out_before: u32,
    retry: Retry,
    full_at_ms: Option<u64>,
    touched: Vec<usize>,
    /// Series that the batch that was acknowledged last has left out, since this was last taken.
    not_applied: Vec<usize>,
}

#[derive(Debug, Clone)]
struct SeriesState {
    saved: SavedPoint,
    index: u32,
    /// The seq of the last batch with a value of it that was acknowledged; after a resumption, of any.
    acked_seq: u64,
    /// A rollback may have taken from the registry what was acknowledged.
    may_be_lost: bool,
    /// The time of the newest exemplar that was sent in this session.
    exemplars_until: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is known of the registry.
    Hello,
    /// The full state is to be sent, from its beginning.
    Full { forgotten_seq: u64 },
    /// It goes on with that series.
    More { number: usize },
    /// The registry knows everything but what has changed since.
    Steady,
}

#[derive(Debug, Clone)]
struct InFlight {
    push: Push,
    /// Its series, in the order of its bytes.
    sent: Vec<usize>,
    then: Stage,
    /// How many series it defines again that were left out before.
    retried: usize,
    /// How often it was sent, and refused with an error.
    sends: u32,
    errors: u32,
}

impl SeriesState {
    fn new(saved: SavedPoint, acked_seq: u64) -> Self {
        Self {
            saved,
            index: NO_INDEX,
            acked_seq,
            may_be_lost: false,
            exemplars_until: 0.0,
        }
    }
}

impl Session {
    /// A writer that has never sent anything.
    pub fn new(writer: Vec<u8>, options: SessionOptions) -> Self {
        Self::resume(writer, options, Saved::default())
    }

    /// What it was told once.
    pub fn options(&self) -> SessionOptions {
        self.options
    }

    /// The writer's id.
    pub fn writer(&self) -> &[u8] {
        &self.writer
    }

    /// The last seq that was sent.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The seq of the last batch that had values in it.
    pub fn sent_seq(&self) -> u64 {
        self.sent_seq
    }

    /// Whether that batch was of a full state.
    pub fn sent_full(&self) -> bool {
        self.sent_full
    }

    /// The last seq that was acknowledged; 0 if none was, so that there is nothing to leave.
    pub fn acked_seq(&self) -> u64 {
        self.acked_seq
    }

    /// When that was, in Unix milliseconds.
    pub fn acked_at_ms(&self) -> u64 {
        self.acked_at_ms
    }

    /// The epoch of the registry that acknowledged it.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// What must be saved of a series.
    pub fn saved_point(&self, number: usize) -> Option<&SavedPoint> {
        Some(&self.series.get(number)?.saved)
    }

    /// The series of which something has changed that must be saved, since this was last asked.
    pub fn take_touched(&mut self) -> Vec<usize> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// The series that the last answer says were not applied, though they were sent, since this was
    /// last asked.
    pub fn take_not_applied(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.not_applied)
    }

    /// The series of the batch that was sent and has not been answered, in the order of its bytes;
    /// `None` if there is none.
    pub fn in_flight(&self) -> Option<&[usize]> {
        self.in_flight.as_ref().map(|batch| &*batch.sent)
    }

    /// Whether the registry does not have a series, and nothing of it is under way or can still arrive:
    /// its number may be given to another one ([`forget`](Self::forget)).
    pub fn may_forget(&self, number: usize) -> bool {
        let is_at_rest = self.stage == Stage::Steady
            && self.in_flight.is_none()
            && self.unanswered.is_empty()
            && self.left_out_before == 0;
        let state = self.series.get(number);
        let is_retired = state.is_none_or(|state| state.index == NO_INDEX);
        is_at_rest && is_retired && !self.retry.contains(number)
    }

    /// The series of that number is another one from now on, of the same type.
    pub fn forget(&mut self, number: usize) {
        if let Some(SeriesState { saved, .. }) = self.series.get_mut(number) {
            saved.base = saved.base.zero();
            saved.acked = saved.base.clone();
            saved.sent = saved.base.clone();
        }
    }

    /// Whether something is to be sent that cannot wait for the next turn: a batch again that was
    /// not answered, the rest of a full state, or what was left out.
    pub fn is_pending(&self, now_ms: u64) -> bool {
        self.in_flight.is_some()
            || self.stage != Stage::Steady
            || self.full_at_ms.is_some_and(|at_ms| now_ms >= at_ms)
            || self.retry.is_due(now_ms)
    }

    /// Whether no copy of a batch with values is under way that could still be applied.
    pub fn is_certain(&self) -> bool {
        let was_refused = |batch: &InFlight| batch.sends == batch.errors;
        self.sent_seq <= self.acked_seq && self.left_out_before == 0
            || self.unanswered.is_empty() && self.in_flight.as_ref().is_some_and(was_refused)
    }

    /// What to send now: the batch in flight as it was, or what is new; `None` if nothing is.
    ///
    /// The seq must be saved before the batch is sent.
    pub fn next(&mut self, source: &dyn Source, now_ms: u64) -> Option<Push> {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.sends += 1;
            return Some(in_flight.push.clone());
        }
        if self.full_at_ms.is_some_and(|at_ms| now_ms >= at_ms) && self.stage == Stage::Steady {
            self.stage = Stage::Full { forgotten_seq: 0 };
        }
        if self.stage == Stage::Steady && self.has_retired_most() {
            self.stage = Stage::Full { forgotten_seq: 0 };
        }
        match self.stage {
            Stage::Hello if source.is_empty() => None,
            Stage::Hello => Some(self.send_nothing(Stage::Hello)),
            Stage::Full { forgotten_seq } => {
                self.begin_full(now_ms);
                Some(self.send_state(source, 0, BatchKind::Full { forgotten_seq }))
            }
            Stage::More { number } => Some(self.send_state(source, number, BatchKind::More)),
            // An empty batch confirms what was left out of the last one.
            Stage::Steady => self.send_changes(source, now_ms).or_else(|| {
                let is_unconfirmed = self.left_out_before != 0;
                is_unconfirmed.then(|| self.send_nothing(Stage::Steady))
            }),
        }
    }

    /// Like [`next`](Self::next), but an empty batch where nothing is new, to renew the lease;
    /// `None` only for a writer that has no series and is not known.
    pub fn heartbeat(&mut self, source: &dyn Source, now_ms: u64) -> Option<Push> {
        let next = self.next(source, now_ms);
        if next.is_some() || self.stage == Stage::Hello {
            return next;
        }
        Some(self.send_nothing(Stage::Steady))
    }

    /// Whether many more gauges were retired since the last full state than there are series: with the
    /// next one the registry forgets them.
    fn has_retired_most(&self) -> bool {
        self.retired >= MIN_RETIRED && {
            let live = self.series.iter().filter(|state| state.index != NO_INDEX);
            self.retired > 2 * live.count()
        }
    }

    fn send_nothing(&mut self, then: Stage) -> Push {
        self.send(Contents::default(), BatchKind::Incremental, then)
    }

    /// Takes the answer to the batch in flight.
    ///
    /// Bases change here, in these cases: the registry has another epoch than the one that last
    /// acknowledged anything (counters begin again at what was acknowledged, gauges come back
    /// whole); it has forgotten this writer (everything begins at what it had counted then); or
    /// nothing was acknowledged for so long that even that may be forgotten.
    pub fn on_reply(&mut self, reply: &PushReply, now_ms: u64) -> Outcome {
        let Some(in_flight) = self.in_flight.take() else {
            return Outcome::Again;
        };
        self.told = Some(reply.epoch);
        let was_applied = match reply.status {
            PushStatus::Ok => true,
            PushStatus::Dup => reply.last_seq == in_flight.push.seq,
            _ => false,
        };
        if was_applied {
            self.acked(&in_flight, reply, now_ms);
            return Outcome::Acked;
        }
        // Refused now, but a copy of it may still be under way.
        let sent = in_flight.sent.into_iter();
        let points = sent.map(|number| (number, self.series[number].saved.sent.clone()));
        let points = points.collect();
        self.keep_unanswered(in_flight.push.seq, points);
        self.refused(reply)
    }

    /// Notes that the registry refused the batch in flight with an error, so that this copy of it
    /// has changed nothing. The same batch is to be sent again.
    pub fn on_error(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.errors += 1;
        }
    }

    /// The seq and epoch to leave with, once [`next`](Self::next) has nothing more to send; `None`
    /// for a writer that the registry has never acknowledged. What is
    /// [left out](Self::left_out_count) then is given up.
    pub fn leave(&self) -> Option<(u64, Option<Epoch>)> {
        (self.acked_seq > 0).then_some((self.acked_seq, self.told))
    }

    /// Takes the answer to a LEAVE: true when the writer is gone, false when its full state must
    /// be sent first ([`next`](Self::next)).
    pub fn on_leave_reply(&mut self, reply: &PushReply) -> bool {
        self.told = Some(reply.epoch);
        if matches!(reply.status, PushStatus::Ok | PushStatus::Gone) {
            return true;
        }
        self.refused(reply);
        false
    }

    fn acked(&mut self, in_flight: &InFlight, reply: &PushReply, now_ms: u64) {
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

    fn keep_unanswered(&mut self, seq: u64, points: Vec<(usize, Point)>) {
        if !points.is_empty() {
            self.unanswered.push((seq, points));
        }
        if self.unanswered.len() > MAX_UNANSWERED {
            self.unanswered.remove(0);
        }
    }

    /// No two batches of a writer have one seq, so a registry that names the seq of one that was
    /// never acknowledged says that it arrived after all.
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

    /// The registry does not know what the batch built on.
    fn refused(&mut self, reply: &PushReply) -> Outcome {
        self.seq = self.seq.max(reply.last_seq);
        self.acknowledge_unanswered(reply);
        match reply.status {
            PushStatus::Gone => return Outcome::Gone,
            PushStatus::Forgotten => {
                self.rebase(|saved| {
                    // A gauge in which writers are summed up was folded into the total.
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

    fn rebase(&mut self, base: impl Fn(&SavedPoint) -> Option<Point>) {
        for (number, state) in self.series.iter_mut().enumerate() {
            let saved = &mut state.saved;
            saved.base = base(saved).unwrap_or_else(|| saved.base.zero());
            state.may_be_lost = false;
            self.touched.push(number);
        }
    }

    fn begin_full(&mut self, now_ms: u64) {
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
}

fn is_gauge(family_type: FamilyType) -> bool {
    family_type.gauge_mode().is_some()
}

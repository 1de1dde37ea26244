//! The writer's side of PUSH, without any I/O: what to send, and what an answer means.
//!
//! # How it works
//!
//! One batch is in flight at a time, and it stays the same bytes until it is answered. A session
//! that knows nothing of its registry sends an empty batch to get the epoch. Then it sends its
//! *full state*, in several batches if it is large, and after that only changes. Whenever the
//! registry replies that it does not know what the session builds on, the full state follows again.
//!
//! Every answer names the last seq that was applied. So for at most one batch it is unknown whether
//! it arrived: the session keeps what it *sent* beside what was *acknowledged*.
//!
//! # Why nothing is counted twice
//!
//! A registry that remembers a series of this writer adds the difference to what it remembers. A
//! registry that does not remember it begins at the series' *base*: the part of the value that
//! another registry, or an earlier life of this one, has already counted. See [`Session::on_reply`]
//! for the three cases in which a base changes.
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
//! these series ([`LeftOut`](crate::LeftOut)). A series that was left out counts as not sent: it is not
//! acknowledged and does not become a base. The session defines it again a second later: one series
//! at first, and twice as many whenever all of them are accepted. So a limit costs little while it
//! holds, and its end is noticed soon. Every 30 s it also sends a full state. A writer leaves when
//! nothing is left out ([`Session::left_out_count`]).
//!
//! A registry of an older version does not know the question and refuses the batch
//! ([`Session::on_unknown_question`]). Its replies say only how many entries were left out.

mod answers;
mod left_out;
mod outgoing;
mod saved;

pub use saved::{Saved, SavedPoint};

use crate::{BatchKind, Epoch, FamilyType, Point, PushReply, PushStatus, Source};
use left_out::Retry;
use outgoing::Contents;

/// Time between two full states while series are left out, in milliseconds.
const FULL_STATE_MS: u64 = 30_000;
/// So many gauges are retired before the registry is made to forget them by a full state.
const MIN_RETIRED: usize = 1000;
/// Maximum number of unanswered batches that are remembered; more than one takes more than one
/// fault.
const MAX_UNANSWERED: usize = 4;
/// A series without a place in the registry's index table.
const NO_INDEX: u32 = u32::MAX;

/// Options of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// How long the registry's key outlives the last lease of its writers, in milliseconds; 0 = for
    /// ever.
    pub registry_ttl_ms: u64,
    /// How long the registry remembers a writer's last seq, in milliseconds.
    pub tombstone_retention_ms: u64,
}

/// A batch to send: `METRICS.PUSH key writer seq batch [EPOCH epoch]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Its seq.
    pub seq: u64,
    /// The epoch that it is meant for; `None` asks for the epoch.
    pub epoch: Option<Epoch>,
    /// Its bytes.
    pub batch: Vec<u8>,
}

/// The meaning of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The batch was applied, now or before.
    Acked,
    /// There is more to send: call [`Session::next`].
    Again,
    /// The registry believes that this writer has left, but it has not: the caller continues under
    /// another id ([`Session::with_new_id`]).
    Gone,
}

/// The writer's side of PUSH; see the [module](self).
///
/// ```
/// use metrics_model::{
///     Batch, Epoch, FamilySpec, FamilyType, Limits, Outcome, Point, Registry, SeriesDef, SeriesLife,
///     Session, SessionOptions, Source,
/// };
///
/// /// One counter.
/// struct Jobs(f64);
///
/// impl Source for Jobs {
///     fn len(&self) -> usize {
///         1
///     }
///
///     fn series(&self, _number: usize) -> SeriesDef<'_> {
///         SeriesDef {
///             family: FamilySpec::new("jobs", FamilyType::Counter),
///             layout: None,
///             labels: &[],
///             pid: "",
///             ttl_ms: 0,
///         }
///     }
///
///     fn point(&self, _number: usize) -> Point {
///         Point::Scalar(self.0)
///     }
///
///     fn life(&self, _number: usize) -> SeriesLife {
///         SeriesLife::Live
///     }
/// }
///
/// let options = SessionOptions {
///     registry_ttl_ms: 0,
///     tombstone_retention_ms: 604_800_000,
/// };
/// let mut session = Session::new(b"writer".to_vec(), options);
/// let mut registry = Registry::new(Epoch(7), Limits::default(), 0);
/// let mut outcomes = Vec::new();
/// while let Some(push) = session.next(&Jobs(3.0), 1_000) {
///     let stamp = registry.stamp(1_000, &Limits::default(), false);
///     let batch = Batch::decode(&push.batch)?;
///     let reply = registry.push(&stamp, b"writer", push.seq, push.epoch, 15_000, &batch);
///     outcomes.push(session.on_reply(&reply, 1_000));
/// }
/// // The first batch asks for the epoch, the second one has the full state.
/// assert_eq!(outcomes, [Outcome::Again, Outcome::Acked]);
/// assert_eq!(session.epoch(), Some(Epoch(7)));
/// # Ok::<(), metrics_model::DecodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    writer: Vec<u8>,
    options: SessionOptions,
    seq: u64,
    sent_seq: u64,
    sent_full: bool,
    acked_seq: u64,
    acked_at_ms: u64,
    /// Epoch of the last acknowledgement.
    epoch: Option<Epoch>,
    /// Epoch of the last answer of any kind: the next batch is sent to it.
    last_epoch: Option<Epoch>,
    series: Vec<SeriesState>,
    next_index: u32,
    /// How many gauges were retired since the last full state began: of other types the registry goes
    /// on to remember what was sent.
    retired: usize,
    stage: Stage,
    in_flight: Option<InFlight>,
    /// Batches of which a copy may arrive, or have arrived, although none was acknowledged: seq and
    /// values.
    unanswered: Vec<(u64, Vec<(usize, Point)>)>,
    /// Whether batches ask the registry to name what it leaves out.
    asks_left_out: bool,
    /// Digest of what the last acknowledged batch has left out.
    left_out_before: u32,
    retry: Retry,
    full_at_ms: Option<u64>,
    touched: Vec<usize>,
    /// Series that the last acknowledged batch has left out, since the caller last took them.
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
    /// Time of the newest exemplar that was sent in this session.
    exemplars_until: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The registry is unknown.
    Hello,
    /// The full state has to be sent, from its beginning.
    Full { forgotten_seq: u64 },
    /// The full state continues with that series.
    More { number: usize },
    /// The registry knows everything except later changes.
    Steady,
}

#[derive(Debug, Clone)]
struct InFlight {
    push: Push,
    /// Its series, in the order of its bytes.
    sent: Vec<usize>,
    then: Stage,
    /// Number of series in it that were left out before and are defined again.
    retried: usize,
    /// How often it was sent and refused with an error.
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
    /// Returns the session of a writer that has never sent anything.
    pub fn new(writer: Vec<u8>, options: SessionOptions) -> Self {
        Self::resume(writer, options, Saved::default())
    }

    /// Returns its options.
    pub fn options(&self) -> SessionOptions {
        self.options
    }

    /// Returns the writer's id.
    pub fn writer(&self) -> &[u8] {
        &self.writer
    }

    /// Returns the last seq that was sent.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the seq of the last batch with values.
    pub fn sent_seq(&self) -> u64 {
        self.sent_seq
    }

    /// Returns whether that batch was part of a full state.
    pub fn sent_full(&self) -> bool {
        self.sent_full
    }

    /// Returns the last seq that was acknowledged; 0 if none was, so that the writer need not
    /// leave.
    pub fn acked_seq(&self) -> u64 {
        self.acked_seq
    }

    /// Returns the time of that acknowledgement, in Unix milliseconds.
    pub fn acked_at_ms(&self) -> u64 {
        self.acked_at_ms
    }

    /// Returns the epoch of the registry that acknowledged it.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Returns what must be saved of a series.
    pub fn saved_point(&self, number: usize) -> Option<&SavedPoint> {
        Some(&self.series.get(number)?.saved)
    }

    /// Returns the series with changes that must be saved, since the last call.
    pub fn take_touched(&mut self) -> Vec<usize> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// Returns the series that were sent but not applied, according to answers since the last call.
    pub fn take_not_applied(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.not_applied)
    }

    /// Returns the series of the batch that was sent and has not been answered, in the order of its
    /// bytes; `None` if there is no such batch.
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

    /// Returns whether something has to be sent before the next interval: an unanswered batch
    /// again, the rest of a full state, or series that were left out.
    pub fn is_pending(&self, now_ms: u64) -> bool {
        self.in_flight.is_some()
            || self.stage != Stage::Steady
            || self.full_at_ms.is_some_and(|at_ms| now_ms >= at_ms)
            || self.retry.is_due(now_ms)
    }

    /// Returns whether no copy of a batch with values is under way that could still be applied.
    pub fn is_certain(&self) -> bool {
        let was_refused = |batch: &InFlight| batch.sends == batch.errors;
        self.sent_seq <= self.acked_seq && self.left_out_before == 0
            || self.unanswered.is_empty() && self.in_flight.as_ref().is_some_and(was_refused)
    }

    /// Returns what to send now: the batch in flight as it was, or changes; `None` if there is
    /// nothing.
    ///
    /// The caller must save the seq before it sends the batch.
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

    /// Like [`next`](Self::next), but returns an empty batch if nothing is new, to renew the lease;
    /// `None` only for a writer without series that the registry does not know.
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

    /// Processes the answer to the batch in flight.
    ///
    /// Bases change here, in three cases. The registry has another epoch than the one that last
    /// acknowledged anything: counters begin again at what was acknowledged, gauges come back
    /// whole. The registry has forgotten this writer: every series begins at what the registry had
    /// counted then. Or nothing was acknowledged for so long that even the tombstone may be gone.
    pub fn on_reply(&mut self, reply: &PushReply, now_ms: u64) -> Outcome {
        let Some(in_flight) = self.in_flight.take() else {
            return Outcome::Again;
        };
        self.last_epoch = Some(reply.epoch);
        let was_applied = match reply.status {
            PushStatus::Ok => true,
            PushStatus::Dup => reply.last_seq == in_flight.push.seq,
            _ => false,
        };
        if was_applied {
            self.acked(&in_flight, reply, now_ms);
            return Outcome::Acked;
        }
        // It is refused now, but a copy of it may still be under way.
        let sent = in_flight.sent.into_iter();
        let points = sent.map(|number| (number, self.series[number].saved.sent.clone()));
        let points = points.collect();
        self.keep_unanswered(in_flight.push.seq, points);
        self.refused(reply)
    }

    /// Notes that the registry refused the batch in flight with an error, so this copy of it has
    /// changed nothing. The same batch has to be sent again.
    pub fn on_error(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.errors += 1;
        }
    }

    /// Returns the seq and epoch for LEAVE, once [`next`](Self::next) has nothing more to send;
    /// `None` for a writer that the registry has never acknowledged. Series that are [left
    /// out](Self::left_out_count) then are lost.
    pub fn leave(&self) -> Option<(u64, Option<Epoch>)> {
        (self.acked_seq > 0).then_some((self.acked_seq, self.last_epoch))
    }

    /// Processes the answer to a LEAVE: returns true when the writer is gone, false when its full
    /// state must be sent first ([`next`](Self::next)).
    pub fn on_leave_reply(&mut self, reply: &PushReply) -> bool {
        self.last_epoch = Some(reply.epoch);
        if matches!(reply.status, PushStatus::Ok | PushStatus::Gone) {
            return true;
        }
        self.refused(reply);
        false
    }
}

fn is_gauge(family_type: FamilyType) -> bool {
    family_type.gauge_mode().is_some()
}

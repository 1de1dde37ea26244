//! The session of one store with one shard of the shared registry.
//!
//! The next exporter continues it, so its state is kept in the store itself: first the values that
//! will be sent, then the header that makes them count (see `metrics_store::PushHeader`).

mod saving;

use std::time::{Duration, Instant};

use metrics_model::{Epoch, Limits, Outcome, Push, PushReply, Session, SessionOptions};
use metrics_store::{FamilyDef, LeaveState, PushHeader, StoreReader};

use self::saving::{saved, spread_anew};
use super::declarations::FamiliesToCompare;
use super::departure::DepartureRecord;
use super::{StoreSource, TakenGauges, VisibleSeries};
use crate::sharding::shard_of;

/// Time without changes after which a writer sends an empty batch. Together with the time between
/// two turns it is shorter than the minimum time that a registry gives writers to come back after a
/// rollback.
const HEARTBEAT: Duration = Duration::from_millis(750);
/// Time until a batch is sent again that the shard refused with an error.
const RETRY: Duration = Duration::from_millis(750);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct ShardSession {
    shard: usize,
    shards: usize,
    /// Families to compare with those of the shard.
    suspects: FamiliesToCompare,
    /// Whether everything in the store was sent.
    is_up_to_date: bool,
    session: Session,
    visible: VisibleSeries,
    sent_at: Option<Instant>,
    leave_state: LeaveState,
    refused_at: Option<Instant>,
}

/// What a writer may send in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushScope {
    /// Everything that is new.
    Changes,
    /// What cannot wait for the next flush: an unanswered batch, a requested full state, an empty
    /// batch after a pause.
    Retries,
    /// Everything that is left: the process has ended.
    Rest,
}

/// How a writer that has ended leaves a shard.
#[derive(Debug)]
pub(crate) enum Leaving {
    /// Not yet: the shard lacks some of its values.
    NotYet,
    /// The shard has never heard of it, so it has left.
    Unheard,
    /// With this LEAVE.
    Leave(SharedLeave),
}

/// One batch for a shard.
#[derive(Debug)]
pub(crate) struct SharedPush {
    pub(crate) writer: Vec<u8>,
    pub(crate) push: Push,
}

/// One LEAVE for a shard.
#[derive(Debug, Clone)]
pub(crate) struct SharedLeave {
    pub(crate) writer: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) epoch: Option<Epoch>,
}

impl ShardSession {
    /// Returns a session for each of `shards`, which continues that of the exporter before.
    pub(crate) fn resume_all(reader: &StoreReader, shards: usize, ttl_ms: u64) -> Vec<Self> {
        if shards == 0 {
            return Vec::new();
        }
        if let Some(before) = reader.push_shards()
            && before != shards
        {
            spread_anew(reader, before, shards);
        }
        reader.set_push_shards(shards);
        reader.resume_push(|number| shard_of(&reader.series(number).family.spec(), shards));
        let resume = |shard| {
            let mut visible = VisibleSeries::of_shard(shard, shards);
            visible.extend(reader);
            let header = reader.push_header(shard);
            let id = reader.writer_id_of(header.incarnation);
            let saved = saved(reader, shard, &visible);
            Self {
                shard,
                shards,
                suspects: FamiliesToCompare::default(),
                is_up_to_date: false,
                session: Session::resume(id.into_bytes(), session_options(ttl_ms), saved),
                visible,
                sent_at: None,
                leave_state: header.leave,
                refused_at: None,
            }
        };
        (0..shards).map(resume).collect()
    }

    /// Finds series that are new.
    pub(crate) fn extend(&mut self, reader: &StoreReader) {
        if self.visible.extend(reader) {
            self.is_up_to_date = false;
        }
    }

    /// Returns what to send now; it is saved before it is sent.
    ///
    /// A live writer that counts as having left (its instance ended, and an older arbiter continues
    /// it) continues under another id.
    pub(crate) fn next(
        &mut self,
        reader: &StoreReader,
        pid: &str,
        ttl_ms: u64,
        now_ms: u64,
        scope: PushScope,
        taken: &TakenGauges,
    ) -> Option<SharedPush> {
        let has_ended = scope == PushScope::Rest;
        if self.has_left() {
            if has_ended {
                return None;
            }
            self.begin_anew(reader);
        }
        let is_over = |at: Option<Instant>, wait| at.is_none_or(|at| at.elapsed() >= wait);
        let is_silent = !has_ended && is_over(self.sent_at, HEARTBEAT);
        let is_pending = is_silent || self.session.is_pending(now_ms);
        if scope == PushScope::Retries && !is_pending || !is_over(self.refused_at, RETRY) {
            return None;
        }
        let was_in_flight = self.session.in_flight().is_some();
        let source = StoreSource {
            reader,
            visible: &self.visible,
            pid,
            ttl_ms,
            // A waiting writer keeps its lease, but must not look alive.
            is_live: !has_ended || self.session.left_out_count() == 0,
            taken,
        };
        let push = if is_silent {
            self.session.heartbeat(&source, now_ms)
        } else {
            self.session.next(&source, now_ms)
        };
        let Some(push) = push else {
            self.is_up_to_date = self.session.acked_seq() > 0;
            return None;
        };
        if !was_in_flight {
            self.save_bases(reader);
            for &number in self.session.in_flight().unwrap_or_default() {
                if let Some(saved) = self.session.saved_point(number) {
                    let in_store = self.visible.in_store(number);
                    reader.set_sent(self.shard, in_store, push.seq, &saved.sent);
                }
            }
            self.save_header(reader);
        }
        Some(SharedPush {
            writer: self.session.writer().to_vec(),
            push,
        })
    }

    /// Processes the answer to that.
    pub(crate) fn on_reply(&mut self, reader: &StoreReader, reply: &PushReply, now_ms: u64) {
        self.sent_at = Some(Instant::now());
        self.refused_at = None;
        if self.session.on_reply(reply, now_ms) == Outcome::Gone {
            // The exporter before may have sent a LEAVE and ended before the answer came.
            if self.leave_state == LeaveState::Staying {
                let writer = String::from_utf8_lossy(self.session.writer()).into_owned();
                tracing::error!(
                    "the shared registry says that writer {writer} has left, which it has not: it goes on under another id"
                );
            }
            self.begin_anew(reader);
        } else {
            self.save_answer(reader);
        }
    }

    /// Notes that the shard refused it with an error: nothing has changed.
    pub(crate) fn on_error(&mut self) {
        self.refused_at = Some(Instant::now());
        self.session.on_error();
    }

    /// See [`Session::on_unknown_question`].
    pub(crate) fn on_unknown_question(&mut self) -> bool {
        self.session.on_unknown_question()
    }

    /// See [`Session::may_forget`]; of a series of another shard always.
    pub(crate) fn may_forget(&self, number: usize) -> bool {
        let number = self.visible.of_store(number);
        number.is_none_or(|number| self.session.may_forget(number))
    }

    /// See [`Session::forget`].
    pub(crate) fn forget(&mut self, number: usize) {
        if let Some(number) = self.visible.of_store(number) {
            self.session.forget(number);
        }
    }

    /// See [`FamiliesToCompare::take`].
    pub(crate) fn take_suspects(&mut self, reader: &StoreReader) -> Vec<FamilyDef> {
        if !self.is_up_to_date || self.has_left() {
            return Vec::new();
        }
        let mut suspects = self.suspects.take(reader);
        suspects.retain(|family| shard_of(&family.spec(), self.shards) == self.shard);
        suspects
    }

    /// Returns how many series the shard has left out.
    pub(crate) fn left_out_count(&self) -> usize {
        self.session.left_out_count()
    }

    /// Returns how many series have values that the shard is not known to have applied.
    pub(crate) fn unapplied_count(&self, reader: &StoreReader) -> usize {
        let is_unapplied = |&number: &usize| {
            let in_store = self.visible.in_store(number);
            let family_type = reader.series(in_store).family.family_type;
            let is_removed = family_type.gauge_mode().is_some() && reader.is_retired(in_store);
            let acked = reader.acked(self.shard, in_store);
            !is_removed && !reader.point(in_store).is_same(&acked)
        };
        (0..self.visible.len()).filter(is_unapplied).count()
    }

    /// See [`Session::retry_left_out_now`].
    pub(crate) fn retry_left_out_now(&mut self) {
        self.refused_at = None;
        self.session.retry_left_out_now();
    }

    /// Returns how it leaves, once it has nothing more to send.
    pub(crate) fn leave(&mut self, reader: &StoreReader) -> Leaving {
        if self.session.in_flight().is_some() || self.session.left_out_count() > 0 {
            return Leaving::NotYet;
        }
        let Some((seq, epoch)) = self.session.leave() else {
            self.leave_state = LeaveState::Done;
            return Leaving::Unheard;
        };
        self.leave_state = LeaveState::Sent;
        self.save_header(reader);
        Leaving::Leave(SharedLeave {
            writer: self.session.writer().to_vec(),
            seq,
            epoch,
        })
    }

    /// Processes the answer to LEAVE; returns false if there is something to send first.
    pub(crate) fn on_leave_reply(&mut self, reader: &StoreReader, reply: &PushReply) -> bool {
        self.leave_state = if self.session.on_leave_reply(reply) {
            LeaveState::Done
        } else {
            LeaveState::Staying
        };
        self.save_answer(reader);
        self.has_left()
    }

    /// Returns whether nothing sent can still arrive, so that another writer can send the rest.
    pub(crate) fn is_certain(&self) -> bool {
        self.session.is_certain()
    }

    /// Returns whether a batch was sent and not answered.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.session.in_flight().is_some()
    }

    /// Returns the record by which another store lets this writer leave.
    pub(crate) fn departure(&self, pid: String, died_ms: u64) -> DepartureRecord {
        DepartureRecord {
            shard: self.shard,
            writer: String::from_utf8_lossy(self.session.writer()).into_owned(),
            // An empty batch may have arrived after the last acknowledged one.
            seq: self.session.seq(),
            epoch: self.session.epoch(),
            acked_at_ms: self.session.acked_at_ms(),
            pid,
            died_ms,
            may_have_left: self.leave_state == LeaveState::Sent,
        }
    }

    pub(crate) fn has_left(&self) -> bool {
        self.leave_state == LeaveState::Done
    }

    /// Continues under another id, because the shard knows that the old one has left. Acknowledged
    /// values are not counted again.
    fn begin_anew(&mut self, reader: &StoreReader) {
        let header = reader.push_header(self.shard);
        let id = reader.writer_id_of(header.incarnation + 1);
        let options = self.session.options();
        let unknown = Session::new(Vec::new(), options);
        let mut session =
            std::mem::replace(&mut self.session, unknown).with_new_id(id.into_bytes());
        for number in session.take_touched() {
            let in_store = self.visible.in_store(number);
            if let Some(saved) = session.saved_point(number) {
                reader.set_base(in_store, &saved.base);
                reader.restart_push(in_store, &saved.acked);
            }
        }
        let header = PushHeader {
            incarnation: header.incarnation + 1,
            ..PushHeader::default()
        };
        reader.set_push_header(self.shard, &header);
        self.leave_state = LeaveState::Staying;
        self.session = session;
    }
}

/// Returns an epoch as the text of a label.
pub(crate) fn epoch_to_text(epoch: Option<Epoch>) -> String {
    epoch.map_or_else(String::new, |epoch| epoch.0.to_string())
}

pub(crate) fn epoch_from_text(text: &str) -> Option<Epoch> {
    text.parse().ok().map(Epoch)
}

pub(crate) fn session_options(registry_ttl_ms: u64) -> SessionOptions {
    SessionOptions {
        registry_ttl_ms,
        tombstone_retention_ms: Limits::default().tombstone_retention_ms,
    }
}

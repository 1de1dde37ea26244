//! The imitated world: writers, a primary, an older copy of it, a network that loses and repeats,
//! and a Prometheus.

mod action;
mod judge;

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use metrics_model::{Batch, Epoch, Limits, Outcome, PushReply, PushStatus, Registry, Session};

use crate::writer::{OPTIONS, Packet, Writer};
pub(crate) use action::{Action, Bounds, Fault};

const LEASE_MS: u64 = 15_000;
/// Shortest time without pages after a rollback, in milliseconds.
const MIN_HEALING_MS: u64 = 2000;

/// What a Prometheus has seen of the counter.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Scraped {
    value: f64,
    start: f64,
    /// Result of `increase()`, which takes a fall for a reset.
    increase: f64,
    has_dipped: bool,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about the past"
)]
#[derive(Debug, Clone)]
pub(crate) struct World {
    now_ms: u64,
    next_epoch: u64,
    primary: Option<Arc<Registry>>,
    replica: Option<Arc<Registry>>,
    /// A writer has left that the replica still has. A failover then is a documented exception.
    replica_misses_leave: bool,
    writers: Vec<Writer>,
    late: Vec<Packet>,
    scraped: Scraped,
    /// Healing ended without a writer. What that writer owned began anew: a reset, by design.
    has_given_up: bool,
    /// What the registry had applied but not acknowledged before a loss of all data. Pages may show
    /// it again, which is a documented exception.
    forgiven: f64,
    /// A writer that has not left got the answer that it has.
    was_told_gone: bool,
    is_full: bool,
    faults_left: u8,
    silences_left: u8,
    limits_left: u8,
    only: Option<Fault>,
}

impl World {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let writer = |number: usize| Writer {
            value: 0.0,
            counts_left: bounds.counts,
            session: Session::new(format!("writer {number}").into_bytes(), OPTIONS),
            lost: 0.0,
            is_unheard: false,
            seems_heard: false,
            is_leaving: false,
            has_left: false,
        };
        Self {
            now_ms: 1_000_000,
            next_epoch: 1,
            primary: None,
            replica: None,
            replica_misses_leave: false,
            writers: (0..bounds.writers).map(writer).collect(),
            late: Vec::new(),
            scraped: Scraped::default(),
            has_given_up: false,
            forgiven: 0.0,
            was_told_gone: false,
            is_full: false,
            faults_left: bounds.faults,
            silences_left: bounds.silences,
            limits_left: bounds.limits,
            only: bounds.only,
        }
    }

    pub(crate) fn actions(&self, actions: &mut Vec<Action>) {
        for (number, writer) in self.writers.iter().enumerate() {
            if writer.has_left {
                continue;
            }
            if writer.counts_left > 0 {
                actions.push(Action::Count(number));
            }
            if writer.has_news(self.now_ms) {
                actions.push(Action::Push(number));
                if self.faults_left > 0 {
                    actions.push(Action::PushIsLate(number));
                    actions.push(Action::PushReplyIsLost(number));
                    actions.push(Action::PushIsRepeated(number));
                }
            } else if writer.may_leave() {
                actions.push(Action::Leave(number));
                if self.faults_left > 0 {
                    actions.push(Action::LeaveReplyIsLost(number));
                }
            }
            if self.faults_left > 0 && writer.session.seq() > 0 {
                actions.push(Action::ExporterDies(number));
            }
        }
        let arrivals = self.late.iter().enumerate();
        let arrivals = arrivals.filter(|(_, packet)| self.may_arrive(packet));
        actions.extend(arrivals.map(|(at, _)| Action::Arrive(at)));
        if self.is_full {
            actions.push(Action::LimitIsLifted);
        } else if self.limits_left > 0 {
            actions.push(Action::LimitIsReached);
        }
        let waits = |writer: &Writer| {
            let session = &writer.session;
            // Once the retry is due, more time changes nothing.
            session.left_out_count() > 0 && !writer.has_left && !session.is_pending(self.now_ms)
        };
        if !self.is_full && self.writers.iter().any(waits) {
            actions.push(Action::SecondPasses);
        }
        if let Some(primary) = &self.primary {
            if !self.replica_is_up_to_date() {
                actions.push(Action::Replicate);
            }
            if self.faults_left > 0 {
                actions.extend([Action::Restart, Action::LoseAll]);
                if !self.replica_is_up_to_date() && self.may_fail_over() {
                    actions.push(Action::Failover);
                }
            }
            if primary.is_healing(self.now_ms) {
                if self.unheard_are_known(primary) {
                    actions.push(Action::HealingTimePasses);
                }
            } else if self.page() != Some((self.scraped.value, self.scraped.start))
                && self.page().is_some()
            {
                actions.push(Action::Scrape);
            }
            let may_wait = !primary.is_healing(self.now_ms) || self.unheard_are_known(primary);
            if self.silences_left > 0 && may_wait {
                actions.push(Action::LeaseTimePasses);
            }
        }
        if let Some(only) = self.only {
            actions.retain(|action| action.fault().is_none_or(|fault| fault == only));
        }
    }

    pub(crate) fn take(&mut self, action: Action) {
        match action {
            Action::Count(number) => {
                let writer = &mut self.writers[number];
                writer.counts_left -= 1;
                // Each writer counts in steps of its own size, so that a sum shows which counts it
                // contains.
                writer.value += f64::from(1 << (4 * number));
            }
            Action::Push(number) => self.push(number, true),
            Action::PushReplyIsLost(number) => {
                self.faults_left -= 1;
                self.push(number, false);
            }
            Action::PushIsLate(number) => {
                self.faults_left -= 1;
                let packet = self.writers[number].packet(self.now_ms);
                self.late.extend(packet);
            }
            Action::PushIsRepeated(number) => {
                self.faults_left -= 1;
                let packet = self.writers[number].packet(self.now_ms);
                self.late.extend(packet);
                self.push(number, true);
            }
            Action::Leave(number) => self.leave(number, true),
            Action::LeaveReplyIsLost(number) => {
                self.faults_left -= 1;
                self.leave(number, false);
            }
            Action::Arrive(at) => {
                let packet = self.late.remove(at);
                let reply = self.deliver(&packet);
                let is_applied = reply.is_some_and(|reply| reply.status == PushStatus::Ok);
                for writer in &mut self.writers {
                    let is_its = writer.session.writer() == packet.writer;
                    writer.seems_heard |= is_applied && is_its && writer.is_unheard;
                }
            }
            Action::ExporterDies(number) => {
                self.faults_left -= 1;
                self.writers[number].succeed();
            }
            Action::Replicate => {
                self.replica.clone_from(&self.primary);
                self.replica_misses_leave = false;
            }
            Action::Restart => self.load(self.primary.clone()),
            Action::Failover => self.load(self.replica.clone()),
            Action::LoseAll => {
                self.faults_left -= 1;
                self.now_ms += 1;
                (self.primary, self.replica) = (None, None);
                self.replica_misses_leave = false;
                for writer in &mut self.writers {
                    let (acked, sent) = writer.acked_and_sent();
                    writer.lost = if writer.has_left { writer.value } else { acked };
                    self.forgiven += sent - acked;
                }
            }
            Action::HealingTimePasses => {
                let is_waiting =
                    |primary: &Arc<Registry>| primary.is_healing(self.now_ms + MIN_HEALING_MS);
                let is_waiting = self.primary.as_ref().is_some_and(is_waiting);
                self.wait(if is_waiting {
                    Limits::default().healing_time_ms
                } else {
                    MIN_HEALING_MS
                });
            }
            Action::LimitIsReached => {
                self.limits_left -= 1;
                self.is_full = true;
            }
            Action::LimitIsLifted => self.is_full = false,
            Action::SecondPasses => self.now_ms += 1000,
            Action::LeaseTimePasses => {
                self.silences_left -= 1;
                self.wait(LEASE_MS + 1);
            }
            Action::Scrape => self.scrape(),
        }
        for writer in &mut self.writers {
            // An exporter would save the touched entries here.
            writer.session.take_touched();
        }
        self.late
            .sort_by(|a, b| (&a.writer, a.seq).cmp(&(&b.writer, b.seq)));
    }

    fn wait(&mut self, ms: u64) {
        let is_missed = |writer: &Writer| writer.is_unheard && !writer.has_left;
        let is_healing = self
            .primary
            .as_ref()
            .is_some_and(|p| p.is_healing(self.now_ms));
        self.has_given_up |= is_healing && self.writers.iter().any(is_missed);
        self.now_ms += ms;
    }

    /// Returns whether a late packet may arrive now without breaking a promise. One from before a rollback
    /// is taken for the return of its writer; when the healing time is over and the writer has not come
    /// back, that is a documented exception.
    fn may_arrive(&self, packet: &Packet) -> bool {
        let is_healing = |primary: &Arc<Registry>| primary.is_healing(self.now_ms);
        let is_unheard =
            |writer: &Writer| writer.is_unheard && writer.session.writer() == packet.writer;
        self.primary.as_ref().is_none_or(is_healing) || !self.writers.iter().any(is_unheard)
    }

    /// Returns whether healing waits for every writer that is not back. That the others are back in time
    /// is an assumption, because exporters try again every second: writers that the copy does not
    /// know, and those of which a late copy has arrived.
    fn unheard_are_known(&self, primary: &Registry) -> bool {
        let Ok((known, _)) = primary.list_writers(self.now_ms, b"0") else {
            return false;
        };
        let is_known = |writer: &Writer| {
            let is_its = |id: &[u8]| id == writer.session.writer();
            let mut known = known.iter();
            !writer.seems_heard && known.any(|entry| is_its(entry.id) && entry.series > 0)
        };
        self.writers
            .iter()
            .filter(|writer| writer.is_unheard && !writer.has_left)
            .all(is_known)
    }

    /// Returns whether a failover now keeps the promises. Three documented cases do not: a writer
    /// has left since the copy was made; no writer in the copy holds a lease, so the copy waits for
    /// none to come back; an earlier rollback gave up a writer, which the copy may not know.
    fn may_fail_over(&self) -> bool {
        self.replica.as_ref().is_some_and(|replica| {
            let mut promoted = Registry::clone(replica);
            promoted.rolled_back(self.now_ms);
            !self.replica_misses_leave && !self.has_given_up && promoted.is_healing(self.now_ms)
        })
    }

    fn load(&mut self, registry: Option<Arc<Registry>>) {
        self.faults_left -= 1;
        self.now_ms += 1;
        for writer in &mut self.writers {
            writer.is_unheard = writer.session.seq() > 0;
            writer.seems_heard = false;
        }
        self.primary = registry.map(|mut registry| {
            Arc::make_mut(&mut registry).rolled_back(self.now_ms);
            registry
        });
    }

    fn deliver(&mut self, packet: &Packet) -> Option<PushReply> {
        let now_ms = self.now_ms;
        let primary = self.primary.get_or_insert_with(|| {
            let epoch = Epoch(self.next_epoch);
            self.next_epoch += 1;
            Arc::new(Registry::new(epoch, Limits::default(), now_ms))
        });
        let registry = Arc::make_mut(primary);
        let stamp = registry.stamp(now_ms, &Limits::default(), self.is_full);
        let batch = Batch::decode(&packet.batch).ok()?;
        // A server would refuse a new writer at a limit. Here its definitions are left out, as those
        // of a known writer with new series are, so that one series for each writer is enough.
        Some(registry.push(
            &stamp,
            &packet.writer,
            packet.seq,
            packet.epoch,
            LEASE_MS,
            &batch,
        ))
    }

    fn push(&mut self, number: usize, is_answered: bool) {
        let Some(packet) = self.writers[number].packet(self.now_ms) else {
            return;
        };
        if let Some(reply) = self.deliver(&packet).filter(|_| is_answered) {
            let writer = &mut self.writers[number];
            let outcome = writer.session.on_reply(&reply, self.now_ms);
            if reply.status == PushStatus::Ok {
                // A repeated batch changes nothing, so the registry still waits for the writer.
                writer.is_unheard = false;
            }
            if outcome == Outcome::Gone {
                self.was_told_gone |= !writer.is_leaving;
                writer.has_left = true;
            }
        }
    }

    fn leave(&mut self, number: usize, is_answered: bool) {
        let writer = &mut self.writers[number];
        writer.is_leaving = true;
        let (Some((seq, epoch)), id) = (writer.session.leave(), writer.session.writer()) else {
            return;
        };
        let Some(primary) = &mut self.primary else {
            // LEAVE on a missing key creates nothing and answers OK.
            writer.has_left |= is_answered;
            return;
        };
        let registry = Arc::make_mut(primary);
        let stamp = registry.stamp(self.now_ms, &Limits::default(), self.is_full);
        let reply = registry.leave(&stamp, id, seq, epoch);
        self.replica_misses_leave = true;
        if is_answered && writer.session.on_leave_reply(&reply) {
            writer.has_left = true;
        }
    }

    fn replica_is_up_to_date(&self) -> bool {
        match (&self.primary, &self.replica) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.encode_snapshot() == b.encode_snapshot(),
            (None, None) => true,
            _ => false,
        }
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        let hash = |world: &Self| {
            let mut hasher = DefaultHasher::new();
            world.hash(&mut hasher);
            hasher.finish()
        };
        hash(self) == hash(other)
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for registry in [&self.primary, &self.replica] {
            match registry {
                Some(registry) => {
                    registry.encode_snapshot().hash(state);
                    registry.is_healing(self.now_ms).hash(state);
                }
                None => 0_u8.hash(state),
            }
        }
        let rest = (
            (
                self.now_ms,
                self.next_epoch,
                self.replica_misses_leave,
                self.has_given_up,
            ),
            (&self.writers, &self.late, self.scraped, self.forgiven),
            (
                self.is_full,
                self.faults_left,
                self.silences_left,
                self.limits_left,
            ),
        );
        // Each part of the state prints all its fields.
        let _ = write!(Hashed(state), "{rest:?}");
    }
}

/// A writer of text that feeds a hash and keeps nothing.
struct Hashed<'h, H>(&'h mut H);

impl<H: Hasher> fmt::Write for Hashed<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

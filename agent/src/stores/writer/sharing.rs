//! A writer's messages to the shared registry, and its answers.

use metrics_model::PushReply;
use metrics_store::{FamilyDef, Role, StoreError};

use super::super::TakenGauges;
use super::super::carry_over::CarryOver;
use super::super::departure::Departure;
use super::super::shard::{Leaving, PushScope, ShardSession, SharedPush};
use super::Writer;

impl Writer {
    /// Returns what to send to a shard of the shared registry now; it is saved before it is sent. Of an
    /// ended writer, `taken` are the gauges of a living one with [the same text](Self::next_pid).
    pub(crate) fn next_shared(
        &mut self,
        shard: usize,
        now_ms: u64,
        scope: PushScope,
        taken: &TakenGauges,
    ) -> Option<SharedPush> {
        let pid = self.shared_pid();
        let (reader, ttl_ms) = (&self.reader, self.options.ttl_ms);
        let session = self.shared.get_mut(shard)?;
        if let Some(push) = session.next(reader, &pid, ttl_ms, now_ms, scope, taken) {
            return Some(push);
        }
        let departure = departure_at(&mut self.departures, shard)?;
        departure.next(reader, ttl_ms, now_ms, taken)
    }

    /// Processes a shard's answer.
    pub(crate) fn on_shared_reply(&mut self, shard: usize, reply: &PushReply, now_ms: u64) {
        let Some(session) = self.shared.get_mut(shard) else {
            return;
        };
        if session.is_in_flight() {
            session.on_reply(&self.reader, reply, now_ms);
        } else if let Some(departure) = departure_at(&mut self.departures, shard) {
            departure.on_reply(reply, now_ms);
        }
    }

    /// Notes that a shard refused the batch with an error.
    pub(crate) fn on_shared_error(&mut self, shard: usize) {
        let Some(session) = self.shared.get_mut(shard) else {
            return;
        };
        if session.is_in_flight() {
            session.on_error();
        } else if let Some(departure) = departure_at(&mut self.departures, shard) {
            departure.on_error();
        }
    }

    /// See [`metrics_model::Session::on_unknown_question`].
    pub(crate) fn on_unknown_question(&mut self, shard: usize) -> bool {
        let session = self.shared.get_mut(shard);
        let mut is_new = session.is_some_and(ShardSession::on_unknown_question);
        for departure in self.departures.iter_mut().filter(|d| d.is_pending(shard)) {
            is_new |= departure.on_unknown_question();
        }
        is_new
    }

    /// Returns how many series the shared registry has left out.
    pub(crate) fn left_out_count(&self) -> usize {
        let staying = self.shared.iter().filter(|session| !session.has_left());
        let departures = self.departures.iter().map(Departure::left_out_count);
        staying.map(ShardSession::left_out_count).sum::<usize>() + departures.sum::<usize>()
    }

    /// Returns how many series have values that the shared registry has not applied.
    pub(crate) fn unapplied_count(&self) -> usize {
        let staying = self.shared.iter().filter(|session| !session.has_left());
        let counts = staying.map(|session| session.unapplied_count(&self.reader));
        let departures = self.departures.iter().filter(|d| !d.is_over());
        counts.sum::<usize>() + departures.map(|d| d.gauges().len()).sum::<usize>()
    }

    /// Sends left-out series again with the next batch.
    pub(crate) fn retry_left_out_now(&mut self) {
        for session in &mut self.shared {
            session.retry_left_out_now();
        }
        for departure in &mut self.departures {
            departure.retry_left_out_now();
        }
    }

    /// Returns how it, or one of its departures, leaves a shard.
    pub(crate) fn leave_shared(&mut self, shard: usize) -> Leaving {
        if let Some(at) = self.departures.iter().position(|d| d.is_pending(shard)) {
            let leaving = self.departures[at].leave(&self.reader);
            if matches!(leaving, Leaving::NotYet) {
                // It waits for room; the others do not wait for it.
                let waiting = self.departures.remove(at);
                self.departures.push(waiting);
            }
            return leaving;
        }
        match self.shared.get_mut(shard) {
            Some(session) => session.leave(&self.reader),
            None => Leaving::Unheard,
        }
    }

    /// Returns whether a carry-over store can replace this writer: nothing of it is in flight.
    pub(crate) fn may_carry_over(&self) -> bool {
        self.shared.iter().all(ShardSession::is_certain)
    }

    /// Adds to a carry-over store what this writer has not sent.
    pub(crate) fn carry_over(&self, store: &mut CarryOver) -> Result<(), StoreError> {
        let died_ms = crate::clock::now_ms();
        let staying = self.shared.iter().filter(|session| !session.has_left());
        let records = staying.map(|session| session.departure(self.shared_pid(), died_ms));
        store.add(&self.reader, self.options.shards, records.collect())?;
        for departure in self
            .departures
            .iter()
            .filter(|departure| !departure.is_over())
        {
            store.add_again(&self.reader, departure);
        }
        Ok(())
    }

    /// Processes the answer to LEAVE; returns false if there is something to send first.
    pub(crate) fn on_shared_leave_reply(&mut self, shard: usize, reply: &PushReply) -> bool {
        if let Some(departure) = departure_at(&mut self.departures, shard) {
            departure.on_leave_reply(reply);
            return false;
        }
        match self.shared.get_mut(shard) {
            Some(session) => session.on_leave_reply(&self.reader, reply),
            None => true,
        }
    }

    /// Returns whether it has more to send to a shard.
    pub(crate) fn is_in_shard(&self, shard: usize) -> bool {
        self.shared
            .get(shard)
            .is_some_and(|session| !session.has_left())
    }

    /// Returns whether it has left all of the shared registry.
    pub(crate) fn has_left_shared(&self) -> bool {
        self.shared.iter().all(ShardSession::has_left)
    }

    /// Returns the families to compare with a shard, which has, or has left out, everything that
    /// there was at the last call.
    pub(crate) fn take_suspects(&mut self, shard: usize) -> Vec<FamilyDef> {
        let session = self.shared.get_mut(shard);
        session.map_or(Vec::new(), |session| session.take_suspects(&self.reader))
    }

    /// Returns the text of the label `pid` of what an ended writer sends to a shard next.
    pub(crate) fn next_pid(&self, shard: usize) -> Option<String> {
        if self.reader.identity().role != Role::CarryOver {
            return Some(self.shared_pid());
        }
        let mut pending = self.departures.iter().filter(|d| d.is_pending(shard));
        pending.next().map(|departure| departure.record.pid.clone())
    }

    /// Adds its gauges to `taken`, if it has that text.
    pub(crate) fn add_gauges_of(&self, pid: &str, taken: &mut TakenGauges) {
        if self.shared_pid() == pid {
            taken.add(&self.reader);
        }
    }

    /// Returns the text of the `pid` label in the shared registry.
    fn shared_pid(&self) -> String {
        format!("{}:{}", self.options.instance, self.pid())
    }
}

/// Returns the first unfinished departure for a shard.
fn departure_at(departures: &mut [Departure], shard: usize) -> Option<&mut Departure> {
    departures.iter_mut().find(|d| d.is_pending(shard))
}

//! The messages of this instance's writers to the shared registry, and its answers.

use metrics_model::PushReply;

use super::{Inner, Life, State};
use crate::clock::now_ms;
use crate::own_metrics::GivenUpBy;
use crate::stores::{Leaving, PushScope, SharedLeave, SharedPush, TakenGauges};

/// What an ended writer has to send to the shared registry.
pub(crate) enum FinalLeave {
    /// Not yet: this instance's registry is not committed, or the shared one lacks some values.
    Wait,
    /// Nothing: the registry has never heard of it.
    None,
    /// This LEAVE.
    Leave(SharedLeave),
}

impl Inner {
    /// Returns the gauges that a living process has taken from an ended one with its process id.
    fn taken_from(&self, number: u64, shard: usize) -> TakenGauges {
        let mut taken = TakenGauges::default();
        let ended = self.writers.get(&number);
        let ended = ended.filter(|entry| entry.life != Life::Live);
        if let Some(pid) = ended.and_then(|entry| entry.writer.next_pid(shard)) {
            let living = self.writers.values();
            let living = living.filter(|entry| entry.life == Life::Live);
            living.for_each(|entry| entry.writer.add_gauges_of(&pid, &mut taken));
        }
        taken
    }
}

impl State {
    /// Returns the writers that a shard of the shared registry may have.
    pub(crate) fn shared_writers(&self, shard: usize) -> Vec<u64> {
        let inner = self.inner.borrow();
        let staying = inner
            .writers
            .iter()
            .filter(|(_, entry)| entry.life == Life::Live || entry.writer.is_in_shard(shard));
        staying.map(|(&number, _)| number).collect()
    }

    /// Returns what that writer has to send to a shard now.
    pub(crate) fn next_shared(
        &self,
        shard: usize,
        number: u64,
        scope: PushScope,
    ) -> Option<SharedPush> {
        let mut inner = self.inner.borrow_mut();
        if inner.is_carried_over(number) {
            return None;
        }
        let taken = inner.taken_from(number, shard);
        let entry = inner.writers.get_mut(&number)?;
        let scope = if entry.life == Life::Live {
            scope
        } else {
            PushScope::Rest
        };
        entry.writer.next_shared(shard, now_ms(), scope, &taken)
    }

    /// Notes that the shard refused that with an error.
    pub(crate) fn on_shared_error(&self, shard: usize, number: u64) {
        if let Some(entry) = self.inner.borrow_mut().writers.get_mut(&number) {
            entry.writer.on_shared_error(shard);
        }
    }

    /// Notes that the shard's module is older and does not name left-out series; logs it once.
    pub(crate) fn on_unknown_question(&self, shard: usize, number: u64) {
        let mut inner = self.inner.borrow_mut();
        if let Some(entry) = inner.writers.get_mut(&number) {
            entry.writer.on_unknown_question(shard);
        }
        if !std::mem::replace(&mut inner.has_old_module, true) {
            tracing::warn!(
                "the module in redis is older than this exporter: what it leaves out at a limit counts as \
                 arrived; load the libredis_metrics.so of this version"
            );
        }
    }

    /// Returns how many series of how many writers the shared registry has left out.
    pub(crate) fn left_out(&self) -> (usize, usize) {
        let inner = self.inner.borrow();
        let counts = inner.writers.values();
        let counts = counts.map(|entry| entry.writer.left_out_count());
        let counts = counts.filter(|count| *count > 0);
        counts.fold((0, 0), |(series, writers), count| {
            (series + count, writers + 1)
        })
    }

    /// Counts as lost what the shared registry has not applied, because the instance ends.
    pub fn give_up_rest(&self) {
        let inner = self.inner.borrow();
        let unapplied = inner.writers.values();
        let unapplied = unapplied.map(|entry| entry.writer.unapplied_count());
        self.give_up_series(GivenUpBy::Shared, unapplied.sum());
    }

    /// Sends it again at once, because the process is about to end.
    pub(crate) fn retry_left_out_now(&self) {
        for entry in self.inner.borrow_mut().writers.values_mut() {
            entry.writer.retry_left_out_now();
        }
    }

    /// Processes the answer to that.
    pub(crate) fn on_shared_reply(&self, shard: usize, number: u64, reply: &PushReply) {
        self.own.pushed(reply.status);
        if let Some(entry) = self.inner.borrow_mut().writers.get_mut(&number) {
            entry.writer.on_shared_reply(shard, reply, now_ms());
        }
    }

    /// Returns how an ended writer leaves a shard, once it has nothing more to send.
    pub(crate) fn final_leave(&self, shard: usize, number: u64) -> FinalLeave {
        let mut inner = self.inner.borrow_mut();
        if inner.is_carried_over(number) {
            return FinalLeave::Wait;
        }
        match inner.writers.get_mut(&number) {
            Some(entry) if entry.life == Life::Committed => {
                match entry.writer.leave_shared(shard) {
                    Leaving::Leave(leave) => FinalLeave::Leave(leave),
                    Leaving::NotYet => FinalLeave::Wait,
                    Leaving::Unheard => {
                        self.settled.notify_one();
                        FinalLeave::None
                    }
                }
            }
            _ => FinalLeave::Wait,
        }
    }

    /// Processes the answer to that; returns false if there is something to send first.
    pub(crate) fn on_final_leave_reply(
        &self,
        shard: usize,
        number: u64,
        reply: &PushReply,
    ) -> bool {
        self.own.pushed(reply.status);
        let mut inner = self.inner.borrow_mut();
        let Some(entry) = inner.writers.get_mut(&number) else {
            return true;
        };
        let has_left = entry.writer.on_shared_leave_reply(shard, reply);
        if has_left {
            self.settled.notify_one();
        }
        has_left
    }
}

//! What the writers of this instance have to say to the shared registry, and what it answers.

use metrics_model::PushReply;

use super::{Life, State};
use crate::instance::now_ms;
use crate::stores::{SharedLeave, SharedPush};

/// What an ended writer still has to say to the shared registry.
pub(crate) enum Farewell {
    /// Not yet: this instance's registry is not committed.
    Wait,
    /// Nothing: it was never heard of there.
    None,
    /// This.
    Leave(SharedLeave),
}

impl State {
    /// The writers that a shard of the shared registry has to do with.
    pub(crate) fn shared_writers(&self, shard: usize) -> Vec<u64> {
        let inner = self.inner.borrow();
        let staying = inner
            .writers
            .iter()
            .filter(|(_, entry)| entry.life == Life::Live || entry.writer.is_in_shard(shard));
        staying.map(|(&number, _)| number).collect()
    }

    /// What that writer has to send to a shard now.
    pub(crate) fn next_shared(&self, shard: usize, number: u64) -> Option<SharedPush> {
        let mut inner = self.inner.borrow_mut();
        if inner.is_passing_on(number) {
            return None;
        }
        let entry = inner.writers.get_mut(&number)?;
        let heartbeat = entry.life == Life::Live;
        entry.writer.next_shared(shard, now_ms(), heartbeat)
    }

    /// Takes the answer to that.
    pub(crate) fn on_shared_reply(&self, shard: usize, number: u64, reply: &PushReply) {
        self.own.pushed(reply.status);
        if let Some(entry) = self.inner.borrow_mut().writers.get_mut(&number) {
            entry.writer.on_shared_reply(shard, reply, now_ms());
        }
    }

    /// Once it has nothing more to send: how a writer that has ended leaves a shard.
    pub(crate) fn farewell(&self, shard: usize, number: u64) -> Farewell {
        let mut inner = self.inner.borrow_mut();
        if inner.is_passing_on(number) {
            return Farewell::Wait;
        }
        match inner.writers.get_mut(&number) {
            Some(entry) if entry.life == Life::Committed => {
                if let Some(leave) = entry.writer.leave_shared(shard) {
                    return Farewell::Leave(leave);
                }
                self.settled.notify_one();
                Farewell::None
            }
            _ => Farewell::Wait,
        }
    }

    /// Takes the answer to that; false if there is something to send first.
    pub(crate) fn on_farewell_reply(&self, shard: usize, number: u64, reply: &PushReply) -> bool {
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

//! What a write does besides changing the registry.

use metrics_model::{PushReply, PushStatus};

/// The effect of a write on replicas, on watching clients, and on the key's expiry.
pub(crate) trait Effect {
    /// Whether the command has to be replicated.
    fn is_change(&self) -> bool {
        true
    }

    /// Whether clients that watch the key have to be notified.
    fn is_news(&self) -> bool {
        self.is_change()
    }

    /// Whether the key must not expire from now on.
    fn keeps_key(&self) -> bool {
        false
    }

    /// The time at which the key has to expire, if the write sets one.
    fn expire_at_ms(&self) -> Option<u64> {
        None
    }
}

impl Effect for () {}
impl Effect for f64 {}

/// The number of changed series. A write that changes none is replicated all the same, because
/// other series may have expired by it.
impl Effect for u64 {
    fn is_news(&self) -> bool {
        *self > 0
    }
}

impl Effect for PushReply {
    fn is_change(&self) -> bool {
        self.status == PushStatus::Ok
    }

    fn expire_at_ms(&self) -> Option<u64> {
        self.expire_at_ms
    }
}

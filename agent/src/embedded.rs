//! The registry of this instance, in this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics_model::{
    Batch, DecodeError, Epoch, ExposeError, ExposeRequest, Limits, Page, PushReply, Registry,
};

use crate::clock::now_ms;

/// A registry that the flusher writes and the server reads.
///
/// This is a `std::sync::Mutex`: it is held for one batch or one page, less than a millisecond, and
/// never across an await.
#[derive(Debug, Clone)]
pub struct EmbeddedRegistry {
    registry: Arc<Mutex<Registry>>,
}

impl EmbeddedRegistry {
    /// Returns a handle on `registry`.
    pub fn new(registry: Arc<Mutex<Registry>>) -> Self {
        Self { registry }
    }

    /// Returns a registry without writers.
    pub fn empty() -> Self {
        let registry = Registry::new(Epoch(1), Limits::default(), now_ms());
        Self::new(Arc::new(Mutex::new(registry)))
    }

    /// Locks the registry until the guard is dropped.
    pub fn lock(&self) -> MutexGuard<'_, Registry> {
        // A panic interrupted at most one batch; the rest of the registry is intact. To serve no
        // page any more would be worse.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renders one page, selected by `request.cursor`; `None` stands for the first.
    pub fn page(&self, request: &ExposeRequest) -> Result<Page, ExposeError> {
        let first_page;
        let request = if request.cursor.is_some() {
            request
        } else {
            first_page = ExposeRequest {
                cursor: Some(b"0".to_vec()),
                ..request.clone()
            };
            &first_page
        };
        self.lock().expose(now_ms(), request)
    }

    /// Applies one batch of a writer. Repeating it, with the same seq and bytes, changes nothing.
    pub fn push(
        &self,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        lease_ms: u64,
        batch: &[u8],
    ) -> Result<PushReply, BatchError> {
        let batch = Batch::decode(batch)?;
        let mut registry = self.lock();
        let stamp = registry.stamp(now_ms(), &Limits::default(), false);
        Ok(registry.push(&stamp, writer, seq, epoch, lease_ms, &batch))
    }

    /// Finishes some of the work that earlier writes and the passing of time have left.
    pub(crate) fn settle(&self) {
        let (mut registry, now_ms) = (self.lock(), now_ms());
        if registry
            .next_work_ms(now_ms)
            .is_some_and(|at_ms| at_ms <= now_ms)
        {
            let stamp = registry.stamp_of_settling(now_ms, &Limits::default());
            registry.settle(&stamp);
        }
    }

    /// Ends a writer for good.
    pub fn leave(&self, writer: &[u8], seq: u64, epoch: Option<Epoch>) -> PushReply {
        let mut registry = self.lock();
        let stamp = registry.stamp(now_ms(), &Limits::default(), false);
        registry.leave(&stamp, writer, seq, epoch)
    }
}

/// A malformed batch: a defect of its writer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the batch is not valid: {0}")]
pub struct BatchError(#[from] DecodeError);

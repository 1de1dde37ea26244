//! Where a registry lives: in this process, or in Redis behind the `METRICS.*` commands.

mod embedded;
mod error;
mod redis;

use metrics_model::{Epoch, ExposeRequest, Page, PushReply};

pub use embedded::Embedded;
pub use error::BackendError;
pub use redis::RedisBackend;

/// A registry that can be rendered page by page, and pushed to. Clones are the same registry.
#[derive(Debug, Clone)]
pub enum Backend {
    /// The registry of this instance.
    Embedded(Embedded),
    /// The registry that instances share.
    Redis(RedisBackend),
}

impl Backend {
    /// Renders one page; `request.cursor` says which, `None` counts as the first.
    pub async fn page(&self, request: &ExposeRequest) -> Result<Page, BackendError> {
        match self {
            Self::Embedded(embedded) => embedded.page(request),
            Self::Redis(redis) => redis.page(request).await,
        }
    }

    /// Which life of the registry this is; `None` if there is none yet.
    pub async fn epoch(&self) -> Result<Option<Epoch>, BackendError> {
        match self {
            Self::Embedded(embedded) => Ok(Some(embedded.epoch())),
            Self::Redis(redis) => redis.epoch().await,
        }
    }

    /// Sends one batch of a writer. Repeating it, with the same seq and bytes, changes nothing.
    pub async fn push(
        &self,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        lease_ms: u64,
        batch: &[u8],
    ) -> Result<PushReply, BackendError> {
        match self {
            Self::Embedded(embedded) => embedded.push(writer, seq, epoch, lease_ms, batch),
            Self::Redis(redis) => redis.push(writer, seq, epoch, lease_ms, batch).await,
        }
    }

    /// Says that a writer is gone for good.
    pub async fn leave(
        &self,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
    ) -> Result<PushReply, BackendError> {
        match self {
            Self::Embedded(embedded) => Ok(embedded.leave(writer, seq, epoch)),
            Self::Redis(redis) => redis.leave(writer, seq, epoch).await,
        }
    }
}

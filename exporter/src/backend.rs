//! The place of a registry: in this process, or in Redis behind the `METRICS.*` commands.

mod embedded;
mod error;
mod redis;
mod shard;

use metrics_model::{ExposeRequest, Page};

pub use embedded::Embedded;
pub use error::BackendError;
pub use redis::RedisBackend;
pub(crate) use redis::{Info, Replacement};
pub(crate) use shard::shard_of;

/// A registry that renders pages. Clones refer to the same registry.
#[derive(Debug, Clone)]
pub enum Backend {
    /// The registry of this instance.
    Embedded(Embedded),
    /// The registry that instances share.
    Redis(RedisBackend),
}

impl Backend {
    /// Renders one page, selected by `request.cursor`; `None` stands for the first.
    pub async fn page(&self, request: &ExposeRequest) -> Result<Page, BackendError> {
        match self {
            Self::Embedded(embedded) => embedded.page(request),
            Self::Redis(redis) => redis.page(request).await,
        }
    }
}

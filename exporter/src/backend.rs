//! The place of a registry: in this process, or in Redis behind the `METRICS.*` commands.

mod error;
mod redis;

use metrics_agent::EmbeddedRegistry;
use metrics_model::{ExposeRequest, Page};

pub use error::BackendError;
pub use redis::RedisBackend;
pub(crate) use redis::{Info, Replacement};

/// A registry that renders pages. Clones refer to the same registry.
#[derive(Debug, Clone)]
pub enum Backend {
    /// The registry of this instance.
    Embedded(EmbeddedRegistry),
    /// The registry that instances share.
    Redis(RedisBackend),
}

impl Backend {
    /// Renders one page, selected by `request.cursor`; `None` stands for the first.
    pub async fn page(&self, request: &ExposeRequest) -> Result<Page, BackendError> {
        match self {
            Self::Embedded(embedded) => Ok(embedded.page(request)?),
            Self::Redis(redis) => redis.page(request).await,
        }
    }
}

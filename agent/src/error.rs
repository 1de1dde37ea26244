//! The reason why an exporter process cannot start.

use metrics_store::{LinkError, StoreError};

/// The reason why an exporter process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The arbiter's first message is not its boot message, with three descriptors.
    #[error("the arbiter's first message is {0}, expected boot with 3 descriptors")]
    Boot(String),
    /// The settings in that message cannot be read.
    #[error("settings: {0}")]
    Settings(#[from] serde_json::Error),
    /// The link to the arbiter cannot be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Memory that the processes of an instance share cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refuses a call.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as a verb with its object.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

impl StartError {
    pub(crate) fn system(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

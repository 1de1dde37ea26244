//! Errors of the exporter of an instance.

use metrics_store::LinkError;

use crate::ProtectionError;

/// The reason why an exporter process ends without having done its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstanceError {
    #[error("the arbiter's first message is {0}, expected boot with 3 descriptors")]
    Boot(String),
    #[error("settings: {0}")]
    Settings(#[from] serde_json::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] metrics_store::StoreError),
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    #[error(transparent)]
    Backend(#[from] crate::BackendError),
    #[error("cannot {action}: {source}")]
    System {
        action: &'static str,
        source: std::io::Error,
    },
}

impl InstanceError {
    pub(super) fn system(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

//! Errors of the exporter of an instance.

use metrics_agent::StartError;

use crate::{BackendError, ProtectionError};

/// The reason why an exporter process ends without having done its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstanceError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    #[error(transparent)]
    Backend(#[from] BackendError),
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

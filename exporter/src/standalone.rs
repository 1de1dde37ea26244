//! An exporter that reads no stores: it serves the metrics that applications share in one Redis.

use std::future::pending;
use std::sync::Arc;

use crate::backend::{Backend, BackendError, RedisBackend};
use crate::frame::Signals;
use crate::listen::listen;
use crate::protection::{Protection, ProtectionError};
use crate::routes::App;
use crate::scrape::Renderings;
use metrics_agent::OwnMetrics;
use metrics_settings::{Scope, Settings, SettingsError};

/// The reason why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The settings give no connection.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The settings ask for an instance, and there is none.
    #[error(
        "exporter.prometheus.scope is instance, allowed for an exporter that stands alone is shared"
    )]
    Scope,
    /// An error of the certificates or the password.
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    /// The system refuses a signal handler or a listener.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Serves until SIGTERM or SIGINT. Redis may be away; scrapes then get an error that names it.
///
/// SIGHUP reloads certificates and password from the files of the settings that `read_again`
/// returns; connections stay open.
pub async fn standalone(
    settings: &Settings,
    read_again: impl Fn() -> Result<Settings, SettingsError>,
) -> Result<(), StandaloneError> {
    if settings.prometheus.scope == Scope::Instance {
        return Err(StandaloneError::Scope);
    }
    let mut signals = Signals::handle()?;
    let protection = Protection::of(settings)?;
    let redis = RedisBackend::new(settings)?;
    let own = Arc::new(OwnMetrics::new());
    let listening = listen(&settings.prometheus, &own);
    let Some(listening) = signals.unless_ended(listening).await else {
        return Ok(());
    };
    let keys = settings.registry_keys().join(", ");
    tracing::info!(
        "serving {keys} of redis at {} at {}/metrics",
        redis.address(),
        listening.url
    );
    let app = App {
        instance: None,
        shared: Some(Backend::Redis(redis)),
        scope: Scope::Shared,
        advice: None,
        refresh: None,
        overviews: None,
        renderings: Renderings::default(),
        protection,
        own,
    };
    let served = signals.serve(listening.listener, app, read_again, pending());
    Ok(served.await?)
}

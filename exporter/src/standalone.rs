//! An exporter that reads no stores: it serves what applications share in one Redis.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::backend::{Backend, BackendError, RedisBackend};
use crate::listen::listen;
use crate::own_metrics::OwnMetrics;
use crate::protection::{Protection, ProtectionError};
use crate::routes::App;
use crate::scrape::Renderings;
use crate::server::serve;
use metrics_settings::{Scope, Settings, SettingsError};

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    /// The settings do not make a connection.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// There is no instance here.
    #[error(
        "exporter.prometheus.scope is instance, allowed for an exporter that stands alone is shared"
    )]
    Scope,
    /// The certificates or the password.
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    /// The system refuses a signal handler or a listener.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Serves until SIGTERM or SIGINT. Redis need not be there: while it is not, scrapes are told so.
///
/// At SIGHUP certificates and password are read again, with what `read_again` says of where they
/// are; connections go on.
pub async fn standalone(
    settings: &Settings,
    read_again: impl Fn() -> Result<Settings, SettingsError>,
) -> Result<(), StandaloneError> {
    if settings.prometheus.scope == Scope::Instance {
        return Err(StandaloneError::Scope);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;
    let protection = Protection::of(settings)?;
    let redis = RedisBackend::new(settings)?;
    let own = Arc::new(OwnMetrics::new());
    let listener = tokio::select! {
        listener = listen(&settings.prometheus, &own) => listener,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let keys = settings.registry_keys().join(", ");
    tracing::info!(
        "serving {keys} of redis at {} at {}/metrics",
        redis.address(),
        listener.url
    );
    let app = App {
        instance: None,
        shared: Some(Backend::Redis(redis)),
        scope: Scope::Shared,
        refresh: None,
        renderings: Renderings::default(),
        protection: protection.clone(),
        own,
    };
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing what is being answered"),
            _ = interrupt.recv() => tracing::info!("SIGINT: finishing what is being answered"),
            () = follow(&protection, hangup, read_again) => {}
        }
    };
    serve(listener.listener, app, shutdown).await?;
    Ok(())
}

/// Reads certificates and password again at each SIGHUP; what cannot be used changes nothing.
pub(crate) async fn follow(
    protection: &Protection,
    mut hangup: Signal,
    read_again: impl Fn() -> Result<Settings, SettingsError>,
) {
    while hangup.recv().await.is_some() {
        let followed = read_again()
            .map_err(|error| error.to_string())
            .and_then(|settings| {
                let followed = protection.follow(&settings);
                followed.map_err(|error| error.to_string())
            });
        match followed {
            Ok(()) => tracing::info!("SIGHUP: certificates and password are read again"),
            Err(error) => {
                tracing::error!("SIGHUP: certificates and password stay what they were: {error}");
            }
        }
    }
}

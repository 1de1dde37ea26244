//! An exporter whose settings name neither a Redis nor a directory: it serves an empty page, and a live
//! page that says what to do next. So a container without any setting answers.

use std::future::pending;
use std::sync::Arc;

use crate::backend::Backend;
use crate::frame::Signals;
use crate::listen::listen;
use crate::protection::Protection;
use crate::routes::App;
use crate::scrape::Renderings;
use crate::standalone::StandaloneError;
use metrics_agent::{EmbeddedRegistry, OwnMetrics};
use metrics_settings::{Scope, Settings, SettingsError};

/// What is missing, and the cure.
pub(crate) const ADVICE: &str = "there is nothing to serve yet: REDIS_HOST names a Redis that applications share (they need REDIS_ENABLED=true too), PROMETHEUS_MULTIPROC_DIR names a directory that an application writes; an application without either serves its own metrics";

/// Serves until SIGTERM or SIGINT. For `read_again` see [`standalone`](crate::standalone()).
pub(crate) async fn idle(
    settings: &Settings,
    read_again: impl Fn() -> Result<Settings, SettingsError>,
) -> Result<(), StandaloneError> {
    let mut signals = Signals::handle()?;
    let protection = Protection::of(settings)?;
    let own = Arc::new(OwnMetrics::new());
    let listening = listen(&settings.prometheus, &own);
    let Some(listening) = signals.unless_ended(listening).await else {
        return Ok(());
    };
    tracing::warn!("{ADVICE}");
    tracing::info!("serving an empty page at {}/metrics", listening.url);
    let app = App {
        instance: Some(Backend::Embedded(EmbeddedRegistry::empty())),
        shared: None,
        scope: Scope::Instance,
        advice: Some(ADVICE),
        refresh: None,
        overviews: None,
        renderings: Renderings::default(),
        protection,
        own,
    };
    let served = signals.serve(listening.listener, app, read_again, pending());
    Ok(served.await?)
}

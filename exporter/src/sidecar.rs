//! An exporter without an arbiter that reads a directory: a container beside the application's, or
//! a program beside the server.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use metrics_agent::{
    Beginning, Directory, RefreshRequest, StartError, State, WaitingScrapes, refresh,
};
use metrics_store::StoreError;
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::frame::{Signals, flush_interval, ticks};
use crate::listen::listen_patiently;
use crate::protection::{Protection, ProtectionError};
use crate::routes::App;
use crate::{Backend, Renderings};
use metrics_settings::{Scope, Settings, SettingsError};

/// Time between two attempts to take the lock.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Time in which a reader that has released the directory closes its port: the orderly end of an
/// arbiter takes at most three seconds.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// The reason why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// No directory is set.
    #[error(
        "there is no directory to read: set exporter.prometheus.multiproc_dir (PROMETHEUS_MULTIPROC_DIR), or Redis"
    )]
    NoDirectory,
    /// Another process reads the directory.
    #[error(
        "another process reads {0} now: this one ends, and would wait for its turn if started again"
    )]
    Taken(String),
    /// An error of TLS or the password.
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    /// Files that it stores cannot be used.
    #[error("{0}")]
    State(String),
    /// The system refuses a signal handler or a listener.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<StartError> for SidecarError {
    fn from(error: StartError) -> Self {
        Self::State(error.to_string())
    }
}

impl From<StoreError> for SidecarError {
    fn from(error: StoreError) -> Self {
        Self::State(error.to_string())
    }
}

/// Reads and serves the directory of the settings until SIGTERM or SIGINT; waits while another
/// process does. For `read_again` see [`standalone`](crate::standalone()).
pub async fn sidecar(
    settings: &Settings,
    read_again: impl Fn() -> Result<Settings, SettingsError>,
) -> Result<(), SidecarError> {
    LocalSet::new().run_until(run(settings, read_again)).await
}

async fn run(
    settings: &Settings,
    read_again: impl Fn() -> Result<Settings, SettingsError>,
) -> Result<(), SidecarError> {
    let path = settings.store_directory();
    let path = path.ok_or(SidecarError::NoDirectory)?;
    let mut signals = Signals::handle()?;
    let protection = Protection::of(settings)?;
    let locked = signals.unless_ended(lock(settings, path)).await;
    let Some((directory, has_waited)) = locked else {
        return Ok(());
    };

    let home = directory.home_path().to_owned();
    let (watcher, _nobody_is_watched) = mpsc::unbounded_channel();
    let beginning = Beginning::as_reader(settings.clone(), directory)?;
    let state = Rc::new(State::new(beginning, 0, watcher)?);
    state.flush();

    let lost = Rc::new(Notify::new());
    let (asker, refreshes) = refresh();
    let app = App {
        instance: Some(Backend::Embedded(state.registry.clone())),
        shared: None,
        scope: Scope::Instance,
        advice: None,
        refresh: Some(asker),
        overviews: None,
        protection,
        renderings: Renderings::default(),
        own: state.own.clone(),
    };
    let flusher = {
        let (state, lost) = (Rc::clone(&state), Rc::clone(&lost));
        let mut tick = ticks(flush_interval(settings));
        async move {
            let mut scrapes = WaitingScrapes::new(refreshes);
            loop {
                let first = tokio::select! {
                    _ = tick.tick() => None,
                    first = scrapes.next() => first,
                };
                let ready = state.flush_for(&mut scrapes, first);
                state.settle();
                if state.has_lost_directory() {
                    lost.notify_one();
                }
                ready.into_iter().for_each(RefreshRequest::answer);
            }
        }
    };
    let flusher = tokio::task::spawn_local(flusher);

    let listening = {
        let (settings, own) = (settings.prometheus.clone(), state.own.clone());
        // In one pod, the reader before this one had the same port.
        let patience = if has_waited {
            PORT_PATIENCE
        } else {
            Duration::ZERO
        };
        async move { listen_patiently(&settings, &own, patience).await }
    };
    let Some(listening) = signals.unless_ended(listening).await else {
        return Ok(());
    };
    tracing::info!("serving {} at {}/metrics", home.display(), listening.url);
    let served = signals.serve(listening.listener, app, read_again, lost.notified());
    let served = served.await;
    flusher.abort();
    if state.has_lost_directory() {
        return Err(SidecarError::Taken(path.display().to_string()));
    }
    state.flush();
    state.settle();
    state.commit_now();
    Ok(served?)
}

/// Opens the directory as soon as it can be used, and becomes its reader as soon as no other
/// process is; returns also whether it had to wait. Logs one line for each reason to wait.
async fn lock(settings: &Settings, path: &Path) -> (Directory, bool) {
    let mut said: Option<String> = None;
    loop {
        let waits = match Directory::open(path, settings.prometheus.multiproc_group) {
            Ok(directory) => match directory.try_lock() {
                Ok(true) => return (directory, said.is_some()),
                Ok(false) => format!(
                    "another process reads {}; this one waits until it ends (an application that a sidecar serves needs SIDECAR_MODE=true)",
                    path.display()
                ),
                Err(error) => format!("{} cannot be locked: {error}", path.display()),
            },
            Err(error) => format!(
                "the metrics directory {} cannot be used: {error}; trying again every second",
                path.display()
            ),
        };
        if said.as_ref() != Some(&waits) {
            tracing::warn!("{waits}");
            said = Some(waits);
        }
        sleep(TRY_AGAIN).await;
    }
}

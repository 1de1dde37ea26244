//! An exporter that reads a directory and has no arbiter: a container beside the application's, or a
//! program beside the server.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use metrics_store::{Control, Facts, Snapshots, StoreError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::instance::{Booted, DirectoryRole, FilesBoot, InstanceError, State};
use crate::listen::listen;
use crate::protection::{Protection, ProtectionError};
use crate::refresh::{RefreshRequest, refresh};
use crate::routes::App;
use crate::server::serve;
use crate::standalone::follow;
use crate::stores::Directory;
use crate::{Backend, Renderings};
use metrics_settings::{Scope, Settings, SettingsError};

/// How often the lock of somebody else is tried.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// No directory is set.
    #[error(
        "there is no directory to read: set exporter.prometheus.multiproc_dir (PROMETHEUS_MULTIPROC_DIR), or Redis"
    )]
    NoDirectory,
    /// Another process has taken it.
    #[error(
        "another process reads {0} now: this one ends, and would wait for its turn if started again"
    )]
    Taken(String),
    /// Who may ask.
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    /// What it keeps cannot be used.
    #[error("{0}")]
    State(String),
    /// The system refuses a signal handler or a listener.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<InstanceError> for SidecarError {
    fn from(error: InstanceError) -> Self {
        Self::State(error.to_string())
    }
}

impl From<StoreError> for SidecarError {
    fn from(error: StoreError) -> Self {
        Self::State(error.to_string())
    }
}

/// Reads and serves the directory of the settings until SIGTERM or SIGINT; while another process
/// does, it waits for its turn. What `read_again` is for: see [`standalone`](crate::standalone()).
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
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;
    let protection = Protection::of(settings)?;
    let directory = tokio::select! {
        directory = lock(settings, path) => directory,
        () = asked_to_end(&mut terminate, &mut interrupt) => return Ok(()),
    };

    let home = directory.home_path().to_owned();
    let (watcher, _nobody_is_watched) = mpsc::unbounded_channel();
    let booted = Booted {
        settings: settings.clone(),
        instance: String::new(),
        facts: Facts::default(),
        control: Control::create()?,
        snapshots: Snapshots::create()?,
        files: Some(FilesBoot {
            role: DirectoryRole::Reader,
            directory: Ok(directory),
        }),
        early: Vec::new(),
    };
    let (state, _nothing_came) = State::new(booted, watcher)?;
    let state = Rc::new(state);
    state.flush();

    let lost = Rc::new(Notify::new());
    let (asker, mut refreshes) = refresh();
    let app = App {
        instance: Some(Backend::Embedded(state.registry.clone())),
        shared: None,
        scope: Scope::Instance,
        refresh: Some(asker),
        protection: protection.clone(),
        renderings: Renderings::default(),
        own: state.own.clone(),
    };
    let flusher = {
        let (state, lost) = (Rc::clone(&state), Rc::clone(&lost));
        let every = Duration::from_millis(settings.flush_interval_ms.max(10));
        async move {
            let mut tick = interval(every);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let mut waiting = Vec::new();
                tokio::select! {
                    _ = tick.tick() => {}
                    Some(request) = refreshes.next() => waiting.push(request),
                }
                while let Some(request) = refreshes.waiting() {
                    waiting.push(request);
                }
                if !waiting.is_empty() {
                    state.scraped();
                }
                state.flush();
                state.settle();
                if state.has_lost_directory() {
                    lost.notify_one();
                }
                waiting.into_iter().for_each(RefreshRequest::answer);
            }
        }
    };
    let flusher = tokio::task::spawn_local(flusher);

    let listening = {
        let (settings, own) = (settings.prometheus.clone(), state.own.clone());
        async move { listen(&settings, &own).await }
    };
    let listener = tokio::select! {
        listener = listening => listener,
        () = asked_to_end(&mut terminate, &mut interrupt) => return Ok(()),
    };
    tracing::info!("serving {} at {}/metrics", home.display(), listener.url);
    let shutdown = async {
        tokio::select! {
            () = asked_to_end(&mut terminate, &mut interrupt) => {}
            () = follow(&protection, hangup, read_again) => {}
            () = lost.notified() => {}
        }
        tracing::info!("finishing what is being answered");
    };
    let served = serve(listener.listener, app, shutdown).await;
    flusher.abort();
    if state.has_lost_directory() {
        return Err(SidecarError::Taken(path.display().to_string()));
    }
    state.flush();
    state.settle();
    state.commit_now();
    Ok(served?)
}

/// Opens the directory as soon as it can be used, and becomes its reader as soon as no other process
/// is. One line is logged for each reason to wait.
async fn lock(settings: &Settings, path: &Path) -> Directory {
    let mut said = None;
    loop {
        let waits = match Directory::open(path, settings.prometheus.multiproc_group) {
            Ok(directory) => match directory.try_lock() {
                Ok(true) => return directory,
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

async fn asked_to_end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

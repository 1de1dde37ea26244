//! The frame of the programs that serve: a runtime, signals, serving, and an orderly end.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use metrics_settings::{Settings, SettingsError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::protection::Protection;
use crate::routes::App;
use crate::server::serve;

/// Minimum time between two flushes.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Runs `task` on a runtime of one thread. Does not wait for other work that it has started: a
/// resolver without an answer, a password that is being hashed.
pub(crate) fn run_to_the_end<T>(task: impl Future<Output = T>) -> io::Result<T> {
    let runtime = runtime()?;
    let ended = runtime.block_on(task);
    runtime.shutdown_background();
    Ok(ended)
}

/// Returns a runtime of one thread, which is enough for these programs.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Returns the time between two flushes.
pub(crate) fn flush_interval(settings: &Settings) -> Duration {
    Duration::from_millis(settings.flush_interval_ms).max(SHORTEST_INTERVAL)
}

/// Returns ticks: the first at once, then one after each `period`; a longer flush delays the next
/// tick.
pub(crate) fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The signals that end a program without an arbiter, and SIGHUP.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Handles SIGTERM, SIGINT and SIGHUP from now on.
    pub(crate) fn handle() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Ignores these signals and SIGQUIT, for a process that its arbiter ends. They reach all
    /// processes of a terminal or of a group, while workers are still finishing requests.
    pub(crate) fn ignore() -> io::Result<()> {
        for kind in [
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::hangup(),
            SignalKind::terminate(),
        ] {
            // Once a signal had a handler, its default action never returns, even without a
            // listener.
            drop(signal(kind)?);
        }
        Ok(())
    }

    /// Runs `task`; returns `None` if a signal ends the program first.
    pub(crate) async fn unless_ended<T>(&mut self, task: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = task => Some(done),
            _ = self.terminate.recv() => None,
            _ = self.interrupt.recv() => None,
        }
    }

    /// Serves `app` until SIGTERM, SIGINT or `over`, then finishes open requests.
    ///
    /// SIGHUP reloads certificates and password from the files of the settings that `read_again`
    /// returns; connections stay open.
    pub(crate) async fn serve(
        mut self,
        listener: TcpListener,
        app: App,
        read_again: impl Fn() -> Result<Settings, SettingsError>,
        over: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let protection = app.protection.clone();
        let shutdown = async {
            let reason = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM: ",
                _ = self.interrupt.recv() => "SIGINT: ",
                () = over => "",
                () = follow(&protection, self.hangup, read_again) => "",
            };
            tracing::info!("{reason}finishing what is being answered");
        };
        serve(listener, app, shutdown).await
    }
}

/// Reloads certificates and password at each SIGHUP; if they cannot be used, the old ones stay.
async fn follow(
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

/// A server that runs beside its program, until the program ends or replaces it.
pub(crate) struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Serves `app` at `listener`.
    pub(crate) fn start(listener: TcpListener, app: App) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::task::spawn_local(async move {
            let shutdown = async {
                let _stopped_or_gone = stopped.await;
            };
            if let Err(error) = serve(listener, app, shutdown).await {
                tracing::error!("/metrics cannot be served: {error}");
            }
        });
        Self { stop, task }
    }

    /// Accepts no more connections. The returned task ends when all requests are answered, or after
    /// `limit`; it runs on while the program does the rest.
    pub(crate) fn end(self, limit: Duration) -> JoinHandle<()> {
        let _already_ended = self.stop.send(());
        tokio::task::spawn_local(async move {
            let _answered_or_broken_off = timeout(limit, self.task).await;
        })
    }
}

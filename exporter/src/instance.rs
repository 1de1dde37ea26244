//! The exporter process of one Gunicorn instance: the arbiter starts it, and it works until the
//! arbiter tells it to end, or is gone.
//!
//! # How it works
//!
//! One thread. The main loop receives messages of the arbiter and notices the end of workers. Each
//! `flush_interval` (and before a scrape is answered) it brings the content of the stores into the
//! registry of this instance. All of that is memory, so pings and scrapes are always answered
//! quickly. A second task talks to the shared registry, which may be slow or away; it holds no lock
//! while it waits.
//!
//! # When a worker dies
//!
//! The exporter reads the worker's last values, counts its open requests as aborted, and removes it
//! from the registry of this instance. It commits that registry, and the worker leaves the shared
//! registry. Only then it tells the arbiter to give up the store. If the exporter is killed between
//! two of these steps, the next one repeats them, with the same result.
//!
//! # When the arbiter is gone
//!
//! Its workers notice within a second or two. Until then they are read as always; then the
//! remaining values are pushed, and this process ends too. It never exits with 3 or 4, which older
//! arbiters take for a worker that cannot boot.

mod error;
mod pages;

use std::future::ready;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use metrics_agent::{
    AsyncLink, Beginning, CarryOverStore, Message, OverviewRequests, Pusher, RefreshRequest, State,
    WaitingScrapes, boot, end_with, overviews, refresh,
};
use metrics_settings::{InFlight, Scope};
use metrics_store::{LinkError, Role, ToArbiter, ToExporter};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep};

use crate::frame::{Serving, Signals, flush_interval, run_to_the_end, ticks};
use crate::logging;
use crate::routes::App;
use crate::{Backend, Protection, ProtectionError, RedisBackend, Renderings, TlsFiles};
use error::InstanceError;

/// Time limit, once the arbiter is gone, for workers to notice it and for Redis to accept the rest.
const ARBITER_GONE_LIMIT: Duration = Duration::from_secs(30);
/// Time after which the process is killed if it hangs in a call once its arbiter is gone; before
/// that, the arbiter ends it.
const SILENCE: Duration = Duration::from_secs(10);
/// Time limit of an orderly end; the arbiter waits for three seconds.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);
/// Time limit of open scrapes at the end.
const DRAIN: Duration = Duration::from_secs(1);

/// Runs the exporter of an instance over its end of the link to the arbiter. Returns the exit code
/// of the process: 0, or 1 if it could not start or continue.
pub fn run_instance(link: OwnedFd) -> u8 {
    logging::start_instance();
    // Keeps a crypto provider that is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let run = || -> Result<(), InstanceError> {
        let locals = LocalSet::new();
        run_to_the_end(locals.run_until(run(link)))
            .map_err(InstanceError::system("start the runtime"))?
    };
    match run() {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("the exporter ends: {error}");
            1
        }
    }
}

async fn run(link: OwnedFd) -> Result<(), InstanceError> {
    // The arbiter decides when this process ends.
    Signals::ignore().map_err(InstanceError::system("ignore a signal"))?;
    end_with(link.as_fd(), SILENCE).map_err(InstanceError::system("watch over this process"))?;
    let mut link = AsyncLink::new(link)?;
    let Some((beginning, early)) = boot(&mut link).await? else {
        return Ok(());
    };
    Instance::new(link, beginning)?.run(early).await
}

/// The state of the main loop.
struct Instance {
    link: AsyncLink,
    state: Rc<State>,
    flush_interval: Duration,
    ended: mpsc::UnboundedReceiver<u64>,
    scrapes: WaitingScrapes,
    overviews: OverviewRequests,
    app: App,
    serves_tls: bool,
    server: Option<Serving>,
    pages: Option<JoinHandle<()>>,
    pusher: Option<Pusher<RedisBackend>>,
}

/// The reason why the main loop ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The instance ends.
    Shutdown,
    /// Another exporter replaces this one.
    Replaced,
    /// The arbiter is gone.
    ArbiterGone,
}

impl Instance {
    fn new(link: AsyncLink, beginning: Beginning) -> Result<Self, InstanceError> {
        let (watcher, ended) = mpsc::unbounded_channel();
        let flush_interval = flush_interval(&beginning.settings);
        let scope = beginning.settings.prometheus.scope;
        let shows = beginning.settings.http.in_flight;
        let serves_tls = beginning.settings.prometheus.ssl.enabled;
        let protection = Protection::default();
        protection.use_password(beginning.settings.auth.as_ref())?;
        let settings = &beginning.settings;
        let shared = settings.redis.enabled.then(|| RedisBackend::new(settings));
        let shared = shared.transpose()?;
        let shards = shared.as_ref().map_or(0, RedisBackend::shards);
        let state = Rc::new(State::new(beginning, shards, watcher)?);
        let (asker, refreshes) = refresh();
        let (overviews, overview_requests) = overviews();
        let app = App {
            instance: Some(Backend::Embedded(state.registry.clone())),
            shared: shared.clone().map(Backend::Redis),
            scope,
            advice: None,
            refresh: Some(asker),
            overviews: (shows != InFlight::Off).then_some(overviews),
            renderings: Renderings::default(),
            protection,
            own: state.own.clone(),
        };
        let pusher = shared.map(|redis| Pusher::start(Rc::clone(&state), redis, flush_interval));
        Ok(Self {
            link,
            state,
            flush_interval,
            ended,
            scrapes: WaitingScrapes::new(refreshes),
            overviews: overview_requests,
            app,
            serves_tls,
            server: None,
            pages: None,
            pusher,
        })
    }

    async fn run(mut self, early: Vec<Message>) -> Result<(), InstanceError> {
        for (message, descriptors) in early {
            if let Some(end) = self.take(message, descriptors) {
                return self.shut_down(end).await;
            }
        }
        self.flush();
        self.link.send(&ToArbiter::Ready);
        match self.serve().await {
            End::ArbiterGone => self.outlive_the_arbiter().await,
            end => self.shut_down(end).await,
        }
    }

    /// The main loop.
    async fn serve(&mut self) -> End {
        let mut tick = ticks(self.flush_interval);
        loop {
            let settled = self.state.settled.notified();
            // In this order: all messages of the arbiter are handled first, so that workers that
            // end together are committed together.
            tokio::select! {
                biased;
                message = self.link.receive() => match message {
                    Ok((message, descriptors)) => {
                        if let Some(end) = self.take(message, descriptors) {
                            return end;
                        }
                    }
                    Err(LinkError::Closed) => return End::ArbiterGone,
                    Err(error) => {
                        tracing::error!("a message of the arbiter is lost: {error}");
                        self.state.own.failed("link");
                    }
                },
                Some(number) = self.ended.recv() => self.state.ended(number),
                () = ready(()), if self.state.has_ended() => self.flush(),
                _ = tick.tick() => {
                    if self.pusher.is_some() {
                        // Its pages are read elsewhere.
                        self.state.scraped(std::time::Instant::now());
                    }
                    self.flush();
                    if self.state.is_to_be_replaced() {
                        return End::Replaced;
                    }
                }
                first = self.scrapes.next() => self.flush_for(first),
                Some(reader) = self.overviews.recv() => {
                    // The client may have disconnected meanwhile.
                    let _ = reader.send(self.state.overview());
                }
                () = settled => self.release(),
            }
        }
    }

    /// Handles a message; the last one returns how to end.
    fn take(&mut self, message: ToExporter, descriptors: Vec<OwnedFd>) -> Option<End> {
        match (message, <[OwnedFd; 1]>::try_from(descriptors)) {
            (ToExporter::Tls, Ok([files])) => self.use_certificates(files),
            (ToExporter::Listener, Ok([listener])) => self.listen(listener),
            (ToExporter::Pages, Ok([listener])) => {
                let served = pages::serve(listener, self.app.clone());
                self.pages = Some(tokio::task::spawn_local(served));
            }
            (ToExporter::Store(store), Ok([file])) => self.state.open(&store, file),
            (ToExporter::Dead { number }, _) => self.state.ended(number),
            (ToExporter::Ping, _) => self.link.send(&ToArbiter::Pong),
            (ToExporter::Shutdown, _) => return Some(End::Shutdown),
            (ToExporter::Replace, _) => return Some(End::Replaced),
            (message, _) => {
                tracing::error!("a message of the arbiter has not its descriptors: {message:?}");
                self.state.own.failed("link");
            }
        }
        None
    }

    fn use_certificates(&self, files: OwnedFd) {
        let used = TlsFiles::from_memory(files)
            .map_err(ProtectionError::from)
            .and_then(|files| self.app.protection.use_certificates(&files));
        if let Err(error) = used {
            tracing::error!("the certificates stay what they were: {error}");
            self.state.own.failed("tls");
        }
    }

    /// Serves on a listener, which replaces the one before.
    fn listen(&mut self, listener: OwnedFd) {
        if self.serves_tls && self.app.protection.tls().is_none() {
            tracing::error!("/metrics is not served: TLS is on and there are no certificates");
            self.state.own.failed("tls");
            return;
        }
        self.server = Some(Serving::start(listener.into(), self.app.clone()));
    }

    fn flush(&mut self) {
        self.state.flush();
        self.report();
    }

    /// Flushes for `first` and all scrapes that wait by now, and answers those whose values are there.
    fn flush_for(&mut self, first: Option<RefreshRequest>) {
        let ready = self.state.flush_for(&mut self.scrapes, first);
        self.report();
        for request in ready {
            match (&self.pusher, request.scope) {
                (Some(pusher), Scope::Shared) => pusher.push_now(request),
                _ => request.answer(),
            }
        }
    }

    /// Tells the arbiter the results of a flush.
    fn report(&mut self) {
        self.release();
        if let Some(life) = self.state.take_life() {
            self.link.send_with(&ToArbiter::Life, vec![life]);
            self.state.publish();
            self.release();
        }
        if let Some(CarryOverStore {
            store,
            file,
            replaces,
        }) = self.state.carry_over()
        {
            let carry_over = ToArbiter::CarryOver { store, replaces };
            self.link
                .send_with(&carry_over, file.into_fd().into_iter().collect());
        }
        if self.state.needs_store() {
            self.link.send(&ToArbiter::NeedsStore);
        }
        self.link.flush();
    }

    /// Tells the arbiter which stores it may give up.
    fn release(&mut self) {
        for number in self.state.settle() {
            self.link.send(&ToArbiter::Released { number });
        }
    }

    /// Pushes the rest, as far as two seconds suffice, because the arbiter asks this process to
    /// end.
    async fn shut_down(mut self, end: End) -> Result<(), InstanceError> {
        let deadline = Instant::now() + SHUTDOWN_LIMIT;
        self.finish(end, deadline).await;
        self.link.send(&ToArbiter::Bye);
        // Messages that the arbiter has not received yet: it receives them while it waits for
        // `Bye`.
        while self.link.has_queued() && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
            self.link.flush();
        }
        Ok(())
    }

    /// Workers end by themselves within seconds; their stores are read until then.
    async fn outlive_the_arbiter(mut self) -> Result<(), InstanceError> {
        let deadline = Instant::now() + ARBITER_GONE_LIMIT;
        while self.state.any_alive(&[Role::Worker, Role::Child]) && Instant::now() < deadline {
            tokio::select! {
                () = sleep(self.flush_interval.min(Duration::from_millis(200))) => {}
                Some(number) = self.ended.recv() => self.state.ended(number),
                first = self.scrapes.next() => self.flush_for(first),
            }
            self.state.flush();
            self.state.settle();
        }
        self.finish(End::ArbiterGone, deadline).await;
        Ok(())
    }

    async fn finish(&mut self, end: End, deadline: Instant) {
        if let Some(pages) = self.pages.take() {
            // The next exporter answers at the same socket.
            pages.abort();
        }
        // A scraper may read on while the rest is done.
        let drained = self.server.take().map(|server| server.end(DRAIN));
        for request in self.scrapes.ready(Vec::new(), false) {
            request.answer();
        }
        self.state.find_ended();
        if end == End::Shutdown {
            self.state.forget_carry_over();
        }
        let is_empty = !self.state.any_alive(&[Role::Worker, Role::Child]);
        if end != End::Replaced && is_empty {
            // No process records any more: all writers leave, the exporter's own store too.
            self.state.all_ended();
        }
        self.state.flush();
        if self.state.take_life().is_some() {
            // Too late to be sent.
            self.state.publish();
        }
        let pusher = self.pusher.take();
        let rest = async {
            if let Some(pusher) = pusher {
                pusher.finish(deadline).await;
            }
            if let Some(drained) = drained {
                let _as_far_as_it_came = drained.await;
            }
        };
        let mut rest = pin!(rest);
        loop {
            tokio::select! {
                () = &mut rest => break,
                // Scrapes that were accepted before are answered with the present values.
                Some(request) = self.scrapes.next() => request.answer(),
            }
        }
        self.release();
        if end != End::Replaced {
            self.state.give_up_rest();
        }
    }
}

//! A running exporter, from its arbiter's side.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use metrics_store::{ArbiterLink, LinkError, NewStore, Process, ToArbiter, ToExporter};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::exporter_process::{self, Program};

/// Time without an answer to a ping after which the exporter counts as hanging.
const SILENCE: Duration = Duration::from_secs(10);
/// An exporter that lived longer than this counts as healthy.
const HEALTHY: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A process and the link to it.
#[derive(Debug)]
pub(super) struct Exporter {
    pub(super) process: Process,
    pub(super) started: Instant,
    link: ArbiterLink,
    pinged: Option<Instant>,
    /// Requests of the exporter since the last call of `attend`.
    requests: Requests,
    said_bye: bool,
    /// Since when it has been waiting for another exporter to end.
    waiting: Option<Instant>,
    lost: Option<String>,
}

/// The requests of an exporter.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// The stores that the arbiter may give up.
    pub(super) released: Vec<u64>,
    /// Whether it needs another store of its own.
    pub(super) needs_store: bool,
    /// The file whose lock shows that the instance lives.
    pub(super) life: Option<OwnedFd>,
    /// Stores that replace others.
    pub(super) carry_overs: Vec<(NewStore, OwnedFd, Vec<u64>)>,
}

/// How an exporter has ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to end, and has sent `Bye`.
    Asked,
    /// The reason why another one is needed.
    Failed(String),
}

impl Exporter {
    pub(super) fn start(
        program: &Program,
        owner: Option<(u32, u32)>,
        now: Instant,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let (link, tcarry_overs) = ArbiterLink::pair()?;
        let process = exporter_process::spawn(program, tcarry_overs, owner)?;
        Ok(Self {
            process,
            started: now,
            link,
            pinged: None,
            requests: Requests::default(),
            said_bye: false,
            waiting: None,
            lost: None,
        })
    }

    /// Returns how long it has been waiting for another exporter to end.
    pub(super) fn waits(&self, now: Instant) -> Option<Duration> {
        let since = self.waiting?;
        Some(now.saturating_duration_since(since))
    }

    /// Sends a message, now or when the exporter accepts it. A failure ends this exporter.
    pub(super) fn send(&mut self, message: &ToExporter, descriptors: Vec<OwnedFd>) {
        if let Err(error) = self.link.send(message, descriptors) {
            self.fail(&error);
        }
    }

    /// Gives this exporter up, because it cannot get a message that it needs.
    pub(super) fn lose(&mut self, why: String) {
        self.lost.get_or_insert(why);
    }

    /// Reads its messages, and pings it.
    pub(super) fn attend(&mut self, now: Instant) -> Requests {
        if let Err(error) = self.link.flush() {
            self.fail(&error);
        }
        self.receive();
        match self.pinged {
            Some(pinged) if now.duration_since(pinged) > SILENCE => {
                self.lose(format!("has been silent for {} s", SILENCE.as_secs()));
            }
            Some(_) => {}
            None => {
                self.pinged = Some(now);
                self.send(&ToExporter::Ping, Vec::new());
            }
        }
        if !self.process.is_alive() {
            self.lose("has ended".to_owned());
        }
        if self.lost.is_some() {
            // Its last messages may have arrived since, above all `Bye`.
            self.receive();
        }
        std::mem::take(&mut self.requests)
    }

    /// Returns whether it has ended, and how. Kills it if it must end and has not.
    pub(super) fn end(&mut self) -> Option<End> {
        let why = self.lost.take()?;
        if self.said_bye {
            return Some(End::Asked);
        }
        exporter_process::kill(self.process);
        Some(End::Failed(why))
    }

    /// Waits for `Bye`; returns the error if it does not come.
    pub(super) fn wait_for_bye(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            if self.lost.is_none()
                && let Err(error) = self.link.flush()
            {
                self.fail(&error);
            }
            // Even if the exporter is gone, its `Bye` may still be unread.
            self.receive();
            let left = deadline.saturating_duration_since(Instant::now());
            if self.said_bye {
                return Ok(());
            }
            if let Some(why) = self.lost.take() {
                return Err(why);
            }
            if left.is_zero() {
                let seconds = patience.as_secs_f64();
                return Err(format!(
                    "has not finished within {seconds} s and goes on alone"
                ));
            }
            // A signal, or the end of the wait: the loop checks again.
            let step = left.min(Duration::from_millis(50));
            let timeout = Timespec::try_from(step).ok();
            let _looks_again = poll(
                &mut [PollFd::new(&self.link, PollFlags::IN)],
                timeout.as_ref(),
            );
        }
    }

    fn receive(&mut self) {
        loop {
            match self.link.receive() {
                Ok(None) => return,
                Ok(Some((message, descriptors))) => {
                    self.pinged = None;
                    match message {
                        ToArbiter::Ready => self.waiting = None,
                        ToArbiter::Pong => {}
                        ToArbiter::Waiting => self.waiting = Some(Instant::now()),
                        ToArbiter::Released { number } => self.requests.released.push(number),
                        ToArbiter::NeedsStore => self.requests.needs_store = true,
                        ToArbiter::Life => self.requests.life = descriptors.into_iter().next(),
                        ToArbiter::CarryOver { store, replaces } => {
                            // Without its descriptor the message is invalid, and the store of
                            // before stays.
                            if let Ok([file]) = <[OwnedFd; 1]>::try_from(descriptors) {
                                self.requests.carry_overs.push((store, file, replaces));
                            }
                        }
                        ToArbiter::Bye => self.said_bye = true,
                    }
                }
                Err(error) => {
                    self.fail(&error);
                    return;
                }
            }
        }
    }

    fn fail(&mut self, error: &LinkError) {
        self.lose(match error {
            LinkError::Closed => "has ended".to_owned(),
            other => format!("cannot be talked to: {other}"),
        });
    }
}

/// Pause before the next exporter, so that one that cannot run does not use up the machine.
#[derive(Debug, Default)]
pub(super) struct Pause {
    length: Duration,
    until: Option<Instant>,
}

impl Pause {
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Returns whether scrapers would wait for more than a second.
    pub(super) fn is_long(&self) -> bool {
        self.length > Duration::from_secs(2)
    }

    /// Notes that another one has ended, which was started at `started`.
    pub(super) fn lengthen(&mut self, now: Instant, started: Instant) {
        if now.duration_since(started) > HEALTHY {
            self.length = Duration::ZERO;
        }
        // The first is replaced at once.
        self.until = Some(now + self.length);
        self.length = (self.length * 2).clamp(Duration::from_secs(1), LONGEST_PAUSE);
    }
}

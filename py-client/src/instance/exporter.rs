//! A running exporter, as its arbiter knows it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use metrics_store::{ArbiterLink, LinkError, NewStore, Process, ToArbiter, ToExporter};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::exporter_process::{self, Program};

/// A ping that is not answered for so long means that the exporter hangs.
const SILENCE: Duration = Duration::from_secs(10);
/// An exporter that lived longer than this was all right.
const HEALTHY: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A process and the link to it.
#[derive(Debug)]
pub(super) struct Exporter {
    pub(super) process: Process,
    pub(super) started: Instant,
    link: ArbiterLink,
    pinged: Option<Instant>,
    /// What it has asked for since `attend` was last called.
    said: Said,
    said_bye: bool,
    /// Since when it has waited for another exporter to end.
    waiting: Option<Instant>,
    lost: Option<String>,
}

/// What an exporter has asked for.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The stores that may go.
    pub(super) released: Vec<u64>,
    /// It needs another store of its own.
    pub(super) is_worn: bool,
    /// The file whose lock says that the instance lives.
    pub(super) life: Option<OwnedFd>,
    /// Stores that take the place of others.
    pub(super) heirs: Vec<(NewStore, OwnedFd, Vec<u64>)>,
}

/// How an exporter has ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was asked to, and has said good-bye.
    Asked,
    /// Why another one is needed.
    Failed(String),
}

impl Exporter {
    pub(super) fn start(
        program: &Program,
        owner: Option<(u32, u32)>,
        now: Instant,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let (link, theirs) = ArbiterLink::pair()?;
        let process = exporter_process::spawn(program, theirs, owner)?;
        Ok(Self {
            process,
            started: now,
            link,
            pinged: None,
            said: Said::default(),
            said_bye: false,
            waiting: None,
            lost: None,
        })
    }

    /// For how long it has waited for another exporter to end.
    pub(super) fn waits(&self, now: Instant) -> Option<Duration> {
        let since = self.waiting?;
        Some(now.saturating_duration_since(since))
    }

    /// Sends a message, now or when it is taken. What fails is the end of this exporter.
    pub(super) fn send(&mut self, message: &ToExporter, descriptors: Vec<OwnedFd>) {
        if let Err(error) = self.link.send(message, descriptors) {
            self.fail(&error);
        }
    }

    /// This exporter cannot be told what it must know.
    pub(super) fn lose(&mut self, why: String) {
        self.lost.get_or_insert(why);
    }

    /// Reads what it has said, and asks whether it is there.
    pub(super) fn attend(&mut self, now: Instant) -> Said {
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
            // What it sent before it ended may have arrived since, its good-bye above all.
            self.receive();
        }
        std::mem::take(&mut self.said)
    }

    /// Whether it is over, and how. It is killed if it should not be and is not gone.
    pub(super) fn end(&mut self) -> Option<End> {
        let why = self.lost.take()?;
        if self.said_bye {
            return Some(End::Asked);
        }
        exporter_process::kill(self.process);
        Some(End::Failed(why))
    }

    /// Waits for the last word; answers what was wrong if it did not come.
    pub(super) fn wait_for_bye(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            if self.lost.is_none()
                && let Err(error) = self.link.flush()
            {
                self.fail(&error);
            }
            // Also of an exporter that is gone: its good-bye may still be unread.
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
            // A signal, or the end of the wait: the loop looks again.
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
                        ToArbiter::Released { number } => self.said.released.push(number),
                        ToArbiter::Worn => self.said.is_worn = true,
                        ToArbiter::Life => self.said.life = descriptors.into_iter().next(),
                        ToArbiter::Heir { store, replaces } => {
                            // Without its descriptor it is none, and the others stay.
                            if let Ok([file]) = <[OwnedFd; 1]>::try_from(descriptors) {
                                self.said.heirs.push((store, file, replaces));
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

/// How long the next exporter is waited with, so that one which cannot live does not eat the machine.
#[derive(Debug, Default)]
pub(super) struct Pause {
    length: Duration,
    until: Option<Instant>,
}

impl Pause {
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Whether scrapers would wait for more than a second.
    pub(super) fn is_long(&self) -> bool {
        self.length > Duration::from_secs(2)
    }

    /// Another one has ended, which was started at `started`.
    pub(super) fn lengthen(&mut self, now: Instant, started: Instant) {
        if now.duration_since(started) > HEALTHY {
            self.length = Duration::ZERO;
        }
        // The first is replaced at once.
        self.until = Some(now + self.length);
        self.length = (self.length * 2).clamp(Duration::from_secs(1), LONGEST_PAUSE);
    }
}

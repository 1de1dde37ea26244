//! Two arbiters of one instance: after USR2 there is an old one, and a new one that replaces it or
//! fails.
//!
//! # How it works
//!
//! The new arbiter inherits one socket. An environment variable names it: its number, and its
//! device and inode ([`Handover`]). A number alone may refer to anything by the time that it is
//! read, because programs that have closed the socket inherit the variable too. Over the socket
//! come the control memory, the snapshots, the listener and all stores. As long as both arbiters
//! live, each tells the other of every store that it makes and of every writer that ends. So each
//! holds everything, and either can continue when the other ends.
//!
//! One exporter is active: the holder of the control memory's lock. The new arbiter's exporter
//! waits for it, and the new arbiter then asks the old one to yield. The old exporter commits and
//! ends, and the old arbiter starts none while the new one lives. Both share one listening socket,
//! so scrapers notice nothing.
//!
//! # What if
//!
//! *The new arbiter ends first* (a rollback, or it could not start): the old one reads the end of
//! file on the link, and its exporter takes over again. *The old one ends first* (an upgrade): the
//! new one owns everything. *An exporter does not release its lock* within three seconds: it is
//! killed, which loses nothing, because all its state is in memory that others hold.

use std::fmt::{self, Display, Formatter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::str::FromStr;
use std::time::{Duration, Instant};

use metrics_settings::PrometheusSettings;
use metrics_store::{
    Control, Descriptor, LinkError, PeerLink, Process, Snapshots, StoreError, StoreFile,
    ToExporter, ToPeer,
};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use super::listener::Listener;
use super::stores::{Held, Owner};
use super::{Line, Supervisor};
use crate::exporter_process;

/// Time limit for an exporter to end when another waits for its place.
const PATIENCE: Duration = Duration::from_secs(3);

/// The other arbiter.
pub(super) struct Peer {
    link: PeerLink,
    /// Whether it replaces this one, and not the other way round.
    is_younger: bool,
    /// Since when its exporter is the active one, because ours has ended for it.
    yielded: Option<Instant>,
    has_been_asked: bool,
}

impl Peer {
    /// Returns whether its exporter is the active one although ours could be.
    pub(super) fn exporter_is_active(&self) -> bool {
        self.yielded.is_some()
    }
}

/// The state with which an arbiter starts.
pub(super) struct Inheritance {
    pub(super) control: Control,
    pub(super) snapshots: Snapshots,
    pub(super) peer: Option<Peer>,
}

impl Inheritance {
    /// Returns that of the first arbiter: empty memory.
    pub(super) fn begin() -> Result<Self, StoreError> {
        Ok(Self {
            control: Control::create()?,
            snapshots: Snapshots::create()?,
            peer: None,
        })
    }
}

/// The reason why an arbiter cannot continue another's state.
#[derive(Debug, thiserror::Error)]
pub(super) enum InheritError {
    #[error(
        "the old arbiter's metrics cannot be taken over: {0:?} is not the socket of an old arbiter that \
         this process has inherited"
    )]
    Handover(String),
    #[error("the old arbiter's metrics cannot be taken over: its first message is {0}")]
    Message(String),
    #[error("the old arbiter's metrics cannot be taken over: {0}")]
    Link(#[from] LinkError),
    #[error("the old arbiter's metrics cannot be taken over: {0}")]
    Store(#[from] StoreError),
}

/// The name of a socket for the program that inherits it: `number:device:inode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Handover {
    fd: RawFd,
    device: u64,
    inode: u64,
}

impl Handover {
    fn of(socket: BorrowedFd<'_>) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(socket)?;
        Ok(Self {
            fd: socket.as_raw_fd(),
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// Returns the socket, if this process has inherited it. Leaves anything else under its number
    /// alone.
    fn open(self) -> Option<OwnedFd> {
        if self.fd <= 2 {
            return None;
        }
        // SAFETY: this only asks about a number; if it is no descriptor, the system returns an
        // error.
        let there = unsafe { BorrowedFd::borrow_raw(self.fd) };
        if Self::of(there) != Ok(self) || fcntl_setfd(there, FdFlags::CLOEXEC).is_err() {
            return None;
        }
        // SAFETY: it is the socket that the arbiter before this one has left open for this process
        // alone.
        Some(unsafe { OwnedFd::from_raw_fd(self.fd) })
    }
}

impl Display for Handover {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.fd, self.device, self.inode)
    }
}

impl FromStr for Handover {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok());
        let (Some(fd), Some(device), Some(inode), None) = (next(), next(), next(), next()) else {
            return Err(());
        };
        let fd = RawFd::try_from(fd).map_err(|_| ())?;
        Ok(Self { fd, device, inode })
    }
}

/// Receives the first message of the old arbiter, which was sent before this process began.
pub(super) fn inherit(handover: &str) -> Result<Inheritance, InheritError> {
    let socket = handover.parse::<Handover>().ok().and_then(Handover::open);
    let socket = socket.ok_or_else(|| InheritError::Handover(handover.to_owned()))?;
    let mut link = PeerLink::from_fd(socket);
    let (message, descriptors) = match link.receive()? {
        Some((ToPeer::Inherit, descriptors)) => (ToPeer::Inherit, descriptors),
        other => return Err(InheritError::Message(format!("{other:?}"))),
    };
    let Ok([control, first, second]) = <[OwnedFd; 3]>::try_from(descriptors) else {
        return Err(InheritError::Message(format!("{message:?} alone")));
    };
    Ok(Inheritance {
        control: Control::open(control)?,
        snapshots: Snapshots::from_fds(first, second),
        peer: Some(Peer {
            link,
            is_younger: false,
            yielded: None,
            has_been_asked: false,
        }),
    })
}

impl Supervisor {
    /// Makes a link for an arbiter that will be executed, and sends everything over it. Returns the
    /// name of the other end.
    pub(super) fn hand_over(&mut self) -> Result<Option<String>, Box<dyn std::error::Error>> {
        let (None, Some(snapshots)) = (&self.peer, &self.snapshots) else {
            return Ok(None);
        };
        let (mut link, theirs) = PeerLink::pair()?;
        let mut memory = vec![self.control.duplicate_fd()?];
        memory.extend(snapshots.duplicate_fds()?);
        link.send(&ToPeer::Inherit, memory)?;
        self.peer = Some(Peer {
            link,
            is_younger: true,
            yielded: None,
            has_been_asked: false,
        });
        if let (Some(task), Some(listener)) = (&self.task, self.listener.duplicate()) {
            let PrometheusSettings {
                bind_address,
                metrics_port,
                ..
            } = &task.settings.prometheus;
            let message = ToPeer::Listener {
                address: bind_address.clone(),
                port: *metrics_port,
            };
            self.tell_peer(&message, vec![listener]);
        }
        let numbers: Vec<_> = self.stores.keys().copied().collect();
        for number in numbers {
            self.tell_peer_of(number);
        }
        fcntl_setfd(&theirs, FdFlags::empty())?;
        let name = Handover::of(theirs.as_fd())?.to_string();
        self.handed_over = Some(Descriptor::new(theirs));
        Ok(Some(name))
    }

    /// Notes that the other arbiter has been executed, or could not be.
    pub(super) fn handed_over(&mut self, has_started: bool) {
        self.handed_over = None;
        if !has_started {
            self.peer = None;
        }
    }

    /// Tells the other arbiter of one of our stores, if there is another arbiter.
    pub(super) fn tell_peer_of(&mut self, number: u64) {
        if self.peer.is_none() {
            return;
        }
        let Some(held) = self.stores.get(&number) else {
            return;
        };
        if !held.is_begun || held.owner == Owner::Peer {
            return;
        }
        let (new, is_dead) = (held.new.clone(), held.is_dead);
        // This fails only if the process has no free descriptor.
        let Ok(file) = held.file.duplicate_fd() else {
            return;
        };
        self.tell_peer(&ToPeer::Store(new), vec![file]);
        if is_dead {
            self.tell_peer(&ToPeer::Dead { number }, Vec::new());
        }
    }

    pub(super) fn tell_peer(&mut self, message: &ToPeer, descriptors: Vec<OwnedFd>) {
        if let Some(peer) = &mut self.peer {
            // If the peer is gone, `receive_from_peer` notices it.
            let _may_be_gone = peer.link.send(message, descriptors);
        }
    }

    /// Receives the other arbiter's messages, or its end.
    pub(super) fn receive_from_peer(&mut self) {
        while let Some(peer) = &mut self.peer {
            let _may_be_gone = peer.link.flush();
            match peer.link.receive() {
                Ok(None) => return,
                Ok(Some((message, descriptors))) => self.take(message, descriptors),
                Err(LinkError::Message { .. } | LinkError::Descriptors) => {}
                Err(_) => {
                    // Its stores are ours now, and our exporter may be active.
                    self.peer = None;
                    for held in self.stores.values_mut() {
                        held.owner = Owner::Us;
                    }
                }
            }
        }
    }

    /// Makes sure that one of the two exporters is the active one.
    pub(super) fn attend_peer(&mut self, now: Instant, lines: &mut Vec<Line>) {
        if let Some(exporter) = &self.exporter
            && let Some(waits) = exporter.waits(now)
        {
            let (pid, process) = (exporter.process.pid, &self.control);
            let is_to_ask = match &mut self.peer {
                Some(peer) if peer.is_younger => return,
                Some(peer) => !std::mem::replace(&mut peer.has_been_asked, true),
                None => false,
            };
            if waits > PATIENCE
                && let Ok(Some(active)) = process.active_exporter()
                && active != pid
                && let Some(active) = Process::of(active)
            {
                lines.push((
                    "warning",
                    "an exporter that does not end is killed".to_owned(),
                ));
                exporter_process::kill(active);
            }
            if is_to_ask {
                self.tell_peer(&ToPeer::Yield, Vec::new());
            }
        }
        if let (Some(peer), Some(exporter)) = (&self.peer, &self.exporter)
            && let Some(since) = peer.yielded
            && now.saturating_duration_since(since) > PATIENCE
        {
            exporter_process::kill(exporter.process);
        }
    }

    fn take(&mut self, message: ToPeer, descriptors: Vec<OwnedFd>) {
        match (message, <[OwnedFd; 1]>::try_from(descriptors)) {
            (ToPeer::Listener { address, port }, Ok([socket])) => {
                self.listener = Listener::inherited(socket, address, port);
            }
            (ToPeer::Store(new), Ok([file])) => {
                let number = new.number;
                let held = Held::new(StoreFile::from_fd(file), new, Owner::Peer);
                self.stores.insert(number, held);
                self.tell_of(number);
            }
            (ToPeer::Dead { number }, _) => {
                if let Some(held) = self.stores.get_mut(&number) {
                    held.is_dead = true;
                    if let Some(exporter) = &mut self.exporter {
                        exporter.send(&ToExporter::Dead { number }, Vec::new());
                    }
                }
            }
            (ToPeer::Released { number }, _) => {
                self.give_up(number);
            }
            (ToPeer::Yield, _) => {
                if let Some(peer) = &mut self.peer {
                    peer.yielded = Some(Instant::now());
                }
                if let Some(exporter) = &mut self.exporter {
                    exporter.send(&ToExporter::Replace, Vec::new());
                }
            }
            // An unexpected message, or one without its descriptor: there is nothing to do.
            _ => {}
        }
    }
}

//! What the arbiter and its exporter say to each other, with descriptors.
//!
//! A pair of `SOCK_SEQPACKET` sockets: one packet is one message, in JSON, with the descriptors it
//! names. Neither side ever waits for the other: what the socket does not take stays in a queue, in
//! order, and goes with the next [`Link::flush`]. The queue is bounded by what the messages are about
//! (stores, and one ping). The end of either process is the end of file for the other.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Descriptor, Process, Role};

/// The arbiter's end.
pub type ArbiterLink = Link<ToExporter, ToArbiter>;
/// The exporter's end.
pub type ExporterLink = Link<ToArbiter, ToExporter>;

/// Between two arbiters of one instance, the old one and the one that replaces it; the same in both
/// directions.
pub type PeerLink = Link<ToPeer, ToPeer>;
/// The end at which the arbiter hears of children that its workers have forked.
pub type NurseryLink = Link<(), FromChild>;
/// The other end, which all of them share.
pub type ChildLink = Link<FromChild, ()>;

/// The longest message.
const MAX_MESSAGE: usize = 128 * 1024;
/// The most descriptors with one message.
const MAX_DESCRIPTORS: usize = 4;

/// What an exporter begins with; descriptors: control, first and second snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// The exporter's settings, as that crate writes them.
    pub settings: serde_json::Value,
    /// The instance's name, the first part of each `worker_id`.
    pub instance: String,
    /// What it is to say of the instance.
    pub facts: Facts,
}

/// What only the arbiter knows, for the exporter to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The application's listeners.
    pub listeners: Vec<ListenerFacts>,
    /// Labels of `gunicorn_build_info`: what runs, and which version of it.
    pub build: Vec<(String, String)>,
}

/// A socket on which the application is served: its name, not the socket itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerFacts {
    /// The socket's inode, by which the system tells of it.
    pub inode: u64,
    /// Whether it is a unix socket.
    pub is_unix: bool,
    /// What people call it: address and port, or path.
    pub name: String,
}

/// A store that the exporter is to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewStore {
    /// Its number, by which later messages name it.
    pub number: u64,
    /// Who writes it.
    pub role: Role,
    /// Of a worker: its slot.
    pub slot: u32,
    /// The process, where the arbiter knows it already.
    pub process: Option<Process>,
}

/// From the arbiter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToExporter {
    /// The first message. Descriptors: control, first snapshot, second snapshot.
    Boot(Boot),
    /// The certificates that the listener is to be served with, from now on; where TLS is on, they
    /// come before it. Descriptor: the files' contents, as the exporter's crate writes them.
    Tls,
    /// The socket that `/metrics` is served on; without one, nothing is served. It comes after the
    /// stores that there are, so that no page lacks one. Descriptor: the listener.
    Listener,
    /// The socket on which processes of this instance ask for its page. Descriptor: the listener.
    Pages,
    /// A store to read. Descriptor: the store.
    Store(NewStore),
    /// The writer of that store has ended.
    Dead {
        /// Its number.
        number: u64,
    },
    /// To be answered by a pong.
    Ping,
    /// The instance ends: push and commit what is left, take leave for all whose process has ended,
    /// say [`ToArbiter::Bye`], and end.
    Shutdown,
    /// Another exporter follows, with other settings: push and commit what is left, say
    /// [`ToArbiter::Bye`], and end. Nobody leaves who has not ended.
    Replace,
}

/// From the exporter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToArbiter {
    /// It has the lock and its registry, and goes on from there.
    Ready,
    /// It answers.
    Pong,
    /// All that was in this dead writer's store is safe elsewhere: the store may go.
    Released {
        /// Its number.
        number: u64,
    },
    /// Another exporter is active, and it waits for its turn.
    Waiting,
    /// This store has all that those of some dead writers have not sent: it takes their place, and is
    /// to be told of like any other. Descriptor: the store.
    Heir {
        /// The store.
        store: NewStore,
        /// The numbers of those whose stores may go.
        replaces: Vec<u64>,
    },
    /// Most of what is in its own store is no more: it needs another one.
    Worn,
    /// File mode: the file whose lock says that the instance lives. The arbiter keeps it open, so that
    /// the lock outlives the exporter. Descriptor: the file.
    Life,
    /// It ends now, and has kept its promises.
    Bye,
}

/// From one arbiter of an instance to the other, while there are two of them (USR2). Each has the
/// stores of both, so that whichever ends first, the other goes on with all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToPeer {
    /// The first message of the old one. Descriptors: control, first snapshot, second snapshot.
    Inherit,
    /// The socket that `/metrics` is served on, and where that is. Descriptor: the listener.
    Listener {
        /// The address as it is configured.
        address: String,
        /// The port.
        port: u16,
    },
    /// A store of the sender's. Descriptor: the store.
    Store(NewStore),
    /// Its writer has ended.
    Dead {
        /// Its number.
        number: u64,
    },
    /// All that was in a dead writer's store is safe elsewhere.
    Released {
        /// Its number.
        number: u64,
    },
    /// The new one's exporter is there: that of the old one is to commit, and to end.
    Yield,
}

/// From a child that a worker has forked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromChild {
    /// It has made a store for itself. Descriptor: the store.
    Store(NewStore),
}

/// Why a link does not work.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other process has ended or closed it.
    #[error("the other side has closed the link")]
    Closed,
    /// The system refuses.
    #[error("cannot {action} the link: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the system says.
        source: Errno,
    },
    /// A message that the other side cannot read.
    #[error("cannot read the message '{text}': {source}")]
    Message {
        /// Its beginning.
        text: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Settings as long as a book.
    #[error("a message of {bytes} bytes is too long, at most {MAX_MESSAGE} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// This process has closed the link's descriptor, and may have something else under its number.
    #[error("this process has closed the link's descriptor")]
    Lost,
    /// This process may not open as many files as it was sent.
    #[error("descriptors were lost, too many files are open")]
    Descriptors,
}

/// One end of a link. `Out` is what is sent from here, `In` what arrives.
#[derive(Debug)]
pub struct Link<Out, In> {
    socket: Descriptor,
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    messages: PhantomData<fn(Out) -> In>,
}

impl<Out: Serialize, In: DeserializeOwned> Link<Out, In> {
    /// This process' end, and the socket that the other inherits (close-on-exec until then).
    ///
    /// # Errors
    ///
    /// When the system refuses the sockets.
    pub fn pair() -> Result<(Self, OwnedFd), LinkError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(failed("create"))?;
        Ok((Self::from_fd(ours), theirs))
    }

    /// The other end, from the socket that was inherited.
    pub fn from_fd(socket: OwnedFd) -> Self {
        Self {
            socket: Descriptor::new(socket),
            queue: VecDeque::new(),
            messages: PhantomData,
        }
    }

    /// Sends a message with the descriptors it names, now or as soon as the other side takes it.
    ///
    /// # Errors
    ///
    /// When the link is closed, or the message is too long; never because the other side is slow.
    pub fn send(&mut self, message: &Out, descriptors: Vec<OwnedFd>) -> Result<(), LinkError> {
        let bytes = serde_json::to_vec(message).map_err(|source| LinkError::Message {
            text: String::new(),
            source,
        })?;
        if bytes.len() > MAX_MESSAGE {
            return Err(LinkError::TooLong { bytes: bytes.len() });
        }
        self.queue.push_back((bytes, descriptors));
        self.flush()
    }

    /// Sends what the other side would not take before.
    ///
    /// # Errors
    ///
    /// When the link is closed, or is not this process' any more; what is queued stays.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        while let Some((bytes, descriptors)) = self.queue.front() {
            let socket = self.socket.get().map_err(|_| LinkError::Lost)?;
            match send_one(socket, bytes, descriptors) {
                Ok(()) => {
                    self.queue.pop_front();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                    return Err(LinkError::Closed);
                }
                Err(other) => return Err(failed("write to")(other)),
            }
        }
        Ok(())
    }

    /// How many messages the other side has not taken yet.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The next message, with its descriptors; `None` when there is none now.
    ///
    /// # Errors
    ///
    /// [`LinkError::Closed`] at the end of file, after every message that was sent before it. After any
    /// other error the next message can be received.
    pub fn receive(&mut self) -> Result<Option<(In, Vec<OwnedFd>)>, LinkError> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let socket = self.socket.get().map_err(|_| LinkError::Lost)?;
        let received = loop {
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let mut into = [IoSliceMut::new(&mut bytes)];
            match recvmsg(socket, &mut into, &mut ancillary, flags) {
                Ok(received) => break received,
                // A reset says that the other end has closed without reading all of ours. Linux reports it
                // once, before the messages that are still to be read, and then the end of file.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(other) => return Err(failed("read from")(other)),
            }
        };
        if received.bytes == 0 {
            return Err(LinkError::Closed);
        }
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let lost = rustix::net::ReturnFlags::CTRUNC;
        if received.flags.contains(lost) {
            return Err(LinkError::Descriptors);
        }
        bytes.truncate(received.bytes);
        let message = serde_json::from_slice(&bytes).map_err(|source| LinkError::Message {
            text: String::from_utf8_lossy(&bytes).chars().take(80).collect(),
            source,
        })?;
        Ok(Some((message, descriptors)))
    }
}

impl<Out, In> AsFd for Link<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.unchecked()
    }
}

/// For event loops that take a number.
impl<Out, In> AsRawFd for Link<Out, In> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.unchecked().as_raw_fd()
    }
}

fn send_one(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[OwnedFd]) -> Result<(), Errno> {
    let descriptors = descriptors.iter().map(AsFd::as_fd).collect::<Vec<_>>();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::TOOBIG);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags).map(drop)
}

pub(crate) fn failed(action: &'static str) -> impl FnOnce(Errno) -> LinkError {
    move |source| LinkError::System { action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> (ArbiterLink, ExporterLink) {
        let (arbiter, socket) = ArbiterLink::pair().unwrap();
        (arbiter, ExporterLink::from_fd(socket))
    }

    #[test]
    fn a_store_arrives_with_its_descriptor() {
        let (mut arbiter, mut exporter) = links();
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&file, b"shared").unwrap();
        let message = ToExporter::Store(NewStore {
            number: 7,
            role: Role::Worker,
            slot: 2,
            process: Some(Process::current()),
        });
        arbiter.send(&message, vec![file]).unwrap();

        let (received, descriptors) = exporter.receive().unwrap().unwrap();
        assert_eq!(received, message);
        let mut bytes = [0; 6];
        rustix::io::pread(&descriptors[0], &mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"shared");
        assert!(exporter.receive().unwrap().is_none());
    }

    #[test]
    fn nothing_is_lost_when_the_other_side_is_slow() {
        let (mut arbiter, mut exporter) = links();
        for number in 0..10_000 {
            arbiter.send(&ToExporter::Dead { number }, vec![]).unwrap();
        }
        assert!(arbiter.queued() > 0, "the socket took everything");
        let mut expected = 0;
        while expected < 10_000 {
            while let Some((message, _)) = exporter.receive().unwrap() {
                assert_eq!(message, ToExporter::Dead { number: expected });
                expected += 1;
            }
            arbiter.flush().unwrap();
        }
        assert_eq!(arbiter.queued(), 0);
    }

    #[test]
    fn what_was_sent_before_the_end_arrives_though_the_sender_left_messages_unread() {
        let (mut arbiter, mut exporter) = links();
        arbiter.send(&ToExporter::Ping, vec![]).unwrap();
        exporter.send(&ToArbiter::Pong, vec![]).unwrap();
        exporter.send(&ToArbiter::Bye, vec![]).unwrap();
        drop(exporter);
        assert!(matches!(
            arbiter.send(&ToExporter::Ping, vec![]),
            Err(LinkError::Closed)
        ));
        assert_eq!(arbiter.receive().unwrap().unwrap().0, ToArbiter::Pong);
        assert_eq!(arbiter.receive().unwrap().unwrap().0, ToArbiter::Bye);
        assert!(matches!(arbiter.receive(), Err(LinkError::Closed)));
    }

    #[test]
    fn the_end_of_one_side_is_told_to_the_other() {
        let (arbiter, mut exporter) = links();
        drop(arbiter);
        assert!(matches!(exporter.receive(), Err(LinkError::Closed)));
        assert!(matches!(
            exporter.send(&ToArbiter::Pong, vec![]),
            Err(LinkError::Closed)
        ));
    }
}

//! Messages between the arbiter and its exporter, with descriptors.
//!
//! The link is a pair of `SOCK_SEQPACKET` sockets: one packet is one message, in JSON, with the
//! descriptors that it names. Neither side ever waits for the other: messages that the socket does
//! not accept stay in a queue, in order, and are sent by the next [`Link::flush`]. The number of
//! stores, plus one ping, limits the queue. When either process ends, the other reads the end of
//! file.

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

/// A link between two arbiters of one instance, the old one and the one that replaces it; the same
/// in both directions.
pub type PeerLink = Link<ToPeer, ToPeer>;
/// The end at which the arbiter receives stores of its workers' children.
pub type ChildrenLink = Link<(), FromChild>;
/// The other end, which all children share.
pub type ChildLink = Link<FromChild, ()>;

/// Maximum size of a message, in bytes.
const MAX_MESSAGE: usize = 128 * 1024;
/// Maximum number of descriptors of one message.
const MAX_DESCRIPTORS: usize = 4;

/// The first message to an exporter; descriptors: control, first and second snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// The exporter's settings, serialized by their own crate.
    pub settings: serde_json::Value,
    /// The instance's name, the first part of each `worker_id`.
    pub instance: String,
    /// Facts about the instance, to be shown.
    pub facts: Facts,
}

/// Facts that only the arbiter knows, and the exporter shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The application's listeners.
    pub listeners: Vec<ListenerFacts>,
    /// Labels of `gunicorn_build_info`: the programs and their versions.
    pub build: Vec<(String, String)>,
}

/// A listener of the application: its name, not the socket itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerFacts {
    /// The socket's inode, by which the system reports on it.
    pub inode: u64,
    /// Whether it is a unix socket.
    pub is_unix: bool,
    /// The name for users: address and port, or path.
    pub name: String,
}

/// A store for the exporter to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewStore {
    /// Its number in later messages.
    pub number: u64,
    /// The kind of its writer.
    pub role: Role,
    /// The slot of a worker.
    pub slot: u32,
    /// The process, if the arbiter knows it already.
    pub process: Option<Process>,
}

/// Messages of the arbiter to its exporter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToExporter {
    /// The first message. Descriptors: control, first snapshot, second snapshot.
    Boot(Boot),
    /// The certificates of the listener, valid from now on; with TLS they come before it.
    /// Descriptor: the content of the files, in the exporter's form.
    Tls,
    /// The socket of `/metrics`; before it comes, nothing is served. It comes after the existing
    /// stores, so that no page lacks one. Descriptor: the listener.
    Listener,
    /// The socket on which processes of this instance request its page. Descriptor: the listener.
    Pages,
    /// A store to read. Descriptor: the store.
    Store(NewStore),
    /// The writer of that store has ended.
    Dead {
        /// Its number.
        number: u64,
    },
    /// Requests a pong.
    Ping,
    /// The instance ends: push and commit the rest, send LEAVE for all writers whose process has
    /// ended, send [`ToArbiter::Bye`], and end.
    Shutdown,
    /// Another exporter follows, with other settings: push and commit the rest, send
    /// [`ToArbiter::Bye`], and end. Writers that have not ended do not leave.
    Replace,
}

/// Messages of the exporter to its arbiter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToArbiter {
    /// It has the lock and its registry, and continues.
    Ready,
    /// The answer to a ping.
    Pong,
    /// Everything in this dead writer's store is safe elsewhere: the arbiter may give the store up.
    Released {
        /// Its number.
        number: u64,
    },
    /// Another exporter is active, and this one waits.
    Waiting,
    /// This store has all that the stores of some dead writers have not sent. It replaces them, and
    /// is announced like any other. Descriptor: the store.
    #[serde(rename = "heir")]
    CarryOver {
        /// The store.
        store: NewStore,
        /// The numbers of the stores that the arbiter may give up.
        replaces: Vec<u64>,
    },
    /// Most series of its own store are retired: it needs another store.
    #[serde(rename = "worn")]
    NeedsStore,
    /// File mode: the file whose lock shows that the instance lives. The arbiter keeps it open, so
    /// that the lock outlives the exporter. Descriptor: the file.
    Life,
    /// It ends now, and everything is done.
    Bye,
}

/// Messages between two arbiters of one instance, after USR2. Each has the stores of both, so that
/// either can continue with all of them when the other ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToPeer {
    /// The first message of the old one. Descriptors: control, first snapshot, second snapshot.
    Inherit,
    /// The socket of `/metrics`, and its address. Descriptor: the listener.
    Listener {
        /// The address in the settings.
        address: String,
        /// The port.
        port: u16,
    },
    /// A store of the sender. Descriptor: the store.
    Store(NewStore),
    /// Its writer has ended.
    Dead {
        /// Its number.
        number: u64,
    },
    /// Everything in a dead writer's store is safe elsewhere.
    Released {
        /// Its number.
        number: u64,
    },
    /// The new arbiter's exporter is ready: that of the old one has to commit and end.
    Yield,
}

/// Messages of a child that a worker has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromChild {
    /// A store that the child has made for itself. Descriptor: the store.
    Store(NewStore),
}

/// The reason why a link does not work.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other process has ended or closed it.
    #[error("the other side has closed the link")]
    Closed,
    /// An error of the system.
    #[error("cannot {action} the link: {source}")]
    System {
        /// The failed action.
        action: &'static str,
        /// The system's message.
        source: Errno,
    },
    /// The message cannot be parsed.
    #[error("cannot read the message '{text}': {source}")]
    Message {
        /// Its beginning.
        text: String,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// The message is too long.
    #[error("a message of {bytes} bytes is too long, at most {MAX_MESSAGE} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// This process has closed the link's descriptor, and may use its number for something else.
    #[error("this process has closed the link's descriptor")]
    Lost,
    /// The message had more descriptors than this process may open.
    #[error("descriptors were lost, too many files are open")]
    Descriptors,
}

/// One end of a link. `Out` is the type of sent messages, `In` of received ones.
#[derive(Debug)]
pub struct Link<Out, In> {
    socket: Descriptor,
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    messages: PhantomData<fn(Out) -> In>,
}

impl<Out: Serialize, In: DeserializeOwned> Link<Out, In> {
    /// Returns this process' end, and the socket that the other process inherits (close-on-exec
    /// until then).
    ///
    /// # Errors
    ///
    /// The system refuses the sockets.
    pub fn pair() -> Result<(Self, OwnedFd), LinkError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(failed("create"))?;
        Ok((Self::from_fd(ours), theirs))
    }

    /// Returns the other end, from the inherited socket.
    pub fn from_fd(socket: OwnedFd) -> Self {
        Self {
            socket: Descriptor::new(socket),
            queue: VecDeque::new(),
            messages: PhantomData,
        }
    }

    /// Sends a message with the descriptors it names, now or as soon as the other side accepts it.
    ///
    /// # Errors
    ///
    /// The link is closed, or the message is too long; never because the other side is slow.
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

    /// Sends what the other side did not accept before.
    ///
    /// # Errors
    ///
    /// The link is closed, or no longer belongs to this process; the queue stays.
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

    /// Returns how many messages the other side has not accepted yet.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Returns the next message, with its descriptors; `None` if there is none now.
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
                // A reset means that the other end has closed without reading all messages. Linux
                // reports it once, before the unread messages, and then the end of file.
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
    fn an_arbiter_of_an_earlier_version_knows_the_words_for_another_store() {
        let store = NewStore {
            number: 7,
            role: Role::CarryOver,
            slot: 0,
            process: None,
        };
        let carry_over = ToArbiter::CarryOver {
            store,
            replaces: vec![3],
        };
        let word = |message: &ToArbiter| serde_json::to_value(message).unwrap()["type"].clone();
        assert_eq!(word(&carry_over), "heir");
        assert_eq!(
            serde_json::to_value(&carry_over).unwrap()["store"]["role"],
            "heir"
        );
        assert_eq!(word(&ToArbiter::NeedsStore), "worn");
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

//! Where processes that a worker has started hand over their stores, if they have inherited no descriptor.
//!
//! Children that are forked inherit one end of a pair of sockets. A child that was started as another
//! program (`multiprocessing` by spawn or forkserver) has inherited nothing, and one that closes all
//! descriptors that it does not know has it no more. Those connect to this socket by its name. The name
//! is in no file system (Linux' abstract names), so nothing is left of it, and a child of any working
//! directory finds it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::link::failed;
use crate::{ChildLink, Descriptor, LinkError, NurseryLink};

/// How many children may wait until the arbiter looks.
const BACKLOG: i32 = 1024;
/// How long a child waits for a place among them, once in its life.
const PATIENCE: Duration = Duration::from_secs(1);

/// The arbiter's socket for children that have inherited none.
#[derive(Debug)]
pub struct ChildListener {
    socket: Descriptor,
    name: Vec<u8>,
}

impl ChildListener {
    /// Opens it under a name that nobody can guess.
    ///
    /// # Errors
    ///
    /// When the system refuses the socket.
    pub fn open() -> Result<Self, LinkError> {
        let mut random = [0; 16];
        getrandom(&mut random, GetRandomFlags::empty()).map_err(failed("name"))?;
        let name = format!(
            "gunicorn-metrics-children-{:032x}",
            u128::from_ne_bytes(random)
        );
        let socket = socket()?;
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(failed("name"))?;
        bind(&socket, &address).map_err(failed("bind"))?;
        listen(&socket, BACKLOG).map_err(failed("listen on"))?;
        Ok(Self {
            socket: Descriptor::new(socket),
            name: name.into_bytes(),
        })
    }

    /// Its name, for [`ChildLink::connect`].
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The next child that has connected, if its user is one of those that may; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When this process has no descriptor for it, or has closed the socket.
    pub fn accept(&self, may: impl Fn(u32) -> bool) -> Result<Option<NurseryLink>, LinkError> {
        let socket = self.socket.get().map_err(|_| LinkError::Lost)?;
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let child = match accept_with(socket, flags) {
                Ok(child) => child,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(failed("accept a child on")(error)),
            };
            let user = socket_peercred(&child).map_err(failed("ask for the user of"))?;
            if may(user.uid.as_raw()) {
                return Ok(Some(NurseryLink::from_fd(child)));
            }
        }
    }
}

impl ChildLink {
    /// A link of this process' own to the arbiter that listens under this name.
    ///
    /// # Errors
    ///
    /// When that arbiter is gone, or does not look after its children for a second.
    pub fn connect(name: &[u8]) -> Result<Self, LinkError> {
        let socket = socket_of(SocketFlags::CLOEXEC)?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).map_err(failed("set up"))?;
        let address = SocketAddrUnix::new_abstract_name(name).map_err(failed("name"))?;
        loop {
            match connect(&socket, &address) {
                Ok(()) => return Ok(Self::from_fd(socket)),
                Err(Errno::INTR) => {}
                Err(Errno::CONNREFUSED) => return Err(LinkError::Closed),
                Err(error) => return Err(failed("connect")(error)),
            }
        }
    }
}

fn socket() -> Result<OwnedFd, LinkError> {
    socket_of(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

fn socket_of(flags: SocketFlags) -> Result<OwnedFd, LinkError> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(failed("create"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FromChild, NewStore, Role};

    #[test]
    fn a_child_without_an_inherited_descriptor_hands_its_store_over() {
        let listener = ChildListener::open().unwrap();
        assert!(listener.accept(|_| true).unwrap().is_none());
        let message = FromChild::Store(NewStore {
            number: 7,
            role: Role::Child,
            slot: 0,
            process: None,
        });
        let mut child = ChildLink::connect(listener.name()).unwrap();
        child.send(&message, Vec::new()).unwrap();
        drop(child);
        let mut link = listener.accept(|_| true).unwrap().unwrap();
        assert_eq!(link.receive().unwrap().unwrap().0, message);
    }

    #[test]
    fn a_process_of_another_user_is_not_listened_to() {
        let listener = ChildListener::open().unwrap();
        let _child = ChildLink::connect(listener.name()).unwrap();
        assert!(listener.accept(|_| false).unwrap().is_none());
    }
}

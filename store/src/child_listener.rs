//! The socket on which processes that a worker has started hand over their stores, if they have
//! inherited no descriptor.
//!
//! Forked children inherit one end of a pair of sockets. A child that was started as another
//! program (`multiprocessing` by spawn or forkserver) has inherited nothing, and a child may have
//! closed all descriptors that it does not know. Those connect to this socket by its name. The name
//! is in no file system (Linux' abstract names), so it leaves nothing behind, and a child finds it
//! from any working directory.

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
use crate::{ChildLink, ChildrenLink, Descriptor, LinkError};

/// Maximum number of children that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Time limit of a child for its place among them, once in its life.
const PATIENCE: Duration = Duration::from_secs(1);

/// The arbiter's socket for children without an inherited one.
#[derive(Debug)]
pub struct ChildListener {
    socket: Descriptor,
    name: Vec<u8>,
}

impl ChildListener {
    /// Opens it under a random name.
    ///
    /// # Errors
    ///
    /// The system refuses the socket.
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

    /// Returns its name, for [`ChildLink::connect`].
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Accepts the next connected child whose user is allowed; `None` if there is none.
    ///
    /// # Errors
    ///
    /// This process has no descriptor left, or has closed the socket.
    pub fn accept(&self, may: impl Fn(u32) -> bool) -> Result<Option<ChildrenLink>, LinkError> {
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
                return Ok(Some(ChildrenLink::from_fd(child)));
            }
        }
    }
}

impl ChildLink {
    /// Returns a link of this process to the arbiter that listens under this name.
    ///
    /// # Errors
    ///
    /// That arbiter is gone, or accepts no child for a second.
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

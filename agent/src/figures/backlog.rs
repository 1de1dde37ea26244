//! The number of connections that wait to be accepted, and its limit.
//!
//! The kernel is asked by the inodes of the sockets (`sock_diag`, see `man 7 sock_diag`), because
//! the exporter must not hold the application's listeners: one that it held would stay open after
//! the end of the application.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;

const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// Only the state `TCP_LISTEN`.
const LISTENING: u32 = 1 << 10;
/// Size of the fields before the lengths of the queues: family to timer, a socket's id, and when it
/// expires.
const INET_QUEUES: usize = 4 + 48 + 4;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UDIAG_RQLEN: u16 = 4;
const UNIX_ATTRIBUTES: usize = 16;

/// The queue of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backlog {
    /// Number of waiting connections.
    pub(super) connections: u32,
    /// Maximum number of waiting connections.
    pub(super) limit: u32,
}

/// Returns the queues of the TCP listeners in the network of this machine or container, by inode.
pub(super) fn of_tcp() -> Result<HashMap<u64, Backlog>, Errno> {
    let mut found = HashMap::new();
    for family in [AF_INET, AF_INET6] {
        let mut request = vec![family, IPPROTO_TCP, 0, 0];
        request.extend(LISTENING.to_ne_bytes());
        request.resize(56, 0);
        ask(NLM_F_REQUEST | NLM_F_DUMP, &request, |message| {
            let queues = message.get(INET_QUEUES..)?;
            let inode = word(queues, 12)?;
            found.insert(inode.into(), backlog(queues)?);
            Some(())
        })?;
    }
    Ok(found)
}

/// Returns the queue of one unix socket.
pub(super) fn of_unix(inode: u64) -> Result<Option<Backlog>, Errno> {
    let Ok(inode) = u32::try_from(inode) else {
        return Ok(None);
    };
    let mut request = vec![AF_UNIX, 0, 0, 0];
    for word in [u32::MAX, inode, UDIAG_SHOW_RQLEN, u32::MAX, u32::MAX] {
        request.extend(word.to_ne_bytes());
    }
    let mut found = None;
    let asked = ask(NLM_F_REQUEST, &request, |message| {
        let mut rest = message.get(UNIX_ATTRIBUTES..)?;
        while let Some(head) = word(rest, 0) {
            let (length, kind) = ((head & 0xffff) as usize, (head >> 16) as u16);
            if kind == UDIAG_RQLEN {
                found = backlog(rest.get(4..)?);
            }
            rest = rest.get(length.max(4).next_multiple_of(4)..)?;
        }
        Some(())
    });
    match asked {
        Ok(()) | Err(Errno::NOENT) => Ok(found),
        Err(error) => Err(error),
    }
}

fn backlog(queues: &[u8]) -> Option<Backlog> {
    Some(Backlog {
        connections: word(queues, 0)?,
        limit: word(queues, 4)?,
    })
}

/// Sends one request, and passes each message of the answer to `take`; skips one that is cut off.
fn ask(flags: u16, request: &[u8], mut take: impl FnMut(&[u8]) -> Option<()>) -> Result<(), Errno> {
    let socket: OwnedFd = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let length = (HEADER + request.len()) as u32;
    let mut packet = length.to_ne_bytes().to_vec();
    packet.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    packet.extend(flags.to_ne_bytes());
    packet.extend([0; 8]);
    packet.extend(request);
    send(&socket, &packet, SendFlags::empty())?;

    let is_dump = flags & NLM_F_DUMP != 0;
    let mut answer = vec![0; 32 * 1024];
    loop {
        // The kernel has answered before `send` returned, so this never waits.
        let (received, _) = recv(&socket, answer.as_mut_slice(), RecvFlags::DONTWAIT)?;
        let mut rest = &answer[..received];
        while let Some(length) = word(rest, 0) {
            let length = (length as usize).clamp(HEADER, rest.len());
            match word(rest, 4).unwrap_or(0) as u16 {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let error = word(rest, HEADER).unwrap_or(0).cast_signed();
                    return Err(Errno::from_raw_os_error(-error));
                }
                SOCK_DIAG_BY_FAMILY => {
                    let _passed_over = take(&rest[HEADER..length]);
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        if !is_dump {
            return Ok(());
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    use rustix::fs::fstat;

    use super::*;

    fn inode(socket: impl AsFd) -> u64 {
        fstat(socket).unwrap().st_ino
    }

    #[test]
    fn unaccepted_connections_wait_in_the_backlog() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue; // a machine without IPv6
            };
            let to = listener.local_addr().unwrap();
            let _waiting = [(); 3].map(|()| TcpStream::connect(to).unwrap());
            let found = of_tcp().unwrap()[&inode(&listener)];
            assert_eq!(found.connections, 3);
            assert!(found.limit >= 3, "{found:?}");
        }
    }

    #[test]
    fn those_of_a_unix_socket_too() {
        let name = format!("gunicorn-backlog-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let _waiting = [(); 2].map(|()| UnixStream::connect(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        let found = of_unix(inode(&listener)).unwrap().unwrap();
        assert_eq!(found.connections, 2);
        drop(listener);
        assert_eq!(of_unix(1).unwrap(), None);
    }
}

//! The socket on which processes of an instance request its page. Its name is in no file system, so
//! it leaves nothing behind, and workers of any user and directory find it.

use std::io;
use std::os::fd::OwnedFd;

/// Returns the listener and its name, as Python's `socket` takes it; `None` on systems without
/// abstract names.
#[cfg(target_os = "linux")]
pub(super) fn open() -> io::Result<Option<(OwnedFd, Vec<u8>)>> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let name = format!("gunicorn-metrics-{:032x}", u128::from_ne_bytes(random));
    let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let mut spelled = vec![0];
    spelled.extend_from_slice(name.as_bytes());
    Ok(Some((socket.into(), spelled)))
}

/// Returns `None`: this system has no abstract names.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "the other one may fail")]
pub(super) fn open() -> io::Result<Option<(OwnedFd, Vec<u8>)>> {
    Ok(None)
}

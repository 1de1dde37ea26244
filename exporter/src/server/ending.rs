//! The end of an HTTP/1.0 response of unknown length: the end of the connection marks it.
//!
//! An incomplete page must not look complete. So from the beginning of the response such a
//! connection is set to end with a reset, and to end in order only once everything has been
//! written. A page that is broken off, an evicted connection and the end of this process then all
//! look the same to the client: an error.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

const BY_ITSELF: u8 = 0;
const TELLS: u8 = 1;
const WHOLE: u8 = 2;

/// The state of a connection's response. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    state: Arc<AtomicU8>,
}

impl Ending {
    /// Begins a response whose end is marked by that of the connection.
    pub(super) fn tells(&self) {
        self.state.store(TELLS, Relaxed);
    }

    /// Notes that all of the response's body has been passed on to be written.
    pub(super) fn is_whole(&self) {
        let _ = self.state.compare_exchange(TELLS, WHOLE, Relaxed, Relaxed);
    }

    /// Returns whether the connection would have to end with a reset now.
    pub(super) fn must_reset(&self) -> bool {
        self.state.load(Relaxed) != BY_ITSELF
    }

    /// Returns whether it may end in order, once everything is written.
    pub(super) fn may_end(&self) -> bool {
        self.state.load(Relaxed) == WHOLE
    }
}

/// A stream over TCP.
pub(super) trait Socket: AsyncRead + AsyncWrite {
    /// Sets whether its end is a reset from now on.
    fn resets(&self, resets: bool);
}

impl Socket for TcpStream {
    fn resets(&self, resets: bool) {
        let linger = resets.then_some(std::time::Duration::ZERO);
        // If it cannot be set, the client cannot tell; nothing else is lost.
        let _ = rustix::net::sockopt::set_socket_linger(self, linger);
    }
}

impl Socket for TlsStream<TcpStream> {
    fn resets(&self, resets: bool) {
        self.get_ref().0.resets(resets);
    }
}

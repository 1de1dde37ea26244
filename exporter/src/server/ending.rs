//! How a response of HTTP/1.0 ends whose length is not known: by the end of the connection, however
//! that came about.
//!
//! So that a page that is not whole does not look whole, such a connection is set to end with a reset
//! from the beginning of the response on, and to end in order only once all of it has been written.
//! Then a page that is broken off, a connection that has to go, and the end of this process all
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

/// What is known of the response of a connection. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    state: Arc<AtomicU8>,
}

impl Ending {
    /// A response begins whose end is told by that of the connection.
    pub(super) fn tells(&self) {
        self.state.store(TELLS, Relaxed);
    }

    /// All of the response's body has been given away to be written.
    pub(super) fn is_whole(&self) {
        let _ = self.state.compare_exchange(TELLS, WHOLE, Relaxed, Relaxed);
    }

    /// Whether the connection must end with a reset, if it ended now.
    pub(super) fn must_reset(&self) -> bool {
        self.state.load(Relaxed) != BY_ITSELF
    }

    /// Whether it may end in order, once all is written.
    pub(super) fn may_end(&self) -> bool {
        self.state.load(Relaxed) == WHOLE
    }
}

/// A stream over TCP.
pub(super) trait Socket: AsyncRead + AsyncWrite {
    /// Whether its end, from now on, is a reset.
    fn resets(&self, resets: bool);
}

impl Socket for TcpStream {
    fn resets(&self, resets: bool) {
        let linger = resets.then_some(std::time::Duration::ZERO);
        // Failing to set it costs the client the knowledge, and nothing else.
        let _ = rustix::net::sockopt::set_socket_linger(self, linger);
    }
}

impl Socket for TlsStream<TcpStream> {
    fn resets(&self, resets: bool) {
        self.get_ref().0.resets(resets);
    }
}

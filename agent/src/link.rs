//! The link to the arbiter, for async code.

use std::os::fd::OwnedFd;

use metrics_store::{ExporterLink, LinkError, ToArbiter, ToExporter};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::StartError;

/// A message of the arbiter, with its descriptors.
pub type Message = (ToExporter, Vec<OwnedFd>);

/// An async wrapper of [`ExporterLink`].
#[derive(Debug)]
pub struct AsyncLink {
    link: AsyncFd<ExporterLink>,
}

impl AsyncLink {
    /// Returns a link over this end of the arbiter's socket.
    pub fn new(socket: OwnedFd) -> Result<Self, StartError> {
        #[expect(
            deprecated,
            reason = "unsound for types that give their descriptor away; a link owns it"
        )]
        let link = AsyncFd::with_interest(ExporterLink::from_fd(socket), Interest::READABLE)
            .map_err(StartError::system("watch the link to the arbiter"))?;
        Ok(Self { link })
    }

    /// Returns the next message, with its descriptors. Nothing is lost when this is dropped before
    /// it is ready.
    pub async fn receive(&mut self) -> Result<Message, LinkError> {
        loop {
            if let Some(message) = self.link.get_mut().receive()? {
                return Ok(message);
            }
            match self.link.readable_mut().await {
                Ok(mut ready) => {
                    // A message may have arrived since the last look, so this looks again first.
                    if let Some(message) = ready.get_inner_mut().receive()? {
                        return Ok(message);
                    }
                    ready.clear_ready();
                }
                Err(_runtime_ends) => return Err(LinkError::Closed),
            }
        }
    }

    /// Sends now, or with a later [`flush`](Self::flush). If the arbiter is gone,
    /// [`receive`](Self::receive) returns that.
    pub fn send(&mut self, message: &ToArbiter) {
        self.send_with(message, Vec::new());
    }

    /// Does the same, with the descriptors that the message names.
    pub fn send_with(&mut self, message: &ToArbiter, descriptors: Vec<OwnedFd>) {
        if let Err(error) = self.link.get_mut().send(message, descriptors) {
            tracing::debug!("{message:?} is not sent: {error}");
        }
    }

    /// Sends what the arbiter had no room for.
    pub fn flush(&mut self) {
        if let Err(error) = self.link.get_mut().flush() {
            tracing::debug!("messages are not sent: {error}");
        }
    }

    /// Returns whether the arbiter has not received all messages.
    pub fn has_queued(&self) -> bool {
        self.link.get_ref().queued() > 0
    }
}

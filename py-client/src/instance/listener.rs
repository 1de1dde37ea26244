//! The socket that `/metrics` is served on. The arbiter opens it, while it may, and keeps it while
//! exporters come and go: no scrape is refused in between.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use metrics_settings::Settings;
use metrics_store::Descriptor;

use super::Line;

/// The listener, or the reason why there is none yet.
#[derive(Debug, Default)]
pub(super) struct Listener {
    socket: Option<Descriptor>,
    /// The one of the arbiter before this one, and where that is.
    inherited: Option<(TcpListener, String, u16)>,
    reported: Option<String>,
}

impl Listener {
    /// One that another arbiter has opened, for when the same is wanted.
    pub(super) fn inherited(socket: OwnedFd, address: String, port: u16) -> Self {
        Self {
            inherited: Some((socket.into(), address, port)),
            ..Self::default()
        }
    }

    /// Tries to open it, if it is not open; answers it if it is open now and was not before. One line
    /// is logged for each reason that it cannot be.
    pub(super) fn open(&mut self, settings: &Settings, lines: &mut Vec<Line>) -> Option<OwnedFd> {
        if self.socket.is_some() {
            return None;
        }
        let prometheus = &settings.prometheus;
        let (address, port) = (prometheus.bind_address.as_str(), prometheus.metrics_port);
        let opened = match self.inherited.take() {
            Some((socket, of, at)) if (of.as_str(), at) == (address, port) => Ok(socket),
            _ => TcpListener::bind((address, port)),
        };
        let opened = opened.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        match opened {
            Ok(socket) => {
                let scheme = if prometheus.ssl.enabled {
                    "https"
                } else {
                    "http"
                };
                lines.push((
                    "info",
                    format!("Metrics at: {scheme}://{address}:{port}/metrics"),
                ));
                self.socket = Some(Descriptor::new(socket));
                self.reported = None;
                self.duplicate()
            }
            Err(error) => {
                let reason = format!(
                    "cannot serve metrics on {address}, port {port} (PROMETHEUS_BIND_ADDRESS, \
                     PROMETHEUS_METRICS_PORT): {error}; trying again every second"
                );
                if self.reported.as_ref() != Some(&reason) {
                    lines.push(("error", reason.clone()));
                    self.reported = Some(reason);
                }
                None
            }
        }
    }

    /// Closes it: there is no exporter that could answer. [`open`](Self::open) opens it again.
    pub(super) fn close(&mut self) {
        self.socket = None;
    }

    /// The socket for an exporter.
    pub(super) fn duplicate(&self) -> Option<OwnedFd> {
        // A process without a free descriptor has greater worries; the next exporter gets it.
        self.socket.as_ref()?.duplicate().ok()
    }
}

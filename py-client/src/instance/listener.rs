//! The socket of `/metrics`. The arbiter opens it, while it has the rights, and keeps it when
//! exporters come and go, so that no scrape is refused in between.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use metrics_settings::Settings;
use metrics_store::Descriptor;

use super::Line;

/// The listener, or the reason why there is none yet.
#[derive(Debug, Default)]
pub(super) struct Listener {
    socket: Option<Descriptor>,
    /// The listener of the arbiter before this one, with its address.
    inherited: Option<(TcpListener, String, u16)>,
    reported: Option<String>,
}

impl Listener {
    /// Keeps one that another arbiter has opened, for settings that want the same address.
    pub(super) fn inherited(socket: OwnedFd, address: String, port: u16) -> Self {
        Self {
            inherited: Some((socket.into(), address, port)),
            ..Self::default()
        }
    }

    /// Opens it, if it is not open; returns it if it is newly open. Logs one line for each reason
    /// of a failure.
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
                let of = "(PROMETHEUS_BIND_ADDRESS, PROMETHEUS_METRICS_PORT)";
                // A sidecar in the same pod that started first.
                let sidecar = settings
                    .store_directory()
                    .filter(|_| error.kind() == ErrorKind::AddrInUse);
                let (level, cure) = match sidecar {
                    Some(directory) => (
                        "warning",
                        format!(
                            "a sidecar that reads {} serves them, any other program there is in the way; ",
                            directory.display()
                        ),
                    ),
                    None => ("error", String::new()),
                };
                let reason = format!(
                    "cannot serve metrics on {address}, port {port} {of}: {error}; {cure}trying again every second"
                );
                if self.reported.as_ref() != Some(&reason) {
                    lines.push((level, reason.clone()));
                    self.reported = Some(reason);
                }
                None
            }
        }
    }

    /// Closes it while no exporter could answer. [`open`](Self::open) opens it again.
    pub(super) fn close(&mut self) {
        self.socket = None;
    }

    /// Returns the socket for an exporter.
    pub(super) fn duplicate(&self) -> Option<OwnedFd> {
        // If the process has no free descriptor, the next exporter gets the socket.
        self.socket.as_ref()?.duplicate().ok()
    }
}

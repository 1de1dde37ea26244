//! `health`: asks a running exporter, as a container's health check does.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use gunicorn_prometheus_exporter::settings::PrometheusSettings;

const PATIENCE: Duration = Duration::from_secs(3);

/// The exporter is not healthy, or not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotHealthy {
    #[error("no exporter answers at {host}:{port}: {reason}")]
    Silent {
        host: String,
        port: u16,
        reason: std::io::Error,
    },
    #[error("the exporter at {host}:{port} is not healthy: {answer}")]
    Unwell {
        host: String,
        port: u16,
        answer: String,
    },
}

/// Returns when `/healthz` answers 200.
pub(crate) fn ask(settings: &PrometheusSettings) -> Result<(), NotHealthy> {
    let port = settings.metrics_port;
    // An address that stands for all of them is reached on loopback.
    let host = match settings.bind_address.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        address => address,
    };
    let answer = request(host, port).map_err(|reason| NotHealthy::Silent {
        host: host.to_owned(),
        port,
        reason,
    })?;
    let status = answer.lines().next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(NotHealthy::Unwell {
        host: host.to_owned(),
        port,
        answer: status.to_owned(),
    })
}

fn request(host: &str, port: u16) -> std::io::Result<String> {
    let mut last = std::io::ErrorKind::AddrNotAvailable.into();
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream.write_all(
                    b"GET /healthz HTTP/1.1\r\nHost: health\r\nConnection: close\r\n\r\n",
                )?;
                let mut answer = Vec::new();
                stream.take(4_096).read_to_end(&mut answer)?;
                return Ok(String::from_utf8_lossy(&answer).into_owned());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

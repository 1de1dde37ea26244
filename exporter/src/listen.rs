//! Binds the port of the metrics, and keeps trying while another process holds it.

use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use metrics_agent::OwnMetrics;
use metrics_settings::PrometheusSettings;

/// Time between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// The listener and its URL.
#[derive(Debug)]
pub struct BoundListener {
    /// Bound and listening.
    pub listener: TcpListener,
    /// `http://<address>:<port>`, or `https://`.
    pub url: String,
}

/// Binds address and port of the settings, once.
pub fn bind(settings: &PrometheusSettings) -> io::Result<BoundListener> {
    let listener = TcpListener::bind((settings.bind_address.as_str(), settings.metrics_port))?;
    let scheme = if settings.ssl.enabled {
        "https"
    } else {
        "http"
    };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    Ok(BoundListener { listener, url })
}

/// Binds them as soon as possible. The first failure is logged as an ERROR that names the port and
/// its setting; until it works, `gunicorn_exporter_listening` is 0.
pub async fn listen(settings: &PrometheusSettings, own: &OwnMetrics) -> BoundListener {
    listen_patiently(settings, own, Duration::ZERO).await
}

/// Does the same, and logs only a failure that lasts longer than `patience`: the process that had the
/// port is about to end.
pub(crate) async fn listen_patiently(
    settings: &PrometheusSettings,
    own: &OwnMetrics,
    patience: Duration,
) -> BoundListener {
    let started = Instant::now();
    let mut is_known = false;
    loop {
        // On another thread: the system may have to resolve a name, which may take long.
        let bound = {
            let settings = settings.clone();
            tokio::task::spawn_blocking(move || bind(&settings)).await
        };
        match bound.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(listening) => return listening,
            Err(error) => {
                let is_early = started.elapsed() < patience;
                if !is_early {
                    own.failed("listen");
                }
                if !is_known && !is_early {
                    tracing::error!(
                        "port {} of {} cannot be used: {error}; exporter.prometheus.metrics_port (PROMETHEUS_METRICS_PORT) chooses another, this one is tried again every second",
                        settings.metrics_port,
                        settings.bind_address,
                    );
                    is_known = true;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

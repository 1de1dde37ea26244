//! Answers a worker's own `generate_latest()`: sends the page of its instance over a socket that
//! the arbiter has made. Each connection gets one OpenMetrics page, and ends.
//!
//! There is no HTTP, TLS or password: only processes of the same user, or of root, are answered.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use metrics_model::{ExposeRequest, Format};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::routes::App;
use metrics_settings::Scope;

/// Maximum number of simultaneous answers; other workers wait, at most for a second each.
const AT_ONCE: usize = 16;
/// Part of that second that the flusher may take.
const REFRESH_LIMIT: Duration = Duration::from_millis(500);
/// Time limit for a worker to read its page.
const LIMIT: Duration = Duration::from_secs(2);
/// Pause of accepting when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until the task is dropped.
pub(super) async fn serve(listener: OwnedFd, app: App) {
    let listener = StdListener::from(listener);
    let opened = listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener));
    let listener = match opened {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("workers get no pages: {error}");
            return;
        }
    };
    let seats = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        // This semaphore is never closed.
        let seat = Arc::clone(&seats).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                let app = app.clone();
                tokio::task::spawn_local(async move {
                    if !matches!(timeout(LIMIT, answer(stream, &app)).await, Ok(Ok(()))) {
                        // The worker has received no `# EOF`, and uses its own values.
                        app.own.failed("worker_page");
                    }
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::error!("no worker can be answered: {error}");
                app.own.failed("accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, app: &App) -> std::io::Result<()> {
    let theirs = stream.peer_cred()?.uid();
    if theirs != 0 && theirs != rustix::process::geteuid().as_raw() {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    if let Some(refresh) = &app.refresh
        && refresh
            .flush_for_worker(Scope::Instance, REFRESH_LIMIT)
            .await
            .is_err()
    {
        // The page shows the last flush, as for a scraper.
        app.own.failed("refresh");
    }
    let Some(instance) = &app.instance else {
        return Err(std::io::ErrorKind::NotFound.into());
    };
    let mut request = ExposeRequest {
        format: Format::OpenMetrics,
        created: true,
        cursor: Some(b"0".to_vec()),
        ..ExposeRequest::default()
    };
    loop {
        let page = instance
            .page(&request)
            .await
            .map_err(std::io::Error::other)?;
        stream.write_all(&page.body).await?;
        match page.next {
            Some(next) => request.cursor = Some(next.into_bytes()),
            None => return stream.shutdown().await,
        }
    }
}

//! The listener and its connections: HTTP/1.1 with keepalive, a limit, and little patience.

mod stream;

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::routes::App;
use stream::PatientStream;

/// How many connections are open at once; the next waits in the listener's backlog.
const MAX_CONNECTIONS: usize = 256;
/// How much of a request's head is read.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// How long an orderly end waits for the scrapes that are being answered.
const DRAIN: Duration = Duration::from_secs(10);
/// How long accepting pauses when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `app` at `listener` until `shutdown` is ready, then finishes what it is answering.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let app = Arc::new(app);
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    app.own.set_listening(true);
    loop {
        let accepted = async {
            // Closed is what this semaphore never is.
            let permit = Arc::clone(&connections).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (permit, accepted) = accepted => match accepted {
                Ok((stream, _)) => spawn(stream, Arc::clone(&app), permit, &graceful),
                Err(error) => {
                    tracing::error!("no connection can be accepted: {error}");
                    app.own.failed("accept");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    app.own.set_listening(false);
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("scrapes that were not answered within {DRAIN:?} are broken off");
    }
    Ok(())
}

fn spawn(
    stream: TcpStream,
    app: Arc<App>,
    permit: Option<OwnedSemaphorePermit>,
    graceful: &GracefulShutdown,
) {
    let own = Arc::clone(&app.own);
    // Without it the last part of a page waits for an acknowledgement; failing to set it costs time
    // and nothing else.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let connection = http1::Builder::new()
        // `PatientStream` has its own, which lets idle connections be.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(PatientStream::new(stream)), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        own.connected();
        if let Err(error) = connection.await {
            tracing::debug!("a connection ends: {error}");
        }
        own.disconnected();
        drop(permit);
    });
}

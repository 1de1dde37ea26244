//! The listener and its connections: HTTP/1.1 with keepalive, optional TLS, and time limits.

mod connections;
mod ending;
mod host;
mod stream;

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::routes::{self, App};
use connections::{Connections, PlaceGuard, TrackedBody};
use ending::{Ending, Socket};
use stream::PatientStream;

/// Maximum number of open connections: half of the descriptors that a process usually may have.
const MAX_CONNECTIONS: usize = 512;
/// Maximum size of a request's head, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Time limit of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time limit of the open scrapes at an orderly end.
const DRAIN: Duration = Duration::from_secs(10);
/// Time that the newest connections get for their request when an orderly end begins.
const LAST_WORD: Duration = Duration::from_millis(100);
/// Pause of accepting when the system has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// Response to plain HTTP at an HTTPS port.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 49\r\nConnection: close\r\n\r\nthis port speaks HTTPS: ask for https:// instead\n";

/// Serves `app` at `listener` until `shutdown` is ready, then finishes open requests.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let app = Arc::new(app);
    let connections = Connections::new(MAX_CONNECTIONS);
    let graceful = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    app.own.set_listening(true);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let connection = Connection {
                        app: Arc::clone(&app),
                        seat: Arc::new(connections.admit()),
                        watcher: graceful.watcher(),
                    };
                    tokio::spawn(connection.run(stream));
                }
                Err(error) => {
                    tracing::error!("no connection can be accepted: {error}");
                    app.own.failed("accept");
                    connections.make_room();
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    app.protection.close();
    // Connections that were just accepted get a moment to send their request.
    tokio::time::sleep(LAST_WORD).await;
    connections.end_new();
    app.own.set_listening(false);
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("scrapes that were not answered within {DRAIN:?} are broken off");
    }
    Ok(())
}

/// One connection, from its beginning to its end.
struct Connection {
    app: Arc<App>,
    seat: Arc<PlaceGuard>,
    watcher: Watcher,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let own = Arc::clone(&self.app.own);
        let evicted = self.seat.evicted();
        own.connected();
        tokio::select! {
            () = self.talk(stream) => {}
            () = evicted => {
                tracing::debug!("a connection is ended: its place is needed, or all end");
                own.made_room();
            }
        }
        own.disconnected();
    }

    async fn talk(self, stream: TcpStream) {
        // Otherwise the last part of a page waits for an acknowledgement. If it cannot be set, only
        // time is lost.
        let _ = stream.set_nodelay(true);
        match self.app.protection.tls() {
            None => self.speak(stream).await,
            Some(acceptor) => match timeout(HANDSHAKE, shake_hands(acceptor, stream)).await {
                Ok(Ok(stream)) => self.speak(stream).await,
                Ok(Err(error)) => {
                    tracing::debug!("a TLS handshake fails: {error}");
                    self.app.own.failed("tls");
                }
                Err(_) => self.app.own.failed("tls"),
            },
        }
    }

    async fn speak<S: Socket + Unpin + 'static>(self, stream: S) {
        let Self { app, seat, watcher } = self;
        let ending = Ending::default();
        let for_bodies = ending.clone();
        let service = service_fn(move |request: Request<_>| {
            let app = Arc::clone(&app);
            let answering = seat.answer();
            let ending = for_bodies.clone();
            async move {
                let is_old = request.version() < Version::HTTP_11;
                let response = match host::check(&request) {
                    Ok(()) => app.answer(request).await,
                    Err(error) => routes::line(StatusCode::BAD_REQUEST, &error.to_string()),
                };
                if is_old && response.body().size_hint().exact().is_none() {
                    ending.tells();
                }
                let response = response.map(|body| TrackedBody {
                    body,
                    ending,
                    answering,
                });
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            // `PatientStream` has its own timeout, which spares idle connections.
            .header_read_timeout(None)
            // A client may half-close after its request.
            .half_close(true)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(PatientStream::new(stream, ending)), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!("a connection ends: {error}");
        }
    }
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    mut stream: TcpStream,
) -> std::io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let mut first = [0];
    // A handshake begins with the byte 22, a request with a letter.
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        stream.write_all(NOT_TLS).await?;
        return Err(std::io::Error::other("the client speaks plain HTTP"));
    }
    acceptor.accept(stream).await
}

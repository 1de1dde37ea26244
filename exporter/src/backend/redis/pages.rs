//! Connections for pages: the exporter asks for the next page before it has read the present one.
//!
//! # How it works
//!
//! The reply to `METRICS.EXPOSE … CURSOR` begins with the cursor of the next page. A connection
//! sends the command for that page as soon as it knows the cursor, and then reads the present page.
//! So Redis renders one page while the exporter receives the other. The `redis` crate returns a
//! reply when it has all of it; therefore these connections are our own (`page_reader`). The crate
//! still encodes the commands.
//!
//! The first page of a scrape comes over the connection of all other commands (`link`), so a
//! registry of one page needs no further connection. A connection keeps the command whose reply is
//! on the way. Only a request for exactly that page gets it: several scrapes, each at its own place,
//! use a connection each.
//!
//! # What if
//!
//! - Any other reply than a page, or none: the connection is closed, and the page is asked for over
//!   the connection of all other commands. So redirections, logins, stale cursors and failovers are
//!   handled in one place, as for every command.
//! - The main connection leads to another server than before: connections to the old one are closed.
//! - A scrape is broken off: its next page stays unread, at most one page in Redis' memory. The
//!   connection is closed by a later request, when it was idle for too long or there are too many.
//! - TLS: the `redis` crate reads those connections, whole replies at a time.

use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics_model::ExposeRequest;
use redis::{Cmd, ConnectionAddr, RedisError, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::CONNECT_TIMEOUT;
use super::address::Address;
use super::page_reader::PageReader;

/// Maximum number of connections that wait for the next request.
const MAX_IDLE: usize = 8;
/// A connection that was idle for so long is not used again.
const IDLE_LIMIT: Duration = Duration::from_mins(1);

/// The command for one page after the other.
pub(super) struct PageCommand<'a> {
    pub(super) key: &'a str,
    pub(super) request: &'a ExposeRequest,
    /// Whether the pages are joined with those of other keys.
    pub(super) is_part: bool,
}

impl PageCommand<'_> {
    /// Returns the command for the page at a cursor.
    pub(super) fn at(&self, cursor: &[u8]) -> Cmd {
        let request = self.request;
        let mut command = redis::cmd("METRICS.EXPOSE");
        command
            .arg(self.key)
            .arg("FORMAT")
            .arg(request.format.word())
            .arg("ESCAPING")
            .arg(request.escaping.word());
        if request.created {
            command.arg("CREATED");
        }
        if self.is_part {
            command.arg("PART");
        }
        if !request.names.is_empty() {
            command
                .arg("NAMES")
                .arg(request.names.len())
                .arg(&request.names);
        }
        command.arg("CURSOR").arg(cursor);
        if let Some(series) = request.count {
            command.arg("COUNT").arg(series);
        }
        // Modules before BYTES refuse it, so it is not sent where the default will do.
        if let Some(bytes) = request.bytes {
            command.arg("BYTES").arg(bytes);
        }
        command
    }
}

/// The connections of a link that wait for the next request.
#[derive(Debug, Default)]
pub(super) struct PageConnections {
    idle: Mutex<Vec<PageConnection>>,
}

struct PageConnection {
    reader: PageReader<Pin<Box<dyn Stream>>>,
    /// The server, as the main connection knows it.
    server: Arc<Address>,
    /// The encoded command whose reply is on the way.
    ahead: Option<Vec<u8>>,
    idle_since: Instant,
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Send + Sync> Stream for S {}

impl PageConnections {
    /// Returns the reply with the page at a cursor, and asks for the page after it. `None` if the
    /// page has to be asked for over the main connection, which leads to `server`.
    ///
    /// # Errors
    ///
    /// A timeout: the server does not answer within `patience`.
    pub(super) async fn page(
        &self,
        server: &Arc<Address>,
        command: &PageCommand<'_>,
        cursor: &[u8],
        patience: Duration,
    ) -> Result<Option<Value>, RedisError> {
        if cursor == b"0" || server.is_tls() {
            return Ok(None);
        }
        let asked = command.at(cursor).get_packed_command();
        while let Some(mut connection) = self.take(server, &asked) {
            match timeout(patience, connection.page(command, &asked)).await {
                Ok(Ok(reply)) => {
                    self.put(connection);
                    return Ok(Some(reply));
                }
                // The server closes idle connections, too.
                Ok(Err(error)) => tracing::debug!("a connection for pages has ended: {error}"),
                Err(_) => return Err(Error::from(ErrorKind::TimedOut).into()),
            }
        }
        let connected = timeout(CONNECT_TIMEOUT, PageConnection::new(server)).await;
        let Ok(Ok(mut connection)) = connected else {
            tracing::debug!("{server} accepts no connection for pages");
            return Ok(None);
        };
        match timeout(patience, connection.page(command, &asked)).await {
            Ok(Ok(reply)) => {
                self.put(connection);
                Ok(Some(reply))
            }
            Ok(Err(error)) => {
                tracing::debug!("{server} sends no page: {error}");
                Ok(None)
            }
            Err(_) => Err(Error::from(ErrorKind::TimedOut).into()),
        }
    }

    /// Takes the connection on which the reply to this command is on the way, or else one that waits
    /// for nothing.
    fn take(&self, server: &Arc<Address>, asked: &[u8]) -> Option<PageConnection> {
        let mut idle = self.lock();
        idle.retain(|connection| {
            Arc::ptr_eq(&connection.server, server) && connection.idle_since.elapsed() < IDLE_LIMIT
        });
        let is_ahead = |connection: &PageConnection| connection.ahead.as_deref() == Some(asked);
        let at = idle
            .iter()
            .position(is_ahead)
            .or_else(|| idle.iter().position(|found| found.ahead.is_none()))?;
        Some(idle.remove(at))
    }

    fn put(&self, mut connection: PageConnection) {
        connection.idle_since = Instant::now();
        let mut idle = self.lock();
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(connection);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PageConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PageConnection {
    /// Connects and logs in.
    async fn new(server: &Arc<Address>) -> Result<Self, Error> {
        let stream: Pin<Box<dyn Stream>> = match server.place() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // A command is one small packet that nothing follows.
                stream.set_nodelay(true)?;
                Box::pin(stream)
            }
            ConnectionAddr::Unix(path) => Box::pin(UnixStream::connect(path).await?),
            _ => return Err(ErrorKind::Unsupported.into()),
        };
        let mut connection = Self {
            reader: PageReader::new(stream),
            server: Arc::clone(server),
            ahead: None,
            idle_since: Instant::now(),
        };
        for command in server.login() {
            connection
                .reader
                .send(&command.get_packed_command())
                .await?;
            connection.reader.ok().await?;
        }
        Ok(connection)
    }

    /// Reads a page, and asks for the next one before.
    async fn page(&mut self, command: &PageCommand<'_>, asked: &[u8]) -> Result<Value, Error> {
        if self.ahead.take().is_none() {
            self.reader.send(asked).await?;
        }
        let head = self.reader.head().await?;
        if head.next != b"0" {
            let next = command.at(&head.next).get_packed_command();
            self.reader.send(&next).await?;
            self.ahead = Some(next);
        }
        let page = self.reader.page(head.bytes).await?;
        Ok(Value::Array(vec![
            Value::BulkString(head.next),
            Value::BulkString(page),
        ]))
    }
}

impl std::fmt::Debug for PageConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageConnection")
            .field("server", &self.server)
            .field("is_ahead", &self.ahead.is_some())
            .finish_non_exhaustive()
    }
}

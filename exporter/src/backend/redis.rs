//! The registry that instances share, behind the `METRICS.*` commands of a Redis.

mod address;
mod reply;

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_model::{Epoch, ExposeRequest, Format, Page, PushReply};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Value};
use tokio::sync::Mutex;

use super::BackendError;
use crate::Settings;
use reply::Command;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One registry in one Redis, over one connection that is made when it is needed and made again
/// when it breaks. Nothing is connected, and so nothing can fail, until the first command.
#[derive(Debug, Clone)]
pub struct RedisBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    /// For messages: never with a password.
    address: String,
    key: String,
    link: Mutex<Link>,
}

#[derive(Debug, Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    /// The last attempt that failed. Who waited for that attempt shares its result, so that scrapes
    /// that wait for a hung server do not wait for each other.
    failed: Option<(Instant, BackendError)>,
}

impl RedisBackend {
    /// Prepares the connection that these settings describe.
    pub fn new(settings: &Settings) -> Result<Self, BackendError> {
        let (client, address) = address::client(&settings.redis)?;
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                address,
                key: settings.registry_key(),
                link: Mutex::default(),
            }),
        })
    }

    /// Host and port, or the path of the socket.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// See [`Backend::page`](super::Backend::page). Always paged, so that no other client waits.
    pub async fn page(&self, request: &ExposeRequest) -> Result<Page, BackendError> {
        let mut command = redis::cmd("METRICS.EXPOSE");
        command
            .arg(&self.shared.key)
            .arg("FORMAT")
            .arg(match request.format {
                Format::Text => "TEXT",
                Format::OpenMetrics => "OPENMETRICS",
            });
        if request.created {
            command.arg("CREATED");
        }
        if !request.names.is_empty() {
            command
                .arg("NAMES")
                .arg(request.names.len())
                .arg(&request.names);
        }
        command
            .arg("CURSOR")
            .arg(request.cursor.as_deref().unwrap_or(b"0"));
        if let Some(series) = request.count {
            command.arg("COUNT").arg(series);
        }
        let about = self.about("METRICS.EXPOSE");
        about.page(self.send(&about, &command).await?)
    }

    /// Which life of the registry this is; `None` if there is none yet.
    pub async fn epoch(&self) -> Result<Option<Epoch>, BackendError> {
        let mut command = redis::cmd("METRICS.INFO");
        command.arg(&self.shared.key);
        let about = self.about("METRICS.INFO");
        match self.send(&about, &command).await {
            Ok(reply) => about.epoch(reply).map(Some),
            Err(BackendError::Refused { message, .. }) if message.ends_with("no such key") => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends one batch of a writer. Repeating it, with the same seq and bytes, changes nothing.
    pub async fn push(
        &self,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        lease_ms: u64,
        batch: &[u8],
    ) -> Result<PushReply, BackendError> {
        let mut command = redis::cmd("METRICS.PUSH");
        command
            .arg(&self.shared.key)
            .arg(writer)
            .arg(seq)
            .arg(batch);
        with_epoch(&mut command, epoch);
        command.arg("LEASE").arg(lease_ms);
        let about = self.about("METRICS.PUSH");
        about.push_reply(self.send(&about, &command).await?)
    }

    /// Says that a writer is gone for good.
    pub async fn leave(
        &self,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
    ) -> Result<PushReply, BackendError> {
        let mut command = redis::cmd("METRICS.LEAVE");
        command.arg(&self.shared.key).arg(writer).arg(seq);
        with_epoch(&mut command, epoch);
        let about = self.about("METRICS.LEAVE");
        about.push_reply(self.send(&about, &command).await?)
    }

    fn about(&self, name: &'static str) -> Command<'_> {
        Command {
            name,
            key: &self.shared.key,
            address: &self.shared.address,
        }
    }

    /// Sends one command. A connection that turns out to be dead, because the server was restarted
    /// since the last command, is replaced once; all our commands may be repeated.
    async fn send(&self, about: &Command<'_>, command: &Cmd) -> Result<Value, BackendError> {
        let (mut connection, is_fresh) = self.connection(about).await?;
        let error = match connection.send_packed_command(command).await {
            Ok(reply) => return reply.extract_error().map_err(|error| about.error(&error)),
            Err(error) => about.error(&error),
        };
        if !error.breaks_connection() {
            return Err(error);
        }
        self.forget().await;
        if is_fresh || matches!(error, BackendError::TimedOut { .. }) {
            return Err(error);
        }
        let (mut connection, _) = self.connection(about).await?;
        let reply = connection.send_packed_command(command).await;
        match reply.and_then(Value::extract_error) {
            Ok(reply) => Ok(reply),
            Err(error) => {
                let error = about.error(&error);
                if error.breaks_connection() {
                    self.forget().await;
                }
                Err(error)
            }
        }
    }

    /// The connection, and whether it was made just now.
    async fn connection(
        &self,
        about: &Command<'_>,
    ) -> Result<(MultiplexedConnection, bool), BackendError> {
        let asked = Instant::now();
        let mut link = self.shared.link.lock().await;
        if let Some(connection) = &link.connection {
            return Ok((connection.clone(), false));
        }
        if let Some((at, error)) = &link.failed
            && *at > asked
        {
            return Err(error.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let client = &self.shared.client;
        match client
            .get_multiplexed_async_connection_with_config(&config)
            .await
        {
            Ok(connection) => {
                *link = Link {
                    connection: Some(connection.clone()),
                    failed: None,
                };
                Ok((connection, true))
            }
            Err(error) => {
                let error = about.connect_error(&error);
                link.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn forget(&self) {
        self.shared.link.lock().await.connection = None;
    }
}

impl BackendError {
    /// Whether the connection is of no more use. After a timeout the reply may still come, and
    /// would only be in the way.
    fn breaks_connection(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Disconnected { .. } | Self::TimedOut { .. }
        )
    }
}

fn with_epoch(command: &mut Cmd, epoch: Option<Epoch>) {
    if let Some(epoch) = epoch {
        command.arg("EPOCH").arg(epoch.to_string());
    }
}

//! Finds the primary: from the settings, from sentinels, or from the nodes of a cluster.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value};

use super::address::Address;
use super::probe::explain;
use super::reply::{self, Command};
use super::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};
use crate::backend::BackendError;
use metrics_settings::Settings;

/// Maximum number of replicas to follow on the way to the primary.
const LONGEST_CHAIN: usize = 8;

/// The deployment of Redis, according to the settings.
#[derive(Debug)]
pub(super) enum Topology {
    /// One server, which is the primary or a replica that knows its primary.
    Single(Address),
    /// The sentinels, which know the primary of that name.
    Sentinel {
        sentinels: Vec<Address>,
        master: String,
        /// Login and TLS of the primary.
        server: Address,
    },
    /// Each key is on a primary of its own; any node can name it.
    Cluster(Address),
}

/// A connection and the address it leads to.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) redis: MultiplexedConnection,
    pub(super) address: String,
    /// The server; each new connection has its own value.
    pub(super) server: Arc<Address>,
}

impl Topology {
    pub(super) fn new(settings: &Settings) -> Result<Self, BackendError> {
        let redis = &settings.redis;
        let server = Address::new(redis)?;
        match &redis.sentinel {
            Some(_) if redis.cluster => Err(BackendError::Settings(
                "sentinel.hosts and cluster are both set, allowed is one of them".to_owned(),
            )),
            Some(sentinel) => Ok(Self::Sentinel {
                sentinels: Address::sentinels(redis, sentinel)?,
                master: sentinel.master.clone(),
                server,
            }),
            None if redis.cluster && server.at("", 0).is_none() => Err(BackendError::Settings(
                "cluster is set and the URL names a unix socket".to_owned(),
            )),
            None if redis.cluster => Ok(Self::Cluster(server)),
            None => Ok(Self::Single(server)),
        }
    }

    /// Returns whether its servers use TLS.
    pub(super) fn is_tls(&self) -> bool {
        match self {
            Self::Single(server) | Self::Sentinel { server, .. } | Self::Cluster(server) => {
                server.is_tls()
            }
        }
    }

    /// Returns the form for messages, never with a password.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Single(server) => server.to_string(),
            Self::Sentinel {
                sentinels, master, ..
            } => format!("{master} of {}", list(sentinels)),
            Self::Cluster(server) => format!("cluster {server}"),
        }
    }
}

/// Connects and logs in.
pub(super) async fn connect(
    address: &Address,
    about: &Command<'_>,
) -> Result<Connection, BackendError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(about.patience));
    let name = address.to_string();
    let connected = address
        .client()?
        .get_multiplexed_async_connection_with_config(&config)
        .await;
    match connected {
        Ok(redis) => Ok(Connection {
            redis,
            address: name,
            server: Arc::new(address.clone()),
        }),
        Err(error) => {
            let error = about.connect_error(&name, &error);
            Err(explain(&name, address.is_tls(), error).await)
        }
    }
}

/// Connects to the server of the settings or, if that is a replica, to its primary: a replica shows
/// older data and accepts no batch.
pub(super) async fn connect_to_primary(
    server: &Address,
    about: &Command<'_>,
) -> Result<Connection, BackendError> {
    let mut connection = connect(server, about).await?;
    for _ in 0..LONGEST_CHAIN {
        let role = connection
            .redis
            .send_packed_command(&redis::cmd("ROLE"))
            .await;
        let role = match role.and_then(Value::extract_error) {
            Ok(role) => role,
            Err(error) if error.is_io_error() => {
                let error = about.error(&connection.address, &error);
                return Err(explain(&connection.address, server.is_tls(), error).await);
            }
            // The user may not run ROLE: use the server of the settings.
            Err(_) => return Ok(connection),
        };
        let Some((host, port)) = reply::primary_of_replica(&role) else {
            return Ok(connection);
        };
        let replica = connection.address;
        let Some(primary) = server.at(&host, port) else {
            return Err(BackendError::ReadOnly { address: replica });
        };
        tracing::info!("redis at {replica} is a replica: its primary {primary} is used");
        connection = match connect(&primary, about).await {
            Ok(connection) => connection,
            Err(reason) => {
                return Err(BackendError::OfReplica {
                    replica,
                    primary: primary.to_string(),
                    reason: Box::new(reason),
                });
            }
        };
    }
    Err(BackendError::ReadOnly {
        address: connection.address,
    })
}

/// Connects to the primary that one of the sentinels names, if that server confirms that it is one:
/// right after a failover a sentinel may still name the old one.
pub(super) async fn connect_by_sentinel(
    sentinels: &[Address],
    master: &str,
    server: &Address,
    about: &Command<'_>,
) -> Result<Connection, BackendError> {
    let mut last = None;
    for sentinel in sentinels {
        match ask_sentinel(sentinel, master, server, about).await {
            Ok(connection) => return Ok(connection),
            Err(error @ BackendError::UnknownMaster { .. }) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    Err(BackendError::NoPrimary {
        master: master.to_owned(),
        sentinels: list(sentinels),
        reason: last.map_or_else(|| "there are none".to_owned(), |error| error.to_string()),
    })
}

async fn ask_sentinel(
    sentinel: &Address,
    master: &str,
    server: &Address,
    about: &Command<'_>,
) -> Result<Connection, BackendError> {
    // The long time limit is for Redis; a sentinel answers quickly.
    let to_sentinel = Command {
        patience: about.patience.min(RESPONSE_TIMEOUT),
        ..*about
    };
    let mut asked = connect(sentinel, &to_sentinel).await.map_err(of_sentinel)?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(master);
    let reply = asked.redis.send_packed_command(&command).await;
    let reply = reply
        .and_then(Value::extract_error)
        .map_err(|error| of_sentinel(to_sentinel.error(&asked.address, &error)))?;
    let named = reply::host_and_port(reply);
    let primary = named.and_then(|(host, port)| server.at(&host, port));
    let primary = primary.ok_or_else(|| BackendError::UnknownMaster {
        sentinel: asked.address.clone(),
        master: master.to_owned(),
    })?;
    let mut connection = connect(&primary, about).await?;
    let command = redis::cmd("ROLE");
    let role = connection.redis.send_packed_command(&command).await;
    match role.and_then(Value::extract_error) {
        Ok(role) if !reply::is_primary(&role) => Err(BackendError::ReadOnly {
            address: connection.address,
        }),
        // The user may not run ROLE: the first write will show whether this is the primary.
        Ok(_) => Ok(connection),
        Err(error) if error.code() == Some("NOPERM") => Ok(connection),
        Err(error) => Err(about.error(&connection.address, &error)),
    }
}

/// Turns an error of login into the one for sentinels, which have their own login.
fn of_sentinel(error: BackendError) -> BackendError {
    match error {
        BackendError::LoginRefused { address } => BackendError::SentinelLoginRefused { address },
        other => other,
    }
}

/// Returns the nodes of a cluster as one of them knows them; empty if this user may not ask.
pub(super) async fn nodes(connection: &mut Connection) -> Vec<(String, u16)> {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let asked = connection.redis.send_packed_command(&command);
    match tokio::time::timeout(Duration::from_secs(1), asked).await {
        Ok(Ok(slots)) => reply::nodes(slots),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

fn list(addresses: &[Address]) -> String {
    let names: Vec<String> = addresses.iter().map(Address::to_string).collect();
    names.join(", ")
}

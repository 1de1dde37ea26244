//! Errors of a registry: one clear line each, for the log and for the scraper.

use metrics_agent::{SharedError, SharedFailure};
use metrics_model::ExposeError;

/// A registry could not be read or written. No message contains a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No connection.
    #[error("redis at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port, or the path of the socket.
        address: String,
        /// The system's message.
        reason: String,
    },
    /// The server closed the connection before its reply was complete.
    #[error("redis at {address} closed the connection: {reason}")]
    Disconnected {
        /// Host and port, or the path of the socket.
        address: String,
        /// The system's message.
        reason: String,
    },
    /// The server accepted the connection but did not reply.
    #[error("redis at {address} did not answer within {limit_ms} ms")]
    TimedOut {
        /// Host and port, or the path of the socket.
        address: String,
        /// The time limit, in milliseconds.
        limit_ms: u128,
    },
    /// The server sent this error and closed the connection, before any command.
    #[error("redis at {address} refuses connections: {message}")]
    Words {
        /// Host and port.
        address: String,
        /// The server's message.
        message: String,
    },
    /// The settings turn TLS on, and the port speaks plain RESP.
    #[error(
        "redis at {address} speaks no TLS at this port: name its TLS port, or turn exporter.redis.ssl.enabled (a URL of rediss://) off"
    )]
    SpeaksPlain {
        /// Host and port.
        address: String,
    },
    /// The settings leave TLS off, and the port speaks only TLS.
    #[error(
        "redis at {address} speaks TLS at this port: set exporter.redis.ssl.enabled, or a URL of rediss://"
    )]
    SpeaksTls {
        /// Host and port.
        address: String,
    },
    /// The settings name a replica, and its primary cannot be used.
    #[error("redis at {replica} is a replica of {primary}, which cannot be used: {reason}")]
    OfReplica {
        /// Host and port of the replica.
        replica: String,
        /// Host and port of its primary, according to the replica.
        primary: String,
        /// The primary's error.
        reason: Box<BackendError>,
    },
    /// It is reading its data from disk.
    #[error("redis at {address} is still loading its data, try again soon")]
    Loading {
        /// Host and port, or the path of the socket.
        address: String,
    },
    /// The registry was rolled back, and its writers are not all back.
    #[error("the registry was rolled back and waits for its writers, try again soon")]
    Healing,
    /// The cursor no longer fits the registry.
    #[error("the registry changed so much during the scrape that the page cannot go on")]
    StaleCursor,
    /// The module is not loaded.
    #[error(
        "redis at {address} does not know the command {command}: load libredis_metrics.so with loadmodule in redis.conf"
    )]
    NoModule {
        /// Host and port, or the path of the socket.
        address: String,
        /// The command.
        command: &'static str,
    },
    /// The user or password is missing or wrong.
    #[error(
        "redis at {address} refuses to log in: check exporter.redis.username and exporter.redis.password"
    )]
    LoginRefused {
        /// Host and port, or the path of the socket.
        address: String,
    },
    /// The user or password for a sentinel is missing or wrong.
    #[error(
        "sentinel {address} refuses to log in: check exporter.redis.sentinel.username and exporter.redis.sentinel.password"
    )]
    SentinelLoginRefused {
        /// Its host and port.
        address: String,
    },
    /// The user lacks a right.
    #[error("redis at {address} does not allow this user {command} on {key}")]
    NoPermission {
        /// Host and port, or the path of the socket.
        address: String,
        /// The command.
        command: &'static str,
        /// The key of the registry.
        key: String,
    },
    /// The key holds a value of another type.
    #[error(
        "key {key} of redis at {address} holds another type than a metric registry: choose another exporter.redis.key_prefix"
    )]
    WrongType {
        /// Host and port, or the path of the socket.
        address: String,
        /// The key of the registry.
        key: String,
    },
    /// The server is a replica.
    #[error("redis at {address} is a read-only replica: name the primary")]
    ReadOnly {
        /// Host and port, or the path of the socket.
        address: String,
    },
    /// The key's slot is on another node of a cluster.
    #[error(
        "redis at {address} is a node of a cluster and does not hold {key}: set exporter.redis.cluster"
    )]
    Moved {
        /// Host and port.
        address: String,
        /// The key of the registry.
        key: String,
    },
    /// The cluster is incomplete, or about to change.
    #[error("the cluster of redis at {address} cannot answer now: {message}")]
    ClusterDown {
        /// Host and port.
        address: String,
        /// The server's message.
        message: String,
    },
    /// No sentinel answers, or those that do name a server that is not a primary.
    #[error("no sentinel of {sentinels} leads to the primary {master}: {reason}")]
    NoPrimary {
        /// The name of the primary.
        master: String,
        /// The sentinels that were asked.
        sentinels: String,
        /// The error of the last one.
        reason: String,
    },
    /// The sentinel watches other primaries.
    #[error("sentinel {sentinel} does not know {master}: check exporter.redis.sentinel.master")]
    UnknownMaster {
        /// Its host and port.
        sentinel: String,
        /// The name of the primary.
        master: String,
    },
    /// A replica that has lost its primary, and answers nothing meanwhile.
    #[error("redis at {address} is a replica that is cut off from its primary: {message}")]
    CutOff {
        /// Host and port, or the path of the socket.
        address: String,
        /// The server's message.
        message: String,
    },
    /// Any other error of the server.
    #[error("redis at {address} answered {command} with: {message}")]
    Refused {
        /// Host and port, or the path of the socket.
        address: String,
        /// The command.
        command: &'static str,
        /// The server's words.
        message: String,
    },
    /// The reply does not have the form that is documented for the command.
    #[error("redis at {address} answered {command} with something else than {expected}")]
    Reply {
        /// Host and port, or the path of the socket.
        address: String,
        /// The command.
        command: &'static str,
        /// The reply that is documented for the command.
        expected: &'static str,
    },
    /// The settings give no connection.
    #[error("exporter.redis: {0}")]
    Settings(String),
    /// An error of this instance's registry.
    #[error(transparent)]
    Expose(ExposeError),
    /// The page cannot be compressed.
    #[error("the page cannot be compressed")]
    Compression,
    /// The scraper's own deadline has passed.
    #[error("the deadline of the scrape has passed")]
    Deadline,
}

impl BackendError {
    /// Returns whether Redis does not answer, at least for now; false if the request itself is
    /// wrong.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Disconnected { .. }
                | Self::TimedOut { .. }
                | Self::Words { .. }
                | Self::OfReplica { .. }
                | Self::Loading { .. }
                | Self::ClusterDown { .. }
                | Self::CutOff { .. }
                | Self::NoPrimary { .. }
                | Self::Deadline
        )
    }
}

impl SharedError for BackendError {
    fn failure(&self) -> SharedFailure {
        match self {
            // A module that is too old knows no batches that ask which series it leaves out.
            Self::Refused { message, .. } if message.contains("batch kind") => {
                SharedFailure::UnknownQuestion
            }
            Self::Refused { .. } => SharedFailure::Refused,
            Self::NoPermission { .. } => SharedFailure::Forbidden,
            Self::Reply { .. } => SharedFailure::Malformed,
            _ => SharedFailure::Unavailable,
        }
    }
}

impl From<ExposeError> for BackendError {
    fn from(error: ExposeError) -> Self {
        match error {
            ExposeError::Healing => Self::Healing,
            ExposeError::StaleCursor => Self::StaleCursor,
            other => Self::Expose(other),
        }
    }
}

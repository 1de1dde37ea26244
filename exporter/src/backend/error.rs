//! Why a registry did not answer: one clear line each, for the log and for the scraper.

use metrics_model::{DecodeError, ExposeError};

/// A registry could not be read or written. No message holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No connection.
    #[error("redis at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port, or the path of the socket.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// The connection ended in the middle.
    #[error("redis at {address} closed the connection: {reason}")]
    Disconnected {
        /// Host and port, or the path of the socket.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// Connected, but no answer.
    #[error("redis at {address} did not answer within {limit_ms} ms")]
    TimedOut {
        /// Host and port, or the path of the socket.
        address: String,
        /// How long was waited.
        limit_ms: u128,
    },
    /// What it says to every client, unasked, before it closes the connection.
    #[error("redis at {address} refuses connections: {message}")]
    Words {
        /// Host and port.
        address: String,
        /// The server's words.
        message: String,
    },
    /// TLS is set, and the port speaks plain.
    #[error(
        "redis at {address} speaks no TLS at this port: name its TLS port, or turn exporter.redis.ssl.enabled (a URL of rediss://) off"
    )]
    SpeaksPlain {
        /// Host and port.
        address: String,
    },
    /// TLS is not set, and the port speaks nothing else.
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
        /// Host and port of its primary, as it says.
        primary: String,
        /// What is wrong with the primary.
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
    /// A page was asked for that no longer follows the one before.
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
    /// No or wrong user or password.
    #[error(
        "redis at {address} refuses to log in: check exporter.redis.username and exporter.redis.password"
    )]
    LoginRefused {
        /// Host and port, or the path of the socket.
        address: String,
    },
    /// The same, of a sentinel.
    #[error(
        "sentinel {address} refuses to log in: check exporter.redis.sentinel.username and exporter.redis.sentinel.password"
    )]
    SentinelLoginRefused {
        /// Its host and port.
        address: String,
    },
    /// The user's rights do not reach that far.
    #[error("redis at {address} does not allow this user {command} on {key}")]
    NoPermission {
        /// Host and port, or the path of the socket.
        address: String,
        /// The command.
        command: &'static str,
        /// The key of the registry.
        key: String,
    },
    /// The key is something else.
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
    /// The cluster is not whole, or about to change.
    #[error("the cluster of redis at {address} cannot answer now: {message}")]
    ClusterDown {
        /// Host and port.
        address: String,
        /// The server's words.
        message: String,
    },
    /// Sentinels that do not answer, or name a primary that is none.
    #[error("no sentinel of {sentinels} leads to the primary {master}: {reason}")]
    NoPrimary {
        /// The name of the primary.
        master: String,
        /// Those that were asked.
        sentinels: String,
        /// What was wrong with the last one.
        reason: String,
    },
    /// A sentinel that watches others.
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
        /// The server's words.
        message: String,
    },
    /// Any other error of the server, in its words.
    #[error("redis at {address} answered {command} with: {message}")]
    Refused {
        /// Host and port, or the path of the socket.
        address: String,
        /// The command.
        command: &'static str,
        /// The server's words.
        message: String,
    },
    /// The reply has not the form that the command promises.
    #[error("redis at {address} answered {command} with something else than {expected}")]
    Reply {
        /// Host and port, or the path of the socket.
        address: String,
        /// The command.
        command: &'static str,
        /// What the command promises.
        expected: &'static str,
    },
    /// The settings do not make a connection.
    #[error("exporter.redis: {0}")]
    Settings(String),
    /// A batch that is none: a defect of its writer.
    #[error("the batch is not valid: {0}")]
    Batch(#[from] DecodeError),
    /// The registry of this instance cannot be rendered.
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
    /// Whether Redis does not answer, or not for now: not a matter of what was asked.
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

    /// Whether the server's module is older than the question which series a batch leaves out, and
    /// refuses batches that ask.
    pub(crate) fn is_unknown_question(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("batch kind"))
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

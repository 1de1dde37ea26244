//! Parses replies of the `METRICS.*` commands, and turns errors into our own.

use std::time::Duration;

use metrics_model::{Epoch, LeftOut, Page, PushReply, PushStatus, Reason};
use redis::{ErrorKind, RedisError, Value};

use super::super::BackendError;
use super::CONNECT_TIMEOUT;

/// The command that was sent, for messages.
#[derive(Clone, Copy)]
pub(super) struct Command<'a> {
    pub(super) name: &'static str,
    pub(super) key: &'a str,
    /// The address in messages: that of one server, or of the deployment.
    pub(super) address: &'a str,
    /// Time limit for its reply.
    pub(super) patience: Duration,
}

/// The reply of METRICS.INFO.
#[derive(Debug)]
pub(crate) struct Info {
    pub(crate) epoch: Epoch,
    /// Number of batch entries that it has left out, by reason.
    pub(crate) rejected: Vec<(Reason, u64)>,
}

impl Command<'_> {
    /// Parses `[next cursor, page]`.
    pub(super) fn page(&self, reply: Value) -> Result<Page, BackendError> {
        let unexpected = || self.unexpected("a cursor and a page");
        let [next, body] = array(reply).ok_or_else(unexpected)?;
        let next = text(next).ok_or_else(unexpected)?;
        let Value::BulkString(body) = body else {
            return Err(unexpected());
        };
        Ok(Page {
            body,
            next: (next != "0").then_some(next),
            visited: 0,
        })
    }

    /// Parses `[status, epoch, last seq, entries left out]`, with the series left out if the batch
    /// asks.
    pub(super) fn push_reply(&self, reply: Value) -> Result<PushReply, BackendError> {
        let unexpected = || self.unexpected("status, epoch, last seq and entries left out");
        let read = || {
            let Value::Array(mut items) = reply else {
                return None;
            };
            let series_left_out = match items.len() {
                5.. => match items.pop()? {
                    Value::BulkString(bits) => Some(LeftOut::from_bytes(&bits)?),
                    _ => return None,
                },
                _ => None,
            };
            let [status, epoch, last_seq, left_out] = items.try_into().ok()?;
            Some(PushReply {
                status: PushStatus::from_word(&text(status)?)?,
                epoch: text(epoch)?.parse().ok()?,
                last_seq: number(last_seq)?,
                left_out: number(left_out)?,
                series_left_out,
                expire_at_ms: None,
            })
        };
        read().ok_or_else(unexpected)
    }

    /// Parses `epoch` and `rejected` of a map, or of the flat array that RESP2 has for it.
    pub(super) fn info(&self, reply: Value) -> Result<Info, BackendError> {
        let (mut epoch, mut rejected) = (None, Vec::new());
        for (name, value) in pairs(reply) {
            match text(name).as_deref() {
                Some("epoch") => epoch = text(value).and_then(|epoch| epoch.parse().ok()),
                Some("rejected") => rejected = counts(&text(value).unwrap_or_default()),
                _ => {}
            }
        }
        let epoch = epoch.ok_or_else(|| self.unexpected("a map with an epoch"))?;
        Ok(Info { epoch, rejected })
    }

    pub(super) fn unexpected(&self, expected: &'static str) -> BackendError {
        BackendError::Reply {
            address: self.address.to_owned(),
            command: self.name,
            expected,
        }
    }

    /// Returns why there is no connection. The library's message is left out where it could quote
    /// what was sent: it logs in while it connects.
    pub(super) fn connect_error(&self, address: &str, error: &RedisError) -> BackendError {
        let name = address;
        let address = name.to_owned();
        if error.is_timeout() {
            return BackendError::TimedOut {
                address,
                limit_ms: CONNECT_TIMEOUT.as_millis(),
            };
        }
        match error.kind() {
            ErrorKind::AuthenticationFailed => BackendError::LoginRefused { address },
            ErrorKind::Io => BackendError::Unreachable {
                address,
                reason: reason(error),
            },
            _ => self.error(name, error),
        }
    }

    /// Returns why there is no reply.
    pub(super) fn error(&self, address: &str, error: &RedisError) -> BackendError {
        let address = address.to_owned();
        let key = self.key.to_owned();
        let command = self.name;
        if error.is_timeout() {
            return BackendError::TimedOut {
                address,
                limit_ms: self.patience.as_millis(),
            };
        }
        if matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) {
            return BackendError::Disconnected {
                address,
                reason: reason(error),
            };
        }
        let detail = error.detail().unwrap_or_default();
        match error.code().unwrap_or_default() {
            "HEALING" => BackendError::Healing,
            "STALECURSOR" => BackendError::StaleCursor,
            "LOADING" => BackendError::Loading { address },
            "READONLY" => BackendError::ReadOnly { address },
            "NOAUTH" | "WRONGPASS" => BackendError::LoginRefused { address },
            "MOVED" => BackendError::Moved { address, key },
            "CLUSTERDOWN" | "TRYAGAIN" => BackendError::ClusterDown {
                address,
                message: one_line(detail),
            },
            "MASTERDOWN" => BackendError::CutOff {
                address,
                message: one_line(detail),
            },
            "NOPERM" => BackendError::NoPermission {
                address,
                command,
                key,
            },
            "WRONGTYPE" => BackendError::WrongType { address, key },
            "ERR" if detail.to_ascii_lowercase().starts_with("unknown command") => {
                BackendError::NoModule { address, command }
            }
            code => BackendError::Refused {
                address,
                command,
                message: one_line(&format!("{code} {detail}")),
            },
        }
    }
}

/// Parses `reason=count,...`; skips reasons of a newer module.
fn counts(rejected: &str) -> Vec<(Reason, u64)> {
    let count = |item: &str| {
        let (name, count) = item.split_once('=')?;
        let reason = Reason::EVERY.into_iter().find(|r| r.name() == name)?;
        Some((reason, count.parse().ok()?))
    };
    rejected.split(',').filter_map(count).collect()
}

/// Parses a sentinel's answer about a primary: `[host, port]`.
pub(super) fn host_and_port(reply: Value) -> Option<(String, u16)> {
    let [host, port] = array(reply)?;
    Some((text(host)?, text(port)?.parse().ok()?))
}

/// Returns whether the answer to ROLE is a primary's.
pub(super) fn is_primary(role: &Value) -> bool {
    matches!(role, Value::Array(items) if matches!(items.first(), Some(Value::BulkString(role)) if role == b"master"))
}

/// Returns the primary's address from a replica's answer to ROLE: `[slave, host, port, state,
/// offset]`.
pub(super) fn primary_of_replica(role: &Value) -> Option<(String, u16)> {
    let Value::Array(items) = role else {
        return None;
    };
    let [role, host, port, ..] = items.as_slice() else {
        return None;
    };
    let is_replica = matches!(role, Value::BulkString(role) if role == b"slave");
    let port = u16::try_from(number(port.clone())?).ok()?;
    is_replica.then_some((text(host.clone())?, port))
}

/// Returns the nodes in the answer to CLUSTER SLOTS: `[[start, end, [host, port, ...], ...], ...]`.
pub(super) fn nodes(slots: Value) -> Vec<(String, u16)> {
    let items = |value: Value| match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    let node = |value: Value| {
        let mut fields = items(value).into_iter();
        let host = text(fields.next()?)?;
        Some((host, u16::try_from(number(fields.next()?)?).ok()?))
    };
    let mut nodes: Vec<(String, u16)> = items(slots)
        .into_iter()
        .flat_map(|range| items(range).into_iter().skip(2).filter_map(node))
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// Returns the system's message for an error of the connection.
fn reason(error: &RedisError) -> String {
    if error.is_connection_refusal() {
        return "connection refused".to_owned();
    }
    one_line(&error.to_string())
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn array<const N: usize>(reply: Value) -> Option<[Value; N]> {
    match reply {
        Value::Array(items) => items.try_into().ok(),
        _ => None,
    }
}

/// Returns the pairs of a map, or of the flat array that RESP2 has for it.
pub(super) fn pairs(reply: Value) -> Vec<(Value, Value)> {
    match reply {
        Value::Map(pairs) => pairs,
        Value::Array(items) => {
            let mut items = items.into_iter();
            std::iter::from_fn(|| items.next().zip(items.next())).collect()
        }
        _ => Vec::new(),
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn number(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        other => text(other)?.parse().ok(),
    }
}

//! What is at an address where no connection comes about: asked once more, in the plainest way.
//!
//! A server in protected mode, or with too many clients, says why and closes the connection, and a
//! client that is just sending something gets a reset instead of the words. A plain port that is
//! sent a TLS handshake waits for the end of a line, and says nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::backend::BackendError;

/// For connecting, and for all that is said after that.
const CONNECT: Duration = Duration::from_millis(500);
/// How long the server has for what it says unasked.
const UNASKED: Duration = Duration::from_millis(200);
/// How long it has for an answer.
const ANSWER: Duration = Duration::from_millis(300);
/// The first byte of an alert of TLS.
const ALERT: u8 = 21;

/// The same error, or a better one: `name` is host and port of a server with which no connection
/// came about; `is_tls` says whether one with TLS was tried.
pub(super) async fn explain(name: &str, is_tls: bool, error: BackendError) -> BackendError {
    let is_of_connection = matches!(
        error,
        BackendError::Unreachable { .. }
            | BackendError::Disconnected { .. }
            | BackendError::TimedOut { .. }
    );
    if !is_of_connection {
        return error;
    }
    let address = name.to_owned();
    match timeout(CONNECT + UNASKED + ANSWER, heard(name)).await {
        Ok(Some(Heard::Words(message))) => BackendError::Words { address, message },
        Ok(Some(Heard::Plain)) if is_tls => BackendError::SpeaksPlain { address },
        Ok(Some(Heard::Tls)) if !is_tls => BackendError::SpeaksTls { address },
        _ => error,
    }
}

enum Heard {
    /// An error that nothing was asked for.
    Words(String),
    /// An answer to what was asked without TLS.
    Plain,
    /// An alert of TLS instead of that.
    Tls,
}

async fn heard(name: &str) -> Option<Heard> {
    let (host, port) = name.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    let port: u16 = port.parse().ok()?;
    let connecting = TcpStream::connect((host, port));
    let mut stream = timeout(CONNECT, connecting).await.ok()?.ok()?;
    let mut said = [0; 512];
    if let Ok(read) = timeout(UNASKED, stream.read(&mut said)).await {
        let said = &said[..read.ok()?];
        let words = String::from_utf8_lossy(said.strip_prefix(b"-")?).into_owned();
        return Some(Heard::Words(words.lines().next()?.trim().to_owned()));
    }
    stream.write_all(b"PING\r\n").await.ok()?;
    let read = timeout(ANSWER, stream.read(&mut said)).await.ok()?.ok()?;
    match said[..read].first()? {
        b'+' | b'-' => Some(Heard::Plain),
        &ALERT => Some(Heard::Tls),
        _ => None,
    }
}

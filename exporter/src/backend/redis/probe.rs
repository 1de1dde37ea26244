//! Finds out why a connection failed, with one plain exchange.
//!
//! A server in protected mode, or with too many clients, sends the reason and closes the connection;
//! a client that is sending at that moment gets a reset in place of the reason. A plain port that
//! receives a TLS handshake waits for the end of a line, and sends nothing. A TLS port answers plain
//! text with a reset, and a handshake with the beginning of one.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::backend::BackendError;

/// Time limit for connecting and for the whole exchange.
const CONNECT: Duration = Duration::from_millis(500);
/// Time limit for what the server sends unasked.
const UNASKED: Duration = Duration::from_millis(200);
/// Time limit for an answer.
const ANSWER: Duration = Duration::from_millis(300);
/// Bytes of what the server says that are passed on at most.
const MAX_WORDS: usize = 300;
/// First byte of a TLS alert.
const ALERT: u8 = 21;
/// The first byte of a handshake of TLS.
const HANDSHAKE: u8 = 22;

/// Returns the same error, or a more precise one. `name` is host and port of a server to which no
/// connection was possible; `is_tls` tells whether TLS was tried.
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
        Ok(Some(ProbeAnswer::Words(message))) => BackendError::Words { address, message },
        Ok(Some(ProbeAnswer::Plain)) if is_tls => BackendError::SpeaksPlain { address },
        Ok(Some(ProbeAnswer::Plain)) => error,
        _ if !is_tls && speaks_tls(name).await == Some(true) => BackendError::SpeaksTls { address },
        _ => error,
    }
}

/// Whether the server goes on with a handshake of TLS, or refuses it in the words of TLS.
async fn speaks_tls(name: &str) -> Option<bool> {
    let mut stream = connect(name).await?;
    let config = ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    // Nothing is verified, and nothing is sent after this: the name may be any.
    let host = ServerName::try_from("localhost").ok()?;
    let mut client = ClientConnection::new(Arc::new(config), host).ok()?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello).ok()?;
    stream.write_all(&hello).await.ok()?;
    let mut answer = [0];
    let read = timeout(ANSWER, stream.read(&mut answer)).await.ok()?.ok()?;
    Some(read == 1 && [ALERT, HANDSHAKE].contains(&answer[0]))
}

async fn connect(name: &str) -> Option<TcpStream> {
    let (host, port) = name.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    let port: u16 = port.parse().ok()?;
    let connecting = TcpStream::connect((host, port));
    timeout(CONNECT, connecting).await.ok()?.ok()
}

/// The sentences that begin what is said: in protected mode the cause is the first two, and a thousand
/// bytes about cures follow.
fn first_sentences(line: &str) -> &str {
    if line.len() <= MAX_WORDS {
        return line;
    }
    let start = &line[..line.floor_char_boundary(MAX_WORDS)];
    start.rfind(". ").map_or(start, |end| &start[..=end])
}

enum ProbeAnswer {
    /// An error that the server sent unasked.
    Words(String),
    /// An answer to the plain question.
    Plain,
}

async fn heard(name: &str) -> Option<ProbeAnswer> {
    let mut stream = connect(name).await?;
    let mut said = [0; 2048];
    if let Ok(read) = timeout(UNASKED, stream.read(&mut said)).await {
        let said = &said[..read.ok()?];
        let words = String::from_utf8_lossy(said.strip_prefix(b"-")?).into_owned();
        let line = words.lines().next()?.trim();
        return Some(ProbeAnswer::Words(first_sentences(line).to_owned()));
    }
    stream.write_all(b"PING\r\n").await.ok()?;
    let read = timeout(ANSWER, stream.read(&mut said)).await.ok()?.ok()?;
    match said[..read].first()? {
        b'+' | b'-' => Some(ProbeAnswer::Plain),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_end_with_a_sentence_and_never_within_a_letter() {
        let line = format!("DENIED One. Two. {}", "x".repeat(400));
        assert_eq!(first_sentences(&line), "DENIED One. Two.");
        assert_eq!(first_sentences("ERR short"), "ERR short");
        assert_eq!(first_sentences(&"ä".repeat(200)).len(), 300);
        assert_eq!(first_sentences(&format!("x{}", "ä".repeat(200))).len(), 299);
    }
}

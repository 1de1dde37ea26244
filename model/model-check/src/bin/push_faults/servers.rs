//! Two real servers, one of them the primary, and requests to them that may be cut at any byte.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A reply, parsed as far as the schedule needs it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Text(String),
    Bytes(Vec<u8>),
    Number(i64),
    Array(Vec<Reply>),
    Nil,
    Error(String),
}

impl Reply {
    pub(crate) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|error| error.to_string()),
            other => Err(format!("expected a text, got {other:?}")),
        }
    }

    pub(crate) fn number(&self) -> Result<u64, String> {
        match self {
            Self::Number(number) => u64::try_from(*number).map_err(|error| error.to_string()),
            other => {
                let text = other.text()?;
                let wrong = |_| format!("expected a number, got {text}");
                text.parse().map_err(wrong)
            }
        }
    }
}

/// How much of a request and its reply gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All of it.
    Nowhere,
    /// The request's first bytes, this many.
    Request(usize),
    /// The whole request, and the reply's first bytes, this many.
    Reply(usize),
}

/// Encodes a command.
pub(crate) fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

pub(crate) struct Servers {
    ports: [u16; 2],
    primary: usize,
    connections: [Option<BufReader<TcpStream>>; 2],
    /// Whether the replica is cut off from its primary and keeps its older data.
    has_copy: bool,
}

impl Servers {
    pub(crate) fn new(ports: &[u16]) -> Result<Self, String> {
        let &[one, other] = ports else {
            return Err("expected two ports".to_owned());
        };
        let mut servers = Self {
            ports: [one, other],
            primary: 0,
            connections: [None, None],
            has_copy: false,
        };
        servers.call(0, &[b"REPLICAOF", b"NO", b"ONE"])?;
        Ok(servers)
    }

    /// Sends bytes to the primary, over its own connection or over one that is cut.
    pub(crate) fn send(&mut self, bytes: &[u8], cut: Cut) -> Result<Option<Reply>, String> {
        let primary = self.primary;
        match cut {
            Cut::Nowhere => self.exchange(primary, bytes).map(Some),
            Cut::Request(sent) => {
                let mut stream = self.connect(primary)?;
                stream
                    .write_all(&bytes[..sent.min(bytes.len() - 1)])
                    .map_err(text)?;
                Ok(None)
            }
            Cut::Reply(read) => {
                let mut stream = self.connect(primary)?;
                stream.write_all(bytes).map_err(text)?;
                let mut some = vec![0; read];
                if read > 0 {
                    stream.read_exact(&mut some[..1]).map_err(text)?;
                    let _cut_short = stream.read(&mut some);
                }
                let _closed = stream.shutdown(Shutdown::Both);
                Ok(None)
            }
        }
    }

    /// Sends a command to the primary.
    pub(crate) fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, String> {
        self.call(self.primary, words)
    }

    /// Changes a setting of both servers; false if they do not know it.
    pub(crate) fn configure(&mut self, setting: &str, value: &str) -> Result<bool, String> {
        for server in [0, 1] {
            let words: [&[u8]; 4] = [b"CONFIG", b"SET", setting.as_bytes(), value.as_bytes()];
            if let Reply::Error(_) = self.exchange(server, &request(&words))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lets the replica catch up, and then cuts it off.
    pub(crate) fn copy(&mut self) -> Result<(), String> {
        let (replica, primary_port) = (1 - self.primary, self.ports[self.primary].to_string());
        self.call(
            replica,
            &[b"REPLICAOF", b"127.0.0.1", primary_port.as_bytes()],
        )?;
        let began = Instant::now();
        loop {
            let waited = self.ask(&[b"WAIT", b"1", b"200"])?.number()?;
            let info = self.call(replica, &[b"INFO", b"replication"])?;
            if waited == 1 && info.text()?.contains("master_link_status:up") {
                break;
            }
            if began.elapsed() > PATIENCE {
                return Err("the replica does not catch up".to_owned());
            }
        }
        // No server listens on port 1: the replica stays one, with the data that it has.
        self.call(replica, &[b"REPLICAOF", b"127.0.0.1", b"1"])?;
        self.has_copy = true;
        Ok(())
    }

    /// Marks the copy as unusable: what it lacks is lost for good, so it must not be promoted.
    pub(crate) fn forget_copy(&mut self) {
        self.has_copy = false;
    }

    /// Promotes the replica; false if there is no copy.
    pub(crate) fn fail_over(&mut self) -> Result<bool, String> {
        if !std::mem::take(&mut self.has_copy) {
            return Ok(false);
        }
        self.primary = 1 - self.primary;
        self.ask(&[b"REPLICAOF", b"NO", b"ONE"])?;
        Ok(true)
    }

    fn call(&mut self, server: usize, words: &[&[u8]]) -> Result<Reply, String> {
        match self.exchange(server, &request(words))? {
            Reply::Error(error) => Err(error),
            reply => Ok(reply),
        }
    }

    fn exchange(&mut self, server: usize, bytes: &[u8]) -> Result<Reply, String> {
        if self.connections[server].is_none() {
            self.connections[server] = Some(BufReader::new(self.connect(server)?));
        }
        let Some(connection) = &mut self.connections[server] else {
            return Err("not connected".to_owned());
        };
        connection.get_mut().write_all(bytes).map_err(text)?;
        read(connection).map_err(text)
    }

    fn connect(&self, server: usize) -> Result<TcpStream, String> {
        let stream = TcpStream::connect(("127.0.0.1", self.ports[server])).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        Ok(stream)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(error: io::Error) -> String {
    error.to_string()
}

fn read(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.trim_end();
    let wrong = || io::Error::other(format!("no reply: {line:?}"));
    let (kind, rest) = line.split_at_checked(1).ok_or_else(wrong)?;
    let number = || rest.parse::<i64>().map_err(|_| wrong());
    Ok(match kind {
        "+" => Reply::Text(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Number(number()?),
        "$" => match usize::try_from(number()?) {
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                from.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Reply::Bytes(bytes)
            }
            Err(_) => Reply::Nil,
        },
        "*" => match usize::try_from(number()?) {
            Ok(count) => Reply::Array((0..count).map(|_| read(from)).collect::<io::Result<_>>()?),
            Err(_) => Reply::Nil,
        },
        _ => return Err(wrong()),
    })
}

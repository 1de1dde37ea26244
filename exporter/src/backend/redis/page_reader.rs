//! Reads replies of `METRICS.EXPOSE … CURSOR` in two steps: the cursor of the next page, which comes
//! first, and the page.
//!
//! Source: RESP2 in Redis' *protocol specification*. Such a reply is an array of two bulk strings:
//! `*2\r\n$<length>\r\n<cursor>\r\n$<length>\r\n<page>\r\n`. Every other reply ends a
//! connection of pages (`pages`), so nothing else is understood here.

use std::io::{Error, ErrorKind};

use bytes::BufMut;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// Size of the buffer for the lines of a reply, in bytes. A page does not pass through it.
const BUFFER: usize = 4 * 1024;
/// Maximum length of a line and of a cursor, in bytes. A cursor holds a family's name, of 512 bytes
/// at most, and some numbers.
const MAX_LINE: usize = 2 * 1024;
/// Maximum size of a page, in bytes: more than a page of the largest size and the largest series.
const MAX_PAGE: usize = 64 * 1024 * 1024;

/// A stream of replies.
#[derive(Debug)]
pub(super) struct PageReader<S> {
    stream: BufReader<S>,
}

/// What precedes a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageHead {
    /// The cursor of the next page; `0` after the last.
    pub(super) next: Vec<u8>,
    /// The size of the page, in bytes.
    pub(super) bytes: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> PageReader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream: BufReader::with_capacity(BUFFER, stream),
        }
    }

    pub(super) async fn send(&mut self, command: &[u8]) -> Result<(), Error> {
        self.stream.write_all(command).await?;
        self.stream.flush().await
    }

    /// Reads a status reply, `+OK`.
    pub(super) async fn ok(&mut self) -> Result<(), Error> {
        match self.line().await?.first() {
            Some(b'+') => Ok(()),
            _ => Err(unexpected("a status")),
        }
    }

    /// Reads the beginning of a reply, up to the page.
    pub(super) async fn head(&mut self) -> Result<PageHead, Error> {
        if self.line().await? != b"*2" {
            return Err(unexpected("a cursor and a page"));
        }
        let length = self.length(MAX_LINE).await?;
        let next = self.bulk(length).await?;
        let bytes = self.length(MAX_PAGE).await?;
        Ok(PageHead { next, bytes })
    }

    /// Reads a page of that size, after its head.
    pub(super) async fn page(&mut self, bytes: usize) -> Result<Vec<u8>, Error> {
        self.bulk(bytes).await
    }

    /// Reads the length of a bulk string.
    async fn length(&mut self, most: usize) -> Result<usize, Error> {
        let line = self.line().await?;
        let digits = line.strip_prefix(b"$").unwrap_or_default();
        let digits = std::str::from_utf8(digits).ok();
        digits
            .and_then(|digits| digits.parse().ok())
            .filter(|length| *length <= most)
            .ok_or_else(|| unexpected("the length of a string"))
    }

    /// Reads that many bytes and the end of the line behind them, straight into their place.
    async fn bulk(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        const END: &[u8] = b"\r\n";
        let whole = length + END.len();
        let mut bytes = Vec::with_capacity(whole);
        while bytes.len() < whole {
            let missing = whole - bytes.len();
            let mut rest = (&mut bytes).limit(missing);
            if self.stream.read_buf(&mut rest).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        if !bytes.ends_with(END) {
            return Err(unexpected("the end of a string"));
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Reads a line; returns it without its end.
    async fn line(&mut self) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(MAX_LINE as u64);
        limited.read_until(b'\n', &mut line).await?;
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(text.to_vec()),
            None if line.len() < MAX_LINE => Err(ErrorKind::UnexpectedEof.into()),
            None => Err(unexpected("the end of a line")),
        }
    }
}

fn unexpected(expected: &str) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("a reply without {expected}"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::duplex;

    use super::*;

    /// A cursor and a page.
    type Reply = (Vec<u8>, Vec<u8>);

    /// Returns the cursors and pages of as many replies as there are, and how the last one failed.
    /// The bytes arrive in parts of these sizes.
    fn read(bytes: &[u8], sizes: &[usize]) -> (Vec<Reply>, ErrorKind) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let (mut server, client) = duplex(1 << 20);
            let mut reader = PageReader::new(client);
            let sending = async {
                let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
                while !rest.is_empty() {
                    let size = (*sizes.next().unwrap()).min(rest.len());
                    server.write_all(&rest[..size]).await.unwrap();
                    rest = &rest[size..];
                    tokio::task::yield_now().await;
                }
                drop(server);
            };
            let reading = async {
                let mut replies = Vec::new();
                loop {
                    let page = async {
                        let head = reader.head().await?;
                        let page = reader.page(head.bytes).await?;
                        Ok::<_, Error>((head.next, page))
                    };
                    match page.await {
                        Ok(reply) => replies.push(reply),
                        Err(error) => return (replies, error.kind()),
                    }
                }
            };
            tokio::join!(sending, reading).1
        })
    }

    fn reply(next: &[u8], page: &[u8]) -> Vec<u8> {
        let mut bytes = format!("*2\r\n${}\r\n", next.len()).into_bytes();
        bytes.extend_from_slice(next);
        bytes.extend_from_slice(format!("\r\n${}\r\n", page.len()).as_bytes());
        bytes.extend_from_slice(page);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn replies_are_read_however_they_are_cut(
            replies in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 1..300), prop::collection::vec(any::<u8>(), 0..9000)),
                1..5,
            ),
            sizes in prop::collection::vec(prop_oneof![1..8_usize, 1..10_000_usize], 1..10),
        ) {
            let bytes = replies.iter().map(|(next, page)| reply(next, page)).collect::<Vec<_>>();
            prop_assert_eq!(read(&bytes.concat(), &sizes), (replies, ErrorKind::UnexpectedEof));
        }

        #[test]
        fn a_reply_that_ends_early_is_no_page(
            next in prop::collection::vec(any::<u8>(), 1..30),
            page in prop::collection::vec(any::<u8>(), 0..50),
            size in 1..60_usize,
        ) {
            let whole = reply(&next, &page);
            for cut in 0..whole.len() {
                let (replies, error) = read(&whole[..cut], &[size]);
                prop_assert_eq!((replies.len(), error), (0, ErrorKind::UnexpectedEof), "cut at {}", cut);
            }
        }

        #[test]
        fn other_bytes_are_no_page(bytes in "[*$:+-]?-?[0-9]{0,30}\r?\n?(\\$[0-9]{1,3}\r\n.{0,9}){0,2}") {
            let (replies, _) = read(bytes.as_bytes(), &[7]);
            for (next, page) in &replies {
                prop_assert!(bytes.as_bytes().starts_with(&reply(next, page)));
            }
        }
    }

    #[test]
    fn a_reply_that_is_no_page_is_refused() {
        let long = format!("*2\r\n$1\r\n0\r\n${}\r\n", MAX_PAGE + 1);
        let line = "x".repeat(3 * MAX_LINE);
        for wrong in [
            "-STALECURSOR start again\r\n",
            "$-1\r\n",
            "*3\r\n$1\r\n0\r\n$0\r\n\r\n$0\r\n\r\n",
            "*2\r\n:1\r\n$0\r\n\r\n",
            "*2\r\n$-1\r\n$0\r\n\r\n",
            "*2\r\n$1\r\n00\r\n$0\r\n\r\n",
            "*2\r\n$1\r\n0\r\n$2\r\nabc\r\n",
            &long,
            &line,
        ] {
            let found = read(wrong.as_bytes(), &[3]);
            assert_eq!(found, (Vec::new(), ErrorKind::InvalidData), "{wrong:?}");
        }
    }
}

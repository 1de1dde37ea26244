//! A connection with time limits.
//!
//! There are three kinds of silence, each with its own limit: before a request (a scraper that
//! comes back every minute keeps its connection), within the head of a request (a client that sends
//! a byte now and then, to hold connections), and within a response (a client that does not read
//! it).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::ending::{Ending, Socket};

/// Time limit between two requests.
const IDLE: Duration = Duration::from_mins(5);
/// Time limit from a request's first byte to the response's: the head is read, and the first page
/// rendered.
const REQUEST: Duration = Duration::from_secs(20);
/// Time limit between two written bytes.
const WRITE: Duration = Duration::from_secs(30);

/// A stream with the limits above.
pub(super) struct PatientStream<S> {
    stream: S,
    ending: Ending,
    resets: bool,
    in_request: bool,
    reading: Timer,
    writing: Timer,
}

impl<S> PatientStream<S> {
    /// A new connection is not idle: it should send a request.
    pub(super) fn new(stream: S, ending: Ending) -> Self {
        let mut reading = Timer::default();
        reading.start(REQUEST);
        Self {
            stream,
            ending,
            resets: false,
            in_request: true,
            reading,
            writing: Timer::default(),
        }
    }

    /// The first byte after a response begins a request; later bytes do not extend the limit.
    fn has_read(&mut self) {
        if !self.in_request {
            self.in_request = true;
            self.reading.start(REQUEST);
        }
    }

    fn has_written(
        &mut self,
        result: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.in_request = false;
            self.reading.start(IDLE);
            self.writing.stop();
            return result;
        }
        if !self.writing.is_running() {
            self.writing.start(WRITE);
        }
        self.writing.poll_expired(cx).map(Err)
    }
}

impl<S: Socket> PatientStream<S> {
    /// Called before the first byte of a response whose end is that of the connection.
    fn begin(&mut self) {
        if !self.resets && self.ending.must_reset() {
            self.resets = true;
            self.stream.resets(true);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            if buffer.filled().len() > before {
                self.has_read();
            }
            return Poll::Ready(result);
        }
        self.reading.poll_expired(cx).map(Err)
    }
}

impl<S: Socket + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.has_written(result, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.has_written(result, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Called when everything has been written.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.resets && self.ending.may_end() {
            self.resets = false;
            self.stream.resets(false);
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Measures one silence.
#[derive(Default)]
struct Timer {
    until: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn start(&mut self, limit: Duration) {
        self.until = Some(Instant::now() + limit);
    }

    fn stop(&mut self) {
        self.until = None;
    }

    fn is_running(&self) -> bool {
        self.until.is_some()
    }

    /// Returns pending while there is time left; for a stream that is itself pending.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(until) = self.until else {
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{advance, pause};

    use super::*;

    impl Socket for tokio::io::DuplexStream {
        fn resets(&self, _resets: bool) {}
    }

    fn timed_out<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test]
    async fn a_head_that_drips_in_gains_no_time() {
        pause();
        let started = Instant::now();
        let (mut client, server) = duplex(64);
        let mut server = PatientStream::new(server, Ending::default());
        for _ in 0..3 {
            client.write_all(b"G").await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'G');
            advance(Duration::from_secs(5)).await;
        }
        assert!(timed_out(server.read_u8().await));
        assert_eq!(started.elapsed().as_secs(), REQUEST.as_secs());
    }

    #[tokio::test]
    async fn after_a_response_a_connection_may_be_idle() {
        pause();
        let (mut client, server) = duplex(64);
        let mut server = PatientStream::new(server, Ending::default());
        server.write_all(b"page").await.unwrap();
        advance(Duration::from_mins(2)).await;
        client.write_all(b"G").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'G');
        server.write_all(b"page").await.unwrap();
        let answered = Instant::now();
        assert!(timed_out(server.read_u8().await));
        assert_eq!(answered.elapsed().as_secs(), IDLE.as_secs());
    }

    #[tokio::test]
    async fn a_scraper_that_does_not_read_is_dropped() {
        pause();
        let started = Instant::now();
        let (_client, server) = duplex(4);
        let mut server = PatientStream::new(server, Ending::default());
        assert!(timed_out(server.write_all(b"a long page").await));
        assert_eq!(started.elapsed().as_secs(), WRITE.as_secs());
    }
}

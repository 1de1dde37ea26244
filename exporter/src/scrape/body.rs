//! Response bodies: a text, or pages as they are read.
//!
//! The task that writes pages to the socket also fetches them, without a task or a queue in
//! between. While one page is compressed and written, Redis renders the next. For this the page is
//! held back for a few turns of the scheduler, in which the request for the next one goes out:
//! first the task that fetches for all readers runs, then the one that keeps the connection to
//! Redis. Otherwise the page would be written first while Redis, on a core or a machine of its own,
//! is idle (a sixth of the time of a scrape of 100,000 series).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Outcome;
use super::encoder::Encoder;
use super::rendering::Reader;
use crate::backend::BackendError;
use metrics_agent::ScrapeResult;

/// Number of times that other tasks may run until the next page is requested. Once each would do,
/// but hyper requests more than one frame in one turn of its own. A turn costs a poll.
const TURNS: u8 = 4;

/// The body of every response.
pub(crate) enum PageBody {
    /// The whole body.
    Whole(Option<Bytes>),
    /// Pages that are sent as they are read.
    Pages(Box<Pages>),
    /// No body, for HEAD, in place of one whose length is unknown.
    Unknown,
}

/// The reason why a page is incomplete.
#[derive(Debug, thiserror::Error)]
#[error("was broken off: {0}")]
pub(crate) struct IncompletePage(BackendError);

/// The pages after the first.
pub(crate) struct Pages {
    first: Option<Bytes>,
    /// An unencoded page, and the number of turns for which it is held back.
    held: Option<(Bytes, u8)>,
    next: Next,
    /// `None` once the stream is finished.
    encoder: Option<Encoder>,
    deadline: Pin<Box<Sleep>>,
    /// `None` once the end has been counted.
    outcome: Option<Outcome>,
}

type FetchResult = (Reader, Result<Option<Bytes>, BackendError>);

enum Next {
    Coming(Pin<Box<dyn Future<Output = FetchResult> + Send>>),
    Here(FetchResult),
    None,
}

impl Pages {
    /// `first` is the part of the stream that was read already.
    pub(super) fn new(
        first: Bytes,
        reader: Reader,
        encoder: Encoder,
        deadline: Instant,
        outcome: Outcome,
    ) -> Self {
        Self {
            first: Some(first),
            held: None,
            next: fetch(reader),
            encoder: Some(encoder),
            deadline: Box::pin(sleep_until(deadline)),
            outcome: Some(outcome),
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BackendError>> {
        if let Some(first) = self.first.take()
            && !first.is_empty()
        {
            self.fetch_ahead(cx);
            return Poll::Ready(Ok(Some(first)));
        }
        loop {
            if let Some((page, turns)) = self.held.take() {
                self.fetch_ahead(cx);
                if turns > 0 && matches!(self.next, Next::Coming(_)) {
                    self.held = Some((page, turns - 1));
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let Some(encoder) = &mut self.encoder else {
                    return Poll::Ready(Ok(None));
                };
                let bytes = encoder.encode(page)?;
                if !bytes.is_empty() {
                    return Poll::Ready(Ok(Some(bytes)));
                }
            }
            let (reader, fetched) = ready!(self.poll_next(cx))?;
            if let Some(page) = fetched? {
                self.held = Some((page, TURNS));
                self.next = fetch(reader);
                continue;
            }
            let Some(encoder) = self.encoder.take() else {
                return Poll::Ready(Ok(None));
            };
            self.next = Next::Here((reader, Ok(None)));
            let bytes = encoder.finish()?;
            if !bytes.is_empty() {
                return Poll::Ready(Ok(Some(bytes)));
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<FetchResult, BackendError>> {
        self.fetch_ahead(cx);
        // The deadline holds even if pages come quickly: the reader is too slow.
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(BackendError::Deadline));
        }
        match std::mem::replace(&mut self.next, Next::None) {
            Next::Here(fetched) => Poll::Ready(Ok(fetched)),
            coming => {
                self.next = coming;
                Poll::Pending
            }
        }
    }

    /// Makes sure that the next page is requested.
    fn fetch_ahead(&mut self, cx: &mut Context<'_>) {
        if let Next::Coming(fetching) = &mut self.next
            && let Poll::Ready(fetched) = fetching.as_mut().poll(cx)
        {
            self.next = Next::Here(fetched);
        }
    }
}

fn fetch(mut reader: Reader) -> Next {
    Next::Coming(Box::pin(async move {
        let page = reader.next().await;
        (reader, page)
    }))
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            tracing::warn!(
                "the scrape of {} was broken off by the scraper",
                outcome.path
            );
            outcome.end(ScrapeResult::BrokenOff);
        }
    }
}

impl From<String> for PageBody {
    fn from(text: String) -> Self {
        Self::Whole(Some(text.into()))
    }
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = IncompletePage;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncompletePage>>> {
        let pages = match &mut *self {
            Self::Whole(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Self::Unknown => return Poll::Ready(None),
            Self::Pages(pages) => pages,
        };
        let frame = match ready!(pages.poll_bytes(cx)) {
            Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Ok(None) => Ok(()),
            Err(error) => Err(IncompletePage(error)),
        };
        if let Some(outcome) = pages.outcome.take() {
            match &frame {
                Ok(()) => outcome.end(ScrapeResult::Complete),
                Err(reason) => {
                    tracing::warn!("the scrape of {} {reason}", outcome.path);
                    outcome.end(ScrapeResult::BrokenOff);
                }
            }
        }
        Poll::Ready(frame.err().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Pages(_) | Self::Unknown => SizeHint::default(),
        }
    }
}

//! One scrape: pages of a registry as they come, compressed if asked, into a response body.
//!
//! # How it works
//!
//! The head of the response goes out after the first page, so that what is wrong at the start is a
//! 503. The other pages are fetched by a task that is one page ahead of the scraper, so memory is
//! flat however large the registry. What goes wrong later breaks the connection off: a page that is
//! not whole never looks whole. Scrapes of the same moment share their pages (`rendering`).

mod encoder;
mod rendering;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use metrics_model::{Epoch, ExposeRequest};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::backend::{Backend, BackendError};
use crate::negotiate::Encoding;
use crate::own_metrics::{OwnMetrics, ScrapeResult};
use crate::settings::Scope;
use encoder::Encoder;
use rendering::Reader;
pub use rendering::Renderings;

/// The sample that names the shared registry a page comes from, so that a rule can tell when one
/// Prometheus scrapes the same registry twice.
const REGISTRY_INFO: &str = "gunicorn_exporter_registry_info";

/// What is asked for.
pub(crate) struct Scrape {
    pub(crate) scope: Scope,
    pub(crate) backend: Backend,
    /// Without a cursor.
    pub(crate) request: ExposeRequest,
    pub(crate) encoding: Encoding,
    pub(crate) deadline: Instant,
    /// The page shows what was flushed just before.
    pub(crate) shows_flushed: bool,
    /// Keep the whole page back until it is complete: for HTTP/1.0, where the end of the connection
    /// is the end of the page, however it came about.
    pub(crate) whole: bool,
    /// Nothing but the first page's fate matters: for HEAD.
    pub(crate) head_only: bool,
    pub(crate) outcome: Outcome,
}

impl Scrape {
    /// The body, once its first page is there.
    pub(crate) async fn start(self, renderings: &Renderings) -> Result<PageBody, BackendError> {
        let Self {
            deadline, outcome, ..
        } = self;
        let stream = PageStream {
            reader: renderings.join(self.scope, &self.backend, &self.request, self.shows_flushed),
            encoder: Encoder::new(self.encoding)?,
        };
        match timeout_at(deadline, stream.start(self.whole)).await {
            Ok(Ok((first, None))) => {
                outcome.end(ScrapeResult::Complete);
                Ok(PageBody::Whole(Some(first)))
            }
            Ok(Ok((first, Some(rest)))) => {
                let (sender, receiver) = mpsc::channel(1);
                if self.head_only {
                    outcome.end(ScrapeResult::Complete);
                } else {
                    tokio::spawn(rest.send(first, sender, deadline, outcome));
                }
                Ok(PageBody::Pages(receiver))
            }
            Ok(Err(error)) => {
                outcome.end(ScrapeResult::Unavailable);
                Err(error)
            }
            Err(_) => {
                outcome.end(ScrapeResult::Unavailable);
                Err(BackendError::Deadline)
            }
        }
    }
}

/// Counts how a scrape ends, once.
pub(crate) struct Outcome {
    pub(crate) own: Arc<OwnMetrics>,
    pub(crate) path: &'static str,
    pub(crate) started: Instant,
}

impl Outcome {
    fn end(self, result: ScrapeResult) {
        self.own.scraped(self.path, result, self.started.elapsed());
    }
}

/// Pages and their encoding.
struct PageStream {
    reader: Reader,
    encoder: Encoder,
}

impl PageStream {
    /// The first pages and what is to follow; `None` if that was all, as it is for most
    /// applications.
    async fn start(mut self, whole: bool) -> Result<(Bytes, Option<Self>), BackendError> {
        let mut first = Vec::new();
        while let Some(page) = self.reader.next().await? {
            let is_last = self.reader.is_at_end();
            let encoded = self.encoder.encode(page)?;
            if first.is_empty() && is_last && matches!(self.encoder, Encoder::Identity) {
                return Ok((encoded, None));
            }
            if first.is_empty() && !whole && !is_last {
                return Ok((encoded, Some(self)));
            }
            first.extend_from_slice(&encoded);
        }
        first.extend_from_slice(&self.encoder.finish()?);
        Ok((first.into(), None))
    }

    async fn send(
        mut self,
        first: Bytes,
        sender: mpsc::Sender<Chunk>,
        deadline: Instant,
        outcome: Outcome,
    ) {
        let result = timeout_at(deadline, async {
            send(&sender, first).await?;
            while let Some(page) = self.reader.next().await.map_err(BrokenOff::Backend)? {
                let page = self.encoder.encode(page).map_err(BrokenOff::Backend)?;
                send(&sender, page).await?;
            }
            let end = self.encoder.finish().map_err(BrokenOff::Backend)?;
            send(&sender, end).await?;
            sender.send(Chunk::End).await.map_err(|_| BrokenOff::Gone)
        });
        let result = result
            .await
            .unwrap_or(Err(BrokenOff::Backend(BackendError::Deadline)));
        match result {
            Ok(()) => outcome.end(ScrapeResult::Complete),
            Err(reason) => {
                tracing::warn!("the scrape of {} {reason}", outcome.path);
                outcome.end(ScrapeResult::BrokenOff);
            }
        }
    }
}

async fn send(sender: &mpsc::Sender<Chunk>, bytes: Bytes) -> Result<(), BrokenOff> {
    if bytes.is_empty() {
        return Ok(());
    }
    sender
        .send(Chunk::Bytes(bytes))
        .await
        .map_err(|_| BrokenOff::Gone)
}

/// What precedes the first page of a shared registry: which one it is, if the scraper wants to see
/// that.
///
/// A user of Redis that may run EXPOSE and nothing else is a good practice, and gets its page
/// without these samples.
async fn registry_info(
    backend: &Backend,
    request: &ExposeRequest,
) -> Result<Vec<u8>, BackendError> {
    let names = &request.names;
    let is_wanted = names.is_empty() || names.iter().any(|name| name == REGISTRY_INFO);
    let Backend::Redis(redis) = backend else {
        return Ok(Vec::new());
    };
    if !is_wanted {
        return Ok(Vec::new());
    }
    match redis.epochs().await {
        Ok(epochs) => Ok(registry_samples(&epochs).into_bytes()),
        Err(error @ BackendError::NoPermission { .. }) => {
            tracing::debug!("{REGISTRY_INFO} is left out: {error}");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn registry_samples(epochs: &[Epoch]) -> String {
    if epochs.is_empty() {
        return String::new();
    }
    let samples = epochs
        .iter()
        .map(|epoch| format!("{REGISTRY_INFO}{{registry=\"{epoch}\"}} 1\n"));
    format!(
        "# HELP {REGISTRY_INFO} The shared registry that this page comes from\n\
         # TYPE {REGISTRY_INFO} gauge\n\
         {}",
        samples.collect::<String>()
    )
}

/// The body of every response.
pub(crate) enum PageBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// As it comes.
    Pages(mpsc::Receiver<Chunk>),
}

/// A part of a page, or its proper end: a channel that closes without it was broken off.
pub(crate) enum Chunk {
    Bytes(Bytes),
    End,
}

/// Why a page is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    #[error("was broken off: {0}")]
    Backend(BackendError),
    #[error("was broken off by the scraper")]
    Gone,
    #[error("was broken off")]
    Unfinished,
}

impl From<String> for PageBody {
    fn from(text: String) -> Self {
        Self::Whole(Some(text.into()))
    }
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pages(receiver) => receiver.poll_recv(cx).map(|chunk| match chunk {
                Some(Chunk::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
                Some(Chunk::End) => None,
                None => Some(Err(BrokenOff::Unfinished)),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Pages(_) => SizeHint::default(),
        }
    }
}

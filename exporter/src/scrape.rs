//! One scrape: pages of a registry as they come, compressed if asked, into a response body.
//!
//! # How it works
//!
//! The head of the response goes out after the first page, so that what is wrong at the start is a
//! 503. The other pages are fetched by a task that is one page ahead of the scraper, so memory is
//! flat however large the registry. What goes wrong later breaks the connection off: a page that is
//! not whole never looks whole.

use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Body, Frame, SizeHint};
use metrics_model::{Epoch, ExposeRequest, Format};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::backend::{Backend, BackendError};
use crate::own_metrics::{OwnMetrics, ScrapeResult};

/// How often a scrape starts again before its first page is sent.
const RESTARTS: u8 = 3;
/// The sample that names the shared registry a page comes from, so that a rule can tell when one
/// Prometheus scrapes the same registry twice.
const REGISTRY_INFO: &str = "gunicorn_exporter_registry_info";

/// What is asked for.
pub(crate) struct Scrape {
    pub(crate) backend: Backend,
    pub(crate) format: Format,
    pub(crate) names: Vec<String>,
    pub(crate) gzip: bool,
    pub(crate) deadline: Instant,
    /// Keep the whole page back until it is complete: for HTTP/1.0, where the end of the connection
    /// is the end of the page, however it came about.
    pub(crate) whole: bool,
    /// Nothing but the first page's fate matters: for HEAD.
    pub(crate) head_only: bool,
    pub(crate) outcome: Outcome,
}

impl Scrape {
    /// The body, once its first page is there.
    pub(crate) async fn start(self) -> Result<PageBody, BackendError> {
        let Self {
            backend,
            format,
            names,
            gzip,
            deadline,
            whole,
            head_only,
            outcome,
        } = self;
        let pages = Pages {
            backend,
            request: ExposeRequest {
                format,
                names,
                cursor: Some(b"0".to_vec()),
                ..ExposeRequest::default()
            },
            sent: false,
            done: false,
        };
        let stream = PageStream {
            pages,
            encoder: Encoder::new(gzip),
        };
        match timeout_at(deadline, stream.start(whole)).await {
            Ok(Ok((first, None))) => {
                outcome.end(ScrapeResult::Complete);
                Ok(PageBody::Whole(Some(first)))
            }
            Ok(Ok((first, Some(rest)))) => {
                let (sender, receiver) = mpsc::channel(1);
                if head_only {
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
    pages: Pages,
    encoder: Encoder,
}

impl PageStream {
    /// The first page, preceded by the registry's name, and what is to follow; `None` if that was
    /// all, as it is for most applications.
    async fn start(mut self, whole: bool) -> Result<(Bytes, Option<Self>), BackendError> {
        let (epochs, page) = tokio::join!(self.pages.epochs(), self.pages.next());
        let page = page?.unwrap_or_default();
        let mut first = Vec::new();
        let info = registry_info(&epochs?);
        first.extend_from_slice(&self.encoder.encode(info.into_bytes())?);
        first.extend_from_slice(&self.encoder.encode(page)?);
        while whole && let Some(page) = self.pages.next().await? {
            first.extend_from_slice(&self.encoder.encode(page)?);
        }
        if !self.pages.done {
            return Ok((first.into(), Some(self)));
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
            while let Some(page) = self.pages.next().await.map_err(BrokenOff::Backend)? {
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

/// The run of pages that make one whole.
struct Pages {
    backend: Backend,
    request: ExposeRequest,
    sent: bool,
    done: bool,
}

impl Pages {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, BackendError> {
        let mut restarts = 0;
        while !self.done {
            match self.backend.page(&self.request).await {
                Ok(page) => {
                    self.sent = true;
                    self.done = page.next.is_none();
                    self.request.cursor = page.next.map(String::into_bytes);
                    return Ok(Some(page.body));
                }
                Err(BackendError::StaleCursor) if !self.sent && restarts < RESTARTS => {
                    restarts += 1;
                    self.request.cursor = Some(b"0".to_vec());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The epochs of a shared registry's shards, if the scraper wants to see them.
    ///
    /// A user of Redis that may run EXPOSE and nothing else is a good practice, and gets its page
    /// without these samples.
    fn epochs(&self) -> impl Future<Output = Result<Vec<Epoch>, BackendError>> + use<> {
        let names = &self.request.names;
        let wanted = names.is_empty() || names.iter().any(|name| name == REGISTRY_INFO);
        let backend = self.backend.clone();
        async move {
            match backend {
                Backend::Redis(redis) if wanted => match redis.epochs().await {
                    Err(error @ BackendError::NoPermission { .. }) => {
                        tracing::debug!("{REGISTRY_INFO} is left out: {error}");
                        Ok(Vec::new())
                    }
                    epochs => epochs,
                },
                Backend::Redis(_) | Backend::Embedded(_) => Ok(Vec::new()),
            }
        }
    }
}

fn registry_info(epochs: &[Epoch]) -> String {
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

/// Bytes on their way out.
enum Encoder {
    Identity,
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl Encoder {
    fn new(gzip: bool) -> Self {
        if gzip {
            // The fastest level: text of metrics repeats itself so much that the others gain little.
            Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::fast())))
        } else {
            Self::Identity
        }
    }

    fn encode(&mut self, page: Vec<u8>) -> Result<Bytes, BackendError> {
        match self {
            Self::Identity => Ok(page.into()),
            Self::Gzip(encoder) => {
                encoder
                    .write_all(&page)
                    .map_err(|_| BackendError::Compression)?;
                Ok(std::mem::take(encoder.get_mut()).into())
            }
        }
    }

    fn finish(self) -> Result<Bytes, BackendError> {
        match self {
            Self::Identity => Ok(Bytes::new()),
            Self::Gzip(encoder) => encoder
                .finish()
                .map(Bytes::from)
                .map_err(|_| BackendError::Compression),
        }
    }
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

//! One scrape: pages of a registry as they come, compressed if asked, into a response body.
//!
//! # How it works
//!
//! The head of the response goes out after the first page, so that what is wrong at the start is a
//! 503. The other pages are fetched one ahead of the scraper (`body`), so memory is flat however large
//! the registry. What goes wrong later breaks the connection off: a page that is
//! not whole never looks whole. Scrapes of the same moment share their pages (`rendering`).

mod body;
mod encoder;
mod rendering;

use std::sync::Arc;

use bytes::Bytes;
use metrics_model::{Declaration, Epoch, ExposeRequest, GaugeWrite, Labels, Limits, Registry};
use metrics_store::catalogue::REGISTRY_INFO;
use tokio::time::{Instant, timeout_at};

use crate::backend::{Backend, BackendError};
use crate::negotiate::Encoding;
use crate::own_metrics::{OwnMetrics, ScrapeResult};
use crate::settings::Scope;
pub(crate) use body::PageBody;
use body::Pages;
use encoder::Encoder;
use rendering::Reader;
pub use rendering::Renderings;

/// How an `OpenMetrics` page ends.
const END: &[u8] = b"# EOF\n";

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
        let Self { deadline, .. } = self;
        let begun = begin(
            renderings.join(self.scope, &self.backend, &self.request, self.shows_flushed),
            Encoder::new(self.encoding)?,
            self.whole,
        );
        match timeout_at(deadline, begun).await {
            Ok(Ok(Begun::Whole(page))) => {
                self.outcome.end(ScrapeResult::Complete);
                Ok(PageBody::Whole(Some(page)))
            }
            Ok(Ok(Begun::Pages(..))) if self.head_only => {
                self.outcome.end(ScrapeResult::Complete);
                Ok(PageBody::Unknown)
            }
            Ok(Ok(Begun::Pages(first, reader, encoder))) => {
                let pages = Pages::new(first, reader, encoder, deadline, self.outcome);
                Ok(PageBody::Pages(Box::new(pages)))
            }
            Ok(Err(error)) => {
                self.outcome.end(ScrapeResult::Unavailable);
                Err(error)
            }
            Err(_) => {
                self.outcome.end(ScrapeResult::Unavailable);
                Err(BackendError::Deadline)
            }
        }
    }
}

/// What there is of a stream after its first page.
enum Begun {
    /// That was all, as it is for most applications.
    Whole(Bytes),
    Pages(Bytes, Reader, Encoder),
}

async fn begin(
    mut reader: Reader,
    mut encoder: Encoder,
    whole: bool,
) -> Result<Begun, BackendError> {
    let mut bytes = Vec::new();
    while let Some(page) = reader.next().await? {
        let is_last = reader.is_at_end();
        let encoded = encoder.encode(page)?;
        if !whole && !is_last {
            return Ok(Begun::Pages(encoded, reader, encoder));
        }
        if bytes.is_empty() && is_last && matches!(encoder, Encoder::Identity) {
            return Ok(Begun::Whole(encoded));
        }
        bytes.extend_from_slice(&encoded);
    }
    bytes.extend_from_slice(&encoder.finish()?);
    Ok(Begun::Whole(bytes.into()))
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
    let is_wanted = names.is_empty() || names.iter().any(|name| name == REGISTRY_INFO.name);
    let Backend::Redis(redis) = backend else {
        return Ok(Vec::new());
    };
    if !is_wanted {
        return Ok(Vec::new());
    }
    match redis.epochs().await {
        Ok(epochs) => registry_samples(&epochs, request),
        Err(error @ BackendError::NoPermission { .. }) => {
            tracing::debug!("{} is left out: {error}", REGISTRY_INFO.name);
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Rendered as all others are, in whatever format, from a registry that has nothing else.
fn registry_samples(epochs: &[Epoch], request: &ExposeRequest) -> Result<Vec<u8>, BackendError> {
    if epochs.is_empty() {
        return Ok(Vec::new());
    }
    let limits = Limits::default();
    let mut registry = Registry::new(Epoch(0), limits, 0);
    let stamp = registry.stamp(0, &limits, false);
    // What is written here is neither too much nor against any rule.
    let written = registry.declare(&stamp, &REGISTRY_INFO.spec(), &Declaration::default());
    debug_assert_eq!(written, Ok(()));
    for epoch in epochs {
        let epoch = epoch.to_string();
        let Ok(labels) = Labels::new([("registry", epoch.as_str())]) else {
            continue;
        };
        let write = GaugeWrite {
            family: REGISTRY_INFO.name,
            labels: &labels,
            value: 1.0,
            mode: None,
            writer: b"",
            lease_ms: None,
            ttl_ms: None,
        };
        let written = registry.set(&stamp, &write);
        debug_assert_eq!(written, Ok(1.0));
    }
    let whole = ExposeRequest {
        cursor: None,
        ..request.clone()
    };
    let mut page = registry.expose(0, &whole)?.body;
    if page.ends_with(END) {
        page.truncate(page.len() - END.len());
    }
    Ok(page)
}

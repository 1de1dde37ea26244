//! One scrape: streams pages of a registry, compressed on request, into a response body.
//!
//! # How it works
//!
//! The head of the response is sent after the first page, so that an error up to then becomes a
//! 503. The other pages are fetched one ahead of the scraper (`body`), so memory does not grow with
//! the registry. A later error breaks the connection off, so that an incomplete page never looks
//! complete. Simultaneous scrapes share their pages (`rendering`).

mod body;
mod encoder;
mod moved;
mod parts;
mod rendering;

use std::sync::Arc;

use bytes::Bytes;
use metrics_model::{
    Declaration, Epoch, ExposeRequest, GaugeWrite, Labels, Limits, REJECTED_SAMPLES, Registry,
};
use metrics_store::catalogue::{Described, REGISTRY_INFO, REGISTRY_MISSING};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::backend::{Backend, BackendError, Info};
use crate::negotiate::Encoding;
pub(crate) use body::PageBody;
use body::Pages;
use encoder::Encoder;
use metrics_agent::now_ms;
use metrics_agent::{OwnMetrics, ScrapeResult};
use metrics_settings::Scope;
use rendering::Reader;
pub use rendering::Renderings;

/// The parameters of a scrape.
pub(crate) struct Scrape {
    pub(crate) scope: Scope,
    pub(crate) backend: Backend,
    /// The request, without a cursor.
    pub(crate) request: ExposeRequest,
    pub(crate) encoding: Encoding,
    pub(crate) deadline: Instant,
    /// Whether the instance was flushed just before, and the page must show it.
    pub(crate) shows_flushed: bool,
    /// How much of the page is kept back until it is complete.
    pub(crate) keep: HoldBack,
    /// For HEAD: only whether the first page succeeds matters.
    pub(crate) head_only: bool,
    pub(crate) outcome: Outcome,
}

/// How much of a page is kept back, so that the response has a length, or nothing is sent of a page
/// that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldBack {
    /// Nothing: each part is sent as it is read.
    Nothing,
    /// A page of usual size, for HTTP/1.0, where only the length tells whether a page is complete.
    /// The end of the connection tells it for larger pages, and for many at once
    /// (`server/ending.rs`).
    Usual,
    /// The whole page, of any size.
    All,
}

/// Maximum size of a page that is kept back for HTTP/1.0, in bytes.
const USUAL_BYTES: usize = 2 * 1024 * 1024;
/// Maximum size of all of them together, in KiB.
const KEPT_KIB: usize = 16 * 1024;

impl Scrape {
    /// Returns the body, once the first page is there.
    pub(crate) async fn start(self, renderings: &Renderings) -> Result<PageBody, BackendError> {
        let Self {
            deadline, scope, ..
        } = self;
        let begun = begin(
            renderings.join(self.scope, &self.backend, &self.request, self.shows_flushed),
            Encoder::new(self.encoding)?,
            PageHead::new(self.keep, renderings),
        );
        let begun = timeout_at(deadline, begun).await;
        match &begun {
            Ok(Ok(_)) => renderings.has_answered(scope),
            Ok(Err(_)) | Err(_) => {
                renderings.has_failed(scope, now_ms());
            }
        }
        match begun {
            Ok(Ok(FirstPart::Whole(page))) => {
                self.outcome.end(ScrapeResult::Complete);
                Ok(PageBody::Whole(Some(page)))
            }
            Ok(Ok(FirstPart::Pages(..))) if self.head_only => {
                self.outcome.end(ScrapeResult::Complete);
                Ok(PageBody::Unknown)
            }
            Ok(Ok(FirstPart::Pages(first, reader, encoder))) => {
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

/// A stream after its first page.
enum FirstPart {
    /// The stream has ended, as it does for most applications.
    Whole(Bytes),
    Pages(Bytes, Reader, Encoder),
}

async fn begin(
    mut reader: Reader,
    mut encoder: Encoder,
    mut kept: PageHead,
) -> Result<FirstPart, BackendError> {
    while let Some(page) = reader.next().await? {
        let is_last = reader.is_at_end();
        let encoded = encoder.encode(page)?;
        if is_last && kept.bytes.is_empty() && matches!(encoder, Encoder::Identity) {
            return Ok(FirstPart::Whole(encoded));
        }
        if !is_last && !kept.has_room_for(encoded.len()) {
            return Ok(FirstPart::Pages(kept.with(encoded), reader, encoder));
        }
        kept.bytes.extend_from_slice(&encoded);
    }
    let end = encoder.finish()?;
    Ok(FirstPart::Whole(kept.with(end)))
}

/// The part of a page that is kept back.
struct PageHead {
    bytes: Vec<u8>,
    keep: HoldBack,
    budget: Arc<Semaphore>,
    /// Its share of the budget.
    part: Option<OwnedSemaphorePermit>,
}

impl PageHead {
    fn new(keep: HoldBack, renderings: &Renderings) -> Self {
        Self {
            bytes: Vec::new(),
            keep,
            budget: renderings.budget(),
            part: None,
        }
    }

    fn has_room_for(&mut self, more: usize) -> bool {
        match self.keep {
            HoldBack::Nothing => return false,
            HoldBack::All => return true,
            HoldBack::Usual if self.bytes.len() + more > USUAL_BYTES => return false,
            HoldBack::Usual => {}
        }
        let kib = more.div_ceil(1024) as u32;
        let Ok(part) = Arc::clone(&self.budget).try_acquire_many_owned(kib) else {
            return false;
        };
        match &mut self.part {
            Some(all) => all.merge(part),
            none => *none = Some(part),
        }
        true
    }

    /// Returns all of it and what follows; its share of the budget is freed with the bytes.
    fn with(self, end: Bytes) -> Bytes {
        if self.bytes.is_empty() {
            return end;
        }
        let Self {
            mut bytes, part, ..
        } = self;
        bytes.extend_from_slice(&end);
        Bytes::from_owner(BytesOfPart { bytes, _part: part })
    }
}

struct BytesOfPart {
    bytes: Vec<u8>,
    _part: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for BytesOfPart {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Counts the end of a scrape, once.
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

/// Returns what precedes the first page of a shared registry: a sample that names the registry, if
/// the scraper wants it, and for a registry over several keys the number of rejected entries of
/// all.
///
/// A user of Redis that may run only EXPOSE is good practice, and gets its page without these
/// samples.
async fn registry_info(
    backend: &Backend,
    request: &ExposeRequest,
) -> Result<Vec<u8>, BackendError> {
    let names = &request.names;
    let is_wanted = names.is_empty()
        || [REGISTRY_INFO.name, REGISTRY_MISSING.name, REJECTED_SAMPLES]
            .iter()
            .any(|family| names.iter().any(|name| name.starts_with(family)));
    let Backend::Redis(redis) = backend else {
        return Ok(Vec::new());
    };
    if !is_wanted {
        return Ok(Vec::new());
    }
    match redis.infos().await {
        Ok(infos) if infos.is_empty() => {
            let keys = redis.keys().iter().map(String::as_str);
            samples_of(&REGISTRY_MISSING, "key", keys, &[], request)
        }
        Ok(infos) => {
            let epochs: Vec<String> = infos.iter().map(|info| info.epoch.to_string()).collect();
            let epochs = epochs.iter().map(String::as_str);
            // The registry of a single key shows its own count.
            let several: &[Info] = if redis.shards() > 1 { &infos } else { &[] };
            samples_of(&REGISTRY_INFO, "registry", epochs, several, request)
        }
        Err(error @ BackendError::NoPermission { .. }) => {
            tracing::debug!("{} is left out: {error}", REGISTRY_INFO.name);
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Renders one sample for each value of a label, and the rejected entries of `infos`, in the
/// requested format, from a registry that contains nothing else.
fn samples_of<'a>(
    family: &Described,
    label: &str,
    values: impl Iterator<Item = &'a str>,
    infos: &[Info],
    request: &ExposeRequest,
) -> Result<Vec<u8>, BackendError> {
    let limits = Limits::default();
    let mut registry = Registry::new(Epoch(0), limits, 0);
    let stamp = registry.stamp(0, &limits, false);
    // This declaration breaks no rule; only a key that is not UTF-8 fails.
    let written = registry.declare(&stamp, &family.spec(), &Declaration::default());
    debug_assert_eq!(written, Ok(()));
    for value in values {
        let Ok(labels) = Labels::new([(label, value)]) else {
            continue;
        };
        let write = GaugeWrite {
            family: family.name,
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
    for (reason, count) in infos.iter().flat_map(|info| &info.rejected) {
        registry.count_rejected(*reason, *count);
    }
    let whole = ExposeRequest {
        cursor: None,
        ..request.clone()
    };
    let mut page = registry.expose(0, &whole)?.body;
    let end = request.format.end();
    if page.ends_with(end) {
        page.truncate(page.len() - end.len());
    }
    Ok(page)
}

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
use metrics_model::{
    Declaration, Epoch, ExposeRequest, GaugeWrite, Labels, Limits, REJECTED_SAMPLES, Registry,
};
use metrics_store::catalogue::{Described, REGISTRY_INFO, REGISTRY_MISSING};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::backend::{Backend, BackendError, Info};
use crate::instance::now_ms;
use crate::negotiate::Encoding;
use crate::own_metrics::{OwnMetrics, ScrapeResult};
pub(crate) use body::PageBody;
use body::Pages;
use encoder::Encoder;
use metrics_settings::Scope;
use rendering::Reader;
pub use rendering::Renderings;

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
    /// How much of the page is kept back until it is complete.
    pub(crate) keep: Keep,
    /// Nothing but the first page's fate matters: for HEAD.
    pub(crate) head_only: bool,
    pub(crate) outcome: Outcome,
}

/// How much of a page is kept back, so that the response has its length or nothing is sent of a page
/// that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing: what follows the first part comes as it is read.
    Nothing,
    /// A page of a usual size: for HTTP/1.0, which has no other way to say that a page is whole than
    /// its length. Of larger ones, and of many at once, the end of the connection tells
    /// (`server/ending.rs`).
    Usual,
    /// All, whatever its size.
    All,
}

/// Size of the pages that are kept back for HTTP/1.0, in bytes.
const USUAL_BYTES: usize = 2 * 1024 * 1024;
/// Size of all of them together, in KiB.
const KEPT_KIB: usize = 16 * 1024;

impl Scrape {
    /// The body, once its first page is there.
    pub(crate) async fn start(self, renderings: &Renderings) -> Result<PageBody, BackendError> {
        let Self {
            deadline, scope, ..
        } = self;
        let begun = begin(
            renderings.join(self.scope, &self.backend, &self.request, self.shows_flushed),
            Encoder::new(self.encoding)?,
            Kept::new(self.keep, renderings),
        );
        let begun = timeout_at(deadline, begun).await;
        match &begun {
            Ok(Ok(_)) => renderings.has_answered(scope),
            Ok(Err(_)) | Err(_) => {
                renderings.has_failed(scope, now_ms());
            }
        }
        match begun {
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
    mut kept: Kept,
) -> Result<Begun, BackendError> {
    while let Some(page) = reader.next().await? {
        let is_last = reader.is_at_end();
        let encoded = encoder.encode(page)?;
        if is_last && kept.bytes.is_empty() && matches!(encoder, Encoder::Identity) {
            return Ok(Begun::Whole(encoded));
        }
        if !is_last && !kept.has_room_for(encoded.len()) {
            return Ok(Begun::Pages(kept.with(encoded), reader, encoder));
        }
        kept.bytes.extend_from_slice(&encoded);
    }
    let end = encoder.finish()?;
    Ok(Begun::Whole(kept.with(end)))
}

/// What is kept back of a page.
struct Kept {
    bytes: Vec<u8>,
    keep: Keep,
    budget: Arc<Semaphore>,
    /// Its part of the budget.
    part: Option<OwnedSemaphorePermit>,
}

impl Kept {
    fn new(keep: Keep, renderings: &Renderings) -> Self {
        Self {
            bytes: Vec::new(),
            keep,
            budget: renderings.budget(),
            part: None,
        }
    }

    fn has_room_for(&mut self, more: usize) -> bool {
        match self.keep {
            Keep::Nothing => return false,
            Keep::All => return true,
            Keep::Usual if self.bytes.len() + more > USUAL_BYTES => return false,
            Keep::Usual => {}
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

    /// All of it and what follows; its part of the budget is free when the bytes are.
    fn with(self, end: Bytes) -> Bytes {
        if self.bytes.is_empty() {
            return end;
        }
        let Self {
            mut bytes, part, ..
        } = self;
        bytes.extend_from_slice(&end);
        Bytes::from_owner(Owned { bytes, _part: part })
    }
}

struct Owned {
    bytes: Vec<u8>,
    _part: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
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

/// What precedes the first page of a shared registry: which one it is, if the scraper wants to see
/// that, and of a registry over several keys how much all of them have left out.
///
/// A user of Redis that may run EXPOSE and nothing else is a good practice, and gets its page
/// without these samples.
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
            // One key's registry shows its own.
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

/// One sample for each value of a label, and what `infos` have left out, rendered as all others are, in
/// whatever format, from a registry that has nothing else.
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
    // What is written here is neither too much nor against any rule, but for a key that is no text.
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

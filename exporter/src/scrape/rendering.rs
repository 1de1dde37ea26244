//! Renders simultaneous scrapes once.
//!
//! # How it works
//!
//! A *rendering* is one sequence of pages with any number of readers. A reader that wants a page
//! that is not there yet has it fetched, and the others wait for it too. Pages are kept until the
//! slowest reader has them. No reader slows another down: one that is [`WINDOW_BYTES`] behind
//! continues by itself, from its cursor. So memory is limited, however slow the readers and however
//! large the registry.
//!
//! A scrape joins a rendering only before its first page: all readers see the same moment, and none
//! a moment before its request. A scrape that has had its own instance flushed joins only before
//! that page was even requested, so that it is sure to see what was flushed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use metrics_model::ExposeRequest;
use tokio::sync::{Notify, Semaphore};

use super::moved::{Homes, Moved};
use super::parts::{OWN, Parts};
use super::{KEPT_KIB, registry_info};
use crate::backend::{Backend, BackendError, RedisBackend};
use metrics_settings::Scope;

/// Maximum distance between readers, in bytes.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Maximum number of restarts of a rendering before its first page is there.
const RESTARTS: u8 = 3;

/// The renderings in progress. Clones share them.
#[derive(Debug, Clone)]
pub struct Renderings {
    open: Arc<Mutex<Vec<Weak<Rendering>>>>,
    /// Budget for parts of pages that are kept back, in KiB.
    budget: Arc<Semaphore>,
    outages: Arc<Mutex<Outages>>,
    homes: Arc<Homes>,
}

/// Start of each registry's outage, in Unix milliseconds; `None` while it answers.
#[derive(Debug, Default)]
struct Outages {
    shared: Option<u64>,
    instance: Option<u64>,
}

impl Default for Renderings {
    fn default() -> Self {
        Self {
            open: Arc::default(),
            budget: Arc::new(Semaphore::new(KEPT_KIB)),
            outages: Arc::default(),
            homes: Arc::default(),
        }
    }
}

/// One reader of a rendering.
pub(super) struct Reader {
    rendering: Arc<Rendering>,
    /// Its number among the readers; `None` once it continues by itself.
    number: Option<u64>,
    cursor: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Rendering {
    scope: Scope,
    backend: Backend,
    request: ExposeRequest,
    state: Mutex<State>,
    /// The names of a page that comes from Redis, which has several parts.
    parts: Option<Mutex<Parts>>,
    homes: Arc<Homes>,
    /// Signals that a page is there or has failed, or that the fetching reader is gone.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    pages: VecDeque<Part>,
    /// Number of the first page in the list.
    first: u64,
    bytes: usize,
    next: Next,
    is_fetching: bool,
    /// Whether the first page has been requested.
    is_asked: bool,
    readers: Vec<Place>,
    readers_ever: u64,
}

/// A page and the cursor of the next.
#[derive(Debug, Clone)]
struct Part {
    page: Bytes,
    next: Option<Vec<u8>>,
}

/// The page that a reader wants next.
#[derive(Debug)]
struct Place {
    reader: u64,
    page: u64,
}

#[derive(Debug, Default)]
enum Next {
    #[default]
    First,
    Page(Vec<u8>),
    End,
    Failed(BackendError),
}

impl Renderings {
    pub(super) fn budget(&self) -> Arc<Semaphore> {
        Arc::clone(&self.budget)
    }

    /// Notes that a registry has answered.
    pub(super) fn has_answered(&self, scope: Scope) {
        *self.outages().of(scope) = None;
    }

    /// Notes that a registry has not answered; returns the start of the outage, in Unix
    /// milliseconds.
    pub(crate) fn has_failed(&self, scope: Scope, now_ms: u64) -> u64 {
        *self.outages().of(scope).get_or_insert(now_ms)
    }

    fn outages(&self) -> MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a rendering of the same request, or begins one. `shows_flushed` is set for a scrape
    /// that must show what was flushed before it came here.
    pub(super) fn join(
        &self,
        scope: Scope,
        backend: &Backend,
        request: &ExposeRequest,
        shows_flushed: bool,
    ) -> Reader {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|rendering| rendering.strong_count() > 0);
        let joined = open
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|rendering| rendering.scope == scope && is_same(&rendering.request, request))
            .find_map(|rendering| rendering.admit(shows_flushed));
        if let Some(reader) = joined {
            return reader;
        }
        let rendering = Arc::new(Rendering {
            scope,
            backend: backend.clone(),
            request: request.clone(),
            state: Mutex::default(),
            parts: match backend {
                Backend::Embedded(_) => None,
                Backend::Redis(redis) => {
                    Some(Mutex::new(Parts::new(request.format, redis.shards())))
                }
            },
            homes: Arc::clone(&self.homes),
            changed: Notify::new(),
        });
        open.push(Arc::downgrade(&rendering));
        rendering.begin()
    }
}

impl Outages {
    fn of(&mut self, scope: Scope) -> &mut Option<u64> {
        match scope {
            Scope::Shared => &mut self.shared,
            Scope::Instance => &mut self.instance,
        }
    }
}

/// Returns whether both request the same bytes.
fn is_same(one: &ExposeRequest, other: &ExposeRequest) -> bool {
    (one.format, one.escaping, one.created) == (other.format, other.escaping, other.created)
        && one.names == other.names
}

impl Rendering {
    fn begin(self: Arc<Self>) -> Reader {
        let number = self.lock().add_reader();
        Reader {
            rendering: self,
            number: Some(number),
            cursor: None,
        }
    }

    /// Adds a reader, if it is not too late.
    fn admit(self: Arc<Self>, shows_flushed: bool) -> Option<Reader> {
        let state = self.lock();
        let is_open = matches!(state.next, Next::First) && !(shows_flushed && state.is_asked);
        drop(state);
        is_open.then(|| self.begin())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Renders the page at a cursor. The name of the registry precedes the first page.
    async fn render(&self, cursor: Option<&[u8]>) -> Result<Part, BackendError> {
        let request = |cursor: &[u8]| ExposeRequest {
            cursor: Some(cursor.to_vec()),
            ..self.request.clone()
        };
        if let Some(cursor) = cursor {
            let mut page = self.backend.page(&request(cursor)).await?;
            let shard = RedisBackend::shard_at(cursor);
            page.body = self.joined_shard(shard, page.body).await?;
            return Ok(Part::new(Vec::new(), page));
        }
        let first = request(b"0");
        let (info, page) = tokio::join!(
            registry_info(&self.backend, &self.request),
            self.first_page(&first)
        );
        // Of two errors the page's is more precise.
        let mut page = page?;
        let info = self.joined(OWN, info?, &Moved::default());
        page.body = self.joined_shard(0, page.body).await?;
        Ok(Part::new(info, page))
    }

    /// Returns a page of a shard with names that no other part has, without what has moved from it.
    async fn joined_shard(&self, shard: usize, page: Vec<u8>) -> Result<Vec<u8>, BackendError> {
        let moved = match &self.backend {
            Backend::Redis(redis) if redis.shards() > 1 => {
                let homes = &self.homes;
                homes.moved(redis, shard, &page, &self.request).await?
            }
            Backend::Redis(_) | Backend::Embedded(_) => Moved::default(),
        };
        Ok(self.joined(OWN + 1 + shard, page, &moved))
    }

    /// Returns a page of a part with names that no other part has.
    fn joined(&self, part: usize, page: Vec<u8>, moved: &Moved) -> Vec<u8> {
        let Some(parts) = &self.parts else {
            return page;
        };
        let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.join(part, page, moved)
    }

    /// Renders the first page; again if the registry changes between the shards' pages, or is
    /// rendered for the first time.
    async fn first_page(
        &self,
        request: &ExposeRequest,
    ) -> Result<metrics_model::Page, BackendError> {
        let mut restarts = 0;
        loop {
            match self.backend.page(request).await {
                Err(BackendError::StaleCursor) if restarts < RESTARTS => restarts += 1,
                page => return page,
            }
        }
    }
}

impl Part {
    fn new(mut before: Vec<u8>, page: metrics_model::Page) -> Self {
        let page_bytes = if before.is_empty() {
            page.body
        } else {
            before.extend_from_slice(&page.body);
            before
        };
        Self {
            page: page_bytes.into(),
            next: page.next.map(String::into_bytes),
        }
    }
}

impl State {
    fn add_reader(&mut self) -> u64 {
        let reader = self.readers_ever;
        self.readers_ever += 1;
        self.readers.push(Place { reader, page: 0 });
        reader
    }

    fn remove_reader(&mut self, reader: u64) {
        self.readers.retain(|place| place.reader != reader);
        self.forget_read();
    }

    /// Returns the page that a reader wants, or the next step to get it.
    fn look(&mut self, reader: u64) -> Lookup {
        let Some(place) = self.readers.iter_mut().find(|place| place.reader == reader) else {
            return Lookup::LeftBehind;
        };
        if let Some(part) = self.pages.get((place.page - self.first) as usize).cloned() {
            place.page += 1;
            self.forget_read();
            return Lookup::There(part);
        }
        let cursor = match &self.next {
            Next::First => None,
            Next::Page(cursor) => Some(cursor.clone()),
            Next::End => return Lookup::End,
            Next::Failed(error) => return Lookup::Failed(error.clone()),
        };
        if self.is_fetching {
            return Lookup::Coming;
        }
        self.is_fetching = true;
        self.is_asked = true;
        Lookup::Fetch(cursor)
    }

    fn put(&mut self, fetched: Result<Part, BackendError>) {
        match fetched {
            Ok(part) => {
                self.next = part.next.clone().map_or(Next::End, Next::Page);
                self.bytes += part.page.len();
                self.pages.push_back(part);
                while self.bytes > WINDOW_BYTES && self.pages.len() > 1 {
                    self.forget_first();
                }
                let first = self.first;
                self.readers.retain(|place| place.page >= first);
            }
            Err(error) => self.next = Next::Failed(error),
        }
    }

    /// Drops pages that every reader has.
    fn forget_read(&mut self) {
        let wanted = self.readers.iter().map(|place| place.page).min();
        while !self.pages.is_empty() && wanted.is_none_or(|wanted| wanted > self.first) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(part) = self.pages.pop_front() {
            self.bytes -= part.page.len();
            self.first += 1;
        }
    }
}

/// The result of a look for a page.
enum Lookup {
    There(Part),
    /// Another reader is fetching it.
    Coming,
    /// This reader has to fetch it, for all.
    Fetch(Option<Vec<u8>>),
    /// It has been dropped.
    LeftBehind,
    End,
    Failed(BackendError),
}

/// A fetch of the next page, for all that wait for it.
struct PendingFetch(Arc<Rendering>);

impl PendingFetch {
    async fn run(self, cursor: Option<Vec<u8>>) {
        let fetched = self.0.render(cursor.as_deref()).await;
        self.0.lock().put(fetched);
    }
}

impl Drop for PendingFetch {
    fn drop(&mut self) {
        self.0.lock().is_fetching = false;
        self.0.changed.notify_waiters();
    }
}

impl Reader {
    /// Returns the next page; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BackendError> {
        let part = match self.number {
            Some(number) => self.shared(number).await?,
            None => self.alone().await?,
        };
        Ok(part.map(|part| {
            self.cursor = part.next;
            part.page
        }))
    }

    /// Returns whether the page that was read was the last.
    pub(super) fn is_at_end(&self) -> bool {
        self.cursor.is_none()
    }

    async fn shared(&mut self, number: u64) -> Result<Option<Part>, BackendError> {
        let rendering = Arc::clone(&self.rendering);
        loop {
            // Registered before the look, so that no later change is missed.
            let mut changed = std::pin::pin!(rendering.changed.notified());
            changed.as_mut().enable();
            let looked = rendering.lock().look(number);
            match looked {
                Lookup::There(part) => return Ok(Some(part)),
                Lookup::End => return Ok(None),
                Lookup::Failed(error) => return Err(error),
                Lookup::LeftBehind => {
                    self.number = None;
                    return self.alone().await;
                }
                Lookup::Coming => {}
                Lookup::Fetch(cursor) => {
                    // In a task of its own: this reader may be polled much later than others.
                    let fetching = PendingFetch(Arc::clone(&rendering));
                    tokio::spawn(fetching.run(cursor));
                }
            }
            changed.await;
        }
    }

    /// Fetches the page for this reader alone: the others are too far ahead.
    async fn alone(&self) -> Result<Option<Part>, BackendError> {
        match &self.cursor {
            None => Ok(None),
            Some(cursor) => self.rendering.render(Some(cursor)).await.map(Some),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.rendering.lock().remove_reader(number);
        }
    }
}

#[cfg(test)]
mod tests;

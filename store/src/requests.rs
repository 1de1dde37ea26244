//! The table of requests in progress of one worker: what the worker was doing when it died.
//!
//! # How it works
//!
//! Requests have places in *blocks*. A worker appends a block to its store when it needs one, up to
//! [`MAX_REQUESTS`] places. To readers that know no blocks, a block is padding; the header has the
//! place of the first one, and each block that of the next.
//!
//! ```text
//! block   head, place of the next block, places
//! place   turn, text's state, method, thread, start, 2 × trace, text
//! ```
//!
//! The turn of a place is odd while a request has it. It changes whenever a request gets or leaves the
//! place, so a reader that finds the same odd turn before and after has read one whole request. The text
//! is the path, later the route's template. While it changes, its state tells so: a worker that is killed
//! there leaves a request without a text.
//!
//! # What it costs
//!
//! Some ten stores, and as many as the text has words; no lock (callers hold that of the recorder), no
//! allocation. A new block costs one, like any record.
//!
//! # What if
//!
//! *The table is full, or there is no memory for a block:* the request is only counted.

mod reading;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::fence;

use rustix::time::{ClockId, clock_gettime};

pub use reading::{OpenRequest, OpenRequests};
pub(crate) use reading::{blocks, read_requests};

use crate::layout::{AT_REQUESTS, AT_UNLISTED};
use crate::memory::WORD;
use crate::{Method, WorkerStore};

/// Maximum number of requests in the table of one worker.
pub const MAX_REQUESTS: usize = 4096;

/// Number of places in the first block; each later block has as many as all before it.
const FIRST_BLOCK: usize = 8;
/// Maximum number of places in a block, so that it fits into any segment.
const LARGEST_BLOCK: usize = 128;
/// Number of words before the places of a block.
const BLOCK_HEAD: usize = 2;
const AT_NEXT: usize = 1;

/// Size of a place, in words.
const PLACE: usize = 40;
const AT_TURN: usize = 0;
const AT_TEXT_STATE: usize = 1;
const AT_METHOD: usize = 2;
const AT_THREAD: usize = 3;
const AT_START: usize = 4;
const AT_TRACE: usize = 5;
const AT_TEXT: usize = 7;
/// Maximum size of a text, in bytes; the rest of a longer one is cut off.
const MAX_TEXT: usize = (PLACE - AT_TEXT) * WORD;

/// State of a text: its kind in the lowest byte, then its length, then the number of its changes.
const NO_TEXT: u64 = 0;
const PATH: u64 = 1;
const TEMPLATE: u64 = 2;
const CHANGING: u64 = 3;
const UNMATCHED_PATH: u64 = 4;
const KIND: u64 = 0xff;
const LENGTH_SHIFT: u32 = 8;
const CHANGE: u64 = 1 << 32;

type Place = &'static [AtomicU64; PLACE];

/// How the endpoint of a request is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint<T> {
    /// Not yet: no route has matched, or the text was changing when the writer died.
    Unknown,
    /// By its path alone: the application has no routes.
    Path(T),
    /// The application has routes, and none has matched this path yet.
    Unmatched(T),
    /// By the template of the route that has matched.
    Template(T),
}

/// A request that begins.
#[derive(Debug, Clone, Copy)]
pub struct NewRequest<'a> {
    /// Its method.
    pub method: Method,
    /// When it began, by [`monotonic_ns`].
    pub start_ns: u64,
    /// Python's identifier of the thread that handles it.
    pub thread: u64,
    /// The trace that it belongs to; 0 = none.
    pub trace: u128,
    /// What is known of its endpoint.
    pub endpoint: Endpoint<&'a str>,
}

/// A request in the table, until it ends: its place, or from [`MAX_REQUESTS`] on a number without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u32);

impl RequestId {
    /// Returns its number, for [`from_number`](Self::from_number).
    pub fn number(self) -> u32 {
        self.0
    }

    /// Returns the request with that number.
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// The writer's end of the table.
#[derive(Debug)]
pub struct RequestTable {
    /// The header's number of requests without a place.
    unlisted: &'static AtomicU64,
    /// When those began.
    unlisted_starts: HashMap<u32, u64>,
    next_unlisted: u32,
    places: Vec<Place>,
    free: Vec<u32>,
    /// The word with the place of the next block.
    link: &'static AtomicU64,
    /// Whether another block may be had.
    may_grow: bool,
}

impl RequestTable {
    /// Returns the table of a store, which has one writer: an earlier table of the store is forgotten.
    pub fn new(store: &WorkerStore) -> Self {
        let (unlisted, link) = (store.header(AT_UNLISTED), store.header(AT_REQUESTS));
        unlisted.store(0, Relaxed);
        link.store(0, Release);
        let mut table = Self {
            unlisted,
            unlisted_starts: HashMap::new(),
            next_unlisted: MAX_REQUESTS as u32,
            places: Vec::new(),
            free: Vec::new(),
            link,
            may_grow: true,
        };
        table.grow(store);
        table
    }

    /// Enters a request.
    #[inline]
    pub fn begin(&mut self, store: &WorkerStore, request: &NewRequest<'_>) -> RequestId {
        let Some(free) = self.free.pop() else {
            return self.begin_slowly(store, request);
        };
        let place = self.places[free as usize];
        let turn = place[AT_TURN].load(Relaxed);
        // A reader of the request before sees that the turn has changed before it sees any of this one.
        fence(Release);
        put(&place[AT_METHOD], request.method.place() as u64);
        put(&place[AT_THREAD], request.thread);
        put(&place[AT_START], request.start_ns);
        put(&place[AT_TRACE], (request.trace >> 64) as u64);
        put(&place[AT_TRACE + 1], request.trace as u64);
        let changes = place[AT_TEXT_STATE].load(Relaxed) & !(CHANGE - 1);
        let state = match request.endpoint {
            Endpoint::Unknown => NO_TEXT,
            Endpoint::Path(path) => PATH | write_text(place, path),
            Endpoint::Unmatched(path) => UNMATCHED_PATH | write_text(place, path),
            Endpoint::Template(template) => TEMPLATE | write_text(place, template),
        };
        put(&place[AT_TEXT_STATE], changes | state);
        publish(&place[AT_TURN], turn.wrapping_add(1));
        RequestId(free)
    }

    /// Returns the last request of a thread that has not ended; `None` if it has no place.
    pub fn of_thread(&self, thread: u64) -> Option<RequestId> {
        let is_open = |place: &Place| {
            place[AT_THREAD].load(Relaxed) == thread && place[AT_TURN].load(Relaxed) % 2 == 1
        };
        let open = self
            .places
            .iter()
            .enumerate()
            .filter(|(_, place)| is_open(place));
        let last = open.max_by_key(|(_, place)| place[AT_START].load(Relaxed))?;
        Some(RequestId(last.0 as u32))
    }

    /// Returns the oldest request and its thread.
    pub fn oldest(&self) -> Option<(RequestId, u64)> {
        let places = self.places.iter().enumerate();
        let open = places.filter(|(_, place)| place[AT_TURN].load(Relaxed) % 2 == 1);
        let (number, place) = open.min_by_key(|(_, place)| place[AT_START].load(Relaxed))?;
        Some((RequestId(number as u32), place[AT_THREAD].load(Relaxed)))
    }

    /// Returns when a request began.
    #[inline]
    pub fn start_ns(&self, request: RequestId) -> u64 {
        match self.places.get(request.0 as usize) {
            Some(place) => place[AT_START].load(Relaxed),
            None => self.unlisted_starts.get(&request.0).copied().unwrap_or(0),
        }
    }

    /// Notes that a route has matched, and its template.
    #[inline]
    pub fn name(&self, request: RequestId, template: &str) {
        let Some(&place) = self.places.get(request.0 as usize) else {
            return;
        };
        let changes = place[AT_TEXT_STATE].load(Relaxed) & !(CHANGE - 1);
        put(&place[AT_TEXT_STATE], changes | CHANGING);
        fence(Release);
        let length = write_text(place, template);
        publish(
            &place[AT_TEXT_STATE],
            changes.wrapping_add(CHANGE) | length | TEMPLATE,
        );
    }

    /// Removes a request.
    #[inline]
    pub fn end(&mut self, request: RequestId) {
        if let Some(place) = self.places.get(request.0 as usize) {
            let turn = place[AT_TURN].load(Relaxed);
            publish(&place[AT_TURN], turn.wrapping_add(1));
            self.free.push(request.0);
        } else {
            self.unlisted_starts.remove(&request.0);
            publish(self.unlisted, self.unlisted_starts.len() as u64);
        }
    }

    #[cold]
    fn begin_slowly(&mut self, store: &WorkerStore, request: &NewRequest<'_>) -> RequestId {
        if self.may_grow {
            self.grow(store);
        }
        if self.free.is_empty() {
            let number = self.next_unlisted;
            self.next_unlisted = number.checked_add(1).unwrap_or(MAX_REQUESTS as u32);
            self.unlisted_starts.insert(number, request.start_ns);
            publish(self.unlisted, self.unlisted_starts.len() as u64);
            return RequestId(number);
        }
        self.begin(store, request)
    }

    fn grow(&mut self, store: &WorkerStore) {
        let places = self.places.len().clamp(FIRST_BLOCK, LARGEST_BLOCK);
        let places = places.min(MAX_REQUESTS - self.places.len());
        let block = match places {
            0 => None,
            places => store.append_hidden(BLOCK_HEAD + places * PLACE).ok(),
        };
        let Some((at, block)) = block else {
            self.may_grow = false;
            return;
        };
        let first = self.places.len() as u32;
        let (of_block, _) = block[BLOCK_HEAD..].as_chunks::<PLACE>();
        self.places.extend(of_block);
        // The lowest place is used first, so that few pages are.
        self.free.extend((first..self.places.len() as u32).rev());
        self.free.reserve(self.places.len());
        publish(self.link, at as u64);
        self.link = &block[AT_NEXT];
    }
}

/// Returns the length in its place of the text's state.
#[inline]
fn write_text(place: Place, text: &str) -> u64 {
    let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
    let (words, rest) = text.as_chunks::<WORD>();
    for (cell, word) in place[AT_TEXT..].iter().zip(words) {
        put(cell, u64::from_ne_bytes(*word));
    }
    if !rest.is_empty() {
        let mut word = [0; WORD];
        word[..rest.len()].copy_from_slice(rest);
        put(&place[AT_TEXT + words.len()], u64::from_ne_bytes(word));
    }
    (text.len() as u64) << LENGTH_SHIFT
}

#[inline]
fn put(cell: &AtomicU64, word: u64) {
    #[cfg(test)]
    tests::dies_here();
    cell.store(word, Relaxed);
}

/// Stores a word that makes those before it count.
#[inline]
fn publish(cell: &AtomicU64, word: u64) {
    #[cfg(test)]
    tests::dies_here();
    cell.store(word, Release);
}

/// Returns the time in nanoseconds since some moment, the same for all processes of the machine.
#[inline]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

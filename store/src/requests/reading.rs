//! Reads the table of requests, of a running worker or of a dead one.

use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::fence;

use super::{
    AT_METHOD, AT_NEXT, AT_START, AT_TEXT, AT_TEXT_STATE, AT_THREAD, AT_TRACE, AT_TURN, BLOCK_HEAD,
    CHANGING, Endpoint, KIND, LENGTH_SHIFT, MAX_REQUESTS, MAX_TEXT, PATH, PLACE, TEMPLATE,
    UNMATCHED_PATH,
};
use crate::layout::{AT_REQUESTS, AT_UNLISTED};
use crate::memory::words;
use crate::{Method, OTHER, UNMATCHED, record};

/// How often a text is read that changes meanwhile.
const TRIES: usize = 8;

/// A request in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// Its method.
    pub method: Method,
    /// When it began, by [`monotonic_ns`](super::monotonic_ns).
    pub start_ns: u64,
    /// Python's identifier of the thread that handles it.
    pub thread: u64,
    /// The trace that it belongs to; 0 = none.
    pub trace: u128,
    /// What is known of its endpoint.
    pub endpoint: Endpoint<Box<str>>,
}

impl OpenRequest {
    /// Returns its age in seconds.
    pub fn age(&self, now_ns: u64) -> f64 {
        now_ns.saturating_sub(self.start_ns) as f64 / 1e9
    }

    /// Returns the trace as 32 hexadecimal digits, if it belongs to one.
    pub fn trace_id(&self) -> Option<String> {
        (self.trace != 0).then(|| format!("{:032x}", self.trace))
    }

    /// Returns its endpoint as a label: the template, or the path if `find` finds it in the table of
    /// endpoints.
    pub fn label(&self, find: impl Fn(&str) -> bool) -> Box<str> {
        match &self.endpoint {
            Endpoint::Unknown | Endpoint::Unmatched(_) => UNMATCHED.into(),
            Endpoint::Template(template) => template.clone(),
            Endpoint::Path(path) => {
                let path = decoded(path);
                if find(&path) { path } else { OTHER.into() }
            }
        }
    }

    /// Returns its endpoint with the path where the template is not known.
    pub fn path(&self) -> Box<str> {
        match &self.endpoint {
            Endpoint::Unknown => UNMATCHED.into(),
            Endpoint::Template(text) | Endpoint::Path(text) | Endpoint::Unmatched(text) => {
                text.clone()
            }
        }
    }
}

/// Returns the path as a WSGI server passes it on: decoded, and each byte as a character.
fn decoded(path: &str) -> Box<str> {
    let (mut text, mut rest) = (String::new(), path);
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let digits = after.get(..2);
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            text.push(char::from(byte));
            rest = &after[2..];
        } else {
            text.push('%');
            rest = after;
        }
    }
    text.push_str(rest);
    text.into()
}

/// The requests in progress of one worker, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenRequests {
    /// Those of the table.
    pub listed: Vec<OpenRequest>,
    /// Number of the others.
    pub unlisted: u64,
}

impl OpenRequests {
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.listed.len() + usize::try_from(self.unlisted).unwrap_or(usize::MAX / 2)
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Returns place and length in words of each block. Damage ends the list.
pub(crate) fn blocks<S: Deref<Target = [AtomicU64]>>(segments: &[S]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut places = 0;
    let mut at = words(segments, AT_REQUESTS, 1).map_or(0, |word| word[0].load(Acquire)) as usize;
    while at != 0 && places < MAX_REQUESTS {
        let Some(head) = words(segments, at, BLOCK_HEAD) else {
            break;
        };
        let length = record::length_of(head[0].load(Relaxed)).unwrap_or(0);
        if length < BLOCK_HEAD + PLACE || words(segments, at, length).is_none() {
            break;
        }
        found.push((at, length));
        places += (length - BLOCK_HEAD) / PLACE;
        at = head[AT_NEXT].load(Acquire) as usize;
    }
    found
}

/// Reads the table in a store's segments.
pub(crate) fn read_requests<S: Deref<Target = [AtomicU64]>>(segments: &[S]) -> OpenRequests {
    let unlisted = words(segments, AT_UNLISTED, 1).map_or(0, |word| word[0].load(Acquire));
    let mut listed = Vec::new();
    for (at, length) in blocks(segments) {
        let block = words(segments, at, length).unwrap_or_default();
        let (places, _) = block[BLOCK_HEAD..].as_chunks::<PLACE>();
        listed.extend(places.iter().filter_map(read_place));
    }
    listed.sort_by_key(|request| request.start_ns);
    OpenRequests { listed, unlisted }
}

fn read_place(place: &[AtomicU64; PLACE]) -> Option<OpenRequest> {
    let turn = place[AT_TURN].load(Acquire);
    if turn.is_multiple_of(2) {
        return None;
    }
    let word = |at: usize| place[at].load(Relaxed);
    let request = OpenRequest {
        method: Method::at(u8::try_from(word(AT_METHOD)).unwrap_or(u8::MAX)),
        start_ns: word(AT_START),
        thread: word(AT_THREAD),
        trace: u128::from(word(AT_TRACE)) << 64 | u128::from(word(AT_TRACE + 1)),
        endpoint: read_text(place),
    };
    fence(Acquire);
    // A request that has ended meanwhile is not in progress, and the next one is read the next time.
    (place[AT_TURN].load(Relaxed) == turn).then_some(request)
}

fn read_text(place: &[AtomicU64; PLACE]) -> Endpoint<Box<str>> {
    for _ in 0..TRIES {
        let state = place[AT_TEXT_STATE].load(Acquire);
        let length = (state >> LENGTH_SHIFT & 0xffff) as usize;
        let mut text = Vec::with_capacity(MAX_TEXT);
        for cell in &place[AT_TEXT..] {
            if text.len() < length {
                text.extend_from_slice(&cell.load(Relaxed).to_ne_bytes());
            }
        }
        text.truncate(length);
        fence(Acquire);
        if place[AT_TEXT_STATE].load(Relaxed) != state || state & KIND == CHANGING {
            std::hint::spin_loop();
            continue;
        }
        return match state & KIND {
            PATH => Endpoint::Path(text_of(&text)),
            UNMATCHED_PATH => Endpoint::Unmatched(text_of(&text)),
            TEMPLATE => Endpoint::Template(text_of(&text)),
            _ => Endpoint::Unknown,
        };
    }
    Endpoint::Unknown
}

/// Returns the text without the part of a character at which it may be cut off.
fn text_of(bytes: &[u8]) -> Box<str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(error) => String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into(),
    }
}

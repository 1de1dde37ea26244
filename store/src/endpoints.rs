//! The endpoint table: the first paths that this instance has answered, up to a limit.
//!
//! For applications without a framework that names routes: a path becomes a label value only if it
//! is in the table. Entries are never removed and never many, so an attacker who invents paths
//! creates no series.
//!
//! # How it works
//!
//! An entry is claimed by compare-and-swap, written, and then published with its hash, which
//! lookups compare first: a lookup of an unknown path reads a few hundred bytes. No process ever
//! waits; an entry whose writer was killed is claimed by the next. Two processes may add the same
//! path at once: then it is in the table twice, with the same meaning.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::control::AT_ENDPOINTS;
use crate::memory::WORD;
use crate::{Control, Process};

/// Maximum value of `endpoint_limit`.
pub const MAX_ENDPOINTS: usize = 1000;
/// Maximum size of a path in the table, in bytes.
pub const MAX_ENDPOINT_BYTES: usize = 255;

/// Endpoint of requests in an application without route names, whose path is not in the table.
pub const OTHER: &str = "<other>";
/// Endpoint of requests without a matching route, or for which no route has matched yet.
pub const UNMATCHED: &str = "<unmatched>";
/// Endpoint of requests that could not be parsed.
pub const UNKNOWN: &str = "<unknown>";

/// Size of an entry's text in words: one byte of length, then the text.
const TEXT_WORDS: usize = (MAX_ENDPOINT_BYTES + 1) / WORD;
pub(crate) const ENDPOINT_WORDS: usize = MAX_ENDPOINTS * (1 + TEXT_WORDS);

/// An entry's state is 0 (free), a published hash, or its writer's [`Process::pack`].
const PUBLISHED: u64 = 1 << 63;

impl Control {
    /// Returns the entry of a path, if it has one.
    pub fn find_endpoint(&self, path: &str) -> Option<usize> {
        let state = published(path);
        for (entry, word) in self.endpoint_states().iter().enumerate() {
            match word.load(Acquire) {
                0 => return None,
                found if found == state && self.endpoint_bytes(entry) == path.as_bytes() => {
                    return Some(entry);
                }
                _ => {}
            }
        }
        None
    }

    /// Returns the entry of a path; adds it if fewer than `limit` entries are taken. `None` if the
    /// table is full, or the path is empty or longer than [`MAX_ENDPOINT_BYTES`].
    pub fn endpoint(&self, path: &str, limit: usize, me: Process) -> Option<usize> {
        if let Some(entry) = self.find_endpoint(path) {
            return Some(entry);
        }
        if path.is_empty() || path.len() > MAX_ENDPOINT_BYTES {
            return None;
        }
        for (entry, word) in self.endpoint_states().iter().enumerate().take(limit) {
            let found = word.load(Acquire);
            let is_free = found & PUBLISHED == 0
                && Process::unpack(found).is_none_or(|writer| !writer.is_alive());
            if is_free
                && word
                    .compare_exchange(found, me.pack(), AcqRel, Acquire)
                    .is_ok()
            {
                self.write_endpoint(entry, path);
                word.store(published(path), Release);
                return Some(entry);
            }
        }
        None
    }

    /// Returns the path of an entry.
    pub fn endpoint_text(&self, entry: usize) -> Option<String> {
        let state = self.endpoint_states().get(entry)?.load(Acquire);
        if state & PUBLISHED == 0 {
            return None;
        }
        String::from_utf8(self.endpoint_bytes(entry)).ok()
    }

    fn endpoint_states(&self) -> &[AtomicU64] {
        &self.words[AT_ENDPOINTS..AT_ENDPOINTS + MAX_ENDPOINTS]
    }

    fn endpoint_words(&self, entry: usize) -> &[AtomicU64] {
        let at = AT_ENDPOINTS + MAX_ENDPOINTS + entry * TEXT_WORDS;
        &self.words[at..at + TEXT_WORDS]
    }

    fn endpoint_bytes(&self, entry: usize) -> Vec<u8> {
        let mut bytes = self
            .endpoint_words(entry)
            .iter()
            .flat_map(|word| word.load(Relaxed).to_ne_bytes());
        let len = bytes.next().unwrap_or(0);
        bytes.take(len.into()).collect()
    }

    fn write_endpoint(&self, entry: usize, path: &str) {
        let mut bytes = std::iter::once(path.len() as u8).chain(path.bytes());
        for word in self.endpoint_words(entry) {
            let eight = std::array::from_fn(|_| bytes.next().unwrap_or(0));
            word.store(u64::from_ne_bytes(eight), Relaxed);
        }
    }
}

/// FNV-1a, only to compare entries quickly: equal hashes are followed by a comparison of the texts.
fn published(path: &str) -> u64 {
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    hash | PUBLISHED
}

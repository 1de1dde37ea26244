//! A store as bytes, for a reader in another container that shares a directory.
//!
//! The exporter of an instance writes the copies, and replaces each as a whole when its store has
//! changed. The reader of the directory copies a file into its own memory. It maps nothing that
//! another process can change, and refuses a damaged copy as a whole, by its checksum.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Acquire;

use crate::file::{sealed_memory, write_all};
use crate::frame::{self, HEADER, Header};
use crate::layout::{
    AT_ID, AT_MAGIC, AT_NUMBER, AT_REQUESTS, AT_ROLE_AND_SLOT, AT_UNLISTED, AT_USED, MAX_STORE,
};
use crate::memory::{WORD, allocate, segment_bounds, segment_of, words};
use crate::requests::blocks;
use crate::{StoreError, StoreReader, layout};

/// Suffix of the names of copies.
pub const STORE_SUFFIX: &str = ".store";
/// Maximum size of a copy, in bytes.
pub const MAX_COPY_BYTES: usize = HEADER + (1 + MAX_STORE) * WORD;

const MAGIC: u64 = u64::from_le_bytes(*b"gpecopy1");
/// Flag in the first word of the content: the writer has ended, and this copy is the last one.
const HAS_ENDED: u64 = 1;

/// The content of a store at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreCopy {
    /// A word of flags, then the words of the store.
    content: Vec<u8>,
    generation: u64,
}

impl StoreCopy {
    /// Parses the bytes of a file; `None` if any part is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (generation, content) = frame::decode(MAGIC, bytes)?;
        let is_store = content.len() >= (1 + layout::HEADER) * WORD
            && content.len().is_multiple_of(WORD)
            && content.len() <= (1 + MAX_STORE) * WORD;
        is_store.then(|| Self {
            content: content.to_vec(),
            generation,
        })
    }

    /// Returns the bytes of its file. A later copy has a higher generation.
    pub fn to_bytes(&self, generation: u64) -> Vec<u8> {
        let mut bytes = Header::of(generation, &self.content).encode(MAGIC).to_vec();
        bytes.extend_from_slice(&self.content);
        bytes
    }

    /// Returns the generation with which it was written.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns whether its writer has ended, which makes this the last copy.
    pub fn has_ended(&self) -> bool {
        self.content[0] & HAS_ENDED as u8 != 0
    }

    /// Returns the checksum of its content: equal for equal content.
    pub fn checksum(&self) -> u64 {
        frame::checksum(0, &self.content)
    }

    fn store(&self) -> &[u8] {
        &self.content[WORD..]
    }

    /// Returns a word of the store's header.
    fn word(&self, at: usize) -> u64 {
        let bytes = &self.store()[at * WORD..];
        u64::from_ne_bytes(std::array::from_fn(|i| bytes[i]))
    }
}

impl StoreReader {
    /// Copies the present content; with `has_ended`, as the last copy.
    pub fn copy(&self, has_ended: bool) -> StoreCopy {
        let used = self.used();
        let mut content = Vec::with_capacity((1 + used) * WORD);
        content.push(u8::from(has_ended));
        content.resize(WORD, 0);
        let mut at = 0;
        while at < used {
            let (start, len) = segment_bounds(segment_of(at));
            let end = used.min(start + len);
            for word in words(&self.segments, at, end - at).into_iter().flatten() {
                content.extend_from_slice(&word.load(Acquire).to_ne_bytes());
            }
            at = end;
        }
        // The next copy includes records that came since.
        let at_used = (1 + AT_USED) * WORD;
        content[at_used..at_used + WORD].copy_from_slice(&(used as u64).to_ne_bytes());
        // Requests in progress, with their paths, stay in memory.
        for (at, length) in blocks(&self.segments) {
            let block = (1 + at + 1) * WORD..(1 + at + length) * WORD;
            if let Some(block) = content.get_mut(block) {
                block.fill(0);
            }
        }
        for at in [AT_REQUESTS, AT_UNLISTED] {
            content[(1 + at) * WORD..(2 + at) * WORD].fill(0);
        }
        StoreCopy {
            content,
            generation: 0,
        }
    }

    /// Opens a copy, in memory of this process.
    ///
    /// # Errors
    ///
    /// There is no memory for it, or it is damaged.
    pub fn from_copy(copy: &StoreCopy) -> Result<Self, StoreError> {
        let file = sealed_memory("gunicorn-metrics-copy")?;
        fill(&file, 0, copy)?;
        Self::open(file)
    }

    /// Continues with a later copy of the same store. On an error the old content stays.
    ///
    /// # Errors
    ///
    /// It is the copy of another store, or shorter than before, or there is no memory for it.
    pub fn update(&mut self, copy: &StoreCopy) -> Result<(), StoreError> {
        let word = |at: usize| self.segments[0][at].load(Acquire);
        let is_same = [AT_MAGIC, AT_ROLE_AND_SLOT, AT_NUMBER, AT_ID, AT_ID + 1]
            .into_iter()
            .all(|at| copy.word(at) == word(at));
        if !is_same || copy.word(AT_USED) < word(AT_USED) {
            return Err(StoreError::Damaged {
                what: "copy: it is that of another store, or an older one",
                at: 0,
            });
        }
        let known = segment_of(self.used() - 1);
        fill(self.as_fd(), known + 1, copy)?;
        self.refresh()
    }
}

/// Writes a copy into the memory of a reader, which has the segments up to `segments`.
fn fill(file: impl AsFd, segments: usize, copy: &StoreCopy) -> Result<(), StoreError> {
    let file = file.as_fd();
    let store = copy.store();
    let last = segment_of(store.len() / WORD - 1);
    for number in segments..=last {
        let (start, len) = segment_bounds(number);
        allocate(file, start, len).map_err(|source| StoreError::Grow {
            bytes: ((start + len) * WORD) as u64,
            source,
        })?;
    }
    write_all(file, store, 0).map_err(StoreError::system("copy a store"))
}

//! Where a worker hung: text that it leaves in its store when its arbiter aborts it.

use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::layout::AT_STACK;
use crate::memory::{WORD, words};
use crate::{StoreError, WorkerStore};

/// Maximum size of the text, in bytes; the rest is cut off.
const MAX_STACK: usize = 8 * 1024;
/// Number of words before the text: the record's head, and the text's length.
const HEAD: usize = 2;

impl WorkerStore {
    /// Stores where this process hangs.
    ///
    /// # Errors
    ///
    /// No memory is left.
    pub fn say_stack(&self, text: &str) -> Result<(), StoreError> {
        let text = &text.as_bytes()[..text.len().min(MAX_STACK)];
        let (at, record) = self.append_hidden(HEAD + text.len().div_ceil(WORD))?;
        record[1].store(text.len() as u64, Relaxed);
        for (cell, chunk) in record[HEAD..].iter().zip(text.chunks(WORD)) {
            let mut word = [0; WORD];
            word[..chunk.len()].copy_from_slice(chunk);
            cell.store(u64::from_ne_bytes(word), Relaxed);
        }
        self.header(AT_STACK).store(at as u64, Release);
        Ok(())
    }
}

/// Reads that text; `None` if there is none.
pub(crate) fn read_stack<S: Deref<Target = [AtomicU64]>>(segments: &[S]) -> Option<String> {
    let at = words(segments, AT_STACK, 1)?[0].load(Acquire) as usize;
    if at == 0 {
        return None;
    }
    let length = words(segments, at, HEAD)?[1].load(Relaxed) as usize;
    let text = words(segments, at + HEAD, length.min(MAX_STACK).div_ceil(WORD))?;
    let bytes = text
        .iter()
        .flat_map(|word| word.load(Relaxed).to_ne_bytes());
    let bytes: Vec<u8> = bytes.take(length).collect();
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use crate::{Identity, Role, StoreFile};

    #[test]
    fn what_a_worker_leaves_is_read_after_its_death() {
        let identity = Identity {
            role: Role::Worker,
            number: 1,
            slot: 0,
            name: "shop:0".to_owned(),
        };
        let file = StoreFile::create(&identity).unwrap();
        let kept = StoreFile::from_fd(file.as_fd().try_clone_to_owned().unwrap());
        let store = file.adopt().unwrap();
        assert_eq!(kept.stack(), None);
        assert!(kept.requests().is_empty());
        for text in ["in shop.py:7".to_owned(), "é".repeat(6000)] {
            store.say_stack(&text).unwrap();
            let read = kept.stack().unwrap();
            assert!(!read.is_empty() && text.starts_with(&read), "{read}");
        }
    }
}

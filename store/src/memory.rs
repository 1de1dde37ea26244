//! Shared memory as words. It contains all unsafe code of this crate, except one block in
//! `temporary_store.rs`.
//!
//! # How it works
//!
//! A memfd is mapped in segments. The first is 64 KiB, each later one as large as all before it, so
//! that 2 GiB are 16 mappings. A segment is mapped once and never moves: addresses within it stay
//! valid while the file grows. No address space is reserved before it is used (users limit it with
//! `RLIMIT_AS`).
//!
//! # Why it is sound
//!
//! Other processes write the same memory at any time. So it is only accessed as [`AtomicU64`]s:
//! their concurrent writes are not a data race, and every bit pattern is valid.
//!
//! # What if
//!
//! *There is no memory*: a file grows by `fallocate`, which reserves the memory or fails; touching
//! a mapped page never fails afterwards. *The file shrinks*: memfds are sealed against that, and no
//! other file is ever mapped.
#![expect(
    unsafe_code,
    reason = "mapping memory; each block says why it is sound"
)]

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, pwrite};

use crate::error::errno;

/// Size of a word in bytes; all places in shared memory are counted in words.
pub(crate) const WORD: usize = size_of::<u64>();
/// Number of words in the first segment.
pub(crate) const FIRST_SEGMENT: usize = 64 * 1024 / WORD;

/// A mapped part of a file.
#[derive(Debug)]
pub(crate) struct Segment {
    map: MmapRaw,
}

impl Segment {
    /// Maps `len` words from word `at`; the file must already be that large.
    pub(crate) fn map(file: BorrowedFd<'_>, at: usize, len: usize) -> Result<Self, Errno> {
        let map = MmapOptions::new()
            .offset((at * WORD) as u64)
            .len(len * WORD)
            .map_raw(&file)
            .map_err(|error| errno(&error))?;
        Ok(Self { map })
    }

    /// Keeps the mapping while the process lives, so that addresses in it may be stored anywhere.
    /// Only [`unmap`] ends it earlier.
    pub(crate) fn leak(self) -> &'static [AtomicU64] {
        let segment = ManuallyDrop::new(self);
        let words: *const [AtomicU64] = &raw const **segment;
        // SAFETY: as in `deref`, and the mapping is never dropped. `unmap` ends it only for callers
        // that promise that no address in it is used any more.
        unsafe { &*words }
    }
}

/// Ends a mapping of [`Segment::leak`].
///
/// # Safety
///
/// `words` come from [`Segment::leak`], and neither they nor any address in them are used any more.
pub(crate) unsafe fn unmap(words: *const [AtomicU64]) {
    let start = words.cast_mut().cast();
    // SAFETY: it is one whole mapping, and nothing uses it.
    let unmapped = unsafe { rustix::mm::munmap(start, words.len() * WORD) };
    debug_assert!(unmapped.is_ok(), "a mapping can be unmapped");
}

impl Deref for Segment {
    type Target = [AtomicU64];

    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    fn deref(&self) -> &[AtomicU64] {
        let len = self.map.len() / WORD;
        // SAFETY: the mapping is readable and writable, lives as long as `self`, is aligned to a
        // page, holds `len` words, and an `AtomicU64` may have any bits. No plain reference to this
        // memory exists: this is the only access to it. Other processes write it as words too.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU64>(), len) }
    }
}

/// Returns the place of a segment in its file, in words: start and length.
pub(crate) fn segment_bounds(number: usize) -> (usize, usize) {
    match number {
        0 => (0, FIRST_SEGMENT),
        n => (FIRST_SEGMENT << (n - 1), FIRST_SEGMENT << (n - 1)),
    }
}

/// Returns the segment of a word.
pub(crate) fn segment_of(word: usize) -> usize {
    match word / FIRST_SEGMENT {
        0 => 0,
        n => n.ilog2() as usize + 1,
    }
}

/// Returns the words from `at`, if they lie within one segment.
pub(crate) fn words<S: Deref<Target = [AtomicU64]>>(
    segments: &[S],
    at: usize,
    len: usize,
) -> Option<&[AtomicU64]> {
    let number = segment_of(at);
    let start = at - segment_bounds(number).0;
    segments.get(number)?.get(start..start.checked_add(len)?)
}

/// Makes sure that `len` words from word `at` exist in the file and have memory.
pub(crate) fn allocate(file: BorrowedFd<'_>, at: usize, len: usize) -> Result<(), Errno> {
    let (from, bytes) = ((at * WORD) as u64, (len * WORD) as u64);
    loop {
        match fallocate(file, FallocateFlags::empty(), from, bytes) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            // Some file systems (NFS, older FUSE) cannot reserve memory: then zeros are written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return write_zeros(file, from, bytes),
            Err(other) => return Err(other),
        }
    }
}

fn write_zeros(file: BorrowedFd<'_>, from: u64, bytes: u64) -> Result<(), Errno> {
    let zeros = [0; 4096];
    let mut at = from;
    while at < from + bytes {
        let wanted = (from + bytes - at).min(zeros.len() as u64) as usize;
        match pwrite(file, &zeros[..wanted], at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => at += written as u64,
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_each_other_without_gaps() {
        let mut end = 0;
        for number in 0..12 {
            let (start, len) = segment_bounds(number);
            assert_eq!(start, end);
            assert_eq!(segment_of(start), number);
            assert_eq!(segment_of(start + len - 1), number);
            end = start + len;
        }
    }
}

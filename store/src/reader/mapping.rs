//! The memory of a store: its size, its header, and pairs of words that may change meanwhile.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use metrics_model::Point;

use crate::layout::{
    AT_ID, AT_MAGIC, AT_NAME, AT_NAME_LEN, AT_NUMBER, AT_ROLE_AND_SLOT, MAGIC, MAX_NAME, MAX_STORE,
};
use crate::memory::{Segment, WORD, segment_bounds};
use crate::{Identity, Role, StoreError};

pub(super) fn read_identity(first: &Segment) -> Result<(Identity, [u8; 16]), StoreError> {
    let word = |at: usize| first[at].load(Relaxed);
    if word(AT_MAGIC) != MAGIC {
        return Err(damaged("store: it has another magic number", AT_MAGIC));
    }
    let role_and_slot = word(AT_ROLE_AND_SLOT);
    let role =
        Role::from_number(role_and_slot & 0xffff_ffff).ok_or(damaged("role", AT_ROLE_AND_SLOT))?;
    let name_len = usize::try_from(word(AT_NAME_LEN))
        .ok()
        .filter(|&len| len <= MAX_NAME)
        .ok_or(damaged("length of the name", AT_NAME_LEN))?;
    let name =
        String::from_utf8(bytes(first, AT_NAME, name_len)).map_err(|_| damaged("name", AT_NAME))?;
    let mut id = [0; 16];
    id.copy_from_slice(&bytes(first, AT_ID, 16));
    let identity = Identity {
        role,
        number: word(AT_NUMBER),
        slot: (role_and_slot >> 32) as u32,
        name,
    };
    Ok((identity, id))
}

fn bytes(segment: &Segment, at: usize, len: usize) -> Vec<u8> {
    let mut bytes = segment[at..at + len.div_ceil(WORD)]
        .iter()
        .flat_map(|word| word.load(Relaxed).to_ne_bytes())
        .collect::<Vec<_>>();
    bytes.truncate(len);
    bytes
}

/// Returns the valid pair; reads again while its writer changes it. A pair could only be torn if
/// the writer set it twice within each of many reads, as in a damaged store; then the result is
/// what was read.
pub(super) fn timed(cells: &[AtomicU64]) -> Point {
    let mut turn = cells[0].load(Acquire);
    let mut tries = 0;
    loop {
        let pair = 1 + 2 * (turn & 1) as usize;
        let value = f64::from_bits(cells[pair].load(Acquire));
        let time = f64::from_bits(cells[pair + 1].load(Acquire));
        let now = cells[0].load(Acquire);
        tries += 1;
        if now == turn || tries == 1000 {
            return Point::Timed { value, time };
        }
        turn = now;
    }
}

pub(super) fn map(file: BorrowedFd<'_>, number: usize) -> Result<Segment, StoreError> {
    let (start, len) = segment_bounds(number);
    Segment::map(file, start, len).map_err(StoreError::system("map a store"))
}

/// Returns the size in whole words. A segment always exists as a whole, because the writer makes it
/// before using it; a file that ends within one is not mapped beyond its end.
pub(super) fn size_of_file(file: &OwnedFd) -> Result<usize, StoreError> {
    let size = rustix::fs::fstat(file)
        .map_err(StoreError::system("read the size of a store"))?
        .st_size;
    let words = usize::try_from(size).unwrap_or(0) / WORD;
    // Only whole segments count.
    let mut whole = 0;
    for number in 0.. {
        let (start, len) = segment_bounds(number);
        if start + len > words || start + len > MAX_STORE {
            break;
        }
        whole = start + len;
    }
    Ok(whole)
}

pub(super) fn damaged(what: &'static str, at: usize) -> StoreError {
    StoreError::Damaged {
        what,
        at: (at * WORD) as u64,
    }
}

//! Two pieces of memory that are written alternately; the newest intact one counts.
//!
//! The exporter stores its registry here, so that the next one has the totals of workers that are
//! gone. A writer that is killed in the middle leaves the other piece intact. In a directory the
//! same bytes are a file that is replaced as a whole ([`snapshot_to_bytes`]).

use std::cell::Cell;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, ftruncate};
use rustix::io::{Errno, pread};

use crate::file::write_all;
use crate::frame::{self, HEADER, Header};
use crate::{Descriptor, StoreError};

const MAGIC: u64 = u64::from_le_bytes(*b"gpesnap2");

/// Returns a snapshot as the bytes of a file, with its generation: of two files the higher one is
/// newer.
pub fn snapshot_to_bytes(generation: u64, snapshot: &[u8]) -> Vec<u8> {
    let mut bytes = Header::of(generation, snapshot).encode(MAGIC).to_vec();
    bytes.extend_from_slice(snapshot);
    bytes
}

/// Returns generation and snapshot from the bytes of a file; `None` if any part is damaged.
pub fn snapshot_from_bytes(bytes: &[u8]) -> Option<(u64, &[u8])> {
    frame::decode(MAGIC, bytes)
}

/// The two pieces for snapshots of one registry. It uses plain reads and writes, and maps nothing.
#[derive(Debug)]
pub struct Snapshots {
    files: [Descriptor; 2],
    /// Index and generation of the newest, once known: there is one writer at a time.
    newest: Cell<Option<(usize, u64)>>,
}

impl Snapshots {
    /// Creates two empty pieces, in memory.
    ///
    /// # Errors
    ///
    /// The system refuses the memory.
    pub fn create() -> Result<Self, StoreError> {
        let new = || {
            rustix::fs::memfd_create("gunicorn-metrics-snapshot", MemfdFlags::CLOEXEC)
                .map_err(StoreError::system("create a memfd"))
        };
        Ok(Self {
            files: [Descriptor::new(new()?), Descriptor::new(new()?)],
            newest: Cell::new(None),
        })
    }

    /// Opens two existing pieces: inherited, or received over a link.
    pub fn from_fds(first: OwnedFd, second: OwnedFd) -> Self {
        Self {
            files: [Descriptor::new(first), Descriptor::new(second)],
            newest: Cell::new(None),
        }
    }

    /// Returns other descriptors of them, to pass on.
    ///
    /// # Errors
    ///
    /// This process may not open more files, or has closed these.
    pub fn duplicate_fds(&self) -> Result<[OwnedFd; 2], StoreError> {
        let duplicate = |file: &Descriptor| {
            file.duplicate()
                .map_err(StoreError::system("duplicate a descriptor"))
        };
        Ok([duplicate(&self.files[0])?, duplicate(&self.files[1])?])
    }

    /// Returns the newest intact snapshot; `None` if there is none yet.
    ///
    /// # Errors
    ///
    /// A file cannot be read. A damaged one is not an error: the other counts.
    pub fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let newest = self.find_newest()?;
        Ok(newest.map(|(_, _, bytes)| bytes))
    }

    /// Overwrites the older snapshot.
    ///
    /// # Errors
    ///
    /// There is no memory for it; the newest snapshot stays.
    pub fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.newest.get().is_none() {
            self.find_newest()?;
        }
        let newest = self.newest.get();
        let (side, generation) = newest.map_or((0, 0), |(side, generation)| (1 - side, generation));
        let failed = |action| StoreError::system(action);
        let file = self.files[side].get().map_err(failed("write a snapshot"))?;
        // Cleared first: without a header, which is written last, the content is no snapshot.
        ftruncate(file, 0).map_err(failed("clear a snapshot"))?;
        write_all(file, bytes, HEADER as u64).map_err(failed("write a snapshot"))?;
        let header = Header::of(generation + 1, bytes).encode(MAGIC);
        write_all(file, &header, 0).map_err(failed("write a snapshot"))?;
        self.newest.set(Some((side, generation + 1)));
        Ok(())
    }

    fn find_newest(&self) -> Result<Option<(usize, u64, Vec<u8>)>, StoreError> {
        let mut newest = None;
        for side in [0, 1] {
            let Some((generation, bytes)) = read_whole(self.files[side].unchecked())
                .map_err(StoreError::system("read a snapshot"))?
            else {
                continue;
            };
            if newest
                .as_ref()
                .is_none_or(|(_, other, _)| generation > *other)
            {
                newest = Some((side, generation, bytes));
            }
        }
        let known = newest
            .as_ref()
            .map(|(side, generation, _)| (*side, *generation));
        self.newest.set(known);
        Ok(newest)
    }
}

fn read_whole(file: BorrowedFd<'_>) -> Result<Option<(u64, Vec<u8>)>, Errno> {
    let size = rustix::fs::fstat(file)?.st_size as u64;
    let mut header = [0; HEADER];
    if read_full(file, &mut header, 0)? < HEADER {
        return Ok(None);
    }
    let Some(header) = Header::decode(MAGIC, &header) else {
        return Ok(None);
    };
    if header.len != size.saturating_sub(HEADER as u64) {
        return Ok(None);
    }
    let mut bytes = vec![0; header.len as usize];
    let is_whole = read_full(file, &mut bytes, HEADER as u64)? == bytes.len();
    Ok((is_whole && header.fits(&bytes)).then_some((header.generation, bytes)))
}

fn read_full(file: BorrowedFd<'_>, into: &mut [u8], at: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < into.len() {
        match pread(file, &mut into[done..], at + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the snapshots as the next exporter opens them.
    fn reopened(snapshots: &Snapshots) -> Snapshots {
        let [first, second] = snapshots.duplicate_fds().unwrap();
        Snapshots::from_fds(first, second)
    }

    #[test]
    fn the_newest_snapshot_is_read_back() {
        let snapshots = Snapshots::create().unwrap();
        assert_eq!(snapshots.read().unwrap(), None);
        for text in ["one", "two", "a third, longer one"] {
            snapshots.write(text.as_bytes()).unwrap();
            assert_eq!(snapshots.read().unwrap().unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn a_damaged_snapshot_leaves_the_one_before_it() {
        let snapshots = Snapshots::create().unwrap();
        snapshots.write(b"older").unwrap();
        snapshots.write(b"newer").unwrap();
        // The second write went to the second file.
        rustix::io::pwrite(snapshots.files[1].unchecked(), b"x", HEADER as u64).unwrap();
        let snapshots = reopened(&snapshots);
        assert_eq!(snapshots.read().unwrap().unwrap(), b"older");
        snapshots.write(b"newest").unwrap();
        assert_eq!(snapshots.read().unwrap().unwrap(), b"newest");
    }
}

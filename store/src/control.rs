//! The memory that all processes of an instance share: slots, endpoints, counters, deaths.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::deaths::DEATH_WORDS;
use crate::endpoints::ENDPOINT_WORDS;
use crate::file::{may_be_mapped, sealed_memory};
use crate::memory::{Segment, WORD, allocate};
use crate::slots::MAX_SLOTS;
use crate::{Descriptor, StoreError};

const MAGIC: u64 = u64::from_le_bytes(*b"gpectrl1");
const AT_MAGIC: usize = 0;
const AT_STORE_NUMBER: usize = 1;
/// Two words long.
const AT_ID: usize = 2;
const AT_COUNTERS: usize = 8;
/// Number of deaths since the instance began.
pub(crate) const AT_DEATH_COUNT: usize = 63;
pub(crate) const AT_SLOTS: usize = 64;
pub(crate) const AT_ENDPOINTS: usize = AT_SLOTS + MAX_SLOTS;
pub(crate) const AT_DEATHS: usize = AT_ENDPOINTS + ENDPOINT_WORDS;
const SIZE: usize = AT_DEATHS + DEATH_WORDS;

/// Counters that processes of an instance share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Answered scrapes: workers evaluate custom collectors only after a scrape.
    Scrapes = 0,
    /// Started exporters.
    Exporters = 1,
    /// Number of times that settings were read.
    Settings = 2,
    /// Copies of stores written to the metrics directory.
    Copies = 3,
    /// Children of workers that could not make or hand over a store: their counts are lost.
    LostChildren = 4,
    /// Those of them that an arbiter has already counted on the page.
    LostChildrenShown = 5,
}

/// The control memory, mapped while the process lives. Its descriptor passes from the arbiter to
/// its children, to exporters, and after USR2 to the next arbiter.
#[derive(Debug)]
pub struct Control {
    file: Descriptor,
    pub(crate) words: &'static [AtomicU64],
}

impl Control {
    /// Creates the memory, in the first arbiter of an instance.
    ///
    /// # Errors
    ///
    /// The system refuses the memory.
    pub fn create() -> Result<Self, StoreError> {
        let file = sealed_memory("gunicorn-metrics-control")?;
        allocate(file.as_fd(), 0, SIZE).map_err(|source| StoreError::Grow {
            bytes: (SIZE * WORD) as u64,
            source,
        })?;
        let control = Self::map(file, SIZE)?;
        let mut id = [0; 16];
        getrandom(&mut id, GetRandomFlags::empty())
            .map_err(StoreError::system("draw an instance id"))?;
        let (high, low) = id.split_at(8);
        for (word, bytes) in [(AT_ID, high), (AT_ID + 1, low)] {
            let bytes = std::array::from_fn(|i| bytes[i]);
            control.words[word].store(u64::from_be_bytes(bytes), Relaxed);
        }
        control.words[AT_MAGIC].store(MAGIC, Relaxed);
        Ok(control)
    }

    /// Opens memory that was inherited, or received over a link.
    ///
    /// # Errors
    ///
    /// It cannot be mapped, or is not control memory of this version.
    pub fn open(file: OwnedFd) -> Result<Self, StoreError> {
        let size = rustix::fs::fstat(&file)
            .map_err(StoreError::system("read the size of the control memory"))?
            .st_size;
        let damaged = |what| StoreError::Damaged { what, at: 0 };
        let words = usize::try_from(size).unwrap_or(0) / WORD;
        // An arbiter of an earlier version, which this one replaces, has made it without deaths.
        if !may_be_mapped(file.as_fd()) || ![SIZE, AT_DEATHS].contains(&words) {
            return Err(damaged("control memory: it has another size"));
        }
        let control = Self::map(file, words)?;
        if control.words[AT_MAGIC].load(Relaxed) != MAGIC {
            return Err(damaged("control memory: it has another magic number"));
        }
        Ok(control)
    }

    /// Returns another descriptor of it, to pass on.
    ///
    /// # Errors
    ///
    /// This process may not open more files, or has closed this one.
    pub fn duplicate_fd(&self) -> Result<OwnedFd, StoreError> {
        self.file
            .duplicate()
            .map_err(StoreError::system("duplicate a descriptor"))
    }

    /// Returns the id of the instance, 32 hexadecimal digits. It stays the same when the exporter
    /// or, after USR2, the arbiter is replaced.
    pub fn instance_id(&self) -> String {
        let [high, low] = [AT_ID, AT_ID + 1].map(|at| self.words[at].load(Relaxed));
        format!("{high:016x}{low:016x}")
    }

    /// Returns a number that no other store of this instance has.
    pub fn next_store_number(&self) -> u64 {
        self.words[AT_STORE_NUMBER].fetch_add(1, Relaxed) + 1
    }

    /// Increments a counter and returns the new count.
    pub fn count(&self, counter: Counter) -> u64 {
        self.words[AT_COUNTERS + counter as usize].fetch_add(1, AcqRel) + 1
    }

    /// Returns a count.
    pub fn counted(&self, counter: Counter) -> u64 {
        self.words[AT_COUNTERS + counter as usize].load(Acquire)
    }

    /// Becomes the only active exporter, if no other process is. The lock ends with the process (it
    /// is an `fcntl` lock, so a child does not have it), or when the process closes any descriptor
    /// of this memory, so an exporter opens it once.
    ///
    /// # Errors
    ///
    /// The system cannot lock at all.
    pub fn try_lock_exporter(&self) -> Result<bool, StoreError> {
        match rustix::fs::fcntl_lock(
            self.file.unchecked(),
            FlockOperation::NonBlockingLockExclusive,
        ) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(other) => Err(StoreError::system("lock the control memory")(other)),
        }
    }

    /// Returns the process that is the active exporter. That process itself must not call this.
    ///
    /// # Errors
    ///
    /// The system cannot tell.
    pub fn active_exporter(&self) -> Result<Option<u32>, StoreError> {
        let held = fcntl_getlk(self.file.unchecked(), &Flock::from(FlockType::WriteLock))
            .map_err(StoreError::system("look who has the control memory's lock"))?;
        let pid = held.and_then(|held| held.pid);
        Ok(pid.map(|pid| pid.as_raw_nonzero().get().cast_unsigned()))
    }

    fn map(file: OwnedFd, words: usize) -> Result<Self, StoreError> {
        let words = Segment::map(file.as_fd(), 0, words)
            .map_err(StoreError::system("map the control memory"))?
            .leak();
        Ok(Self {
            file: Descriptor::new(file),
            words,
        })
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.unchecked()
    }
}

//! The one memory of an instance that all its processes share: slots, endpoints, counters.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::endpoints::ENDPOINT_WORDS;
use crate::file::{may_be_mapped, sealed_memory};
use crate::memory::{Segment, WORD, allocate};
use crate::slots::MAX_SLOTS;
use crate::{Descriptor, StoreError};

const MAGIC: u64 = u64::from_le_bytes(*b"gpectrl1");
const AT_MAGIC: usize = 0;
const AT_STORE_NUMBER: usize = 1;
/// Two words.
const AT_ID: usize = 2;
const AT_COUNTERS: usize = 8;
pub(crate) const AT_SLOTS: usize = 64;
pub(crate) const AT_ENDPOINTS: usize = AT_SLOTS + MAX_SLOTS;
const SIZE: usize = AT_ENDPOINTS + ENDPOINT_WORDS;

/// Counts that processes of an instance tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Scrapes answered: workers evaluate custom collectors only when there was one.
    Scrapes = 0,
    /// Exporters started.
    Exporters = 1,
    /// Times that settings were read.
    Settings = 2,
    /// Copies of stores written to the metrics directory.
    Copies = 3,
    /// Children of workers that could make no store, or hand none over: what they count is lost.
    LostChildren = 4,
    /// Of those, the ones that an arbiter has counted on the page.
    LostChildrenShown = 5,
}

/// The control memory, mapped while the process lives. Its descriptor passes from the arbiter to
/// its children, to exporters, and by USR2 to the next arbiter.
#[derive(Debug)]
pub struct Control {
    file: Descriptor,
    pub(crate) words: &'static [AtomicU64],
}

impl Control {
    /// Makes one: the first arbiter of an instance.
    ///
    /// # Errors
    ///
    /// When the system refuses the memory.
    pub fn create() -> Result<Self, StoreError> {
        let file = sealed_memory("gunicorn-metrics-control")?;
        allocate(file.as_fd(), 0, SIZE).map_err(|source| StoreError::Grow {
            bytes: (SIZE * WORD) as u64,
            source,
        })?;
        let control = Self::map(file)?;
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

    /// Opens one that was inherited, or came over a link.
    ///
    /// # Errors
    ///
    /// When it cannot be mapped, or is no control memory of this version.
    pub fn open(file: OwnedFd) -> Result<Self, StoreError> {
        let size = rustix::fs::fstat(&file)
            .map_err(StoreError::system("read the size of the control memory"))?
            .st_size;
        let damaged = |what| StoreError::Damaged { what, at: 0 };
        if !may_be_mapped(file.as_fd()) || usize::try_from(size) != Ok(SIZE * WORD) {
            return Err(damaged("control memory: it has another size"));
        }
        let control = Self::map(file)?;
        if control.words[AT_MAGIC].load(Relaxed) != MAGIC {
            return Err(damaged("control memory: it has another magic number"));
        }
        Ok(control)
    }

    /// Another descriptor of it, to be passed on.
    ///
    /// # Errors
    ///
    /// When this process may not open more files, or has closed this one.
    pub fn duplicate_fd(&self) -> Result<OwnedFd, StoreError> {
        self.file
            .duplicate()
            .map_err(StoreError::system("duplicate a descriptor"))
    }

    /// Tells the instance apart from all others, in 32 hexadecimal digits. It stays the same when the
    /// exporter or, by USR2, the arbiter is replaced.
    pub fn instance_id(&self) -> String {
        let [high, low] = [AT_ID, AT_ID + 1].map(|at| self.words[at].load(Relaxed));
        format!("{high:016x}{low:016x}")
    }

    /// A number that no other store of this instance has.
    pub fn next_store_number(&self) -> u64 {
        self.words[AT_STORE_NUMBER].fetch_add(1, Relaxed) + 1
    }

    /// Counts one more, and answers the new count.
    pub fn count(&self, counter: Counter) -> u64 {
        self.words[AT_COUNTERS + counter as usize].fetch_add(1, AcqRel) + 1
    }

    /// How many there were.
    pub fn counted(&self, counter: Counter) -> u64 {
        self.words[AT_COUNTERS + counter as usize].load(Acquire)
    }

    /// Becomes the one active exporter, if no other process is. The lock goes with the process (it
    /// is of the `fcntl` kind: a child does not have it), or when any descriptor of this memory is
    /// closed in it, so an exporter opens it once.
    ///
    /// # Errors
    ///
    /// When the system cannot lock at all.
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

    /// The process that is the active exporter. Not to be asked by that process itself.
    ///
    /// # Errors
    ///
    /// When the system cannot say.
    pub fn active_exporter(&self) -> Result<Option<u32>, StoreError> {
        let held = fcntl_getlk(self.file.unchecked(), &Flock::from(FlockType::WriteLock))
            .map_err(StoreError::system("look who has the control memory's lock"))?;
        let pid = held.and_then(|held| held.pid);
        Ok(pid.map(|pid| pid.as_raw_nonzero().get().cast_unsigned()))
    }

    fn map(file: OwnedFd) -> Result<Self, StoreError> {
        let words = Segment::map(file.as_fd(), 0, SIZE)
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

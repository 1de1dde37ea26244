//! A store as an open file: the arbiter creates it before the fork, and the worker adopts it after.
//!
//! It is always sealed memory (a memfd). It can only be reached through descriptors, and it cannot
//! shrink, so accesses to its mapping never fault, whatever happens in any file system.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Acquire;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use crate::layout::{
    AT_HIDES_BY, AT_ID, AT_LAST_WORDS, AT_MAGIC, AT_NAME, AT_NAME_LEN, AT_NUMBER, AT_ROLE_AND_SLOT,
    AT_USED, HEADER, HIDES_BY_NUL, MAGIC, MAX_NAME,
};
use crate::memory::{FIRST_SEGMENT, Segment, WORD, allocate, segment_bounds, segment_of};
use crate::requests::{OpenRequests, read_requests};
use crate::stack::read_stack;
use crate::{Descriptor, Process, StoreError, TemporaryStore, WorkerStore};

/// The kind of process that writes a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A worker of Gunicorn.
    Worker,
    /// The arbiter, which may set metrics when it preloads the application.
    Arbiter,
    /// The exporter, for its metrics of other processes.
    Exporter,
    /// A process that a worker has started.
    Child,
    /// No process: the store carries over what dead writers could not send to the shared registry.
    #[serde(rename = "heir")]
    CarryOver,
}

impl Role {
    const EVERY: [Self; 5] = [
        Self::Worker,
        Self::Arbiter,
        Self::Exporter,
        Self::Child,
        Self::CarryOver,
    ];

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        Self::EVERY.get(usize::try_from(number).ok()?).copied()
    }
}

/// The owner of a store. It does not change when an exporter dies; the process is stored
/// separately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What kind of process writes it.
    pub role: Role,
    /// Identifies the store within one instance; from [`Control::next_store_number`].
    ///
    /// [`Control::next_store_number`]: crate::Control::next_store_number
    pub number: u64,
    /// The slot of a worker.
    pub slot: u32,
    /// The name for users (`<instance>:<slot>`), which is the readable part of the writer id.
    pub name: String,
}

/// A store as an open file, not mapped yet.
///
/// The arbiter keeps it to pass it to exporters. A forked worker has to drop the inherited stores
/// of its siblings, or their memory outlives them.
#[derive(Debug)]
pub struct StoreFile {
    file: Descriptor,
}

impl StoreFile {
    /// Creates an empty store.
    ///
    /// # Errors
    ///
    /// The system refuses the file or its first 64 KiB, or the name is longer than 256 bytes.
    pub fn create(identity: &Identity) -> Result<Self, StoreError> {
        if identity.name.len() > MAX_NAME {
            return Err(StoreError::Name {
                name: identity.name.clone(),
                limit: MAX_NAME,
            });
        }
        let mut id = [0; 16];
        getrandom(&mut id, GetRandomFlags::empty())
            .map_err(StoreError::system("draw a writer id"))?;

        let file = sealed_memory("gunicorn-metrics-store")?;
        allocate(file.as_fd(), 0, FIRST_SEGMENT).map_err(|source| StoreError::Grow {
            bytes: (FIRST_SEGMENT * WORD) as u64,
            source,
        })?;
        write_all(file.as_fd(), &header(identity, id), 0)
            .map_err(StoreError::system("write the header of a store"))?;
        Ok(Self::from_fd(file))
    }

    /// Opens an existing store: an inherited descriptor, or one received over a link.
    pub fn from_fd(file: OwnedFd) -> Self {
        Self {
            file: Descriptor::new(file),
        }
    }

    /// Returns another handle on the same store.
    ///
    /// # Errors
    ///
    /// This process may not open more files.
    pub fn duplicate(&self) -> Result<Self, StoreError> {
        self.duplicate_fd().map(Self::from_fd)
    }

    /// Returns another descriptor of it, to pass on.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn duplicate_fd(&self) -> Result<OwnedFd, StoreError> {
        self.file
            .duplicate()
            .map_err(StoreError::system("duplicate a descriptor"))
    }

    /// Returns the code of its writer's reason to end ([`WorkerStore::say_last`]); 0 = none.
    pub fn last_words(&self) -> u64 {
        let mut words = [0; WORD];
        match rustix::io::pread(
            self.file.unchecked(),
            &mut words,
            (AT_LAST_WORDS * WORD) as u64,
        ) {
            Ok(WORD) => u64::from_ne_bytes(words),
            _ => 0,
        }
    }

    /// Returns its writer's requests in progress.
    pub fn requests(&self) -> OpenRequests {
        self.segments()
            .map_or_else(OpenRequests::default, |segments| read_requests(&segments))
    }

    /// Returns where its writer hung ([`WorkerStore::say_stack`]).
    pub fn stack(&self) -> Option<String> {
        read_stack(&self.segments()?)
    }

    /// Maps all of it, for one look.
    fn segments(&self) -> Option<Vec<Segment>> {
        let file = self.file.get().ok().filter(|file| may_be_mapped(*file))?;
        let size = rustix::fs::fstat(file).ok()?.st_size as usize / WORD;
        let first =
            (size >= FIRST_SEGMENT).then(|| Segment::map(file, 0, FIRST_SEGMENT).ok())??;
        let used = first[AT_USED].load(Acquire) as usize;
        if used == 0 || used > size {
            return None;
        }
        let mut segments = vec![first];
        for number in 1..=segment_of(used - 1) {
            let (start, len) = segment_bounds(number);
            segments.push(Segment::map(file, start, len).ok()?);
        }
        Some(segments)
    }

    /// Makes this process its writer: after the fork, in the worker. Its content stays and is
    /// continued (an exporter's store passes from one to the next).
    ///
    /// Its memory stays mapped while this process lives.
    ///
    /// # Errors
    ///
    /// It cannot be mapped, or is not a store.
    pub fn adopt(self) -> Result<WorkerStore, StoreError> {
        WorkerStore::adopt(self.into_fd()?, Process::current())
    }

    /// Does what [`adopt`](Self::adopt) does on behalf of another process, for tests that play
    /// several processes in one.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn adopt_as(self, process: Process) -> Result<WorkerStore, StoreError> {
        WorkerStore::adopt(self.into_fd()?, process)
    }

    /// Makes this process its writer for a while: its memory is mapped as long as the returned
    /// store lives.
    ///
    /// # Errors
    ///
    /// Those of [`adopt`](Self::adopt).
    pub fn write_for_a_while(self) -> Result<TemporaryStore, StoreError> {
        self.adopt().map(TemporaryStore::new)
    }

    /// Gives up its descriptor.
    ///
    /// # Errors
    ///
    /// This process has closed it.
    pub fn into_fd(self) -> Result<OwnedFd, StoreError> {
        self.file
            .into_owned()
            .ok_or_else(|| StoreError::system("use the descriptor of a store")(Errno::BADF))
    }
}

impl AsFd for StoreFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.unchecked()
    }
}

/// Creates memory that may grow and never shrinks: mapped parts of it stay.
pub(crate) fn sealed_memory(name: &str) -> Result<OwnedFd, StoreError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file =
        rustix::fs::memfd_create(name, flags).map_err(StoreError::system("create a memfd"))?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK)
        .map_err(StoreError::system("seal a memfd"))?;
    Ok(file)
}

/// Returns whether the file can never shrink under a mapping. A file in a directory can, so it is
/// not a store.
pub(crate) fn may_be_mapped(file: BorrowedFd<'_>) -> bool {
    matches!(rustix::fs::fcntl_get_seals(file), Ok(seals) if seals.contains(SealFlags::SHRINK))
}

fn header(identity: &Identity, id: [u8; 16]) -> Vec<u8> {
    let mut words = vec![0_u64; HEADER];
    words[AT_MAGIC] = MAGIC;
    words[AT_ROLE_AND_SLOT] = identity.role as u64 | u64::from(identity.slot) << 32;
    words[AT_NUMBER] = identity.number;
    words[AT_USED] = HEADER as u64;
    words[AT_HIDES_BY] = HIDES_BY_NUL;
    words[AT_NAME_LEN] = identity.name.len() as u64;
    let mut bytes = words
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect::<Vec<_>>();
    bytes[AT_ID * WORD..][..id.len()].copy_from_slice(&id);
    bytes[AT_NAME * WORD..][..identity.name.len()].copy_from_slice(identity.name.as_bytes());
    bytes
}

pub(crate) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

pub(crate) fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

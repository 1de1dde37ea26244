//! A directory that was opened once, and the only way to its files.
//!
//! All names are relative to the open directory. Symbolic links in it are not followed. Only
//! regular files with one name and an accepted owner are used. No file is overwritten: a new file
//! is written and then renamed. So nothing outside the directory changes, and no device, pipe or
//! socket is opened, whatever the directory contains.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Suffix of files that are being written.
pub(super) const UNFINISHED_SUFFIX: &str = ".tmp";
/// Maximum number of names that are looked at in a directory.
const MAX_NAMES: usize = 100_000;

/// The users whose files are accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    /// The user of this process; root is accepted too.
    pub(super) user: u32,
    /// The group, if the directory is shared with one.
    pub(super) group: Option<u32>,
}

impl Access {
    pub(super) fn accepts(self, stat: &Stat) -> bool {
        stat.st_uid == self.user || stat.st_uid == 0 || self.group == Some(stat.st_gid)
    }

    pub(super) fn file_mode(self) -> Mode {
        match self.group {
            None => Mode::RUSR | Mode::WUSR,
            Some(_) => Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP,
        }
    }
}

/// The reason why a file of the directory is not used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum FileError {
    /// Not a regular file.
    #[error("it is {0}, expected a regular file")]
    Kind(&'static str),
    /// A file of another user.
    #[error("it belongs to user {owner}, allowed are user {user} and root")]
    Owner { owner: u32, user: u32 },
    /// Its other name may belong to something else on the system.
    #[error("it has {0} hard links, allowed is one")]
    Links(u64),
    /// It is larger than any file of its kind.
    #[error("it has {bytes} bytes, allowed are {limit}")]
    TooLarge { bytes: u64, limit: usize },
    /// The system has no memory for it.
    #[error("there is no memory for its {0} bytes")]
    Memory(u64),
    /// An error of the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for FileError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl FileError {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Identifies a file and its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Device and inode.
    pub(crate) identity: (u64, u64),
    pub(crate) size: u64,
    changed: (i64, u64),
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            identity: (stat.st_dev as _, stat.st_ino as _),
            size: stat.st_size as u64,
            changed: (stat.st_ctime as _, stat.st_ctime_nsec as _),
        }
    }

    /// Returns the time since its last change; zero if the clock went back.
    pub(super) fn age(&self) -> Duration {
        let changed = Duration::from_secs(self.changed.0.max(0).cast_unsigned());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default().saturating_sub(changed)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Folder {
    pub(super) fd: OwnedFd,
    pub(super) access: Access,
}

impl Folder {
    /// Returns a file's stamp without opening it.
    pub(crate) fn stamp(&self, name: &str) -> Result<Stamp, FileError> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.check(&stat)?;
        Ok(Stamp::of(&stat))
    }

    /// Opens a file for reading.
    pub(crate) fn open(&self, name: &str) -> Result<(File, Stamp), FileError> {
        // Opening a device or a pipe may have an effect, so the type is checked first.
        self.stamp(name)?;
        let file = self.open_checked(name, OFlags::RDONLY)?;
        let stat = rustix::fs::fstat(&file)?;
        Ok((file, Stamp::of(&stat)))
    }

    /// Reads a whole file; checks its size before it reserves memory.
    pub(crate) fn read(&self, name: &str, limit: usize) -> Result<(Vec<u8>, Stamp), FileError> {
        let (file, stamp) = self.open(name)?;
        let bytes = read_range(&file, stamp.size, limit)?;
        Ok((bytes, stamp))
    }

    /// Replaces `name`, whatever it is, by a new file with these bytes. A reader, and the next
    /// process after one that is killed here, find the old file or the new one. With `is_durable`
    /// that holds after a power failure too.
    pub(crate) fn replace(
        &self,
        name: &str,
        bytes: &[u8],
        is_durable: bool,
    ) -> Result<Stamp, FileError> {
        let unfinished = format!("{name}{UNFINISHED_SUFFIX}");
        let written = self.write_new(&unfinished, bytes, is_durable);
        let renamed = written.and_then(|file| {
            rustix::fs::renameat(&self.fd, &*unfinished, &self.fd, name)?;
            // Read after the rename, which changes it.
            Ok(Stamp::of(&rustix::fs::fstat(file)?))
        });
        if renamed.is_err() {
            let _may_not_exist = self.remove(&unfinished);
        }
        renamed
    }

    /// Removes a name, which may be gone already. Of a link, this removes the link.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FileError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a lock file, and creates it if it is missing.
    pub(super) fn open_lock(&self, name: &str) -> Result<File, FileError> {
        loop {
            match self.stamp(name) {
                Ok(_) => return self.open_checked(name, OFlags::RDWR),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
            match self.create(name, OFlags::RDWR) {
                Err(FileError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other,
            }
        }
    }

    /// Returns the names, and whether there are more than the limit.
    pub(super) fn names(&self) -> Result<(Vec<String>, bool), FileError> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            // A name that is not UTF-8 is not ours.
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == MAX_NAMES {
                return Ok((names, true));
            }
            names.push(name.to_owned());
        }
        names.sort_unstable();
        Ok((names, false))
    }

    fn write_new(&self, name: &str, bytes: &[u8], is_durable: bool) -> Result<File, FileError> {
        let file = match self.create(name, OFlags::WRONLY) {
            // A process was killed while writing it.
            Err(FileError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(name)?;
                self.create(name, OFlags::WRONLY)?
            }
            other => other?,
        };
        file.write_all_at(bytes, 0)?;
        if is_durable {
            file.sync_all()?;
        }
        Ok(file)
    }

    fn create(&self, name: &str, access: OFlags) -> Result<File, FileError> {
        let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = self.access.file_mode();
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?;
        if let Some(group) = self.access.group {
            // The umask may exclude the group, and the file may have another group.
            let group = rustix::fs::Gid::from_raw(group);
            rustix::fs::fchown(&file, None, Some(group))?;
            rustix::fs::fchmod(&file, mode)?;
        }
        Ok(file.into())
    }

    fn open_checked(&self, name: &str, access: OFlags) -> Result<File, FileError> {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        self.check(&rustix::fs::fstat(&file)?)?;
        Ok(file.into())
    }

    fn check(&self, stat: &Stat) -> Result<(), FileError> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => None,
            FileType::Directory => Some("a directory"),
            FileType::Symlink => Some("a symbolic link"),
            FileType::Fifo => Some("a named pipe"),
            FileType::Socket => Some("a socket"),
            _ => Some("a device"),
        };
        if let Some(kind) = kind {
            return Err(FileError::Kind(kind));
        }
        if !self.access.accepts(stat) {
            return Err(FileError::Owner {
                owner: stat.st_uid,
                user: self.access.user,
            });
        }
        match stat.st_nlink {
            // 0: the file was removed after it was opened.
            0 | 1 => Ok(()),
            #[allow(clippy::useless_conversion, reason = "of another width elsewhere")]
            links => Err(FileError::Links(links.into())),
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads `bytes` bytes of a file from its beginning, or fewer if it is shorter.
pub(crate) fn read_range(file: &File, bytes: u64, limit: usize) -> Result<Vec<u8>, FileError> {
    let size = usize::try_from(bytes).unwrap_or(usize::MAX);
    if size > limit {
        return Err(FileError::TooLarge { bytes, limit });
    }
    let mut content = Vec::new();
    content
        .try_reserve_exact(size)
        .map_err(|_| FileError::Memory(bytes))?;
    content.resize(size, 0);
    let mut done = 0;
    while done < size {
        match file.read_at(&mut content[done..], done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    content.truncate(done);
    Ok(content)
}

//! Opens the metrics directory: creates it if it is missing, and checks its owner.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use super::folder::{Access, FileError, Folder};
use super::{Directory, LOCK, Origin};
use metrics_settings::Settings;

/// The reason why the metrics directory cannot be used, with its remedy.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum DirectoryError {
    #[error("it cannot be created by user {user} ({source}): create it for that user")]
    Create { user: u32, source: io::Error },
    #[error("it cannot be opened by user {user} ({source}): give it to that user")]
    Open { user: u32, source: io::Error },
    #[error("it is not a directory: name another, or remove that file")]
    Kind,
    #[error("{path} in it is {kind}, expected a directory: remove it")]
    Subdirectory { path: PathBuf, kind: &'static str },
    #[error(
        "it is a symbolic link now and was a directory before, so nothing is written to its target: put the directory back, or restart Gunicorn with the path that you mean"
    )]
    BecameLink,
    #[error(
        "it belongs to user {owner} now and belonged to user {before} before, so nothing is written to it: put the directory back, or restart Gunicorn with the path that you mean"
    )]
    OwnerChanged { owner: u32, before: u32 },
    #[error(
        "it is a symbolic link of user {owner}, allowed are links of user {user} and root: name the directory itself"
    )]
    Link { owner: u32, user: u32 },
    #[error(
        "{path} belongs to user {owner}, allowed are user {user} and root: run both as one user, give it to user {user}, or share it by its group (exporter.prometheus.multiproc_group)"
    )]
    Owner {
        path: PathBuf,
        owner: u32,
        user: u32,
    },
    #[error("{path} can be written by others: take their right to write (chmod o-w), or remove it")]
    Writable { path: PathBuf },
    #[error("it cannot be written by user {user} ({source}): give it to that user")]
    Write { user: u32, source: FileError },
    #[error("{name} in it cannot be used: {source}; remove it")]
    File {
        name: &'static str,
        source: FileError,
    },
}

impl Directory {
    /// Opens it, and creates it if it is missing. With `is_shared`, all users of its group may read
    /// and write its files.
    pub fn open(path: &Path, is_shared: bool) -> Result<Self, DirectoryError> {
        Self::open_like(path, is_shared, None)
    }

    /// Opens it again. With `before`, it must be of the same kind and owner as when this process
    /// opened it first: a user that can rename it cannot choose where this process writes.
    pub(crate) fn open_like(
        path: &Path,
        is_shared: bool,
        before: Option<Origin>,
    ) -> Result<Self, DirectoryError> {
        let user = geteuid().as_raw();
        let may_be_link = before.is_none_or(|before| before.is_link);
        let (top, is_link) = open_top(path, is_shared, may_be_link)?;
        let stat = rustix::fs::fstat(&top).map_err(open_failed)?;
        let owner = stat.st_uid;
        let origin = Origin { is_link, owner };
        if let Some(before) = before.map(|before| before.owner)
            && ![before, user].contains(&owner)
        {
            return Err(DirectoryError::OwnerChanged { owner, before });
        }
        let is_ours = stat.st_uid == user || stat.st_uid == 0;
        let is_writable = |bits: Mode| Mode::from_raw_mode(stat.st_mode).intersects(bits);
        let access = Access {
            user,
            group: is_shared.then_some(stat.st_gid),
        };
        let top = Folder { fd: top, access };
        let (home, home_path) = if is_writable(Mode::WOTH) {
            open_private(&top, path, &stat, is_shared)?
        } else if is_shared || is_ours && !is_writable(Mode::WGRP) {
            let fd = top.fd.try_clone().map_err(open_failed)?;
            (Folder { fd, access }, path.to_owned())
        } else if is_ours {
            open_private(&top, path, &stat, is_shared)?
        } else {
            return Err(DirectoryError::Owner {
                path: path.to_owned(),
                owner: stat.st_uid,
                user,
            });
        };
        let lock = home.open_lock(LOCK).map_err(|source| match source {
            source @ FileError::Io(_) => DirectoryError::Write { user, source },
            source => DirectoryError::File { name: LOCK, source },
        })?;
        Ok(Self {
            path: path.to_owned(),
            origin,
            top,
            home,
            home_path,
            lock,
        })
    }
}

/// Called by an arbiter with more rights than its exporter: creates the metrics directory for the
/// exporter's user and group, if it is missing, or is empty and belongs to this user. Errors are
/// logged by the exporter, which then cannot use the directory.
pub fn create_directory(settings: &Settings, (user, group): (u32, u32)) {
    let Some(path) = settings.store_directory() else {
        return;
    };
    let create = || -> io::Result<()> {
        make(path, settings.prometheus.multiproc_group)?;
        let directory = rustix::fs::open(path, directory_flags(), Mode::empty())?;
        let stat = rustix::fs::fstat(&directory)?;
        let is_empty = Dir::read_from(&directory)?
            .filter_map(Result::ok)
            .all(|entry| entry.file_name() == c"." || entry.file_name() == c"..");
        let is_private = !Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH);
        if is_empty && is_private && stat.st_uid == geteuid().as_raw() {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            rustix::fs::fchown(&directory, Some(user), Some(group))?;
        }
        Ok(())
    };
    if let Err(error) = create() {
        tracing::debug!("{} is not created: {error}", path.display());
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC
}

fn open_failed(error: impl Into<io::Error>) -> DirectoryError {
    DirectoryError::Open {
        user: geteuid().as_raw(),
        source: error.into(),
    }
}

/// Creates a directory that only this user, or its group, can use.
fn make(path: &Path, is_shared: bool) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = if is_shared { 0o770 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Returns the directory, and whether its path is a symbolic link.
fn open_top(
    path: &Path,
    is_shared: bool,
    may_be_link: bool,
) -> Result<(OwnedFd, bool), DirectoryError> {
    let user = geteuid().as_raw();
    let open = |flags| rustix::fs::open(path, flags, Mode::empty());
    match open(directory_flags()) {
        Err(Errno::NOENT) => {
            make(path, is_shared).map_err(|source| DirectoryError::Create { user, source })?;
            let top = open(directory_flags()).map_err(open_failed)?;
            Ok((top, false))
        }
        Err(Errno::LOOP | Errno::NOTDIR) => {
            let stat = rustix::fs::lstat(path).map_err(|error| match error {
                Errno::NOTDIR => DirectoryError::Kind,
                error => open_failed(error),
            })?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                return Err(DirectoryError::Kind);
            }
            if !may_be_link {
                return Err(DirectoryError::BecameLink);
            }
            if stat.st_uid != user && stat.st_uid != 0 {
                let owner = stat.st_uid;
                return Err(DirectoryError::Link { owner, user });
            }
            let top = open(directory_flags() - OFlags::NOFOLLOW).map_err(|error| match error {
                Errno::NOTDIR => DirectoryError::Kind,
                error => open_failed(error),
            })?;
            Ok((top, true))
        }
        other => Ok((other.map_err(open_failed)?, false)),
    }
}

/// Opens a subdirectory that only this user can write, because others can write the directory.
fn open_private(
    top: &Folder,
    path: &Path,
    top_stat: &Stat,
    is_shared: bool,
) -> Result<(Folder, PathBuf), DirectoryError> {
    let user = geteuid().as_raw();
    let (name, mode) = if is_shared {
        ("gunicorn-metrics".to_owned(), Mode::RWXU | Mode::RWXG)
    } else {
        (format!("gunicorn-metrics-{user}"), Mode::RWXU)
    };
    let home_path = path.join(&name);
    let is_new = match rustix::fs::mkdirat(top, &*name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => {
            let source = error.into();
            return Err(DirectoryError::Write { user, source });
        }
    };
    let opened = rustix::fs::openat(top, &*name, directory_flags(), Mode::empty());
    let fd = opened.map_err(|error| match error {
        Errno::LOOP | Errno::NOTDIR => DirectoryError::Subdirectory {
            kind: kind_of(top, &name),
            path: home_path.clone(),
        },
        error => open_failed(error),
    })?;
    if is_new && is_shared {
        rustix::fs::fchmod(&fd, mode | Mode::SGID).map_err(open_failed)?;
    }
    let stat = rustix::fs::fstat(&fd).map_err(open_failed)?;
    let is_accepted = stat.st_uid == user
        || is_shared && [top_stat.st_gid, getegid().as_raw()].contains(&stat.st_gid);
    if !is_accepted {
        return Err(DirectoryError::Owner {
            path: home_path,
            owner: stat.st_uid,
            user,
        });
    }
    let others = if is_shared {
        Mode::WOTH
    } else {
        Mode::WOTH | Mode::WGRP
    };
    if Mode::from_raw_mode(stat.st_mode).intersects(others) {
        return Err(DirectoryError::Writable { path: home_path });
    }
    let access = Access {
        user,
        group: is_shared.then_some(stat.st_gid),
    };
    Ok((Folder { fd, access }, home_path))
}

fn kind_of(folder: &Folder, name: &str) -> &'static str {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Symlink) => "a symbolic link",
        _ => "no directory",
    }
}

#[cfg(test)]
mod tests;

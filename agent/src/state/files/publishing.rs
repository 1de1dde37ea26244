//! Copies of this instance's stores, for the reader of the directory.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use metrics_store::{Control, Counter};

use super::{FOREIGN, Files};
use crate::state::{Entry, Life, State};
use crate::stores::{CopyName, FileError, Stamp};

/// Maximum number of ended writers that wait for the reader, or for a directory that cannot be written.
const MAX_WAITING: usize = 256;
/// Copies that take longer than this are made less often, so that they take at most a tenth of the
/// time.
const SLOW: Duration = Duration::from_millis(50);

/// The last copies, and their times.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    /// By the number of the store.
    written: HashMap<u64, CopyState>,
    life: Option<OwnedFd>,
    /// A copy of it, for the arbiter.
    life_to_send: Option<OwnedFd>,
    /// When the copies were made last, and how long that took.
    last: Option<(Instant, Duration)>,
    scraped_at: Option<(i64, u64)>,
}

#[derive(Debug)]
struct CopyState {
    checksum: u64,
    has_ended: bool,
    stamp: Stamp,
}

impl Publisher {
    /// The directory is another one now.
    pub(super) fn begin_anew(&mut self) {
        self.written.clear();
        self.life = None;
        self.last = None;
    }

    pub(super) fn forget(&mut self, number: u64) {
        self.written.remove(&number);
    }
}

impl State {
    /// Writes copies of the stores that have changed, before a page shows what they hold. Nothing is
    /// written while the arbiter has to be sent the file whose lock says that they are alive.
    pub fn publish(&self) {
        let Some(files) = &self.files else { return };
        let files = &mut *files.borrow_mut();
        let inner = &mut *self.inner.borrow_mut();
        let mut own: Vec<_> = inner
            .writers
            .iter_mut()
            .filter(|(number, _)| **number < FOREIGN)
            .collect();
        if own.is_empty() {
            return;
        }
        let is_quiet = own.iter().all(|(_, entry)| entry.life == Life::Live);
        let began = Instant::now();
        if let Some((at, took)) = files.publishing.last
            && is_quiet
            && took > SLOW
            && at.elapsed() < took * 10
        {
            return;
        }
        let mut failed = None;
        if files.directory.is_some() {
            if let Err(error) = files.hold_life() {
                failed = Some(error);
            }
            let is_sent = files.publishing.life_to_send.is_none();
            for (number, entry) in own.iter_mut().filter(|_| is_sent) {
                if failed.is_none()
                    && let Err(error) = files.write_copy(**number, entry, &self.control)
                {
                    failed = Some(error);
                }
            }
            files.count_scrapes(&self.control);
        }
        match failed {
            None if files.directory.is_some() => files.can_write(),
            None => {}
            Some(error) => {
                self.own.failed("directory");
                files.cannot_use(&format!(
                    "it cannot be written ({error}): make room there, or give it to this user"
                ));
            }
        }
        files.publishing.last = Some((began, began.elapsed()));
        self.give_up(files, &mut own);
    }

    /// The file that the arbiter has to keep open, if it has not been sent yet.
    pub fn take_life(&self) -> Option<OwnedFd> {
        let files = self.files.as_ref()?;
        files.borrow_mut().publishing.life_to_send.take()
    }

    /// Bounds what waits for the reader, or for a directory that cannot be written.
    fn give_up(&self, files: &Files, own: &mut [(&u64, &mut Entry)]) {
        let waits = |entry: &Entry| {
            matches!(entry.life, Life::Folded | Life::Committed) && !entry.is_delivered
        };
        let count = own.iter().filter(|(_, entry)| waits(entry)).count();
        let excess = count.saturating_sub(MAX_WAITING);
        let waiting = own.iter_mut().filter(|(_, entry)| waits(entry));
        let mut lost = 0;
        for (number, entry) in waiting.take(excess) {
            let written = files.publishing.written.get(number);
            if !written.is_some_and(|written| written.has_ended) {
                lost += 1;
                self.own.failed("directory");
            }
            entry.life = Life::Committed;
            entry.is_delivered = true;
        }
        if lost > 0 {
            tracing::error!(
                "the metrics of {lost} ended workers are in no file: {MAX_WAITING} others wait for the directory already"
            );
        }
    }
}

impl Files {
    fn hold_life(&mut self) -> Result<(), FileError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let publishing = &mut self.publishing;
        let is_current = |life: &OwnedFd| directory.is_life_of(life, &self.instance);
        if publishing.life.as_ref().is_some_and(is_current) {
            return Ok(());
        }
        let life = directory.hold_life(&self.instance)?;
        publishing.life_to_send = Some(life.try_clone()?);
        publishing.life = Some(life);
        Ok(())
    }

    /// Writes the copy of one store if the store has changed, or the file is not the last copy.
    fn write_copy(
        &mut self,
        number: u64,
        entry: &mut Entry,
        control: &Control,
    ) -> Result<(), FileError> {
        let is_reader = self.is_reader();
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        // The reader has the values of its own ended writers, and removes their copies.
        if entry.is_delivered || is_reader && entry.life == Life::Committed {
            return Ok(());
        }
        let has_ended = !is_reader && entry.life == Life::Committed;
        let name = CopyName {
            instance: self.instance.clone(),
            number,
        };
        if has_ended && directory.is_taken(&name) {
            entry.is_delivered = true;
            return Ok(());
        }
        let name = name.to_string();
        let copy = entry.writer.copy(has_ended);
        let checksum = copy.checksum();
        let is_written = |written: &CopyState| {
            written.checksum == checksum
                && written.has_ended == has_ended
                && directory.home().stamp(&name).ok() == Some(written.stamp)
        };
        if !self.publishing.written.get(&number).is_some_and(is_written) {
            let bytes = copy.to_bytes(control.count(Counter::Copies));
            let stamp = directory.home().replace(&name, &bytes, false)?;
            let written = CopyState {
                checksum,
                has_ended,
                stamp,
            };
            self.publishing.written.insert(number, written);
        }
        Ok(())
    }

    /// Notices that a reader in another process was scraped, so that workers evaluate custom
    /// collectors.
    fn count_scrapes(&mut self, control: &Control) {
        if self.is_reader() {
            return;
        }
        let Some(directory) = &self.directory else {
            return;
        };
        let scraped_at = directory.scraped_at();
        if std::mem::replace(&mut self.publishing.scraped_at, scraped_at) != scraped_at {
            control.count(Counter::Scrapes);
        }
    }

    fn can_write(&mut self) {
        if self.said.take().is_some() {
            tracing::warn!("{} can be written again", self.path.display());
        }
    }
}

//! PUSH and LEAVE: batches of absolute values, each applied exactly once.
//!
//! The rules are those of the section PUSH of `redis-module/README.md`; their numbers stand beside
//! the code. Whether a batch is accepted is decided before anything is touched
//! ([`Registry::admit`]): what is not applied changes nothing, not even the time.

use super::writer::{Phase, Writer};
use super::{Registry, RegistryError, Stamp};
use crate::{Batch, BatchKind, Epoch};

/// How a registry answers a batch or a LEAVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushStatus {
    /// Applied.
    Ok,
    /// This seq, or a later one, was applied before.
    Dup,
    /// The registry does not know the state that the batch builds on: send the full state.
    Resync,
    /// The writer has left.
    Gone,
    /// The writer was silent for so long that only its last seq is known.
    Forgotten,
}

impl PushStatus {
    /// The word in the reply.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Dup => "DUP",
            Self::Resync => "RESYNC",
            Self::Gone => "GONE",
            Self::Forgotten => "FORGOTTEN",
        }
    }

    /// The status of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Ok,
            Self::Dup,
            Self::Resync,
            Self::Gone,
            Self::Forgotten,
        ]
        .into_iter()
        .find(|status| status.as_str() == word)
    }
}

/// The answer to a batch or a LEAVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushReply {
    /// What became of it; only [`PushStatus::Ok`] has changed anything.
    pub status: PushStatus,
    /// The registry's epoch.
    pub epoch: Epoch,
    /// The last seq of this writer that was applied; 0 if none is known.
    pub last_seq: u64,
    /// How many entries were left out.
    pub left_out: u64,
    /// When the whole key is to expire, in Unix milliseconds, if the batch says that it should.
    pub expire_at_ms: Option<u64>,
}

impl Registry {
    /// Whether a batch of this writer may be looked at: while memory is full, only a known writer's.
    ///
    /// The primary asks before [`push`](Self::push), and what it refuses is not replicated; a
    /// repeated command is not asked about.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NewWriter`]: the writer may try again when there is memory.
    pub fn check_writer(&self, stamp: &Stamp, writer: &[u8]) -> Result<(), RegistryError> {
        if stamp.refuse_definitions && !self.by_writer.contains_key(writer) {
            return Err(RegistryError::NewWriter);
        }
        Ok(())
    }

    /// Applies one batch of a writer, or says why not.
    pub fn push(
        &mut self,
        stamp: &Stamp,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        lease_ms: u64,
        batch: &Batch<'_>,
    ) -> PushReply {
        let (status, last_seq) = self.admit(stamp, writer, seq, epoch, batch);
        if status != PushStatus::Ok {
            return self.reply(status, last_seq);
        }
        let header = batch.header();
        let is_up_to_date = header.last || header.kind == BatchKind::Incremental;
        let healed = self
            .by_writer
            .get(writer)
            .copied()
            .filter(|_| is_up_to_date);
        self.begin_by(stamp, healed);
        let id = self.open_writer(writer);
        self.extend_lease(id, stamp.now_ms, Some(lease_ms));
        let writer = &mut self.writers[id];
        writer.seq = seq;
        match header.kind {
            BatchKind::Full { .. } => {
                writer.index.clear();
                writer.run = Some(vec![false; writer.entries.len()]);
            }
            BatchKind::Incremental | BatchKind::More => {}
        }
        let left_out = self.apply(stamp, id, batch);
        if header.last {
            self.end_run(id, stamp.now_ms);
        }
        let expire_at_ms = self.key_expiry(header.registry_ttl_ms);
        PushReply {
            left_out,
            expire_at_ms,
            ..self.reply(PushStatus::Ok, seq)
        }
    }

    /// Notes that a writer is gone for good.
    pub fn leave(
        &mut self,
        stamp: &Stamp,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
    ) -> PushReply {
        let known = self
            .by_writer
            .get(writer)
            .copied()
            .map(|id| (id, &self.writers[id]));
        // A writer that never sent a batch knows of no epoch.
        let is_direct = seq == 0 && known.is_some_and(|(_, writer)| writer.seq == 0);
        if !is_direct && epoch != Some(self.epoch) {
            return self.reply(
                PushStatus::Resync,
                known.map_or(0, |(_, writer)| writer.seq),
            );
        }
        let id = match known {
            None => return self.reply(PushStatus::Resync, 0),
            Some((_, writer)) if writer.phase == Phase::Closed => {
                return self.reply(PushStatus::Gone, writer.seq);
            }
            Some((_, writer)) if writer.seq != seq => {
                let forgotten = self.is_forgotten(writer, stamp);
                let status = if forgotten {
                    PushStatus::Forgotten
                } else {
                    PushStatus::Resync
                };
                return self.reply(status, writer.seq);
            }
            Some((id, _)) => id,
        };
        self.begin(stamp);
        // Beginning may have ended its tombstone's time: then it is as good as gone.
        let Some(writer) = self.writers.get(id) else {
            return self.reply(PushStatus::Ok, seq);
        };
        self.leases.remove(&(writer.lease_end_ms, id));
        self.schedule(
            id,
            stamp
                .now_ms
                .saturating_add(self.limits.tombstone_retention_ms),
        );
        let writer = &mut self.writers[id];
        if writer.phase == Phase::Live {
            writer.end_ms = stamp.now_ms;
        }
        (writer.phase, writer.gone_ms, writer.run) = (Phase::Closed, stamp.now_ms, None);
        self.unsettle(id);
        self.reply(PushStatus::Ok, seq)
    }

    /// The rules of acceptance, in their order.
    fn admit(
        &self,
        stamp: &Stamp,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        batch: &Batch<'_>,
    ) -> (PushStatus, u64) {
        let known = self.by_writer.get(writer).map(|id| &self.writers[*id]);
        let last_seq = known.map_or(0, |writer| writer.seq);
        let header = batch.header();
        let status = match known {
            // 1. A batch names the epoch it is meant for.
            _ if epoch != Some(self.epoch) => PushStatus::Resync,
            // 2. Who has left has left.
            Some(writer) if writer.phase == Phase::Closed => PushStatus::Gone,
            // 3. What was applied is not applied again.
            Some(writer) if seq <= writer.seq => PushStatus::Dup,
            // 4. Who was forgotten says what of it was counted: its base is the value at that seq.
            Some(writer) if self.is_forgotten(writer, stamp) => match header.kind {
                BatchKind::Full { forgotten_seq } if forgotten_seq == writer.seq => PushStatus::Ok,
                _ => PushStatus::Forgotten,
            },
            // 5. What builds on something needs it to be there.
            Some(writer) if header.kind == BatchKind::Incremental => {
                let follows = seq == writer.seq + 1 && writer.run.is_none() && writer.seq > 0;
                if follows {
                    PushStatus::Ok
                } else {
                    PushStatus::Resync
                }
            }
            Some(writer) if header.kind == BatchKind::More => {
                let follows = seq == writer.seq + 1 && writer.run.is_some();
                if follows {
                    PushStatus::Ok
                } else {
                    PushStatus::Resync
                }
            }
            None if !matches!(header.kind, BatchKind::Full { .. }) => PushStatus::Resync,
            // 6.
            _ => PushStatus::Ok,
        };
        (status, last_seq)
    }

    /// Whether a writer is forgotten at the time of the stamp, noted or not.
    fn is_forgotten(&self, writer: &Writer, stamp: &Stamp) -> bool {
        match writer.phase {
            Phase::Forgotten => true,
            Phase::Closed => false,
            Phase::Live | Phase::Ended => {
                // Where healing begins with this command, leases that were held run on from now.
                let was_held = writer.lease_end_ms > self.last_stamp_ms;
                let end = writer
                    .lease_end_ms
                    .saturating_add(self.limits.writer_retention_ms);
                end <= stamp.now_ms && !(stamp.healing_begins && was_held)
            }
        }
    }

    fn reply(&self, status: PushStatus, last_seq: u64) -> PushReply {
        PushReply {
            status,
            epoch: self.epoch,
            last_seq,
            left_out: 0,
            expire_at_ms: None,
        }
    }

    /// The writer of that id, alive.
    pub(super) fn open_writer(&mut self, writer: &[u8]) -> u32 {
        let Some(&id) = self.by_writer.get(writer) else {
            let id = self.writers.insert(Writer::new(writer));
            self.by_writer.insert(writer.into(), id);
            self.leases.insert((u64::MAX, id));
            return id;
        };
        if self.writers[id].phase != Phase::Live {
            if self.writers[id].is_gone() {
                // What it was is folded before it begins anew.
                self.settle_fully(id);
            }
            self.retirements.remove(&(self.writers[id].retires_ms, id));
            let writer = &mut self.writers[id];
            (writer.phase, writer.lease_end_ms) = (Phase::Live, u64::MAX);
            self.leases.insert((u64::MAX, id));
            self.unsettle(id);
        }
        id
    }

    pub(super) fn extend_lease(&mut self, id: u32, now_ms: u64, lease_ms: Option<u64>) {
        let writer = &mut self.writers[id];
        self.leases.remove(&(writer.lease_end_ms, id));
        writer.lease_end_ms = lease_ms.map_or(u64::MAX, |lease| now_ms.saturating_add(lease));
        self.leases.insert((writer.lease_end_ms, id));
    }

    fn key_expiry(&self, registry_ttl_ms: u64) -> Option<u64> {
        // A group stays until it is replaced, whatever becomes of the writers.
        if !self.groups.is_empty() {
            return None;
        }
        // The empty id is everybody's: nobody lives or leaves under it.
        let mut leases = self.leases.iter().rev();
        let (latest, _) = leases.find(|(_, id)| !self.writers[*id].id.is_empty())?;
        let expires = registry_ttl_ms > 0 && *latest != u64::MAX;
        expires.then(|| latest.saturating_add(registry_ttl_ms))
    }
}

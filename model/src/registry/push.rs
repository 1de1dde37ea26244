//! PUSH and LEAVE: applies batches of absolute values, each exactly once.
//!
//! The rules are those of the section PUSH of `redis-module/README.md`; their numbers stand beside
//! the code. The registry decides whether it accepts a batch before it changes anything
//! ([`Registry::admit`]): a batch that is not applied changes nothing, not even the time.

use super::writers::tombstones::{Key, Tombstone};
use super::writers::{Phase, Writer};
use super::{Registry, RegistryError, Stamp};
use crate::bits::Bits;
use crate::ids::WriterId;
use crate::sizes::{MAX_INDEX, MAX_INDEX_OF_RUN};
use crate::{Batch, BatchKind, Epoch, LeftOut};

/// How a registry answers a batch or a LEAVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushStatus {
    /// Applied.
    Ok,
    /// This seq, or a later one, was applied before.
    Dup,
    /// The registry does not know the state that the batch builds on: the writer sends its full
    /// state.
    Resync,
    /// The writer has left.
    Gone,
    /// The writer was silent for so long that the registry knows only its last seq.
    Forgotten,
}

impl PushStatus {
    /// Returns the word in the reply.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Dup => "DUP",
            Self::Resync => "RESYNC",
            Self::Gone => "GONE",
            Self::Forgotten => "FORGOTTEN",
        }
    }

    /// Returns the status of that word.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushReply {
    /// The status; only [`PushStatus::Ok`] has changed anything.
    pub status: PushStatus,
    /// The registry's epoch.
    pub epoch: Epoch,
    /// The last seq of this writer that was applied; 0 if unknown.
    pub last_seq: u64,
    /// Number of entries that were left out.
    pub left_out: u64,
    /// The series that the batch [`last_seq`](Self::last_seq) has left out; `None` if the batch
    /// does not ask, and for a LEAVE.
    pub series_left_out: Option<LeftOut>,
    /// When the whole key expires, in Unix milliseconds, if the batch sets that.
    pub expire_at_ms: Option<u64>,
}

/// What a registry knows of a writer.
enum Known<'a> {
    No,
    Here(&'a Writer),
    Gone(Tombstone),
}

impl Known<'_> {
    /// Returns the last seq; 0 if unknown.
    fn seq(&self) -> u64 {
        match self {
            Self::No => 0,
            Self::Here(writer) => writer.seq,
            Self::Gone(tombstone) => tombstone.seq,
        }
    }
}

impl Registry {
    /// Checks whether a batch of this writer may be applied: while memory is full, only a known
    /// writer's may.
    ///
    /// The primary calls this before [`push`](Self::push), and does not replicate what it refuses.
    /// It is not called for a repeated command.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NewWriter`]: the writer may try again when there is memory.
    pub fn check_writer(&self, stamp: &Stamp, writer: &[u8]) -> Result<(), RegistryError> {
        if stamp.refuse_definitions && !self.writers.by_id.contains_key(writer) {
            return Err(RegistryError::NewWriter);
        }
        Ok(())
    }

    /// Applies one batch of a writer, or returns why not: the way of everything that writes again and
    /// again. A batch has absolute values, so one that arrives twice counts once.
    ///
    /// The writer sends `seq`, which grows by one with each batch, and the `epoch` of the registry that
    /// it means. It counts as live for `lease_ms` milliseconds. A [session](crate::Session) does all
    /// that.
    ///
    /// ```
    /// use metrics_model::{
    ///     Aggregate, Batch, BatchHeader, BatchWriter, Epoch, FamilySpec, FamilyType, Labels, Limits,
    ///     Point, PushStatus, Registry, Stamp,
    /// };
    ///
    /// let epoch = Epoch(1);
    /// let mut registry = Registry::new(epoch, Limits::default(), 0);
    /// let mut batch = BatchWriter::new();
    /// let jobs = batch.family(&FamilySpec::new("jobs", FamilyType::Counter));
    /// batch.define(jobs, 0, std::iter::empty(), "", None, &Point::Scalar(3.0), None);
    /// let bytes = batch.finish(BatchHeader::FULL);
    /// let batch = Batch::decode(&bytes)?;
    ///
    /// let mut push = |epoch| {
    ///     let stamp = Stamp::at(1_000, Epoch(1));
    ///     registry.push(&stamp, b"writer", 1, Some(epoch), 15_000, &batch).status
    /// };
    /// assert_eq!(push(epoch), PushStatus::Ok);
    /// assert_eq!(push(epoch), PushStatus::Dup);
    /// // For another life of the key.
    /// assert_eq!(push(Epoch(2)), PushStatus::Resync);
    /// let total = registry.get(1_000, "jobs", &Labels::none());
    /// assert_eq!(total, Some(Aggregate::Number(3.0)));
    /// # Ok::<(), metrics_model::DecodeError>(())
    /// ```
    pub fn push(
        &mut self,
        stamp: &Stamp,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        lease_ms: u64,
        batch: &Batch<'_>,
    ) -> PushReply {
        let header = batch.header();
        let (status, last_seq) = self.admit(stamp, writer, seq, epoch, batch);
        if status != PushStatus::Ok {
            let left_out = || {
                self.writers
                    .left_out_of(writer, self.epoch)
                    .cloned()
                    .unwrap_or_default()
            };
            return PushReply {
                series_left_out: header.names_left_out.then(left_out),
                ..self.reply(status, last_seq)
            };
        }
        let is_up_to_date = header.last || header.kind == BatchKind::Incremental;
        let healed = self
            .writers
            .by_id
            .get(writer)
            .copied()
            .filter(|_| is_up_to_date);
        self.begin_by(stamp, healed);
        let id = self.open_writer(writer, stamp.now_ms);
        self.writers
            .extend_lease(id, stamp.now_ms, Some(lease_ms), &mut self.healing);
        let writer = &mut self.writers[id];
        writer.seq = seq;
        match header.kind {
            BatchKind::Full { .. } => {
                writer.index.clear();
                writer.run = Some(Bits::unset(writer.entries.len()));
            }
            BatchKind::Incremental | BatchKind::More => {}
        }
        let (left_out, series_left_out) = self.apply(stamp, id, batch);
        let series_left_out = header.names_left_out.then_some(series_left_out);
        self.writers[id].left_out = series_left_out.clone().unwrap_or_default();
        if header.last {
            self.end_run(id, stamp.now_ms);
        }
        let expire_at_ms = self.key_expiry(header.registry_ttl_ms);
        PushReply {
            left_out,
            series_left_out,
            expire_at_ms,
            ..self.reply(PushStatus::Ok, seq)
        }
    }

    /// Ends a writer for good.
    pub fn leave(
        &mut self,
        stamp: &Stamp,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
    ) -> PushReply {
        let known = self.known(writer, stamp);
        let last_seq = known.seq();
        // A writer that never sent a batch knows no epoch.
        let is_direct = seq == 0 && last_seq == 0 && !matches!(known, Known::No);
        if !is_direct && epoch != Some(self.epoch) {
            return self.reply(PushStatus::Resync, last_seq);
        }
        match known {
            Known::No => return self.reply(PushStatus::Resync, 0),
            Known::Gone(tombstone) if tombstone.has_left => {
                return self.reply(PushStatus::Gone, last_seq);
            }
            Known::Gone(_) if last_seq != seq => {
                return self.reply(PushStatus::Forgotten, last_seq);
            }
            Known::Here(_) if last_seq != seq => {
                return self.reply(PushStatus::Resync, last_seq);
            }
            // It believes that all of its last batch was applied, and has nothing more to send.
            Known::Here(writer) if !writer.left_out.is_empty() => {
                return self.reply(PushStatus::Resync, last_seq);
            }
            Known::Gone(_) if self.writers.left_out_of(writer, self.epoch).is_some() => {
                return self.reply(PushStatus::Forgotten, last_seq);
            }
            Known::Here(_) | Known::Gone(_) => {}
        }
        self.begin(stamp);
        self.close(writer, seq, stamp.now_ms);
        self.reply(PushStatus::Ok, seq)
    }

    fn close(&mut self, writer: &[u8], seq: u64, now_ms: u64) {
        if let Some(&id) = self.writers.by_id.get(writer) {
            self.writers
                .catch_up(id, now_ms, &mut self.healing, self.epoch, &self.limits);
        }
        if let Some(&id) = self.writers.by_id.get(writer) {
            self.writers
                .close_writer(id, now_ms, &mut self.healing, self.epoch, &self.limits);
        } else {
            let until_ms = now_ms.saturating_add(self.limits.tombstone_retention_ms);
            let key = Key::new(self.epoch, writer);
            self.writers
                .tombstones
                .insert(key, Tombstone::new(seq, true, until_ms));
        }
    }

    /// Returns what the registry knows of a writer at the time of that stamp, whether noted yet or
    /// not.
    fn known(&self, writer: &[u8], stamp: &Stamp) -> Known<'_> {
        let Some(&id) = self.writers.by_id.get(writer) else {
            let tombstone = self.writers.tombstone_of(writer, stamp.now_ms, self.epoch);
            return tombstone.map_or(Known::No, Known::Gone);
        };
        let writer = &self.writers[id];
        // If healing begins with this command, leases continue from now; retentions do not.
        let now_ms = if stamp.healing_begins && writer.phase == Phase::Live {
            self.last_stamp_ms
        } else {
            stamp.now_ms
        };
        match self.writers.gone_ms(writer, now_ms, &self.limits) {
            None => Known::Here(writer),
            Some(gone_ms) => {
                let until_ms = gone_ms.saturating_add(self.limits.tombstone_retention_ms);
                let tombstone = Tombstone::new(writer.seq, false, until_ms);
                if tombstone.is_over(stamp.now_ms) {
                    Known::No
                } else {
                    Known::Gone(tombstone)
                }
            }
        }
    }

    /// Applies the rules of acceptance, in their order.
    fn admit(
        &self,
        stamp: &Stamp,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        batch: &Batch<'_>,
    ) -> (PushStatus, u64) {
        let known = self.known(writer, stamp);
        let last_seq = known.seq();
        let header = batch.header();
        let is_next = Some(seq) == last_seq.checked_add(1);
        let status = match known {
            // 1. A batch names the epoch it is meant for.
            _ if epoch != Some(self.epoch) => PushStatus::Resync,
            // 2. A writer that has left does not come back.
            Known::Gone(tombstone) if tombstone.has_left => PushStatus::Gone,
            // 3. What was applied is not applied again.
            Known::Here(_) | Known::Gone(_) if seq <= last_seq => PushStatus::Dup,
            // 4. A forgotten writer has to tell which of its values were counted: its base is the
            // value at that seq.
            Known::Gone(_) => match header.kind {
                BatchKind::Full { forgotten_seq } if forgotten_seq == last_seq => PushStatus::Ok,
                _ => PushStatus::Forgotten,
            },
            // 5. A batch that builds on earlier ones needs them to be there, and with the same
            // series left out: in a registry that was rolled back, a late copy of the earlier batch
            // may have had another result.
            Known::Here(writer)
                if header.names_left_out
                    && !matches!(header.kind, BatchKind::Full { .. })
                    && header.left_out_before != writer.left_out.digest() =>
            {
                PushStatus::Resync
            }
            Known::Here(writer) if header.kind == BatchKind::Incremental => {
                let has_room = writer.has_room_in_index(MAX_INDEX);
                if is_next && writer.run.is_none() && writer.seq > 0 && has_room {
                    PushStatus::Ok
                } else {
                    PushStatus::Resync
                }
            }
            Known::Here(writer) if header.kind == BatchKind::More => {
                if is_next && writer.run.is_some() && writer.has_room_in_index(MAX_INDEX_OF_RUN) {
                    PushStatus::Ok
                } else {
                    PushStatus::Resync
                }
            }
            Known::No if !matches!(header.kind, BatchKind::Full { .. }) => PushStatus::Resync,
            // 6.
            _ => PushStatus::Ok,
        };
        (status, last_seq)
    }

    fn reply(&self, status: PushStatus, last_seq: u64) -> PushReply {
        PushReply {
            status,
            epoch: self.epoch,
            last_seq,
            left_out: 0,
            series_left_out: None,
            expire_at_ms: None,
        }
    }

    /// Returns the writer of that id, alive.
    pub(super) fn open_writer(&mut self, writer: &[u8], now_ms: u64) -> WriterId {
        if let Some(&id) = self.writers.by_id.get(writer) {
            self.writers
                .catch_up(id, now_ms, &mut self.healing, self.epoch, &self.limits);
        }
        if let Some(&id) = self.writers.by_id.get(writer) {
            if self.writers[id].phase == Phase::Ended {
                self.writers.revive(id, now_ms, &self.healing);
            }
            return id;
        }
        // The old record settles what is left of an earlier writer of that id.
        self.writers.tombstones.remove(Key::new(self.epoch, writer));
        let mut new = Writer::new(writer);
        self.healing.mark_up_to_date(&mut new);
        self.writers.endless += u32::from(!writer.is_empty());
        let id = self.writers.table.insert(new);
        self.writers.by_id.insert(writer.into(), id);
        id
    }

    fn key_expiry(&self, registry_ttl_ms: u64) -> Option<u64> {
        // A group stays until it is replaced, even when all writers are gone.
        if !self.groups.is_empty() {
            return None;
        }
        // The empty id is shared by all clients: no writer lives or leaves under it.
        let mut leases = self.writers.leases.iter().rev();
        let (latest, _) = leases.find(|(_, id)| !self.writers[*id].id.is_empty())?;
        let latest_ms = latest.saturating_add(self.writers.paused_ms);
        let expires = registry_ttl_ms > 0 && self.writers.endless == 0;
        expires.then(|| latest_ms.saturating_add(registry_ttl_ms))
    }
}

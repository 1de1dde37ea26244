//! Replaces the series of a group in one command, for `push`.

use redis::Value;

use super::RedisBackend;
use crate::backend::BackendError;

/// A shard's new content of a group.
pub(crate) struct Replacement<'a> {
    /// The labels that identify the group.
    pub(crate) group: &'a [(String, String)],
    /// One full state; without batches the group ends.
    pub(crate) batches: &'a [Vec<u8>],
    /// Whether families that the batches do not name stay.
    pub(crate) keeps_others: bool,
}

/// The result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplaceReply {
    /// Number of series that the group no longer has.
    pub(crate) removed: u64,
}

impl RedisBackend {
    /// Replaces the series of a group in one shard. Repeating it changes nothing.
    pub(crate) async fn replace(
        &self,
        shard: usize,
        replacement: &Replacement<'_>,
    ) -> Result<ReplaceReply, BackendError> {
        self.send_replacement(shard, replacement, false).await
    }

    /// Returns what a replacement would do now, and changes nothing.
    pub(crate) async fn check_replacement(
        &self,
        shard: usize,
        replacement: &Replacement<'_>,
    ) -> Result<ReplaceReply, BackendError> {
        self.send_replacement(shard, replacement, true).await
    }

    async fn send_replacement(
        &self,
        shard: usize,
        replacement: &Replacement<'_>,
        is_check: bool,
    ) -> Result<ReplaceReply, BackendError> {
        let mut command = redis::cmd("METRICS.REPLACE");
        command
            .arg(&self.shared.keys[shard])
            .arg(replacement.batches.len());
        for batch in replacement.batches {
            command.arg(batch);
        }
        command.arg("LABELS").arg(replacement.group.len());
        for (name, value) in replacement.group {
            command.arg(name).arg(value);
        }
        if replacement.keeps_others {
            command.arg("KEEP");
        }
        if is_check {
            command.arg("CHECK");
        }
        let about = self.about("METRICS.REPLACE", shard);
        match self.send(shard, &about, &command).await? {
            Value::Array(counts) => match counts.as_slice() {
                [Value::Int(_), Value::Int(removed)] => Ok(ReplaceReply {
                    removed: removed.unsigned_abs(),
                }),
                _ => Err(about.unexpected("two counts of series")),
            },
            _ => Err(about.unexpected("two counts of series")),
        }
    }
}

//! New values in the place of old ones, in one step: for `push`.

use std::time::Duration;

use metrics_model::{Epoch, PushReply};

use super::RedisBackend;
use crate::backend::BackendError;

/// Deletes series and applies a batch. The script may run twice, when its answer was lost: then the
/// guard, an empty batch, is not new any more, and what the first run has written stays.
const SCRIPT: &str = "\
local guard = redis.call('METRICS.PUSH', KEYS[1], ARGV[1], ARGV[2], ARGV[3], 'EPOCH', ARGV[6], 'LEASE', ARGV[7])
local status = guard[1]
if type(status) == 'table' then status = status.ok end
if status == 'OK' then
  local at = 8
  while ARGV[at] do
    local words = tonumber(ARGV[at])
    redis.call('METRICS.DEL', KEYS[1], unpack(ARGV, at + 1, at + words))
    at = at + words + 1
  end
end
return redis.call('METRICS.PUSH', KEYS[1], ARGV[1], ARGV[4], ARGV[5], 'EPOCH', ARGV[6], 'LEASE', ARGV[7])
";

/// A series: its family, and its labels.
pub(crate) type Deletion<'a> = (&'a str, &'a [(String, String)]);

/// What takes the place of what is deleted.
pub(crate) struct Replacement<'a> {
    pub(crate) writer: &'a [u8],
    /// Of the batch; the guard has the one before.
    pub(crate) seq: u64,
    pub(crate) epoch: Epoch,
    pub(crate) lease: Duration,
    /// An empty batch.
    pub(crate) guard: &'a [u8],
    pub(crate) batch: &'a [u8],
}

impl RedisBackend {
    /// Deletes series of a shard and applies a batch there, at once for everybody who looks.
    /// Repeating it changes nothing.
    pub(crate) async fn replace(
        &self,
        shard: usize,
        deletions: &[Deletion<'_>],
        by: &Replacement<'_>,
    ) -> Result<PushReply, BackendError> {
        let mut command = redis::cmd("EVAL");
        command
            .arg(SCRIPT)
            .arg(1)
            .arg(&self.shared.keys[shard])
            .arg(by.writer)
            .arg(by.seq - 1)
            .arg(by.guard)
            .arg(by.seq)
            .arg(by.batch)
            .arg(by.epoch.to_string())
            .arg(by.lease.as_millis() as u64);
        for deletion in deletions {
            let words = words(deletion);
            command.arg(words.len()).arg(words);
        }
        let about = self.about("EVAL", shard);
        about.push_reply(self.send(shard, &about, &command).await?)
    }

    /// Deletes one series of a shard.
    pub(crate) async fn delete(
        &self,
        shard: usize,
        deletion: Deletion<'_>,
    ) -> Result<(), BackendError> {
        let mut command = redis::cmd("METRICS.DEL");
        command.arg(&self.shared.keys[shard]).arg(words(&deletion));
        let about = self.about("METRICS.DEL", shard);
        self.send(shard, &about, &command).await.map(drop)
    }
}

fn words((family, labels): &Deletion<'_>) -> Vec<String> {
    let mut words = vec![
        (*family).to_owned(),
        "LABELS".to_owned(),
        labels.len().to_string(),
    ];
    for (name, value) in *labels {
        words.extend([name.clone(), value.clone()]);
    }
    words
}

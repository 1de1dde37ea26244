//! What the pusher of an instance sends to the shared registry.

use metrics_agent::{KnownFamily, SharedRegistry};
use metrics_model::{Epoch, PushReply};
use redis::Cmd;

use super::RedisBackend;
use crate::backend::BackendError;

impl SharedRegistry for RedisBackend {
    type Error = BackendError;

    fn shards(&self) -> usize {
        self.shards()
    }

    async fn push(
        &self,
        shard: usize,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        lease_ms: u64,
        batch: &[u8],
    ) -> Result<PushReply, BackendError> {
        let mut command = redis::cmd("METRICS.PUSH");
        command
            .arg(&self.shared.keys[shard])
            .arg(writer)
            .arg(seq)
            .arg(batch);
        with_epoch(&mut command, epoch);
        command.arg("LEASE").arg(lease_ms);
        let about = self.about("METRICS.PUSH", shard);
        about.push_reply(self.send(shard, &about, &command).await?)
    }

    async fn leave(
        &self,
        shard: usize,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
    ) -> Result<PushReply, BackendError> {
        let mut command = redis::cmd("METRICS.LEAVE");
        command.arg(&self.shared.keys[shard]).arg(writer).arg(seq);
        with_epoch(&mut command, epoch);
        let about = self.about("METRICS.LEAVE", shard);
        about.push_reply(self.send(shard, &about, &command).await?)
    }

    async fn families(
        &self,
        shard: usize,
        names: &[&str],
    ) -> Result<Vec<KnownFamily>, BackendError> {
        self.families(shard, names).await
    }
}

fn with_epoch(command: &mut Cmd, epoch: Option<Epoch>) {
    if let Some(epoch) = epoch {
        command.arg("EPOCH").arg(epoch.to_string());
    }
}

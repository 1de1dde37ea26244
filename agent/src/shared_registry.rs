//! What the pusher needs of the registry that instances share.

use std::fmt::Display;

use metrics_model::{Epoch, PushReply};

use crate::stores::KnownFamily;

/// A registry outside this process. Clones refer to the same registry.
///
/// Its families are spread over one or more shards (see [`shard_of`](crate::shard_of())), each of
/// which answers for itself.
pub trait SharedRegistry: Clone + 'static {
    /// The reason why there is no answer.
    type Error: SharedError;

    /// Returns the number of shards, at least 1.
    fn shards(&self) -> usize;

    /// Sends one batch of a writer to a shard. Repeating it, with the same seq and bytes, changes
    /// nothing.
    fn push(
        &self,
        shard: usize,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
        lease_ms: u64,
        batch: &[u8],
    ) -> impl Future<Output = Result<PushReply, Self::Error>>;

    /// Ends a writer for good in a shard.
    fn leave(
        &self,
        shard: usize,
        writer: &[u8],
        seq: u64,
        epoch: Option<Epoch>,
    ) -> impl Future<Output = Result<PushReply, Self::Error>>;

    /// Returns those of these families that a shard has, with the bucket layouts of live writers.
    fn families(
        &self,
        shard: usize,
        names: &[&str],
    ) -> impl Future<Output = Result<Vec<KnownFamily>, Self::Error>>;
}

/// An error of a shared registry, in the words of a log line.
pub trait SharedError: Display {
    /// Returns its kind.
    fn failure(&self) -> SharedFailure;
}

/// The kinds of failures that the pusher treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedFailure {
    /// The registry is too old for the question which series a batch leaves out, and refuses batches
    /// that ask.
    UnknownQuestion,
    /// The registry refuses this message; others may be accepted.
    Refused,
    /// This exporter's user may not do this.
    Forbidden,
    /// The message or its answer is malformed.
    Malformed,
    /// There is no answer now; other messages will get none either.
    Unavailable,
}

//! The exporter's state of the push protocol for a writer, in the writer's own store.
//!
//! It outlives the exporter, so that the next one continues after a kill: it shows which values the
//! registry has acknowledged, and which may have arrived.
//!
//! # How it works
//!
//! Beside its cells a series has a base, and two values, each with the seq of its batch. The
//! *acknowledged* value is the newest whose seq is at most the acknowledged one, the *sent* value
//! the newest whose seq is at most the last one used. So:
//!
//! - before a batch is sent, its values overwrite the older of the two, then the header gets its
//!   seq;
//! - when it is acknowledged, only the header changes, and all its values have become acknowledged;
//! - except those that the registry has left out: their seq is marked before, and they count as
//!   never sent.
//!
//! The header exists twice, and one store instruction switches between them. An exporter that is
//! killed between any two instructions leaves the state before or after, never one in between.
//! Bases are written before their header; writing the same base again changes nothing.
//!
//! If families are spread over shards, each shard is a registry with a header of its own. A series
//! is in one shard, so beside its cells everything exists once.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use metrics_model::Point;

use crate::StoreReader;
use crate::layout::{
    AT_PUSH_STATE, AT_SHARDS, MAX_SHARDS, PUSH_HEADER_WORDS, PUSH_STATE_WORDS, Shape,
};

/// The state of a writer's session with one shard, without its series.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushHeader {
    /// The seq of the last batch that was made.
    pub seq: u64,
    /// The seq of the last batch with values.
    pub sent_seq: u64,
    /// The seq of the last acknowledged batch.
    pub acked_seq: u64,
    /// The time of that acknowledgement, in Unix milliseconds.
    pub acked_at_ms: u64,
    /// The registry's epoch at that time.
    pub epoch: Option<u64>,
    /// Number of times that the writer had to take a new id.
    pub incarnation: u64,
    /// Whether the batch `sent_seq` was part of a full state.
    pub sent_full: bool,
    /// Whether the writer has left.
    pub leave: LeaveState,
}

/// Whether a writer has left a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LeaveState {
    /// It has not.
    #[default]
    Staying,
    /// A LEAVE was sent, which may have arrived.
    Sent,
    /// The shard has answered that it has left.
    Done,
}

/// A value that is being written; it is never a seq.
const UNFINISHED: u64 = u64::MAX;
/// Flag of a seq: the batch was applied without this value.
const LEFT_OUT: u64 = 1 << 63;

impl StoreReader {
    /// Returns the number of shards at the time of writing; `None` if nothing was written.
    pub fn push_shards(&self) -> Option<usize> {
        let shards = self.segments[0][AT_SHARDS].load(Acquire) as usize;
        (1..=MAX_SHARDS).contains(&shards).then_some(shards)
    }

    /// Sets that number.
    pub fn set_push_shards(&self, shards: usize) {
        self.segments[0][AT_SHARDS].store(shards as u64, Release);
    }

    /// Returns the header for a shard, which is one of the first [`MAX_SHARDS`].
    pub fn push_header(&self, shard: usize) -> PushHeader {
        let words = self.push_words(shard, self.push_commit(shard).load(Acquire));
        let word = |i: usize| words[i].load(Relaxed);
        PushHeader {
            seq: word(0),
            sent_seq: word(1),
            acked_seq: word(2),
            acked_at_ms: word(3),
            epoch: (word(4) & 1 != 0).then(|| word(5)),
            incarnation: word(6),
            sent_full: word(4) & 2 != 0,
            leave: match word(7) {
                0 => LeaveState::Staying,
                1 => LeaveState::Sent,
                _ => LeaveState::Done,
            },
        }
    }

    /// Replaces the header for a shard, atomically.
    pub fn set_push_header(&self, shard: usize, header: &PushHeader) {
        let commit = self.push_commit(shard);
        let next = commit.load(Relaxed).wrapping_add(1);
        let PushHeader {
            seq,
            sent_seq,
            acked_seq,
            acked_at_ms,
            epoch,
            incarnation,
            sent_full,
            leave,
        } = *header;
        let words = [
            seq,
            sent_seq,
            acked_seq,
            acked_at_ms,
            u64::from(epoch.is_some()) | u64::from(sent_full) << 1,
            epoch.unwrap_or(0),
            incarnation,
            leave as u64,
        ];
        for (to, word) in self.push_words(shard, next).iter().zip(words) {
            to.store(word, Relaxed);
        }
        commit.store(next, Release);
    }

    /// Returns the part of the value that must not be counted.
    pub fn base(&self, number: usize) -> Point {
        let (shape, record) = self.record(number);
        shape.point(|i| record[shape.base_at() + i].load(Relaxed))
    }

    /// Sets the base.
    pub fn set_base(&self, number: usize, base: &Point) {
        let (shape, record) = self.record(number);
        shape.write(base, |i, word| {
            record[shape.base_at() + i].store(word, Relaxed);
        });
    }

    /// Returns the value that its shard has acknowledged.
    pub fn acked(&self, shard: usize, number: usize) -> Point {
        self.value_at(number, self.push_header(shard).acked_seq)
    }

    /// Returns the value that was sent last.
    pub fn sent(&self, shard: usize, number: usize) -> Point {
        self.value_at(number, self.push_header(shard).seq)
    }

    /// Stores the value that the batch `seq` will carry; the header has to follow before the batch
    /// is sent.
    pub fn set_sent(&self, shard: usize, number: usize, seq: u64, sent: &Point) {
        let (shape, record) = self.record(number);
        let acked = newest(shape, record, self.push_header(shard).acked_seq);
        write_value(shape, record, 1 - acked.unwrap_or(0), seq, sent);
    }

    /// Returns whether the batch `seq` has a value of this series, left out or not.
    pub fn is_in_batch(&self, number: usize, seq: u64) -> bool {
        let (shape, record) = self.record(number);
        let seq_of = |side: usize| record[shape.sent_at(side)].load(Acquire);
        [0, 1]
            .into_iter()
            .any(|side| seq_of(side) != UNFINISHED && seq_of(side) & !LEFT_OUT == seq)
    }

    /// Marks the value of this series as left out of the applied batch `seq`: it counts as never
    /// sent. The header that marks the batch as acknowledged has to follow.
    pub fn set_left_out(&self, number: usize, seq: u64) {
        let (shape, record) = self.record(number);
        for side in [0, 1] {
            let of_value = &record[shape.sent_at(side)];
            if of_value.load(Acquire) == seq {
                of_value.store(seq | LEFT_OUT, Release);
            }
        }
    }

    /// Prepares the writer for a new id: `acked` is the value that was acknowledged under the old
    /// one, whatever its seq was. The header with the new incarnation has to follow.
    pub fn restart_push(&self, number: usize, acked: &Point) {
        let (shape, record) = self.record(number);
        for side in [0, 1] {
            write_value(shape, record, side, 0, acked);
        }
    }

    /// Called once when an exporter takes over: drops values that the exporter before was writing
    /// when it was killed, and never sent.
    pub fn resume_push(&self, shard_of: impl Fn(usize) -> usize) {
        for number in 0..self.len() {
            let seq = self.push_header(shard_of(number)).seq;
            let (shape, record) = self.record(number);
            for side in [0, 1] {
                let of_value = record[shape.sent_at(side)].load(Acquire);
                let is_left_out = of_value != UNFINISHED && of_value & !LEFT_OUT <= seq;
                if of_value > seq && !is_left_out {
                    let zero = shape.point(|_| 0);
                    write_value(shape, record, side, 0, &zero);
                }
            }
        }
    }

    fn value_at(&self, number: usize, seq: u64) -> Point {
        let (shape, record) = self.record(number);
        match newest(shape, record, seq) {
            Some(side) => shape.point(|i| record[shape.sent_at(side) + 1 + i].load(Relaxed)),
            None => shape.point(|_| 0),
        }
    }

    fn push_commit(&self, shard: usize) -> &AtomicU64 {
        &self.segments[0][AT_PUSH_STATE + shard * PUSH_STATE_WORDS]
    }

    fn push_words(&self, shard: usize, commit: u64) -> &[AtomicU64] {
        let side = (commit & 1) as usize;
        let at = AT_PUSH_STATE + shard * PUSH_STATE_WORDS + 1 + side * PUSH_HEADER_WORDS;
        &self.segments[0][at..at + PUSH_HEADER_WORDS]
    }
}

/// Returns which of the two values is the newest one of a batch up to `seq`.
fn newest(shape: Shape, record: &[AtomicU64], seq: u64) -> Option<usize> {
    let seq_of = |side: usize| record[shape.sent_at(side)].load(Acquire);
    [0, 1]
        .into_iter()
        .filter(|&side| seq_of(side) <= seq && seq_of(side) != UNFINISHED)
        .max_by_key(|&side| seq_of(side))
}

fn write_value(shape: Shape, record: &[AtomicU64], side: usize, seq: u64, point: &Point) {
    let at = shape.sent_at(side);
    record[at].store(UNFINISHED, Release);
    // Release: no reader may see any of the values before the mark.
    shape.write(point, |i, word| record[at + 1 + i].store(word, Release));
    record[at].store(seq, Release);
}

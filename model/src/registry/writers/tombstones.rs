//! What the registry keeps of a writer that is gone, so that a late batch is not counted again.
//!
//! # How it works
//!
//! The registry knows a writer that has left, or was forgotten, by a 128-bit hash of its id, with
//! its last seq and the time until which it remembers them. The hash is keyed with the registry's
//! epoch, so that copies agree. Beyond [`MAX_TOMBSTONES`] the oldest ones are removed.
//!
//! # What it costs
//!
//! 49 to 58 bytes each, and O(log n) for a look-up, an addition and a removal. It is a tree,
//! because a hash table doubles at once.
//!
//! If the last batch of a forgotten writer was not applied whole, the list of left-out series stays
//! beside its tombstone, so that the writer gets it when it comes back. Only the last [`MAX_LISTS`]
//! are kept.
//!
//! # What if
//!
//! Two ids have the same hash: the later writer gets the answers of the earlier one. With random
//! ids that takes some 2^64 writers. A tombstone was removed too early: a copy of an old batch of
//! that writer, if still under way, would count as a new writer's.

use std::collections::{BTreeMap, VecDeque};

use siphasher::sip128::SipHasher13;

use crate::registry::writers::Writers;
use crate::{Epoch, LeftOut};

/// A writer's last seq, and how the writer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) struct Tombstone {
    pub(in crate::registry) seq: u64,
    /// Whether it left for good; otherwise it was silent for too long.
    pub(in crate::registry) has_left: bool,
    until: Until,
}

/// The end of a tombstone's time, in steps of two seconds since 1970 (rounded up), in 31 bits. The
/// lowest bit tells how the writer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Until(u32);

/// Maximum number of tombstones of a registry, 29 MB of them: enough for more than five days if a
/// writer comes and goes each second.
pub(in crate::registry) const MAX_TOMBSTONES: usize = 500_000;

/// Maximum number of lists of left-out series, 5 MB of them. If more writers are silent while a
/// registry is at a limit for longer than a retention, the series of the rest count as applied.
pub(in crate::registry) const MAX_LISTS: usize = 10_000;

const STEP_MS: u64 = 2000;
const NEVER: u32 = u32::MAX >> 1;

impl Until {
    fn new(at_ms: u64) -> Self {
        let steps = at_ms.div_ceil(STEP_MS).min(NEVER.into());
        // It has at most 31 bits.
        Self(steps as u32)
    }

    fn has_come(self, now_ms: u64) -> bool {
        self.0 != NEVER && u64::from(self.0) * STEP_MS <= now_ms
    }

    fn at_ms(self) -> u64 {
        if self.0 == NEVER {
            u64::MAX
        } else {
            u64::from(self.0) * STEP_MS
        }
    }
}

/// The hash of a writer's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::registry) struct Key(pub(in crate::registry) [u64; 2]);

impl Key {
    pub(in crate::registry) fn new(epoch: Epoch, writer: &[u8]) -> Self {
        let hash = SipHasher13::new_with_keys(epoch.0, 0).hash(writer);
        Self([hash.h1, hash.h2])
    }

    fn prefix(self) -> u32 {
        (self.0[0] >> 32) as u32
    }
}

/// The stored form of a tombstone: seq (low, high), time and way, in four bytes each.
pub(in crate::registry) type Packed = [u32; 3];

/// All tombstones of a registry; see the [module](self).
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct Tombstones {
    by_key: BTreeMap<Key, Packed>,
    /// The series that the last batch of a writer has left out, if any.
    left_out: BTreeMap<Key, LeftOut>,
    /// Oldest first: the beginning of the key, and time and way. An entry whose tombstone is gone
    /// or was renewed has no effect.
    order: Order,
}

/// A queue in pieces, so that growth moves nothing.
#[derive(Debug, Clone, Default)]
struct Order {
    pieces: VecDeque<Vec<(u32, u32)>>,
    /// Number of entries already taken from the first piece.
    taken: usize,
}

const PIECE: usize = 512;

impl Order {
    fn push(&mut self, item: (u32, u32)) {
        match self.pieces.back_mut() {
            Some(last) if last.len() < PIECE => last.push(item),
            _ => self.pieces.push_back(vec![item]),
        }
    }

    fn len(&self) -> usize {
        let last = self.pieces.back().map_or(0, Vec::len);
        self.pieces.len().saturating_sub(1) * PIECE + last - self.taken
    }

    fn first(&self) -> Option<(u32, u32)> {
        self.pieces.front()?.get(self.taken).copied()
    }

    fn pop(&mut self) -> Option<(u32, u32)> {
        let item = self.first()?;
        self.taken += 1;
        if self
            .pieces
            .front()
            .is_some_and(|piece| piece.len() == self.taken)
        {
            self.pieces.pop_front();
            self.taken = 0;
        }
        Some(item)
    }

    fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.pieces.iter().flatten().skip(self.taken).copied()
    }
}

impl Tombstone {
    pub(in crate::registry) fn new(seq: u64, has_left: bool, until_ms: u64) -> Self {
        let until = Until::new(until_ms);
        Self {
            seq,
            has_left,
            until,
        }
    }

    /// Returns whether its time is over.
    pub(in crate::registry) fn is_over(self, now_ms: u64) -> bool {
        self.until.has_come(now_ms)
    }

    fn pack(self) -> Packed {
        let time = self.until.0 << 1 | u32::from(self.has_left);
        // Two halves of one number.
        [self.seq as u32, (self.seq >> 32) as u32, time]
    }

    fn unpack([low, high, time]: Packed) -> Self {
        Self {
            seq: u64::from(high) << 32 | u64::from(low),
            has_left: time & 1 == 1,
            until: Until(time >> 1),
        }
    }
}

impl Tombstones {
    /// Returns the number of tombstones.
    pub(in crate::registry) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Returns the tombstone of that writer, unless its time is over.
    pub(in crate::registry) fn get(&self, key: Key, now_ms: u64) -> Option<Tombstone> {
        let tombstone = Tombstone::unpack(*self.by_key.get(&key)?);
        (!tombstone.is_over(now_ms)).then_some(tombstone)
    }

    pub(in crate::registry) fn insert(&mut self, key: Key, tombstone: Tombstone) {
        let packed = tombstone.pack();
        if self.by_key.insert(key, packed) != Some(packed) {
            self.order.push((key.prefix(), packed[2]));
        }
    }

    /// Stores the series that the last batch of a writer with a tombstone has left out.
    pub(in crate::registry) fn keep_left_out(&mut self, key: Key, left_out: LeftOut) {
        if !left_out.is_empty() && self.left_out.len() < MAX_LISTS {
            self.left_out.insert(key, left_out);
        }
    }

    /// Returns the series that the last batch of a writer with a tombstone has left out.
    pub(in crate::registry) fn left_out(&self, key: Key) -> Option<&LeftOut> {
        self.left_out.get(&key)
    }

    pub(in crate::registry) fn remove(&mut self, key: Key) {
        self.by_key.remove(&key);
        self.left_out.remove(&key);
    }

    /// Removes a few whose time is over, or that are too many.
    pub(in crate::registry) fn shrink(&mut self, now_ms: u64, at_most: usize, mut budget: usize) {
        while budget > 0
            && let Some((_, time)) = self.order.first()
            && (self.order.len() > at_most || Until(time >> 1).has_come(now_ms))
        {
            budget -= 1;
            if let Some((prefix, time)) = self.order.pop() {
                self.remove_like(prefix, time);
            }
        }
    }

    fn remove_like(&mut self, prefix: u32, time: u32) {
        let from = Key([u64::from(prefix) << 32, 0]);
        let to = Key([u64::from(prefix) << 32 | u64::from(u32::MAX), u64::MAX]);
        let is_it = |(_, packed): &(&Key, &Packed)| packed[2] == time;
        if let Some((key, _)) = self.by_key.range(from..=to).find(is_it) {
            let key = *key;
            self.remove(key);
        }
    }

    /// Returns when the oldest one's time is over.
    pub(in crate::registry) fn first_end_ms(&self) -> Option<u64> {
        let (_, time) = self.order.first()?;
        Some(Until(time >> 1).at_ms())
    }

    /// Returns all of them, for a snapshot.
    pub(in crate::registry) fn list(&self) -> Vec<(Key, Packed)> {
        self.by_key
            .iter()
            .map(|(key, packed)| (*key, *packed))
            .collect()
    }

    /// Returns the lists of left-out series, for a snapshot.
    pub(in crate::registry) fn lists(&self) -> Vec<(Key, LeftOut)> {
        let lists = self.left_out.iter();
        lists.map(|(key, list)| (*key, list.clone())).collect()
    }

    /// Returns the queue, oldest first; see [`from_parts`](Self::from_parts).
    pub(in crate::registry) fn in_order(&self) -> Vec<(u32, u32)> {
        self.order.iter().collect()
    }

    /// Rebuilds them from [`list`](Self::list) and [`in_order`](Self::in_order); `None` if a
    /// tombstone would never be removed.
    pub(in crate::registry) fn from_parts(
        tombstones: Vec<(Key, Packed)>,
        in_order: Vec<(u32, u32)>,
    ) -> Option<Self> {
        let mut known = in_order.clone();
        known.sort_unstable();
        let has_place =
            |(key, packed): &(Key, Packed)| known.binary_search(&(key.prefix(), packed[2])).is_ok();
        if !tombstones.iter().all(has_place) {
            return None;
        }
        let mut order = Order::default();
        for item in in_order {
            order.push(item);
        }
        let count = tombstones.len();
        let by_key = tombstones.into_iter().collect::<BTreeMap<_, _>>();
        (by_key.len() == count).then_some(Self {
            by_key,
            left_out: BTreeMap::new(),
            order,
        })
    }

    /// An estimate: nodes of a tree are two thirds full.
    pub(in crate::registry) fn heap_bytes(&self) -> usize {
        const OF_A_LIST: usize = 512;
        self.left_out.len() * OF_A_LIST
            + self.len() * 50
            + self.order.pieces.len() * PIECE * size_of::<(u32, u32)>()
    }
}

impl Writers {
    /// Returns the tombstone of a writer that is gone.
    pub(in crate::registry) fn tombstone_of(
        &self,
        writer: &[u8],
        now_ms: u64,
        epoch: Epoch,
    ) -> Option<Tombstone> {
        self.tombstones.get(Key::new(epoch, writer), now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_is_known_until_its_time_and_then_removed() {
        let (mut tombstones, key) = (Tombstones::default(), Key::new(Epoch(1), b"w"));
        let tombstone = Tombstone::new(u64::MAX - 1, true, 10_000);
        tombstones.insert(key, tombstone);
        assert_eq!(tombstones.get(key, 9_999), Some(tombstone));
        assert_eq!(tombstones.get(key, 10_000), None);
        tombstones.shrink(9_999, 10, 8);
        assert_eq!(tombstones.len(), 1);
        tombstones.shrink(10_000, 10, 8);
        assert_eq!(tombstones.len(), 0);
    }

    #[test]
    fn the_oldest_go_first_where_there_are_too_many() {
        let mut tombstones = Tombstones::default();
        let key = |number: u32| Key::new(Epoch(1), &number.to_le_bytes());
        for number in 0..2000_u32 {
            let tombstone = Tombstone::new(number.into(), false, u64::MAX);
            tombstones.insert(key(number), tombstone);
            tombstones.shrink(0, 700, 8);
        }
        assert_eq!(tombstones.len(), 700);
        assert_eq!(tombstones.get(key(1299), 0), None);
        assert_eq!(tombstones.get(key(1300), 0).map(|t| t.seq), Some(1300));
    }

    #[test]
    fn a_tombstone_takes_at_most_64_bytes() {
        // Size of a tree's node: 11 keys and values, a parent and two lengths; inner nodes have 12
        // edges more. They are two thirds full.
        let leaf = 11 * (size_of::<Key>() + size_of::<Packed>()) + 16;
        let inner = leaf + 12 * 8;
        let each = leaf as f64 / 7.4 + inner as f64 / 7.4 / 8.4 + size_of::<(u32, u32)>() as f64;
        assert!(each < 64.0, "{each}");
    }
}

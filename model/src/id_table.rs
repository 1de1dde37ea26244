//! A hash table of ids that grows in small steps.

use hashbrown::HashTable;

/// A hash table of ids that never rehashes more than a few hundred of them at once. An ordinary
/// table that doubles takes 100 ms with a million ids.
///
/// # How it works
///
/// It is a list of small tables, the *segments*. When the segments are full on average, one of them
/// is split in two, in a fixed order (linear hashing). So all segments stay about equally full, and
/// each insertion splits at most one.
#[derive(Debug, Clone)]
pub(crate) struct IdTable<K> {
    /// Empty as long as there are no ids.
    segments: Vec<HashTable<K>>,
    len: usize,
    heap_bytes: usize,
}

/// Average number of ids in a segment at which the next segment is split.
const SEGMENT_IDS: usize = 448;
/// Number of bits of a hash that select a segment. Beyond that many ids, segments only grow.
const SEGMENT_BITS: u32 = 15;
/// The bits of a hash below those, which select a place in a segment.
const PLACE_BITS: u32 = 10;

impl<K> Default for IdTable<K> {
    fn default() -> Self {
        Self {
            segments: Vec::new(),
            len: 0,
            heap_bytes: 0,
        }
    }
}

impl<K: Copy + Eq> IdTable<K> {
    /// Returns the id with that hash for which `is_it` is true.
    #[inline]
    pub(crate) fn find(&self, hash: u32, is_it: impl FnMut(&K) -> bool) -> Option<K> {
        let segment = self.segments.get(self.segment_of(hash))?;
        segment.find(spread(hash), is_it).copied()
    }

    /// Adds an id that the table does not contain; `hash_of` returns the hash of an id that it
    /// contains.
    pub(crate) fn insert(&mut self, hash: u32, id: K, hash_of: impl Fn(K) -> u32) {
        if self.segments.is_empty() {
            self.segments.push(HashTable::new());
        } else if self.len >= self.segments.len() * SEGMENT_IDS
            && self.segments.len() < 1 << SEGMENT_BITS
        {
            self.split(&hash_of);
        }
        let at = self.segment_of(hash);
        let segment = &mut self.segments[at];
        let before = bytes_of(segment);
        segment.insert_unique(spread(hash), id, |id| spread(counted(&hash_of, *id)));
        self.heap_bytes += bytes_of(segment) - before;
        self.len += 1;
    }

    /// Removes an id that the table contains under that hash.
    pub(crate) fn remove(&mut self, hash: u32, id: K) {
        let at = self.segment_of(hash);
        if let Some(segment) = self.segments.get_mut(at)
            && let Ok(found) = segment.find_entry(spread(hash), |other| *other == id)
        {
            found.remove();
            self.len -= 1;
        }
        if self.len == 0 {
            *self = Self::default();
        }
    }

    /// Returns the size of its memory in bytes, without a walk.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.heap_bytes + self.segments.capacity() * size_of::<HashTable<K>>()
    }

    /// Returns the segment of a hash. The first segments have already been split; for those one
    /// more bit counts.
    #[inline]
    fn segment_of(&self, hash: u32) -> usize {
        let bits = (hash >> PLACE_BITS) as usize;
        let count = self.segments.len().max(1);
        let below = count.next_power_of_two();
        let at = bits & (below - 1);
        if at < count { at } else { at & (below / 2 - 1) }
    }

    /// Moves half of the next segment in order to a new one.
    fn split(&mut self, hash_of: impl Fn(K) -> u32) {
        let count = self.segments.len();
        // With 2^n to below 2^(n+1) segments, those from 2^n on are halves of the first ones.
        let level = usize::BITS - 1 - count.leading_zeros();
        let from = count - (1 << level);
        let old = std::mem::take(&mut self.segments[from]);
        self.heap_bytes -= bytes_of(&old);
        self.segments.push(HashTable::new());
        for id in old {
            let hash = counted(&hash_of, id);
            let at = self.segment_of(hash);
            self.segments[at].insert_unique(spread(hash), id, |id| spread(hash_of(*id)));
        }
        self.heap_bytes += bytes_of(&self.segments[from]) + bytes_of(&self.segments[count]);
    }
}

/// Returns the hash of an id that is moved.
#[inline]
fn counted<K>(hash_of: impl Fn(K) -> u32, id: K) -> u32 {
    #[cfg(test)]
    crate::slab::steps::take(1);
    hash_of(id)
}

/// Spreads a hash over both ends of 64 bits, which a segment uses.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

fn bytes_of<K>(segment: &HashTable<K>) -> usize {
    segment.capacity() * 8 / 7 * (size_of::<K>() + 1)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn hash_of(id: u32) -> u32 {
        id.wrapping_mul(0x9e37_79b1).rotate_left(13)
    }

    fn contains(table: &IdTable<u32>, id: u32) -> bool {
        table.find(hash_of(id), |found| *found == id) == Some(id)
    }

    #[test]
    fn no_insertion_rehashes_more_than_a_few_segments() {
        let (mut table, mut most) = (IdTable::default(), 0);
        for id in 0..300_000 {
            let steps = Cell::new(0);
            table.insert(hash_of(id), id, |id| {
                steps.set(steps.get() + 1);
                hash_of(id)
            });
            most = most.max(steps.get());
        }
        assert!(most < 4_000, "{most}");
        assert!((0..300_000).all(|id| contains(&table, id)));
        let naive = table.segments.iter().map(bytes_of).sum::<usize>();
        assert_eq!(table.heap_bytes, naive);
        for id in 0..300_000 {
            table.remove(hash_of(id), id);
        }
        assert_eq!((table.len, table.heap_bytes()), (0, 0));
    }

    proptest! {
        #[test]
        fn an_id_table_behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), 0_u32..3000), 0..5000)) {
            let (mut table, mut set) = (IdTable::default(), HashSet::new());
            for (adds, id) in steps {
                if adds && set.insert(id) {
                    table.insert(hash_of(id), id, hash_of);
                } else if !adds && set.remove(&id) {
                    table.remove(hash_of(id), id);
                }
            }
            for id in 0..3000 {
                prop_assert_eq!(contains(&table, id), set.contains(&id));
            }
        }
    }
}

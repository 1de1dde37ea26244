//! The order in which a family's series were created, and in which pages show them.

use crate::footprint::allocated_for;
use crate::ids::SeriesId;

/// Ids with ascending creation numbers, in chunks. Appending is O(1), and a removal moves at most a
/// few hundred ids. An id costs a little over four bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order {
    chunks: Vec<Chunk>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Chunk {
    /// The number of the first id that was added here; it may have been removed since.
    first_no: u64,
    ids: Vec<SeriesId>,
}

const CHUNK_IDS: usize = 512;

impl Order {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends an id whose number is higher than all others.
    pub(crate) fn push(&mut self, no: u64, id: SeriesId) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.ids.len() < CHUNK_IDS => chunk.ids.push(id),
            _ => self.chunks.push(Chunk {
                first_no: no,
                ids: vec![id],
            }),
        }
        self.len += 1;
    }

    /// Removes the id with that number; `no_of` returns the number of an id.
    pub(crate) fn remove(&mut self, no: u64, no_of: impl Fn(SeriesId) -> u64) {
        let Some(at) = self.chunk_of(no) else { return };
        let ids = &mut self.chunks[at].ids;
        let place = ids.partition_point(|id| no_of(*id) < no);
        if ids.get(place).is_some_and(|id| no_of(*id) == no) {
            ids.remove(place);
            self.len -= 1;
            self.join(at);
        }
    }

    /// Removes the last id.
    pub(crate) fn pop(&mut self) -> Option<SeriesId> {
        let last = self.chunks.last_mut()?;
        let id = last.ids.pop();
        if last.ids.is_empty() {
            self.chunks.pop();
        }
        self.len -= usize::from(id.is_some());
        id
    }

    /// Returns all ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SeriesId> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.ids.iter().copied())
    }

    /// Returns the ids with numbers above `no`.
    pub(crate) fn after(
        &self,
        no: u64,
        no_of: impl Fn(SeriesId) -> u64,
    ) -> impl Iterator<Item = SeriesId> {
        let at = self.chunk_of(no).unwrap_or(0);
        let (first, rest) = match &self.chunks[at.min(self.chunks.len())..] {
            [] => (&[][..], &[][..]),
            [first, rest @ ..] => (&*first.ids, rest),
        };
        let skip = first.partition_point(|id| no_of(*id) <= no);
        let rest = rest.iter().flat_map(|chunk| &chunk.ids);
        first[skip..].iter().chain(rest).copied()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.chunks
            .iter()
            .map(|chunk| allocated_for::<SeriesId>(chunk.ids.capacity()))
            .sum::<usize>()
            + allocated_for::<Chunk>(self.chunks.capacity())
    }

    /// Joins chunks that are nearly empty. Without this there could be as many chunks as ids; with
    /// it, two neighbours always hold more than half of what one can.
    fn join(&mut self, at: usize) {
        let len_of = |at: usize| self.chunks.get(at).map(|chunk| chunk.ids.len());
        let len = self.chunks[at].ids.len();
        if len == 0 {
            self.chunks.remove(at);
            return;
        }
        let fits = |other: Option<usize>| other.is_some_and(|other| len + other <= CHUNK_IDS / 2);
        let first = match (fits(len_of(at + 1)), at.checked_sub(1)) {
            (true, _) => at,
            (false, Some(before)) if fits(len_of(before)) => before,
            _ => return,
        };
        let mut second = self.chunks.remove(first + 1);
        self.chunks[first].ids.append(&mut second.ids);
    }

    fn chunk_of(&self, no: u64) -> Option<usize> {
        self.chunks
            .partition_point(|chunk| chunk.first_no <= no)
            .checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Id;

    proptest! {
        #[test]
        fn it_is_a_sorted_list(
            steps in prop::collection::vec((any::<bool>(), 0_u32..2000), 0..3000),
            from in 0_u64..2000,
        ) {
            // In this test each id is its own number.
            let (mut order, mut list) = (Order::default(), Vec::new());
            let mut next = 0;
            for (push, pick) in steps {
                if push || list.is_empty() {
                    next += 1;
                    order.push(next.into(), SeriesId::from_number(next));
                    list.push(next);
                } else {
                    let gone = list.remove(pick as usize % list.len());
                    order.remove(gone.into(), SeriesId::into);
                }
            }
            prop_assert_eq!(order.len(), list.len());
            let after = order.after(from, SeriesId::into).map(SeriesId::number).collect::<Vec<_>>();
            let expected = list.into_iter().filter(|id| u64::from(*id) > from).collect::<Vec<_>>();
            prop_assert_eq!(after, expected);
        }
    }
}

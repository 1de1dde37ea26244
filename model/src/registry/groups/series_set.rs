//! The series of a group: an ordered set whose memory can be moved.

use crate::ids::SeriesId;
use crate::registry::relocate::Relocate;

/// A set of series in ascending order. It consists of short sorted vectors, because an allocator
/// that closes gaps can move a vector, and not the nodes of a tree.
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct SeriesSet {
    /// Sorted, as are the ids in each; none is empty.
    runs: Vec<Vec<SeriesId>>,
    len: usize,
}

/// Maximum number of ids in a run: inserting moves no more than these, or the list of runs.
const RUN: usize = 512;

impl SeriesSet {
    pub(in crate::registry) fn len(&self) -> usize {
        self.len
    }

    pub(in crate::registry) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Iterates in ascending order.
    pub(in crate::registry) fn iter(&self) -> impl Iterator<Item = SeriesId> + '_ {
        self.runs.iter().flatten().copied()
    }

    pub(super) fn insert(&mut self, id: SeriesId) {
        let at = self.run_of(id).min(self.runs.len().saturating_sub(1));
        let Some(run) = self.runs.get_mut(at) else {
            self.runs.push(vec![id]);
            self.len = 1;
            return;
        };
        let Err(place) = run.binary_search(&id) else {
            return;
        };
        self.len += 1;
        if run.len() < RUN {
            run.insert(place, id);
            return;
        }
        // Ids mostly arrive in ascending order: a full run then stays full.
        let mut next = run.split_off(if place == RUN { RUN } else { RUN / 2 });
        match place.checked_sub(run.len()) {
            Some(place) => next.insert(place, id),
            None => run.insert(place, id),
        }
        self.runs.insert(at + 1, next);
    }

    pub(super) fn remove(&mut self, id: SeriesId) {
        let at = self.run_of(id);
        let Some(run) = self.runs.get_mut(at) else {
            return;
        };
        let Ok(place) = run.binary_search(&id) else {
            return;
        };
        run.remove(place);
        self.len -= 1;
        if run.is_empty() {
            self.runs.remove(at);
        }
    }

    pub(super) fn relocate(&mut self, by: &mut impl Relocate) {
        by.vector(&mut self.runs);
        for run in &mut self.runs {
            by.vector(run);
        }
    }

    /// Returns the index of the run that has the id, if one has it.
    fn run_of(&self, id: SeriesId) -> usize {
        self.runs
            .partition_point(|run| run.last().is_some_and(|last| *last < id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::Id;

    proptest! {
        #[test]
        fn it_is_an_ordered_set(
            steps in prop::collection::vec((any::<bool>(), 0..3_000_u32), 0..4_000),
            ascending in 0..2_000_u32,
        ) {
            let (mut set, mut expected) = (SeriesSet::default(), BTreeSet::new());
            let first = (0..ascending).map(|id| (true, 2 * id));
            for (is_added, id) in first.chain(steps) {
                let id = SeriesId::from_number(id);
                if is_added {
                    set.insert(id);
                    expected.insert(id);
                } else {
                    set.remove(id);
                    expected.remove(&id);
                }
            }
            prop_assert!(set.iter().eq(expected.iter().copied()));
            prop_assert_eq!((set.len(), set.is_empty()), (expected.len(), expected.is_empty()));
            prop_assert!(set.runs.iter().all(|run| !run.is_empty() && run.len() <= RUN));
        }
    }
}

//! A vector that grows in small steps, whatever its length.

use std::ops::{Index, IndexMut};

use crate::footprint::{allocated_for, push_tightly};

/// A vector in pieces. Growth moves at most one piece; a plain vector of a million values moves
/// some megabytes when it is full, and all clients wait for that.
///
/// Nearly all of these vectors fit into the first piece, which is reached as fast as a plain
/// vector's content.
#[derive(Debug, Clone)]
pub(crate) struct Pieces<T> {
    first: Vec<T>,
    rest: Option<Box<Rest<T>>>,
}

/// The pieces after the first. None is empty, and all except the last are full.
#[derive(Debug, Clone)]
struct Rest<T>(Vec<Vec<T>>);

const PIECE: usize = 1 << 13;

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self {
            first: Vec::new(),
            rest: None,
        }
    }
}

impl<T> Pieces<T> {
    pub(crate) fn len(&self) -> usize {
        match self.rest().split_last() {
            None => self.first.len(),
            Some((last, full)) => (1 + full.len()) * PIECE + last.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(crate) fn push(&mut self, thing: T) {
        if self.first.len() < PIECE {
            push_tightly(&mut self.first, thing, PIECE);
            return;
        }
        let rest = &mut self
            .rest
            .get_or_insert_with(|| Box::new(Rest(Vec::new())))
            .0;
        match rest.last_mut() {
            Some(last) if last.len() < PIECE => push_tightly(last, thing, PIECE),
            _ => rest.push(vec![thing]),
        }
    }

    fn rest(&self) -> &[Vec<T>] {
        self.rest.as_ref().map_or(&[], |rest| &rest.0)
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let Some(rest) = &mut self.rest else {
            return self.first.pop();
        };
        let last = rest.0.last_mut()?;
        let thing = last.pop();
        if last.is_empty() {
            rest.0.pop();
        }
        if rest.0.is_empty() {
            self.rest = None;
        }
        thing
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        if at < PIECE {
            return self.first.get(at);
        }
        self.rest().get(at / PIECE - 1)?.get(at % PIECE)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        if at < PIECE {
            return self.first.get_mut(at);
        }
        let rest = &mut self.rest.as_mut()?.0;
        rest.get_mut(at / PIECE - 1)?.get_mut(at % PIECE)
    }

    /// Removes a value and puts the last one in its place.
    pub(crate) fn swap_remove(&mut self, at: usize) {
        let last = self.pop();
        if let (Some(last), Some(place)) = (last, self.get_mut(at)) {
            *place = last;
        }
    }

    /// Removes all values, and keeps the memory of the first piece.
    pub(crate) fn clear(&mut self) {
        self.first.clear();
        self.rest = None;
    }

    pub(crate) fn iter(&self) -> Iter<'_, T> {
        Iter {
            pieces: self,
            at: 0,
        }
    }

    /// Iterates over the pieces.
    pub(crate) fn vectors_mut(&mut self) -> impl Iterator<Item = &mut Vec<T>> {
        let rest = self.rest.iter_mut().flat_map(|rest| &mut rest.0);
        std::iter::once(&mut self.first).chain(rest)
    }

    /// Returns the bytes of memory, without what the values own.
    pub(crate) fn heap_bytes(&self) -> usize {
        let of_rest = self.rest.as_ref().map_or(0, |rest| {
            let last = rest.0.last().map_or(0, Vec::capacity);
            let full = rest.0.len().saturating_sub(1) * allocated_for::<T>(PIECE);
            let list = allocated_for::<Vec<T>>(rest.0.capacity());
            full + allocated_for::<T>(last) + list + size_of::<Rest<T>>()
        });
        allocated_for::<T>(self.first.capacity()) + of_rest
    }
}

impl<T> From<Vec<T>> for Pieces<T> {
    fn from(things: Vec<T>) -> Self {
        let mut pieces = Self::default();
        if things.len() <= PIECE {
            pieces.first = things;
        } else {
            for thing in things {
                pieces.push(thing);
            }
        }
        pieces
    }
}

impl<T> Index<usize> for Pieces<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        if at < PIECE {
            return &self.first[at];
        }
        &self.rest()[at / PIECE - 1][at % PIECE]
    }
}

impl<T> IndexMut<usize> for Pieces<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        match self.get_mut(at) {
            Some(thing) => thing,
            None => unreachable!("there are fewer than {at}"),
        }
    }
}

impl<'a, T> IntoIterator for &'a Pieces<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Iterates over all values, in their order.
#[derive(Debug)]
pub(crate) struct Iter<'a, T> {
    pieces: &'a Pieces<T>,
    at: usize,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        let thing = self.pieces.get(self.at)?;
        self.at += 1;
        Some(thing)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.pieces.len() - self.at;
        (left, Some(left))
    }

    fn nth(&mut self, n: usize) -> Option<&'a T> {
        self.at = self.at.saturating_add(n).min(self.pieces.len());
        self.next()
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 50,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn they_are_a_vector(
            steps in prop::collection::vec((0..4_u8, 0..3 * PIECE), 0..30),
            begin in 0..3 * PIECE,
        ) {
            let mut vector = (0..begin).collect::<Vec<_>>();
            let mut pieces = Pieces::from(vector.clone());
            for (step, number) in steps {
                match step {
                    0 => for thing in 0..number {
                        vector.push(thing);
                        pieces.push(thing);
                    },
                    1 => for _ in 0..number {
                        prop_assert_eq!(vector.pop(), pieces.pop());
                    },
                    2 if number < vector.len() => {
                        vector.swap_remove(number);
                        pieces.swap_remove(number);
                    }
                    _ => if let (Some(one), Some(other)) = (vector.get_mut(number), pieces.get_mut(number)) {
                        (*one, *other) = (7, 7);
                    },
                }
                prop_assert_eq!(pieces.len(), vector.len());
                prop_assert_eq!(pieces.is_empty(), vector.is_empty());
                prop_assert!(pieces.iter().eq(&vector));
                prop_assert!(pieces.iter().skip(number).eq(vector.iter().skip(number)));
                prop_assert_eq!(pieces.get(number), vector.get(number));
            }
            pieces.clear();
            prop_assert_eq!((pieces.len(), pieces.iter().next()), (0, None));
        }
    }
}

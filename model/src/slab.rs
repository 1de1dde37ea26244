//! A container whose values keep a small number as long as they live.

use std::ops::{Index, IndexMut};

use crate::footprint::allocated_for;
use crate::ids::Id;
use crate::pieces::Pieces;

/// A vector that uses freed places again.
///
/// It consists of chunks, so that growth moves none of a large one, and leaves next to nothing
/// unused.
#[derive(Debug, Clone)]
pub(crate) struct Slab<I, T> {
    /// All except the last are full.
    chunks: Vec<Vec<Option<T>>>,
    free: Pieces<I>,
}

const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 10;

impl<I, T> Default for Slab<I, T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: Pieces::default(),
        }
    }
}

impl<I: Id, T> Slab<I, T> {
    pub(crate) fn insert(&mut self, thing: T) -> I {
        if let Some(id) = self.free.pop() {
            let (chunk, place) = split(id);
            self.chunks[chunk][place] = Some(thing);
            return id;
        }
        self.push(Some(thing));
        I::from_number((self.place_count() - 1) as u32)
    }

    pub(crate) fn remove(&mut self, id: I) -> Option<T> {
        let (chunk, place) = split(id);
        let thing = self.chunks.get_mut(chunk)?.get_mut(place)?.take()?;
        self.free.push(id);
        Some(thing)
    }

    pub(crate) fn get(&self, id: I) -> Option<&T> {
        let (chunk, place) = split(id);
        self.chunks.get(chunk)?.get(place)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        let (chunk, place) = split(id);
        self.chunks.get_mut(chunk)?.get_mut(place)?.as_mut()
    }

    /// Returns the number of places, including free ones.
    pub(crate) fn place_count(&self) -> usize {
        match self.chunks.split_last() {
            None => 0,
            Some((last, full)) => full.len() * CHUNK + last.len(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.place_count() - self.free.len()
    }

    /// Returns every place from one on, including free ones.
    pub(crate) fn places_from(&self, from: usize) -> impl Iterator<Item = Option<&T>> {
        let chunks = self.chunks.iter().skip(from / CHUNK);
        let places = chunks.flatten().skip(from % CHUNK).map(Option::as_ref);
        #[cfg(test)]
        let places = places.inspect(|_| steps::take(1));
        places
    }

    /// Returns the free places in the order in which they were freed. They decide which place the
    /// next value gets.
    pub(crate) fn free_places(&self) -> &Pieces<I> {
        &self.free
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.places_from(0)
            .enumerate()
            .filter_map(|(id, thing)| Some((I::from_number(id as u32), thing?)))
    }

    /// Returns the numbers of all values, for a walk that changes them.
    pub(crate) fn ids(&self) -> Vec<I> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        self.chunks
            .iter_mut()
            .flatten()
            .enumerate()
            .filter_map(|(id, thing)| Some((I::from_number(id as u32), thing.as_mut()?)))
    }

    /// Builds a slab from all places and the free ones; `None` if the two do not agree.
    pub(crate) fn from_parts(places: Vec<Option<T>>, free: Vec<I>) -> Option<Self> {
        let mut is_free = places.iter().map(Option::is_none).collect::<Vec<_>>();
        for id in &free {
            let place = is_free.get_mut(id.number() as usize)?;
            if !std::mem::take(place) {
                return None;
            }
        }
        if is_free.contains(&true) {
            return None;
        }
        let mut slab = Self {
            free: free.into(),
            ..Self::default()
        };
        for place in places {
            slab.push(place);
        }
        Some(slab)
    }

    fn push(&mut self, place: Option<T>) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(place),
            _ => self.chunks.push(vec![place]),
        }
    }

    /// Returns the bytes of the slab itself, without what its values own.
    pub(crate) fn heap_bytes(&self) -> usize {
        let (last, full) = self.chunks.split_last().map_or((0, 0), |(last, full)| {
            (allocated_for::<Option<T>>(last.capacity()), full.len())
        });
        full * allocated_for::<Option<T>>(CHUNK)
            + last
            + allocated_for::<Vec<Option<T>>>(self.chunks.capacity())
            + self.free.heap_bytes()
    }
}

/// Counts how many values were touched, for tests that bound this.
#[cfg(test)]
pub(crate) mod steps {
    use std::cell::Cell;

    thread_local! {
        static TAKEN: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn take(steps: u64) {
        TAKEN.set(TAKEN.get() + steps);
    }

    pub(crate) fn taken() -> u64 {
        TAKEN.get()
    }

    pub(crate) fn reset() {
        TAKEN.set(0);
    }
}

/// Returns the chunk of a place, and the index in it.
#[inline]
fn split(id: impl Id) -> (usize, usize) {
    #[cfg(test)]
    steps::take(1);
    let number = id.number();
    ((number >> CHUNK_BITS) as usize, number as usize % CHUNK)
}

impl<I: Id, T> Index<I> for Slab<I, T> {
    type Output = T;

    #[inline]
    fn index(&self, id: I) -> &T {
        let (chunk, place) = split(id);
        match &self.chunks[chunk][place] {
            Some(thing) => thing,
            None => unreachable!("slab place {} is free", id.number()),
        }
    }
}

impl<I: Id, T> IndexMut<I> for Slab<I, T> {
    #[inline]
    fn index_mut(&mut self, id: I) -> &mut T {
        let (chunk, place) = split(id);
        match &mut self.chunks[chunk][place] {
            Some(thing) => thing,
            None => unreachable!("slab place {} is free", id.number()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_stays_a_things_own_over_many_chunks() {
        let mut slab = Slab::default();
        for thing in 0..5_000_u32 {
            assert_eq!(slab.insert(thing), thing);
        }
        for id in [0, 1023, 1024, 4999] {
            assert_eq!(slab.remove(id), Some(id));
            assert_eq!(slab.remove(id), None);
        }
        assert_eq!((slab.len(), slab.place_count()), (4_996, 5_000));
        assert_eq!((slab.get(5_000), slab.get(9_999_999)), (None, None));
        // The place that was freed last is used first.
        assert_eq!(slab.insert(7), 4999);
        let (places, free) = (
            slab.places_from(0).map(Option::<&u32>::cloned),
            slab.free_places(),
        );
        let mut again = Slab::from_parts(places.collect(), free.iter().copied().collect()).unwrap();
        assert_eq!(again.insert(8), 1024);
        assert_eq!((again[2000], again[4999], again[1024]), (2000, 7, 8));
        assert_eq!(again.iter().count(), 4_998);
        assert_eq!(again.ids().last(), Some(&4999));
        assert!(Slab::from_parts(vec![Some(1), None], vec![0]).is_none());
        assert!(Slab::<u32, _>::from_parts(vec![Some(1), None], vec![]).is_none());
    }
}

//! Things that are known by a small number which stays theirs as long as they live.

use std::ops::{Index, IndexMut};

use crate::footprint::allocated_for;

/// A vector whose freed places are used again.
#[derive(Debug, Clone)]
pub(crate) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, thing: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.places[id as usize] = Some(thing);
            return id;
        }
        self.places.push(Some(thing));
        (self.places.len() - 1) as u32
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let thing = self.places.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(thing)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.places.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.places.get_mut(id as usize)?.as_mut()
    }

    /// How many places there are, free ones too.
    pub(crate) fn place_count(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(id, thing)| Some((id as u32, thing.as_ref()?)))
    }

    /// Every place, free ones too, and the free ones in the order in which they were freed: all that
    /// decides which place the next thing gets.
    pub(crate) fn parts(&self) -> (&[Option<T>], &[u32]) {
        (&self.places, &self.free)
    }

    /// The reverse of [`parts`](Self::parts); `None` if the two do not agree.
    pub(crate) fn from_parts(places: Vec<Option<T>>, free: Vec<u32>) -> Option<Self> {
        let mut is_free = places.iter().map(Option::is_none).collect::<Vec<_>>();
        for id in &free {
            let place = is_free.get_mut(*id as usize)?;
            if !std::mem::take(place) {
                return None;
            }
        }
        is_free
            .iter()
            .all(|left| !left)
            .then_some(Self { places, free })
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.places
            .iter_mut()
            .enumerate()
            .filter_map(|(id, thing)| Some((id as u32, thing.as_mut()?)))
    }

    /// Bytes of the slab itself, without what its things own.
    pub(crate) fn heap_bytes(&self) -> usize {
        allocated_for::<Option<T>>(self.places.capacity())
            + allocated_for::<u32>(self.free.capacity())
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, id: u32) -> &T {
        match &self.places[id as usize] {
            Some(thing) => thing,
            None => unreachable!("slab place {id} is free"),
        }
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut T {
        match &mut self.places[id as usize] {
            Some(thing) => thing,
            None => unreachable!("slab place {id} is free"),
        }
    }
}

//! A slab that knows the memory of its values without a walk through them.

use std::ops::{Index, IndexMut};

use crate::ids::Id;
use crate::pieces::Pieces;
use crate::slab::Slab;

/// A value that owns memory.
pub(crate) trait HeapBytes {
    /// Returns the bytes of memory that it owns, in a few steps.
    fn heap_bytes(&self) -> usize;
}

/// A [`Slab`] that measures a value again after it may have changed.
///
/// It notes each value that a caller gets mutably, and [`measure`](Self::measure) measures those
/// again. So code that changes a value cannot forget to report it. [`bytes`](Self::bytes) measures
/// only the values that were noted since.
#[derive(Debug, Clone)]
pub(crate) struct Measured<I, T> {
    slab: Slab<I, T>,
    /// The size of the value at each place.
    sizes: Pieces<Size>,
    /// The sum of all sizes.
    bytes: usize,
    /// Places that callers got mutably since the last measurement.
    touched: Vec<I>,
}

/// What a value owned at its last measurement.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    bytes: usize,
    is_touched: bool,
}

impl<I, T> Default for Measured<I, T> {
    fn default() -> Self {
        Self {
            slab: Slab::default(),
            sizes: Pieces::default(),
            bytes: 0,
            touched: Vec::new(),
        }
    }
}

impl<I: Id, T: HeapBytes> Measured<I, T> {
    /// Returns the bytes of memory that the slab and its values own.
    pub(crate) fn bytes(&self) -> usize {
        let own = self.slab.heap_bytes() + self.sizes.heap_bytes();
        let mut bytes = own + self.bytes;
        for id in &self.touched {
            bytes += self.size_now(*id);
            bytes -= self.sizes[id.number() as usize].bytes;
        }
        bytes
    }

    /// Returns the same by a walk through all values.
    #[cfg(test)]
    pub(crate) fn walked_bytes(&self) -> usize {
        let own = self.slab.heap_bytes() + self.sizes.heap_bytes();
        let things = self.slab.iter().map(|(_, thing)| thing.heap_bytes());
        own + things.sum::<usize>()
    }

    /// Measures the values that may have changed.
    pub(crate) fn measure(&mut self) {
        while let Some(id) = self.touched.pop() {
            let bytes = self.size_now(id);
            let size = &mut self.sizes[id.number() as usize];
            self.bytes += bytes;
            self.bytes -= size.bytes;
            *size = Size {
                bytes,
                is_touched: false,
            };
        }
    }

    fn size_now(&self, id: I) -> usize {
        self.slab.get(id).map_or(0, T::heap_bytes)
    }
}

impl<I: Id, T> Measured<I, T> {
    pub(crate) fn insert(&mut self, thing: T) -> I {
        let id = self.slab.insert(thing);
        self.touch(id);
        id
    }

    pub(crate) fn remove(&mut self, id: I) -> Option<T> {
        let thing = self.slab.remove(id)?;
        self.touch(id);
        Some(thing)
    }

    pub(crate) fn get(&self, id: I) -> Option<&T> {
        self.slab.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        if self.slab.get(id).is_some() {
            self.touch(id);
        }
        self.slab.get_mut(id)
    }

    /// Returns the slab, for reading.
    pub(crate) fn slab(&self) -> &Slab<I, T> {
        &self.slab
    }

    pub(crate) fn place_count(&self) -> usize {
        self.slab.place_count()
    }

    pub(crate) fn places_from(&self, from: usize) -> impl Iterator<Item = Option<&T>> {
        self.slab.places_from(from)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.slab.iter()
    }

    /// Returns the numbers of all values, for a walk that changes them.
    pub(crate) fn ids(&self) -> Vec<I> {
        self.slab.ids()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        for id in 0..self.place_count() as u32 {
            self.touch(I::from_number(id));
        }
        self.slab.iter_mut()
    }

    #[inline]
    fn touch(&mut self, id: I) {
        match self.sizes.get_mut(id.number() as usize) {
            Some(size) if size.is_touched => {}
            _ => self.note(id),
        }
    }

    #[cold]
    fn note(&mut self, id: I) {
        let places = self.slab.place_count().max(id.number() as usize + 1);
        for _ in self.sizes.len()..places {
            self.sizes.push(Size::default());
        }
        self.sizes[id.number() as usize].is_touched = true;
        self.touched.push(id);
    }
}

impl<I: Id, T> From<Slab<I, T>> for Measured<I, T> {
    fn from(slab: Slab<I, T>) -> Self {
        let mut measured = Self {
            slab,
            ..Self::default()
        };
        for id in 0..measured.place_count() as u32 {
            measured.touch(I::from_number(id));
        }
        measured
    }
}

impl<I: Id, T> Index<I> for Measured<I, T> {
    type Output = T;

    #[inline]
    fn index(&self, id: I) -> &T {
        &self.slab[id]
    }
}

impl<I: Id, T> IndexMut<I> for Measured<I, T> {
    #[inline]
    fn index_mut(&mut self, id: I) -> &mut T {
        self.touch(id);
        &mut self.slab[id]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::SeriesId;

    impl HeapBytes for Vec<u8> {
        fn heap_bytes(&self) -> usize {
            self.len()
        }
    }

    proptest! {
        #[test]
        fn its_bytes_equal_those_of_a_walk(
            steps in prop::collection::vec((0..5_u8, 0..20_u32, 0..50_usize), 0..200),
        ) {
            let mut measured = Measured::<SeriesId, Vec<u8>>::default();
            for (step, id, len) in steps {
                let id = SeriesId::from_number(id);
                match step {
                    0 | 1 => drop(measured.insert(vec![0; len])),
                    2 => drop(measured.remove(id)),
                    3 => {
                        if let Some(thing) = measured.get_mut(id) {
                            *thing = vec![1; len];
                        }
                    }
                    _ => measured.measure(),
                }
                prop_assert_eq!(measured.bytes(), measured.walked_bytes());
            }
        }
    }
}

//! The bucket layouts of a registry; each is stored once and has a number.

use std::collections::BTreeMap;
use std::ops::Index;

use crate::footprint::{allocated, allocated_for};
use crate::ids::{Id, LayoutId};
use crate::registry::RegistryError;
use crate::{Layout, MAX_LAYOUT_BOUNDS, MAX_LAYOUTS};

/// The bucket layouts of a registry. A layout stays as long as the registry: there are few, and
/// their number is limited.
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct Layouts {
    list: Vec<Layout>,
    by_bounds: BTreeMap<Bounds, LayoutId>,
    /// Number of bounds of all layouts.
    bounds: usize,
}

/// The bounds of a layout, as bits.
type Bounds = Box<[u64]>;

impl Layouts {
    /// Returns the number of a known layout.
    pub(in crate::registry) fn find(&self, layout: &Layout) -> Option<LayoutId> {
        self.by_bounds.get(&bounds_of(layout)).copied()
    }

    /// Returns the number of a layout; a new one must have passed [`check_room`](Self::check_room).
    pub(in crate::registry) fn number_of(&mut self, layout: &Layout) -> LayoutId {
        let next = LayoutId::from_number(self.list.len() as u32);
        let number = *self.by_bounds.entry(bounds_of(layout)).or_insert(next);
        if number == next {
            self.push(layout.clone());
        }
        number
    }

    /// Checks whether these layouts may be added, if they are new.
    ///
    /// # Errors
    ///
    /// There would be too many layouts, or too many bounds altogether.
    pub(in crate::registry) fn check_room<'a>(
        &self,
        layouts: impl Iterator<Item = &'a Layout>,
    ) -> Result<(), RegistryError> {
        let mut new = BTreeMap::new();
        for layout in layouts {
            let bounds = bounds_of(layout);
            if !self.by_bounds.contains_key(&bounds) {
                new.insert(bounds, layout.len());
            }
        }
        let bounds = self.bounds + new.values().sum::<usize>();
        let count = self.list.len() + new.len();
        if !new.is_empty() && (count > MAX_LAYOUTS || bounds > MAX_LAYOUT_BOUNDS) {
            return Err(RegistryError::Layouts(self.list.len(), self.bounds));
        }
        Ok(())
    }

    pub(in crate::registry) fn len(&self) -> usize {
        self.list.len()
    }

    pub(in crate::registry) fn get(&self, number: LayoutId) -> Option<&Layout> {
        self.list.get(number.number() as usize)
    }

    pub(in crate::registry) fn iter(&self) -> impl ExactSizeIterator<Item = &Layout> {
        self.list.iter()
    }

    /// Returns the approximate bytes of memory, without a walk.
    pub(in crate::registry) fn heap_bytes(&self) -> usize {
        let of_a_bound = size_of::<(f64, Box<str>)>() + allocated(4) + size_of::<u64>();
        allocated_for::<Layout>(self.list.capacity())
            + 64 * self.list.len()
            + of_a_bound * self.bounds
    }

    fn push(&mut self, layout: Layout) {
        self.bounds += layout.len();
        self.list.push(layout);
    }
}

/// Collects the layouts of a snapshot in the order of their numbers.
impl FromIterator<Layout> for Layouts {
    fn from_iter<T: IntoIterator<Item = Layout>>(layouts: T) -> Self {
        let mut all = Self::default();
        for (layout, number) in layouts.into_iter().zip((0..).map(LayoutId::from_number)) {
            all.by_bounds.entry(bounds_of(&layout)).or_insert(number);
            all.push(layout);
        }
        all
    }
}

impl Index<LayoutId> for Layouts {
    type Output = Layout;

    fn index(&self, number: LayoutId) -> &Layout {
        &self.list[number.number() as usize]
    }
}

fn bounds_of(layout: &Layout) -> Bounds {
    // Minus zero is the same bound as zero.
    layout
        .values()
        .map(|bound| (bound + 0.0).to_bits())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bounds: impl Iterator<Item = usize>) -> Layout {
        let texts = bounds.map(|bound| bound.to_string()).collect::<Vec<_>>();
        Layout::new(texts.iter().map(String::as_str)).unwrap()
    }

    #[test]
    fn a_layout_has_one_number_and_there_are_only_so_many() {
        let mut layouts = Layouts::default();
        for bound in 0..MAX_LAYOUTS {
            assert_eq!(
                layouts.check_room([&layout([bound].into_iter())].into_iter()),
                Ok(())
            );
            assert_eq!(
                layouts.number_of(&layout([bound].into_iter())),
                LayoutId::from_number(bound as u32)
            );
        }
        let seven = LayoutId::from_number(7);
        let (known, new) = (layout(7..8), layout(0..2));
        assert_eq!(layouts.number_of(&Layout::new(["7.0"]).unwrap()), seven);
        assert_eq!(layouts.check_room([&known].into_iter()), Ok(()));
        let refused = layouts.check_room([&known, &new].into_iter()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the registry has 1024 bucket layouts with 1024 bounds, at most 1024 with 65536 are allowed"
        );
        assert_eq!(
            (layouts.find(&known), layouts.find(&new)),
            (Some(seven), None)
        );
        let again = layouts.iter().cloned().collect::<Layouts>();
        assert_eq!(
            (again.find(&known), again.len()),
            (Some(seven), MAX_LAYOUTS)
        );
    }

    #[test]
    fn their_bounds_are_counted_together() {
        let mut layouts = Layouts::default();
        for from in 0..65 {
            layouts.number_of(&layout(from..from + 1000));
        }
        let wide = layout(100..1100);
        assert!(layouts.check_room([&wide].into_iter()).is_err());
        assert_eq!(layouts.check_room([&layout(0..500)].into_iter()), Ok(()));
        // Two different layouts, and one of them twice.
        let (one, two) = (layout(0..300), layout(0..301));
        assert!(layouts.check_room([&one, &two].into_iter()).is_err());
        assert_eq!(layouts.check_room([&one, &one].into_iter()), Ok(()));
    }
}

//! The numbers by which a registry refers to its families, series, writers, bucket layouts and
//! deadlines: one type for each, so that the number of one cannot be used for another.
//!
//! A number belongs to its owner as long as the owner lives, and to another one after that. Its
//! bytes in a snapshot are those of the plain number.

/// A number of one kind.
pub(crate) trait Id: Copy + Eq {
    /// Returns the id with that number.
    fn from_number(number: u32) -> Self;

    /// Returns its number: the place of its owner in the slab of that kind.
    fn number(self) -> u32;
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub(crate) struct $name(u32);

        impl Id for $name {
            #[inline]
            fn from_number(number: u32) -> Self {
                Self(number)
            }

            #[inline]
            fn number(self) -> u32 {
                self.0
            }
        }

        impl From<$name> for u64 {
            #[inline]
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }
    };
}

macro_rules! with_none {
    ($($name:ident),*) => {
        $(impl $name {
            /// Stands for none; also the end of a range that includes every id.
            pub(crate) const NONE: Self = Self(u32::MAX);
        })*
    };
}

with_none!(SeriesId, WriterId, LayoutId, DeadlineId);

id!(
    /// The number of a family.
    FamilyId
);
id!(
    /// The number of a series.
    SeriesId
);
id!(
    /// The number of a writer; it is not the id that the writer has given itself.
    WriterId
);
id!(
    /// The number of a bucket layout.
    LayoutId
);
id!(
    /// The place of a series' deadline among all of them.
    DeadlineId
);

/// The containers are tested with plain numbers.
#[cfg(test)]
impl Id for u32 {
    fn from_number(number: u32) -> Self {
        number
    }

    fn number(self) -> u32 {
        self
    }
}

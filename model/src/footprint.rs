//! Estimates the memory of an allocation from its size.

/// Returns the bytes that an allocator with size classes reserves. The classes are those of
/// jemalloc, which most servers use: four to each doubling. Other allocators round up by about as
/// much.
pub(crate) fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=128 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of(bytes.next_power_of_two() / 8),
    }
}

/// Size of a move that counts as one step, for tests that bound the work of a call.
#[cfg(test)]
const CACHE_LINE_BYTES: usize = 64;

/// The same for a vector or boxed slice of so many things.
pub(crate) fn allocated_for<T>(count: usize) -> usize {
    allocated(count * size_of::<T>())
}

/// Appends to one of many long-lived vectors. It grows by an eighth, so that little memory is
/// unused, and never beyond `most` things.
#[inline]
pub(crate) fn push_tightly<T>(vector: &mut Vec<T>, thing: T, most: usize) {
    if vector.len() == vector.capacity() {
        #[cfg(test)]
        crate::slab::steps::take((size_of_val(vector.as_slice()) / CACHE_LINE_BYTES) as u64);
        let more = vector.len() / 8 + 4;
        vector.reserve_exact(more.min(most.saturating_sub(vector.len())));
    }
    vector.push(thing);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_to_classes() {
        for (bytes, class) in [
            (0, 0),
            (1, 8),
            (24, 32),
            (128, 128),
            (129, 160),
            (160, 160),
            (161, 192),
            (256, 256),
            (257, 320),
            (1025, 1280),
            (3_000_000, 3 << 20),
        ] {
            assert_eq!(allocated(bytes), class, "{bytes}");
        }
    }
}

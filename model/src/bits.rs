//! A yes or no for each of many numbered things.

use crate::footprint::allocated_for;

/// One bit for each number below its length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: usize,
}

const WORD: usize = 64;

impl Bits {
    /// So many, none of them set.
    pub(crate) fn unset(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(WORD)],
            len,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds one that is not set.
    pub(crate) fn push(&mut self) {
        if self.len.is_multiple_of(WORD) {
            self.words.push(0);
        }
        self.len += 1;
    }

    pub(crate) fn set(&mut self, at: usize) {
        if at < self.len {
            self.words[at / WORD] |= 1 << (at % WORD);
        }
    }

    pub(crate) fn is_set(&self, at: usize) -> bool {
        at < self.len && self.words[at / WORD] >> (at % WORD) & 1 == 1
    }

    /// The first from one on that is not set; words that are all set are passed at once.
    pub(crate) fn first_unset(&self, from: usize) -> Option<usize> {
        let words = self.words.iter().enumerate().skip(from / WORD);
        let found = words.filter_map(|(number, word)| {
            let below = if number == from / WORD {
                (1 << (from % WORD)) - 1
            } else {
                0
            };
            let unset = !(word | below);
            (unset != 0).then(|| number * WORD + unset.trailing_zeros() as usize)
        });
        found.take(1).find(|at| *at < self.len)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        allocated_for::<u64>(self.words.capacity())
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let words = self.words.iter().flat_map(|word| word.to_le_bytes());
        words.take(self.len.div_ceil(8)).collect()
    }

    /// The reverse of [`to_bytes`](Self::to_bytes); `None` where the bytes are not those of so many.
    pub(crate) fn from_bytes(bytes: &[u8], len: usize) -> Option<Self> {
        if bytes.len() != len.div_ceil(8) {
            return None;
        }
        let mut bits = Self::unset(len);
        for at in 0..bytes.len() * 8 {
            if bytes[at / 8] >> (at % 8) & 1 == 1 {
                if at >= len {
                    return None;
                }
                bits.set(at);
            }
        }
        Some(bits)
    }
}

impl FromIterator<bool> for Bits {
    fn from_iter<I: IntoIterator<Item = bool>>(flags: I) -> Self {
        let mut bits = Self::default();
        for (at, is_set) in flags.into_iter().enumerate() {
            bits.push();
            if is_set {
                bits.set(at);
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_a_list_of_flags(flags in prop::collection::vec(prop::bool::weighted(0.9), 0..300), from in 0..300_usize) {
            let bits = flags.iter().copied().collect::<Bits>();
            prop_assert_eq!(bits.len(), flags.len());
            for (at, is_set) in flags.iter().enumerate() {
                prop_assert_eq!(bits.is_set(at), *is_set);
            }
            prop_assert!(!bits.is_set(flags.len()));
            let expected = (from..flags.len()).find(|at| !flags[*at]);
            prop_assert_eq!(bits.first_unset(from), expected);
            let again = Bits::from_bytes(&bits.to_bytes(), flags.len()).unwrap();
            prop_assert_eq!(again.to_bytes(), bits.to_bytes());
            prop_assert!(Bits::from_bytes(&bits.to_bytes(), flags.len() + 8).is_none());
        }
    }
}

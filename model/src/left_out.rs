//! The series of a batch that a registry left out.

use crate::MAX_BATCH_ENTRIES;

/// The series of one batch that the registry left out, by their positions in the batch. Positions
/// count, from 0, the entries that carry a value (`DEFINE`, each record of `VALUES`, `TIMED`,
/// `HISTOGRAM`, `NATIVE`), in the order of the bytes.
///
/// As bytes it has one bit for each position, the lowest bit of the first byte for position 0,
/// without zero bytes at the end. It is empty if nothing was left out, and has at most 512 bytes.
///
/// ```
/// use metrics_model::LeftOut;
///
/// let left_out = LeftOut::from_bytes(&[0b10]).expect("the last byte is not zero");
/// assert!(left_out.contains(1) && !left_out.contains(0));
/// assert_eq!(LeftOut::default().digest(), 0);
/// assert_eq!(LeftOut::from_bytes(&[0]), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LeftOut(Vec<u8>);

impl LeftOut {
    /// Parses the bytes of [`as_bytes`](Self::as_bytes); `None` for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let is_short = bytes.len() <= MAX_BATCH_ENTRIES / 8;
        (is_short && bytes.last() != Some(&0)).then(|| Self(bytes.to_vec()))
    }

    /// Returns the bits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether the registry applied everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the series at that position was left out.
    pub fn contains(&self, position: usize) -> bool {
        let byte = self.0.get(position / 8);
        byte.is_some_and(|byte| byte & (1 << (position % 8)) != 0)
    }

    /// Returns a checksum that tells two values apart; 0 if nothing was left out (FNV-1a, 32 bits,
    /// odd).
    pub fn digest(&self) -> u32 {
        let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        match &*self.0 {
            [] => 0,
            bytes => bytes.iter().fold(0x811c_9dc5, step) | 1,
        }
    }

    pub(crate) fn insert(&mut self, position: usize) {
        if self.0.len() <= position / 8 {
            self.0.resize(position / 8 + 1, 0);
        }
        self.0[position / 8] |= 1 << (position % 8);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

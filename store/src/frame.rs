//! Frames bytes with their length and a checksum, so that a reader accepts them whole or not at
//! all.

const WORD: usize = size_of::<u64>();
/// Size of the header in bytes: magic number, generation, length, checksum.
pub(crate) const HEADER: usize = 4 * WORD;

/// The header before the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Increases with each write of the same content.
    pub(crate) generation: u64,
    pub(crate) len: u64,
    sum: u64,
}

impl Header {
    pub(crate) fn of(generation: u64, content: &[u8]) -> Self {
        Self {
            generation,
            len: content.len() as u64,
            sum: checksum(generation, content),
        }
    }

    pub(crate) fn encode(self, magic: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let words = [magic, self.generation, self.len, self.sum];
        for (to, word) in bytes.chunks_exact_mut(WORD).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Parses a header; `None` if the magic number is another.
    pub(crate) fn decode(magic: u64, bytes: &[u8]) -> Option<Self> {
        let mut words = bytes
            .get(..HEADER)?
            .chunks_exact(WORD)
            .map(|chunk| u64::from_ne_bytes(std::array::from_fn(|i| chunk[i])));
        let mut word = || words.next().unwrap_or(0);
        let found = word();
        let header = Self {
            generation: word(),
            len: word(),
            sum: word(),
        };
        (found == magic).then_some(header)
    }

    pub(crate) fn fits(self, content: &[u8]) -> bool {
        self == Self::of(self.generation, content)
    }
}

/// Returns the content and its generation; `None` if any part is damaged.
pub(crate) fn decode(magic: u64, bytes: &[u8]) -> Option<(u64, &[u8])> {
    let header = Header::decode(magic, bytes)?;
    let content = &bytes[HEADER..];
    header.fits(content).then_some((header.generation, content))
}

/// FNV-1a over words of eight bytes: detects damage, does not stop attackers.
pub(crate) fn checksum(generation: u64, bytes: &[u8]) -> u64 {
    bytes
        .chunks(WORD)
        .fold(0xcbf2_9ce4_8422_2325 ^ generation, |sum, chunk| {
            let mut eight = [0; WORD];
            eight[..chunk.len()].copy_from_slice(chunk);
            (sum ^ u64::from_ne_bytes(eight))
                .wrapping_mul(0x100_0000_01b3)
                .rotate_left(29)
        })
}

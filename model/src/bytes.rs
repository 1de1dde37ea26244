//! The primitives of batches and snapshots: see `redis-module/BATCH.md`.

/// Why bytes could not be read. The position is counted from the first byte.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum DecodeError {
    #[error("{what} version {found}, this build reads {expected}")]
    Version {
        what: &'static str,
        found: u8,
        expected: u8,
    },
    #[error("cut short at byte {at}")]
    CutShort { at: usize },
    #[error("{left} bytes after the end, at byte {at}")]
    LeftOver { at: usize, left: usize },
    #[error("a varint that is too long or not in its shortest form at byte {at}")]
    Varint { at: usize },
    #[error("text that is not UTF-8 at byte {at}")]
    Utf8 { at: usize },
    #[error("{what} {found} at byte {at}, expected {expected}")]
    Value {
        what: &'static str,
        found: u64,
        expected: &'static str,
        at: usize,
    },
    #[error(
        "bucket bounds must be finite numbers in ascending order, found '{bound}' at byte {at}"
    )]
    Bound { bound: String, at: usize },
}

/// Reads primitives from the front of a slice.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Returns the bytes between an earlier position and this one.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    /// Returns an error about the value just read, which began at `at`.
    pub(crate) fn refuse<T>(
        what: &'static str,
        found: u64,
        expected: &'static str,
        at: usize,
    ) -> Result<T, DecodeError> {
        Err(DecodeError::Value {
            what,
            found,
            expected,
            at,
        })
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.at..];
        if rest.len() < n {
            return Err(DecodeError::CutShort {
                at: self.bytes.len(),
            });
        }
        self.at += n;
        Ok(&rest[..n])
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes[self.at..].split_first_chunk() {
            Some((bytes, _)) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(DecodeError::CutShort {
                at: self.bytes.len(),
            }),
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let byte = *self
            .bytes
            .get(self.at)
            .ok_or(DecodeError::CutShort { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.at;
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                // A last byte of zero adds nothing: there is a shorter form.
                return if byte == 0 {
                    Err(DecodeError::Varint { at: start })
                } else {
                    Ok(value)
                };
            }
        }
        Err(DecodeError::Varint { at: start })
    }

    /// Reads a count of things that take at least `each` bytes. It refuses a count that the
    /// remaining bytes cannot hold, so a false count never makes a caller reserve memory.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let found = self.varint()?;
        match usize::try_from(found) {
            Ok(count) if count.saturating_mul(each) <= self.left() => Ok(count),
            _ => Err(DecodeError::CutShort {
                at: self.bytes.len(),
            }),
        }
    }

    #[inline]
    pub(crate) fn float(&mut self) -> Result<f64, DecodeError> {
        let rest = &self.bytes[self.at..];
        let Some((bytes, _)) = rest.split_first_chunk::<8>() else {
            return Err(DecodeError::CutShort {
                at: self.bytes.len(),
            });
        };
        self.at += 8;
        Ok(f64::from_le_bytes(*bytes))
    }

    /// Reads a signed number below 2^31 in either direction, zigzag: 0, -1, 1, -2 as 0, 1, 2, 3.
    pub(crate) fn signed(&mut self) -> Result<i32, DecodeError> {
        let at = self.at;
        let found = self.varint()?;
        match u32::try_from(found) {
            Ok(bits) => Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()),
            Err(_) => Self::refuse("signed number", found, "below 2^32 in zigzag form", at),
        }
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let at = self.at;
        let length = self.count(1)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Utf8 { at })
    }

    pub(crate) fn blob(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.count(1)?;
        self.take(length)
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError::LeftOver { at: self.at, left }),
        }
    }
}

/// Writes primitives at the end of a vector.
pub(crate) trait Write {
    fn put_u8(&mut self, value: u8);
    fn put_varint(&mut self, value: u64);
    fn put_signed(&mut self, value: i32) {
        self.put_varint(((value << 1) ^ (value >> 31)).cast_unsigned().into());
    }
    fn put_float(&mut self, value: f64);
    fn put_blob(&mut self, value: &[u8]);
    fn put_text(&mut self, value: &str) {
        self.put_blob(value.as_bytes());
    }
}

impl Write for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_float(&mut self, value: f64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_blob(&mut self, value: &[u8]) {
        self.put_varint(value.len() as u64);
        self.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_varint_reads_back(value: u64) {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn a_signed_number_reads_back(value: i32) {
            let mut bytes = Vec::new();
            bytes.put_signed(value);
            prop_assert_eq!(Reader::new(&bytes).signed(), Ok(value));
        }

        #[test]
        fn only_the_shortest_form_of_a_varint_is_read(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.varint() {
                let mut again = Vec::new();
                again.put_varint(value);
                prop_assert_eq!(again.as_slice(), &bytes[..reader.at()]);
            }
        }
    }
}

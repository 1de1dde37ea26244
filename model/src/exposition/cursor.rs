//! The place where a page ended, as opaque text.

use std::fmt;

use crate::Epoch;

/// The place where a page ended; see the [module of exposition](super).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) epoch: Epoch,
    /// The time of page one.
    pub(super) time_ms: u64,
    /// The last series that existed at page one.
    pub(super) up_to: u64,
    /// The last finished series of the family.
    pub(super) after: u64,
    /// In the modes that show each writer: the last finished writer of the series after that one.
    pub(super) writer: u64,
    /// Whether the page before has shown the family's HELP and TYPE.
    pub(super) has_head: bool,
    /// Whether the place is among the family's start times, which follow its samples.
    pub(super) of_start_times: bool,
    pub(super) family: String,
}

/// A text that is not the cursor of any page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor, expected 0 or one that a page has named")]
pub struct WrongCursor;

impl Cursor {
    pub(super) fn first(epoch: Epoch, time_ms: u64, up_to: u64) -> Self {
        Self {
            epoch,
            time_ms,
            up_to,
            after: 0,
            writer: 0,
            has_head: false,
            of_start_times: false,
            family: String::new(),
        }
    }

    /// Moves to the beginning of a family, or of its start times.
    pub(super) fn begin(&mut self, family: &str, of_start_times: bool) {
        (self.after, self.writer, self.has_head) = (0, 0, false);
        self.of_start_times = of_start_times;
        self.family.clear();
        self.family.push_str(family);
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, WrongCursor> {
        let text = std::str::from_utf8(text).map_err(|_| WrongCursor)?;
        let mut parts = text.splitn(7, '.');
        let mut next = || parts.next().ok_or(WrongCursor);
        let epoch = next()?.parse().map_err(|_| WrongCursor)?;
        let mut number = || u64::from_str_radix(next()?, 16).map_err(|_| WrongCursor);
        let (time_ms, up_to, after, writer) = (number()?, number()?, number()?, number()?);
        let flags = number()?;
        if flags > 3 {
            return Err(WrongCursor);
        }
        let (has_head, of_start_times) = (flags & 1 != 0, flags & 2 != 0);
        let family = next()?.to_owned();
        Ok(Self {
            epoch,
            time_ms,
            up_to,
            after,
            writer,
            has_head,
            of_start_times,
            family,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            epoch,
            time_ms,
            up_to,
            after,
            writer,
            has_head,
            of_start_times,
            family,
        } = self;
        write!(
            f,
            "{epoch}.{time_ms:x}.{up_to:x}.{after:x}.{writer:x}.{}.{family}",
            u8::from(*has_head) | u8::from(*of_start_times) << 1
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back(epoch: u64, numbers: (u64, u64, u64, u64, bool, bool), family in ".*") {
            let (time_ms, up_to, after, writer, has_head, of_start_times) = numbers;
            let cursor = Cursor { epoch: Epoch(epoch), time_ms, up_to, after, writer, has_head, of_start_times, family };
            prop_assert_eq!(Cursor::parse(cursor.to_string().as_bytes()), Ok(cursor));
        }

        #[test]
        fn other_bytes_are_no_cursor(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(cursor) = Cursor::parse(&bytes) {
                prop_assert_eq!(Cursor::parse(cursor.to_string().as_bytes()), Ok(cursor));
            }
        }
    }
}

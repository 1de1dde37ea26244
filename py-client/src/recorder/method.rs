//! Methods: clients may send any word, so those that are not HTTP's own are one label.

use super::route::{OTHER, UNKNOWN};

const LABELS: [&str; 11] = [
    "GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", OTHER, UNKNOWN,
];

/// A method, as the place of its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Method(u8);

impl Method {
    /// How many there are.
    pub(super) const COUNT: usize = LABELS.len();
    /// None of HTTP's own.
    const OTHER: Self = Self(9);
    /// That of a request that could not be read.
    pub(super) const UNKNOWN: Self = Self(10);

    /// The method that a client has named.
    #[inline]
    pub(super) fn named(text: &str) -> Self {
        let known = &LABELS[..usize::from(Self::OTHER.0)];
        known
            .iter()
            .position(|known| *known == text)
            .map_or(Self::OTHER, |place| Self(place as u8))
    }

    /// From 0, below [`COUNT`](Self::COUNT).
    #[inline]
    pub(super) fn place(self) -> usize {
        usize::from(self.0)
    }

    /// The value of the label.
    #[inline]
    pub(super) fn label(self) -> &'static str {
        LABELS[self.place()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_http_does_not_know_is_one_label() {
        assert_eq!(Method::named("TRACE").label(), "TRACE");
        assert_eq!(Method::named("BREW").label(), "<other>");
        assert_eq!(Method::named("<unknown>").label(), "<other>");
        assert_eq!(Method::named("").label(), "<other>");
        assert_eq!(Method::UNKNOWN.label(), "<unknown>");
    }
}

//! Methods: clients may send any word, so all unregistered ones share one label.

use crate::endpoints::{OTHER, UNKNOWN};

/// HTTP's own methods, and then those of its extensions (`WebDAV`, versioning, calendars, links), as in
/// the IANA registry "Hypertext Transfer Protocol (HTTP) Method Registry", and `QUERY`, which the HTTP
/// working group adds to it. `PRI` and `*` are registered so that no request uses them. The last two
/// stand for what is not registered or was not read.
const LABELS: [&str; 41] = [
    "GET",
    "POST",
    "PUT",
    "HEAD",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "CONNECT",
    "TRACE",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
    OTHER,
    UNKNOWN,
];

/// A method, as the index of its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(u8);

impl Method {
    /// Number of methods.
    pub const COUNT: usize = LABELS.len();
    /// Any unregistered method.
    const OTHER: Self = Self(LABELS.len() as u8 - 2);
    /// The method of a request that could not be parsed.
    pub const UNKNOWN: Self = Self(LABELS.len() as u8 - 1);

    /// Returns the method for a client's word.
    #[inline]
    pub fn named(text: &str) -> Self {
        let known = &LABELS[..usize::from(Self::OTHER.0)];
        known
            .iter()
            .position(|known| *known == text)
            .map_or(Self::OTHER, |place| Self(place as u8))
    }

    /// Returns the method with that index; one of another version is unknown.
    pub(crate) fn at(place: u8) -> Self {
        Self(place.min(Self::UNKNOWN.0))
    }

    /// Returns the index, from 0 and below [`COUNT`](Self::COUNT).
    #[inline]
    pub fn place(self) -> usize {
        usize::from(self.0)
    }

    /// Returns the value of the label.
    #[inline]
    pub fn label(self) -> &'static str {
        LABELS[self.place()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The registry's methods, without `PRI` and `*`.
    const REGISTERED: &str = "ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT CONNECT COPY DELETE GET HEAD \
        LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS \
        ORDERPATCH PATCH POST PROPFIND PROPPATCH PUT REBIND REPORT SEARCH TRACE UNBIND UNCHECKOUT UNLINK \
        UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL";

    #[test]
    fn each_registered_method_is_a_label_of_its_own() {
        for name in REGISTERED.split_whitespace() {
            assert_eq!(Method::named(name).label(), name);
        }
        assert_eq!(Method::named("QUERY").label(), "QUERY");
        let registered = REGISTERED.split_whitespace().count();
        assert_eq!(Method::COUNT, registered + 3, "and QUERY, OTHER, UNKNOWN");
        for refused in ["PRI", "*"] {
            assert_eq!(Method::named(refused).label(), "<other>");
        }
    }

    #[test]
    fn methods_that_are_not_registered_are_one_label() {
        assert_eq!(Method::named("TRACE").label(), "TRACE");
        assert_eq!(Method::named("PROPFIND").label(), "PROPFIND");
        assert_eq!(Method::named("VERSION-CONTROL").label(), "VERSION-CONTROL");
        assert_eq!(Method::named("propfind").label(), "<other>");
        assert_eq!(Method::named("BREW").label(), "<other>");
        assert_eq!(Method::named("<unknown>").label(), "<other>");
        assert_eq!(Method::named("").label(), "<other>");
        assert_eq!(Method::UNKNOWN.label(), "<unknown>");
    }
}

//! What tells requests apart: method, endpoint and status, each from a bounded set.

use std::hash::{Hash, Hasher};

use hashbrown::Equivalent;

use super::method::Method;

/// The labels of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) method: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) status: &'a str,
}

/// Requests of an application that names no route, where the path is not in the table either.
pub(super) const OTHER: &str = "<other>";
/// Requests that no route is there for.
pub(super) const UNMATCHED: &str = "<unmatched>";
/// The same, where the answer was a redirect: to the path with a slash, to a language, to https.
pub(super) const REDIRECT: &str = "<redirect>";
/// Requests that could not be read.
pub(super) const UNKNOWN: &str = "<unknown>";
/// No status, because nothing was answered: the client had gone.
pub(super) const NO_STATUS: u16 = 0;

/// The endpoint of a request for which a framework that tells routes has told none.
pub(super) fn without_route(status: u16) -> &'static str {
    match status {
        301 | 302 | 303 | 307 | 308 => REDIRECT,
        _ => UNMATCHED,
    }
}

/// How the endpoint of a request became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum EndpointKind {
    /// The framework has named its route.
    Template,
    /// Only the path is known.
    Path,
}

/// What a request's series are found by, without making its labels first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RouteKey<'a> {
    pub(super) kind: EndpointKind,
    pub(super) method: Method,
    pub(super) status: u16,
    pub(super) endpoint: &'a str,
}

impl RouteKey<'_> {
    pub(super) fn to_owned(self) -> OwnedRouteKey {
        OwnedRouteKey {
            kind: self.kind,
            method: self.method,
            status: self.status,
            endpoint: self.endpoint.into(),
        }
    }
}

/// A [`RouteKey`] that is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwnedRouteKey {
    kind: EndpointKind,
    method: Method,
    status: u16,
    endpoint: Box<str>,
}

impl OwnedRouteKey {
    fn borrow(&self) -> RouteKey<'_> {
        RouteKey {
            kind: self.kind,
            method: self.method,
            status: self.status,
            endpoint: &self.endpoint,
        }
    }
}

impl Hash for RouteKey<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Method and kind rarely tell two routes apart; comparing them is enough.
        state.write_u16(self.status);
        self.endpoint.hash(state);
    }
}

impl Hash for OwnedRouteKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrow().hash(state);
    }
}

impl Equivalent<OwnedRouteKey> for RouteKey<'_> {
    #[inline]
    fn equivalent(&self, key: &OwnedRouteKey) -> bool {
        *self == key.borrow()
    }
}

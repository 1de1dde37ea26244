//! The labels of requests: method, endpoint and status, each from a limited set.

use std::hash::{Hash, Hasher};

use hashbrown::Equivalent;

use metrics_store::Method;
pub(super) use metrics_store::{OTHER, UNMATCHED};

/// The labels of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) method: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) status: &'a str,
}

/// Endpoint of requests without a matching route, if the response was a redirect: to the path with a slash, to a language, to https.
pub(super) const REDIRECT: &str = "<redirect>";
/// Status of a request without a response, because the client had disconnected.
pub(super) const NO_STATUS: u16 = 0;

/// Returns the endpoint of a request without a route, in an application whose framework names
/// routes.
pub(super) fn without_route(status: u16) -> &'static str {
    match status {
        301 | 302 | 303 | 307 | 308 => REDIRECT,
        _ => UNMATCHED,
    }
}

/// How the endpoint of a request is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum EndpointKind {
    /// By the framework's route.
    Template,
    /// By the path alone.
    Path,
}

/// The key of a request's series, without an allocation.
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

/// A stored [`RouteKey`].
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
        // Method and kind rarely distinguish two routes; comparing them is enough.
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

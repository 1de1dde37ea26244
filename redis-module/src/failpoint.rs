//! A defect on demand: how the tests prove that one does not take the server with it.
//!
//! A server started with `REDIS_METRICS_FAILPOINT=<place>` in its environment panics at that place each
//! time: the name of a command in upper case, or of a callback of the data type (`rdb_load`, ...).
//! Whoever sets the environment of a server could as well end it.

use std::sync::OnceLock;

static PLACE: OnceLock<Option<String>> = OnceLock::new();

/// Looks for it, once.
pub(crate) fn look_up() {
    PLACE.get_or_init(|| std::env::var("REDIS_METRICS_FAILPOINT").ok());
}

/// Panics if this is the place.
#[inline]
pub(crate) fn reached(place: &str) {
    if let Some(Some(wanted)) = PLACE.get()
        && wanted == place
    {
        fail(place);
    }
}

#[cold]
fn fail(place: &str) {
    panic!("failpoint {place}");
}

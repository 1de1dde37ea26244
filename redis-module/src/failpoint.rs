//! A defect on demand, by which tests show that a panic does not end the server.
//!
//! A server with `REDIS_METRICS_FAILPOINT=<place>` in its environment panics at that place each
//! time. A place is the name of a command in upper case, or of a callback of the data type
//! (`rdb_load`, ...). This opens no hole: a user who sets the environment of a server can also end
//! it.

use std::sync::OnceLock;

static PLACE: OnceLock<Option<String>> = OnceLock::new();

/// Reads the environment variable, once.
pub(crate) fn look_up() {
    PLACE.get_or_init(|| std::env::var("REDIS_METRICS_FAILPOINT").ok());
}

/// Panics if the variable names this place.
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

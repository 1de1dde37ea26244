//! The border between Redis and Rust: no panic may cross it.
//!
//! A panic that unwinds into an `extern "C"` function ends the process, and with it the user's
//! database. So each function that Redis calls runs inside [`guard`].

use std::panic::{self, AssertUnwindSafe};

use crate::api;

/// Runs a callback; a panic becomes `None`.
///
/// Redis finds nothing of this module half done after a panic: dropping a key closes it, and a
/// command sends its reply last.
pub(crate) fn guard<T>(callback: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(callback)).ok()
}

/// Sends the message of a panic to Redis' log; the standard error of a daemon goes nowhere.
pub(crate) fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        api::log_warning(&format!(
            "metrics: internal error, please report it: {panic}"
        ));
    }));
}

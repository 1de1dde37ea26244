//! The border between Redis and Rust: no panic may cross it.
//!
//! An unwinding panic that reaches an `extern "C"` function ends the process, and with it somebody's
//! database. So each function that Redis calls runs inside [`guard`].

use std::panic::{self, AssertUnwindSafe};

use crate::api;

/// Runs what Redis called for; a panic becomes `None`.
///
/// Nothing of ours is left half done by that which Redis could trip over: keys are closed when they
/// are dropped, and replies are sent last.
pub(crate) fn guard<T>(callback: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(callback)).ok()
}

/// Sends the words of a panic to Redis' log instead of the standard error of a daemon.
pub(crate) fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        api::log_warning(&format!(
            "metrics: internal error, please report it: {panic}"
        ));
    }));
}

//! The machine's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns Unix milliseconds; 0 if the machine's clock is before 1970.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as u64)
}

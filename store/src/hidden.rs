//! Names of families that are only for the exporter, and on no page.
//!
//! They begin with NUL, which no application's name may contain. In stores that an older version has
//! made they begin with two underscores, as an application's may: readers translate them.

/// First character of the names.
pub const HIDDEN: char = '\0';
/// Requests that a worker has begun.
pub const REQUESTS_STARTED: &str = "\0requests_started";
/// Requests that a worker has finished.
pub const REQUESTS_FINISHED: &str = "\0requests_finished";

/// Beginning of the names in stores of older versions.
const OLD: &str = "__";

/// Returns the present form of a family's name in a store that an older version has made.
pub(crate) fn translated(name: &str) -> Option<Box<str>> {
    let rest = name.strip_prefix(OLD)?;
    Some(format!("{HIDDEN}{rest}").into())
}

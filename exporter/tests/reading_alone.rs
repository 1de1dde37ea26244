//! The readers of `push` can be lifted out: this file compiles their folder as a crate of its own,
//! without the rest of the exporter. A `use crate::…` of anything outside the folder is an error
//! here.

#![allow(
    dead_code,
    unfulfilled_lint_expectations,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "the exporter uses all of it, and the unit tests of the folder are compiled too"
)]

#[path = "../src/push"]
mod push {
    mod reading;

    #[test]
    fn a_text_is_read() {
        let parsed = reading::parse(b"x 1\n", reading::PushFormat::Auto).unwrap();
        assert_eq!(parsed.families[0].name, "x");
    }
}

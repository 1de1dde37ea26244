//! The exporter as a program.
fn main() {}

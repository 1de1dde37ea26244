//! Where a session reads the series of its writer.

use crate::{FamilySpec, Layout, Point};

/// Where a session reads the series of its writer. Series are numbered from 0 in the order of
/// their creation; a number is never given twice, and [`Source::len`] never falls.
pub trait Source {
    /// How many series there have ever been.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What series `number` is.
    fn series(&self, number: usize) -> SeriesDef<'_>;
    /// Its value now.
    fn point(&self, number: usize) -> Point;
    /// Whether its writer has removed it (it may come back).
    fn is_retired(&self, number: usize) -> bool;
}

/// A series as its writer's store describes it.
#[derive(Debug, Clone, Copy)]
pub struct SeriesDef<'a> {
    /// Its family.
    pub family: FamilySpec<'a>,
    /// Of a histogram: its buckets.
    pub layout: Option<&'a Layout>,
    /// Its labels, in any order.
    pub labels: &'a [(Box<str>, Box<str>)],
    /// The text of the `pid` label in the per-writer modes, otherwise empty.
    pub pid: &'a str,
    /// The idle time after which it expires, in milliseconds; 0 = never.
    pub ttl_ms: u64,
}

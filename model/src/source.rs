//! Where a session reads the series of its writer.

use crate::{FamilySpec, Layout, Point};

/// Where a session reads the series of its writer. Series are numbered from 0 in the order of
/// their creation; a number is never given twice, and [`Source::len`] never falls.
pub trait Source {
    /// Returns how many series there have ever been.
    fn len(&self) -> usize;
    /// Returns whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Returns the definition of series `number`.
    fn series(&self, number: usize) -> SeriesDef<'_>;
    /// Returns its present value.
    fn point(&self, number: usize) -> Point;
    /// Returns whether its writer still has it.
    fn life(&self, number: usize) -> SeriesLife;
    /// Returns its present exemplars; those of the same bucket replace each other.
    fn exemplars(&self, _number: usize) -> Vec<SourceExemplar> {
        Vec::new()
    }
}

/// Whether a writer still has a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriesLife {
    /// Its value is sent.
    Live,
    /// The writer has removed it (it may come back). Its present value is the last one: what was
    /// counted before the removal is sent, then the series ends. A gauge ends at once.
    Removed,
    /// Its present value means nothing, so it ends at once.
    Gone,
}

/// An observation, or a counter's increment, that its writer has picked as an exemplar.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceExemplar {
    /// Its labels, in any order.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// The observed value.
    pub value: f64,
    /// When it was observed, as Unix time in seconds.
    pub time: f64,
}

/// A series as its writer's store describes it.
#[derive(Debug, Clone, Copy)]
pub struct SeriesDef<'a> {
    /// Its family.
    pub family: FamilySpec<'a>,
    /// The buckets of a histogram.
    pub layout: Option<&'a Layout>,
    /// Its labels, in any order.
    pub labels: &'a [(Box<str>, Box<str>)],
    /// The text of the `pid` label in the per-writer modes, otherwise empty.
    pub pid: &'a str,
    /// The idle time after which it expires, in milliseconds; 0 = never.
    pub ttl_ms: u64,
}

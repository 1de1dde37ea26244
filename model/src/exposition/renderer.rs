//! What a format has to do: the order of everything is the same in all of them.

use crate::registry::SeriesView;
use crate::{Exemplar, FamilySpec, FamilyType};

/// One series as it is to be written.
pub(super) struct Shown<'a> {
    /// Its labels as they are written.
    pub(super) labels: &'a str,
    pub(super) view: &'a SeriesView<'a>,
    /// When its total began, in Unix milliseconds; 0 where that is not known.
    pub(super) start_ms: u64,
    pub(super) exemplars: &'a [&'a Exemplar],
}

/// Writes one format. Calls come as: `family`, then `head` before the first of its series that has
/// anything to show, `series`, and at last `end`.
pub(super) trait Renderer {
    /// Whether start times of such a family are samples of a family of their own, behind it.
    fn has_family_of_start_times(&self, _family_type: FamilyType) -> bool {
        false
    }

    /// Sets the family of the series that follow: itself, or the one of its start times. `name` is how
    /// its name is written, without the suffix of its samples.
    fn family(&mut self, spec: &FamilySpec<'_>, name: &str, of_start_times: bool);

    /// Another family is called as the start times of this one, a counter: these are not shown.
    fn without_start_times(&mut self) {}

    /// What is said of the family once.
    fn head(&mut self, spec: &FamilySpec<'_>);

    /// All samples of one series.
    fn series(&mut self, shown: &Shown<'_>);

    /// How many bytes there are.
    fn size(&self) -> usize;

    /// Whether a page may end here.
    fn may_pause(&self) -> bool {
        true
    }

    /// No series of this family follow.
    fn end_family(&mut self) {}

    /// The end of the last page.
    fn end(&mut self) {}

    /// The bytes.
    fn into_bytes(self) -> Vec<u8>;
}

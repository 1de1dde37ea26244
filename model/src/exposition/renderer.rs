//! The trait of a format. The order of families and samples is the same in all formats.

use crate::registry::SeriesView;
use crate::{Exemplar, FamilySpec, FamilyType};

/// One series, ready to be written.
pub(super) struct Shown<'a> {
    /// Its labels as written.
    pub(super) labels: &'a str,
    pub(super) view: &'a SeriesView<'a>,
    /// When its total began, in Unix milliseconds; 0 if unknown.
    pub(super) start_ms: u64,
    pub(super) exemplars: &'a [&'a Exemplar],
}

/// Writes one format. The calls are, in this order: `family`, `head` before the first of its series
/// that has anything to show, `series` for each, and `end` at last.
pub(super) trait Renderer {
    /// Returns whether start times of such a family are samples of a family of their own, after it.
    fn has_family_of_start_times(&self, _family_type: FamilyType) -> bool {
        false
    }

    /// Sets the family of the series that follow: the family itself, or the one of its start times.
    /// `name` is its name as written, without the suffix of its samples.
    fn family(&mut self, spec: &FamilySpec<'_>, name: &str, of_start_times: bool);

    /// Hides the start times of this family, because another family already has their name.
    fn without_start_times(&mut self) {}

    /// Writes the metadata of the family.
    fn head(&mut self, spec: &FamilySpec<'_>);

    /// Writes all samples of one series.
    fn series(&mut self, shown: &Shown<'_>);

    /// Returns whether [`plain_number`](Self::plain_number) may write the family's numbers, in a
    /// registry with or without exemplars.
    fn takes_plain_numbers(&self, has_exemplars: bool) -> bool;

    /// Does the same as [`series`](Self::series) for one number without an exemplar, whose start
    /// time is not shown.
    fn plain_number(&mut self, labels: &str, number: f64);

    /// Returns the size so far, in bytes.
    fn size(&self) -> usize;

    /// Returns whether a page may end here.
    fn may_pause(&self) -> bool {
        true
    }

    /// Makes this a place where a page may end, because the last series took much work.
    fn allow_pause(&mut self) {}

    /// Ends the family.
    fn end_family(&mut self) {}

    /// Writes the end of the last page.
    fn end(&mut self) {}

    /// Returns the bytes.
    fn into_bytes(self) -> Vec<u8>;
}

//! Every family that we export, in one place: what records them takes name, type and help from here, and
//! `make docs` writes `docs/metrics.md` from it. Tests compare that page with what running instances say.
//!
//! Families whose names begin with `__` are hidden from every page, and not here.

mod bounds;
mod http;
mod own;
mod worker;

use metrics_model::{FamilySpec, FamilyType, GaugeMode};

pub use http::*;
pub use own::*;
pub use worker::*;

/// One family, and what somebody who meets it on a page wants to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Described {
    /// As in a store: of a counter without `_total`.
    pub name: &'static str,
    /// Type and, of a gauge, mode.
    pub family_type: FamilyType,
    /// The text of `# UNIT`, or nothing.
    pub unit: &'static str,
    /// The text of `# HELP`.
    pub help: &'static str,
    /// The labels that its series may have.
    pub labels: &'static [&'static str],
    /// Bounds of a histogram's buckets; none where a setting says them.
    pub bounds: &'static [&'static str],
    /// More than one line of help can say: when it is there, what its labels may be, what it leaves out.
    pub meaning: &'static str,
    /// A query in `PromQL` that somebody would really ask.
    pub query: &'static str,
    /// On which page it is.
    pub page: Page,
}

/// Where a family is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`.
    Metrics,
    /// `/-/metrics`: what the exporter says of itself, also while Redis is away.
    Own,
}

impl Page {
    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Metrics => "/metrics",
            Self::Own => "/-/metrics",
        }
    }
}

impl Described {
    /// What a store is told.
    pub const fn spec(&self) -> FamilySpec<'static> {
        FamilySpec {
            name: self.name,
            family_type: self.family_type,
            help: self.help,
            unit: self.unit,
        }
    }

    /// The family of that name on `/metrics`, if it is one of ours.
    pub fn of(name: &str) -> Option<&'static Self> {
        every().find(|family| family.page == Page::Metrics && family.name == name)
    }
}

/// All of them, in the order in which they are read best.
pub fn every() -> impl Iterator<Item = &'static Described> {
    [OF_REQUESTS, OF_WORKERS, OF_OURSELVES]
        .into_iter()
        .flatten()
        .copied()
}

const COUNTER: FamilyType = FamilyType::Counter;
const HISTOGRAM: FamilyType = FamilyType::Histogram;
/// Gauges of ours end with the process that they are of, and add up over processes.
const GAUGE: FamilyType = FamilyType::Gauge(GaugeMode::LiveSum);
/// One, however many processes say the same.
const FACT: FamilyType = FamilyType::Gauge(GaugeMode::LiveMax);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use metrics_model::Layout;

    use super::*;

    #[test]
    fn a_page_has_each_name_once() {
        let mut seen = HashSet::new();
        for family in every() {
            assert!(
                seen.insert((family.page.path(), family.name)),
                "{}",
                family.name
            );
        }
    }

    #[test]
    fn each_is_described_and_asked_for_by_its_own_name() {
        for family in every() {
            let name = family.name;
            assert!(
                !family.help.is_empty() && !family.meaning.is_empty(),
                "{name}"
            );
            assert!(family.query.contains(name), "{name}: {}", family.query);
            assert!(
                family.unit.is_empty() || name.ends_with(family.unit),
                "{name}"
            );
        }
    }

    #[test]
    fn bounds_are_a_layout_and_only_histograms_have_them() {
        for family in every() {
            let layout = Layout::new(family.bounds.iter().copied());
            assert!(layout.is_ok(), "{}: {layout:?}", family.name);
            assert!(
                family.bounds.is_empty() || family.family_type == HISTOGRAM,
                "{}",
                family.name
            );
        }
    }

    #[test]
    fn what_is_not_ours_is_not_found() {
        assert_eq!(Described::of("gunicorn_workers"), Some(&WORKERS));
        assert_eq!(Described::of("gunicorn_exporter_scrapes"), None);
        assert_eq!(Described::of("orders"), None);
    }
}

//! Every family that we export, in one place: code that records a family takes name, type and help
//! from here, and `make docs` writes `docs/metrics.md` from it. Tests compare that page with
//! running instances.
//!
//! Hidden families (`hidden.rs`) are on no page, and are not listed here.

mod bounds;
mod http;
mod own;
mod worker;

use metrics_model::{FamilySpec, FamilyType, GaugeMode};

pub use http::*;
pub use own::*;
pub use worker::*;

/// One family: its declaration, and its description for users.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Described {
    /// The name in a store; a counter's is without `_total`.
    pub name: &'static str,
    /// The type and a gauge's mode.
    pub family_type: FamilyType,
    /// The text of `# UNIT`; may be empty.
    pub unit: &'static str,
    /// The text of `# HELP`.
    pub help: &'static str,
    /// The labels that its series may have.
    pub labels: &'static [&'static str],
    /// Bounds of a histogram's buckets; empty if a setting has them.
    pub bounds: &'static [&'static str],
    /// What one line of help cannot say: when the family exists, the values of its labels, what it
    /// leaves out.
    pub meaning: &'static str,
    /// A realistic query in `PromQL`.
    pub query: &'static str,
    /// The page that shows it.
    pub page: Page,
}

/// A page of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`.
    Metrics,
    /// `/-/metrics`: the exporter's own metrics, available while Redis is away.
    Own,
}

impl Page {
    /// Returns its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Metrics => "/metrics",
            Self::Own => "/-/metrics",
        }
    }
}

impl Described {
    /// Returns the declaration for a store.
    pub const fn spec(&self) -> FamilySpec<'static> {
        FamilySpec {
            name: self.name,
            family_type: self.family_type,
            help: self.help,
            unit: self.unit,
        }
    }

    /// Returns the family of that name on `/metrics`, if it is one of ours.
    pub fn of(name: &str) -> Option<&'static Self> {
        every().find(|family| family.page == Page::Metrics && family.name == name)
    }
}

/// Returns all of them, in a good order for reading.
pub fn every() -> impl Iterator<Item = &'static Described> {
    [OF_REQUESTS, OF_WORKERS, OF_OURSELVES]
        .into_iter()
        .flatten()
        .copied()
}

const COUNTER: FamilyType = FamilyType::Counter;
const HISTOGRAM: FamilyType = FamilyType::Histogram;
/// Mode of gauges that end with their process and are added up over processes.
const GAUGE: FamilyType = FamilyType::Gauge(GaugeMode::LiveSum);
/// Mode of gauges that have one value even if several processes set it.
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

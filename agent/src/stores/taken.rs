//! Gauges that a living process has taken over from a dead one with the same process id.
//!
//! In the modes that show each process, a registry keeps one value for each text of the label `pid`:
//! that of the writer that wrote last. A dead writer may send its last values late, after an outage,
//! when the system has given its process id to a new process. Its values must not take the place of
//! the living one's.

use std::collections::HashSet;

use metrics_model::GaugeMode;
use metrics_store::{SeriesView, StoreReader};

/// Names and values of labels.
type Labels = [(Box<str>, Box<str>)];

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct TakenGauges(HashSet<(Box<str>, Box<Labels>)>);

impl TakenGauges {
    /// Adds the gauges of a living process.
    pub(super) fn add(&mut self, reader: &StoreReader) {
        let numbers = (0..reader.len()).filter(|&number| !reader.is_retired(number));
        let gauges = numbers.map(|number| reader.series(number));
        let gauges = gauges.filter(is_per_process);
        self.0
            .extend(gauges.map(|view| (view.family.name.clone(), view.labels.into())));
    }

    /// Returns whether a living process has this series of a family of that name.
    pub(super) fn has(&self, family: &str, view: &SeriesView<'_>) -> bool {
        let key = || (Box::from(family), Box::from(view.labels));
        !self.0.is_empty() && is_per_process(view) && self.0.contains(&key())
    }
}

fn is_per_process(view: &SeriesView<'_>) -> bool {
    let mode = view.family.family_type.gauge_mode();
    mode.is_some_and(GaugeMode::is_per_writer)
}

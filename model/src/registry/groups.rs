//! Groups: series that are replaced together, such as those of a batch job.
//!
//! # How it works
//!
//! A group is its labels and a set of series. [`Registry::replace_group`] gives it another set in
//! one step ([`replace`]), so that a page shows the old set or the new one. A group has no writer:
//! no seq, no lease, no memory of what was sent. It exists as long as one of its series does: until
//! the group is replaced, or its last series is deleted or expires.
//!
//! A series belongs to at most one group. No command and no batch changes a group's series, and a
//! group does not take a series that others write: the second one is refused, so that neither
//! changes what the other shows.
//!
//! # What it costs
//!
//! The group of a series is stored beside the series, because nearly no series has one. In a
//! registry without groups the lookup costs nothing.

mod content;
mod replace;
mod series_set;

use std::collections::{BTreeMap, HashMap};

use super::relocate::Relocate;
use super::{Registry, RegistryError};
use crate::ids::SeriesId;
pub use replace::{Replaced, Replacement};
use series_set::SeriesSet;

/// All groups of a registry.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    by_labels: BTreeMap<Box<str>, GroupId>,
    groups: BTreeMap<GroupId, Group>,
    of_series: HashMap<SeriesId, GroupId>,
    /// Size of all labels, in bytes; they are stored twice.
    label_bytes: usize,
    last_id: GroupId,
}

/// The number of a group. It differs between processes, and is not part of the state.
type GroupId = u64;

#[derive(Debug, Clone)]
struct Group {
    labels: Box<str>,
    series: SeriesSet,
}

impl Groups {
    /// Returns the number of groups.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns the labels of each group and its series, both in ascending order.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &SeriesSet)> {
        self.by_labels
            .iter()
            .map(|(labels, id)| (&**labels, &self.groups[id].series))
    }

    /// Returns the series of the group with these labels.
    pub(super) fn series_of(&self, labels: &str) -> impl Iterator<Item = SeriesId> + '_ {
        let group = self.by_labels.get(labels).map(|id| &self.groups[id]);
        group.into_iter().flat_map(|group| group.series.iter())
    }

    /// Returns the labels of the group that owns a series.
    pub(super) fn owner(&self, series: SeriesId) -> Option<&str> {
        if self.of_series.is_empty() {
            return None;
        }
        let id = self.of_series.get(&series)?;
        Some(&self.groups[id].labels)
    }

    /// Adds a series without a group to one.
    pub(super) fn add(&mut self, labels: &str, series: SeriesId) {
        let id = match self.by_labels.get(labels) {
            Some(id) => *id,
            None => self.begin(labels),
        };
        if let Some(group) = self.groups.get_mut(&id) {
            group.series.insert(series);
        }
        self.of_series.insert(series, id);
    }

    fn begin(&mut self, labels: &str) -> GroupId {
        self.last_id += 1;
        let group = Group {
            labels: labels.into(),
            series: SeriesSet::default(),
        };
        self.groups.insert(self.last_id, group);
        self.label_bytes += 2 * labels.len();
        self.by_labels.insert(labels.into(), self.last_id);
        self.last_id
    }

    /// Removes a series from its group; a group ends with its last series.
    pub(super) fn remove(&mut self, series: SeriesId) {
        if self.of_series.is_empty() {
            return;
        }
        let Some(id) = self.of_series.remove(&series) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&id) {
            group.series.remove(series);
            if group.series.is_empty() {
                self.by_labels.remove(&group.labels);
                self.label_bytes -= 2 * group.labels.len();
                self.groups.remove(&id);
            }
        }
    }

    /// Moves the memory of the first group from an id on: its labels and its set of series. Returns
    /// the id to continue with, or `None` at the end.
    pub(super) fn relocate(&mut self, from: GroupId, by: &mut impl Relocate) -> Option<GroupId> {
        let (id, group) = self.groups.range_mut(from..).next()?;
        by.text(&mut group.labels);
        group.series.relocate(by);
        // A key of a map is moved outside of it.
        if let Some((mut labels, id)) = self.by_labels.remove_entry(&group.labels) {
            by.text(&mut labels);
            self.by_labels.insert(labels, id);
        }
        Some(id + 1)
    }

    /// Returns the bytes of memory.
    pub(super) fn heap_bytes(&self) -> usize {
        const OF_A_GROUP: usize = 160;
        const OF_A_SERIES: usize = 40;
        self.label_bytes + OF_A_GROUP * self.groups.len() + OF_A_SERIES * self.of_series.len()
    }
}

impl Registry {
    /// Returns the labels of the group that a series belongs to now.
    pub(super) fn group_of(&self, series: SeriesId) -> Option<&str> {
        let labels = self.groups.owner(series)?;
        // A deleted series belongs to no group, even before its record is removed.
        self.catalog.has_total(series).then_some(labels)
    }

    /// Refuses a write to a series that a group owns at that time.
    #[inline]
    pub(super) fn check_not_of_group(
        &self,
        series: Option<SeriesId>,
        now_ms: u64,
    ) -> Result<(), RegistryError> {
        if self.groups.is_empty() {
            return Ok(());
        }
        let owned = series.and_then(|id| Some((id, self.group_of(id)?)));
        match owned {
            None => Ok(()),
            Some((id, _)) if self.is_expired(id, now_ms) => Ok(()),
            Some((id, labels)) => Err(RegistryError::Owned {
                series: self.describe_series(id),
                owner: format!("the pushed group {{{labels}}}"),
            }),
        }
    }

    /// Returns whether a series belongs to a group and is visible.
    #[inline]
    pub(crate) fn has_group(&self, series: SeriesId) -> bool {
        self.groups.owner(series).is_some()
    }

    /// Returns a series as pages show it: `name{label="value"}`.
    fn describe_series(&self, id: SeriesId) -> String {
        let series = &self.catalog.series[id];
        describe(&self.catalog.families[series.family].name, &series.labels)
    }
}

/// `name{label="value"}`.
fn describe(family: &str, labels: &str) -> String {
    if labels.is_empty() {
        return family.to_owned();
    }
    format!("{family}{{{labels}}}")
}

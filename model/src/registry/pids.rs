//! In the modes that show each writer: one value for each text of the label `pid`.
//!
//! # How it works
//!
//! Several writers may have one text: a container that restarts gives its new process the name and the
//! process id of the old one, and writer ids that are not UTF-8 are shown alike. A page with the values
//! of both would have one sample twice, which Prometheus refuses. So the writer that wrote last has the
//! value of that text, as in `prometheus_client`, where the new process goes on with the old one's file.
//! The other writer's value is taken away when the new one is written. That writer's memory stays, and
//! its next value takes the place again.
//!
//! Each such gauge finds its values by the hash of their text: those of writers, and those that writers
//! have left behind. A writer keeps its text as long as it remembers a series that shows it.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::Registry;
use super::catalog::series::{Gauge, LeftValue, Member, Total};
use super::writers::Writers;
use crate::footprint::allocated;
use crate::id_table::IdTable;
use crate::ids::{SeriesId, WriterId};
use crate::registry::catalog::Catalog;

/// The values of one gauge by the text of their label `pid`, of which each is there once.
#[derive(Debug, Clone, Default)]
pub(super) struct ByPid {
    /// Places of members.
    members: IdTable<u32>,
    /// Places of values that writers have left behind.
    left: IdTable<u32>,
}

impl ByPid {
    /// Bytes of memory, with its own.
    pub(super) fn heap_bytes(&self) -> usize {
        allocated(size_of::<Self>()) + self.members.heap_bytes() + self.left.heap_bytes()
    }
}

impl Registry {
    /// Sets a writer's value of a gauge, and returns its place.
    #[inline]
    pub(super) fn set_member(&mut self, id: SeriesId, place: u32, new: Member) -> u32 {
        let has_place = self.catalog.gauge_mut(id).is_member(place, new.writer);
        let takes_pid = !has_place && self.catalog.shows_pids(id);
        if takes_pid {
            let pid = self.writers[new.writer].pid.clone();
            self.end_value_of(id, &pid);
        }
        let gauge = self.catalog.gauge_mut(id);
        let before = gauge.heap_bytes();
        let place = gauge.set(place, new);
        let after = gauge.heap_bytes();
        self.catalog.series_heap_bytes += after;
        self.catalog.series_heap_bytes -= before;
        if takes_pid {
            self.index_member(id, place);
        }
        place
    }

    /// Takes a writer's value of a gauge away, and returns it.
    pub(super) fn remove_member(
        &mut self,
        id: SeriesId,
        place: u32,
        writer: WriterId,
    ) -> Option<Member> {
        let hash = hash_of(&self.catalog.hasher, &self.writers[writer].pid);
        let gauge = self.catalog.gauge_mut(id);
        let before = gauge.heap_bytes();
        let member = gauge.remove(place, writer);
        if let (Some(_), Some(by_pid)) = (member, &mut gauge.by_pid) {
            by_pid.members.remove(hash, place);
        }
        let after = gauge.heap_bytes();
        self.catalog.series_heap_bytes += after;
        self.catalog.series_heap_bytes -= before;
        member
    }

    /// Keeps the value of a writer that has gone, as long as it is to be shown.
    pub(super) fn leave_behind(&mut self, id: SeriesId, left: LeftValue) {
        let (now_ms, shows_pids) = (self.last_stamp_ms, self.catalog.shows_pids(id));
        let gauge = self.catalog.gauge_mut(id);
        let before = gauge.heap_bytes();
        let mut index_from = gauge.left_values.len();
        // Not each time: that would be quadratic.
        if index_from.is_power_of_two() {
            gauge.left_values.retain(|left| left.until_ms > now_ms);
            if let Some(by_pid) = &mut gauge.by_pid {
                by_pid.left = IdTable::default();
            }
            index_from = 0;
        }
        if left.until_ms > now_ms {
            gauge.left_values.push(left);
        }
        let (after, len) = (gauge.heap_bytes(), gauge.left_values.len());
        self.catalog.series_heap_bytes += after;
        self.catalog.series_heap_bytes -= before;
        if shows_pids {
            (index_from..len).for_each(|at| index_left(&mut self.catalog, id, at));
        }
    }

    /// Finds the values of each gauge by their text, after they were read from bytes. Of several with one
    /// text, which an earlier version kept, the last one stays.
    pub(super) fn derive_pids(&mut self) {
        for id in self.catalog.series.ids() {
            let Total::Gauge(gauge) = &self.catalog.series[id].total else {
                continue;
            };
            if !self.catalog.shows_pids(id) {
                continue;
            }
            let left = gauge.left_values.iter().enumerate();
            // One that was taken away.
            let left = left.filter(|(_, left)| left.until_ms > 0);
            let left = left.map(|(at, left)| (at, left.pid.clone()));
            for (at, pid) in left.collect::<Vec<_>>() {
                self.end_value_of(id, &pid);
                index_left(&mut self.catalog, id, at);
            }
            for place in 0..self.catalog.gauge_mut(id).members.len() as u32 {
                let writer = self.catalog.gauge_mut(id).members[place as usize].writer;
                if writer != WriterId::NONE {
                    let pid = self.writers[writer].pid.clone();
                    self.end_value_of(id, &pid);
                    self.index_member(id, place);
                }
            }
        }
    }

    /// Takes the value of that text away, whether its writer is here or has left it behind.
    #[cold]
    fn end_value_of(&mut self, id: SeriesId, pid: &str) {
        let (hash, writers) = (hash_of(&self.catalog.hasher, pid), &self.writers);
        let Total::Gauge(gauge) = &mut self.catalog.series[id].total else {
            return;
        };
        let Some(by_pid) = &gauge.by_pid else { return };
        let is_its = |at: &u32| pid_at(gauge, writers, *at) == Some(pid);
        if let Some(at) = by_pid.members.find(hash, is_its) {
            let writer = gauge.members[at as usize].writer;
            self.remove_member(id, at, writer);
            return;
        }
        let is_its = |at: &u32| {
            gauge
                .left_values
                .get(*at as usize)
                .is_some_and(|left| *left.pid == *pid)
        };
        if let Some(at) = by_pid.left.find(hash, is_its) {
            // It stays where it is until its place is cleared.
            gauge.left_values[at as usize].until_ms = 0;
            if let Some(by_pid) = &mut gauge.by_pid {
                by_pid.left.remove(hash, at);
            }
        }
    }

    fn index_member(&mut self, id: SeriesId, place: u32) {
        let (hasher, writers) = (&self.catalog.hasher, &self.writers);
        let Total::Gauge(gauge) = &mut self.catalog.series[id].total else {
            return;
        };
        let before = gauge.heap_bytes();
        let mut by_pid = gauge.by_pid.take().unwrap_or_default();
        let hash = |at| hash_of(hasher, pid_at(gauge, writers, at).unwrap_or_default());
        by_pid.members.insert(hash(place), place, hash);
        gauge.by_pid = Some(by_pid);
        self.catalog.series_heap_bytes += gauge.heap_bytes();
        self.catalog.series_heap_bytes -= before;
    }
}

/// Finds a value that a writer has left behind by its text from now on.
fn index_left(catalog: &mut Catalog, id: SeriesId, at: usize) {
    let hasher = &catalog.hasher;
    let Total::Gauge(gauge) = &mut catalog.series[id].total else {
        return;
    };
    let before = gauge.heap_bytes();
    let left = &gauge.left_values;
    let hash = |at: u32| hash_of(hasher, left.get(at as usize).map_or("", |left| &left.pid));
    let by_pid = gauge.by_pid.get_or_insert_default();
    by_pid.left.insert(hash(at as u32), at as u32, hash);
    catalog.series_heap_bytes += gauge.heap_bytes();
    catalog.series_heap_bytes -= before;
}

/// The text of the label `pid` of a member.
fn pid_at<'a>(gauge: &Gauge, writers: &'a Writers, place: u32) -> Option<&'a str> {
    let member = gauge.members.get(place as usize)?;
    writers.table.get(member.writer).map(|writer| &*writer.pid)
}

/// What a value is found by.
fn hash_of(hasher: &DefaultHashBuilder, pid: &str) -> u32 {
    hasher.hash_one(pid) as u32
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop here")]
mod tests {
    use super::*;
    use crate::ids::Id;
    use crate::{Epoch, ExposeRequest, GaugeMode, GaugeWrite, Labels, Limits, Stamp};

    const EPOCH: Epoch = Epoch(7);

    fn set(registry: &mut Registry, now_ms: u64, writer: &str) {
        let write = GaugeWrite {
            family: "g",
            labels: &Labels::none(),
            value: now_ms as f64,
            mode: Some(GaugeMode::All),
            writer: writer.as_bytes(),
            lease_ms: None,
            ttl_ms: None,
        };
        registry.set(&Stamp::at(now_ms, EPOCH), &write).unwrap();
    }

    fn page(registry: &Registry, now_ms: u64) -> String {
        let page = registry.expose(now_ms, &ExposeRequest::default()).unwrap();
        String::from_utf8(page.body).unwrap()
    }

    /// A version that knew nothing of the rule wrote values of one text side by side.
    #[test]
    fn an_older_snapshot_with_one_pid_several_times_shows_it_once() {
        let mut registry = Registry::new(EPOCH, Limits::default(), 0);
        for (now_ms, writer) in [(1, "one"), (2, "two"), (3, "six"), (4, "ten")] {
            set(&mut registry, now_ms, writer);
        }
        let stamp = Stamp::at(5, EPOCH);
        for writer in ["one", "two"] {
            registry.leave(&stamp, writer.as_bytes(), 0, None);
        }
        registry.settle(&stamp);
        for id in (0..4).map(WriterId::from_number) {
            if let Some(writer) = registry.writers.table.get_mut(id) {
                writer.pid = "7".into();
            }
        }
        let Total::Gauge(gauge) = &mut registry.catalog.series[SeriesId::default()].total else {
            panic!("it is a gauge");
        };
        gauge
            .left_values
            .iter_mut()
            .for_each(|left| left.pid = "7".into());
        assert_eq!(page(&registry, 5).matches("pid=\"7\"").count(), 4);

        let mut copy = Registry::decode_snapshot(&registry.encode_snapshot()).unwrap();
        assert_eq!(page(&copy, 5), "# TYPE g gauge\ng{pid=\"7\"} 4\n");
        let snapshot = copy.encode_snapshot();
        let again = Registry::decode_snapshot(&snapshot).unwrap();
        assert_eq!(again.encode_snapshot(), snapshot);
        set(&mut copy, 6, "six");
        assert_eq!(page(&copy, 6), "# TYPE g gauge\ng{pid=\"7\"} 6\n");
    }

    #[test]
    fn the_bytes_of_a_gauge_of_many_writers_are_known_without_a_walk() {
        let mut registry = Registry::new(EPOCH, Limits::default(), 0);
        for step in 0..2_000_u64 {
            let writer = (step * 7 % 300).to_string();
            set(&mut registry, step, &writer);
            if step % 3 == 0 {
                registry.leave(&Stamp::at(step, EPOCH), writer.as_bytes(), 0, None);
            }
            let series = &registry.catalog.series[SeriesId::default()];
            let walked = allocated(series.labels.len()) + series.total.heap_bytes();
            assert_eq!(registry.catalog.series_heap_bytes, walked);
        }
        let copy = Registry::decode_snapshot(&registry.encode_snapshot()).unwrap();
        let series = &copy.catalog.series[SeriesId::default()];
        let walked = allocated(series.labels.len()) + series.total.heap_bytes();
        assert_eq!(copy.catalog.series_heap_bytes, walked);
    }
}

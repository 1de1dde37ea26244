//! What a full state has not named: its writer gives it up, a few series with each write.
//!
//! # How it works
//!
//! The end of a run marks the writer: every entry that the run has not named is given up as of that
//! moment. Later writes bring the entries into line ([`Registry::give_up_some`]), before all else that is
//! left to do for the writer. Reading and writing see through it: such an entry owns its series no
//! longer, and its gauge's value is not shown.
//!
//! A gauge is forgotten then: what was sent of it means nothing once its value was taken away, and a
//! writer that makes gauges and removes them for ever would be remembered to have written all of them.
//! The entry becomes a hole, and the next series that the writer defines takes its place. No index
//! stands for it: a run begins with an empty table, and what it names is not given up. Of other types a
//! writer is remembered to have sent what it sent, so that it is not counted again.
//!
//! When another run ends meanwhile, it takes the place of the earlier one: what neither has named is
//! given up as of the later moment, so that a total that has just expired may be shown until then.

use crate::bits::Bits;
use crate::ids::WriterId;
use crate::registry::catalog::series;
use crate::registry::writers::Phase;
use crate::registry::{Registry, lifetime};

/// The entries of a writer that its last full state has not named.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Unnamed {
    /// Entries that were named, or have been given up since. Later ones are not concerned.
    pub(in crate::registry) done: Bits,
    /// When the run ended.
    pub(in crate::registry) at_ms: u64,
    /// Where it goes on; it begins again at the end.
    pub(in crate::registry) next: u32,
}

impl Unnamed {
    /// Whether an entry is given up, though it is not marked.
    pub(in crate::registry) fn is_pending(&self, at: usize) -> bool {
        at < self.done.len() && !self.done.is_set(at)
    }
}

impl Registry {
    /// What the full state did not name is no longer this writer's.
    pub(in crate::registry) fn end_run(&mut self, id: WriterId, now_ms: u64) {
        let writer = &mut self.writers[id];
        let Some(named) = writer.run.take() else {
            return;
        };
        let before = writer.unnamed.take();
        let (was_behind, next) = (before.is_some(), before.map_or(0, |unnamed| unnamed.next));
        writer.unnamed = Some(Box::new(Unnamed {
            done: named,
            at_ms: now_ms,
            next,
        }));
        self.writers.unnamed += u32::from(!was_behind);
        self.give_up_some(id, &mut { lifetime::WORK_PER_WRITE });
        let writer = &mut self.writers[id];
        if writer.unnamed.is_some() && !writer.is_queued {
            // Its entries agree with its phase.
            (writer.is_queued, writer.settle_from) = (true, series::NONE);
            self.writers.unsettled.push_back(id);
        }
    }

    /// Gives some of the entries up that the last full state of a writer has not named.
    pub(in crate::registry) fn give_up_some(&mut self, id: WriterId, budget: &mut usize) {
        while *budget > 0
            && let Some(unnamed) = &self.writers[id].unnamed
        {
            *budget -= 1;
            let next = unnamed.done.first_unset(unnamed.next as usize);
            if let Some(at) = next.or_else(|| unnamed.done.first_unset(0)) {
                self.give_up(id, at);
                let was_forgotten = self.forget_gauge(id, at);
                *budget -= usize::from(was_forgotten && *budget > 0);
            } else {
                self.writers[id].unnamed = None;
                self.writers.unnamed -= 1;
            }
        }
    }

    /// Brings an entry into line, out of turn.
    pub(in crate::registry) fn give_up_entry(&mut self, id: WriterId, at: usize) {
        if self.writers[id].is_given_up(at) {
            self.give_up(id, at);
        }
    }

    fn give_up(&mut self, id: WriterId, at: usize) {
        let Some(unnamed) = &mut self.writers[id].unnamed else {
            return;
        };
        // First, so that what is asked meanwhile is what the entry was until then.
        unnamed.done.set(at);
        unnamed.next = at as u32 + 1;
        let at_ms = unnamed.at_ms;
        if !self.writers[id].entries[at].is_hole() {
            self.retire(id, at, at_ms);
        }
    }

    /// Forgets what was given up, if that is a gauge.
    fn forget_gauge(&mut self, id: WriterId, at: usize) -> bool {
        let writer = &self.writers[id];
        let entry = writer.entries[at];
        // What a writer that is gone remembers ends in another order.
        if writer.is_gone() || entry.is_hole() || !self.catalog.is_gauge(entry.series) {
            return false;
        }
        let series = self.writers[id].leave_hole(at);
        self.writers[id].with_pid -= u32::from(self.catalog.shows_pids(series));
        self.catalog.series[series].forget(id);
        self.free_series_if_unused(series);
        true
    }

    /// Takes a gauge's value away; of anything else, the ownership, as of that moment.
    pub(super) fn retire(&mut self, id: WriterId, at: usize, at_ms: u64) {
        let writer = &self.writers[id];
        let entry = writer.entries[at];
        if writer.phase == Phase::Live {
            self.settle_entry(id, at);
        } else if writer.is_owed(at) && !entry.is_owned() && !entry.is_retired() {
            // It owned the series until then.
            let series = &mut self.catalog.series[entry.series];
            series.idle_since_ms = series.idle_since_ms.max(at_ms);
        }
        self.set_owned(id, at, false, at_ms);
        let entry = &mut self.writers[id].entries[at];
        entry.set_retired(true);
        let (series, place) = (entry.series, entry.place());
        if matches!(self.catalog.series[series].total, series::Total::Gauge(_)) {
            self.remove_member(series, place, id);
            if self.catalog.is_empty_gauge(series) {
                self.end_empty_gauge(series);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop here")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Batch, BatchHeader, BatchKind, BatchWriter, Epoch, ExposeRequest, FamilySpec, FamilyType,
        GaugeMode, Limits, Point, PushStatus, Stamp,
    };

    const EPOCH: Epoch = Epoch(7);
    /// No lease ends: what a return means while it is not worked off is another test's.
    const LEASE_MS: u64 = 1_000_000;
    const TTL_MS: u64 = 40;
    /// More than one write gives up.
    const SERIES: usize = 400;
    const WRITERS: usize = 3;

    #[derive(Debug, Clone)]
    enum Deed {
        /// A full state of each series whose number has that remainder; of none where `every` is 0.
        Full {
            writer: usize,
            every: usize,
            remainder: usize,
        },
        Define {
            writer: usize,
            series: usize,
        },
        Update {
            writer: usize,
            index: usize,
        },
        Retire {
            writer: usize,
            index: usize,
        },
        Heartbeat {
            writer: usize,
        },
        Leave {
            writer: usize,
        },
        Wait {
            ms: u64,
        },
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let writer = 0..WRITERS;
        prop_oneof![
            4 => (writer.clone(), 0..5_usize, 0..5_usize)
                .prop_map(|(writer, every, remainder)| Deed::Full { writer, every, remainder }),
            2 => (writer.clone(), 0..SERIES)
                .prop_map(|(writer, series)| Deed::Define { writer, series }),
            2 => (writer.clone(), 0..SERIES)
                .prop_map(|(writer, index)| Deed::Update { writer, index }),
            1 => (writer.clone(), 0..SERIES)
                .prop_map(|(writer, index)| Deed::Retire { writer, index }),
            3 => writer.clone().prop_map(|writer| Deed::Heartbeat { writer }),
            1 => writer.prop_map(|writer| Deed::Leave { writer }),
            4 => prop_oneof![Just(1), 1..40_u64, 90..110_u64, Just(250)]
                .prop_map(|ms| Deed::Wait { ms }),
        ]
    }

    fn define(batch: &mut BatchWriter, series: usize, value: f64) {
        let (name, family_type) = match series % 5 {
            0 => ("c", FamilyType::Counter),
            1 => ("s", FamilyType::Gauge(GaugeMode::Sum)),
            2 => ("m", FamilyType::Gauge(GaugeMode::Max)),
            3 => ("l", FamilyType::Gauge(GaugeMode::LiveSum)),
            _ => ("a", FamilyType::Gauge(GaugeMode::All)),
        };
        let family = batch.family(&FamilySpec::new(name, family_type));
        let (number, point) = (series.to_string(), Point::Scalar(value));
        let labels = [("n", number.as_str())].into_iter();
        batch.define(family, TTL_MS, labels, "p", None, &point, None);
    }

    /// The same calls for a registry that gets only those, one that is settled all the time, and one
    /// that is written and read all the time.
    struct World {
        registries: [Registry; 3],
        /// The id, the last seq, and the length of the index table of each.
        writers: [(u64, u64, u32); WRITERS],
        next_id: u64,
        now_ms: u64,
    }

    impl World {
        fn new() -> Self {
            let limits = Limits {
                writer_retention_ms: 200,
                ..Limits::default()
            };
            Self {
                registries: [(); 3].map(|()| Registry::new(EPOCH, limits, 0)),
                writers: [(1, 0, 0), (2, 0, 0), (3, 0, 0)],
                next_id: 4,
                now_ms: 1000,
            }
        }

        fn push(&mut self, writer: usize, kind: BatchKind, fill: impl Fn(&mut BatchWriter, f64)) {
            let (id, seq, _) = self.writers[writer];
            let mut batch = BatchWriter::new();
            fill(&mut batch, (seq + 1) as f64);
            let last = kind != BatchKind::Incremental;
            let bytes = batch.finish(BatchHeader {
                kind,
                last,
                ..BatchHeader::FULL
            });
            let (batch, stamp) = (
                Batch::decode(&bytes).unwrap(),
                Stamp::at(self.now_ms, EPOCH),
            );
            let replies = self.registries.each_mut().map(|registry| {
                registry.push(
                    &stamp,
                    &id.to_le_bytes(),
                    seq + 1,
                    Some(EPOCH),
                    LEASE_MS,
                    &batch,
                )
            });
            assert_eq!(replies[0], replies[1]);
            assert_eq!(replies[0], replies[2]);
            match replies[0].status {
                PushStatus::Ok => self.writers[writer].1 += 1,
                // It was forgotten: another one begins.
                PushStatus::Forgotten | PushStatus::Resync => self.begin(writer),
                other => panic!("{other:?}"),
            }
        }

        fn begin(&mut self, writer: usize) {
            self.writers[writer] = (self.next_id, 0, 0);
            self.next_id += 1;
        }

        fn take(&mut self, deed: &Deed) {
            if let Deed::Full { .. } = deed {
                // A second run before the first one is worked off has another moment.
                self.settle(0);
                self.settle(2);
            }
            match *deed {
                Deed::Full {
                    writer,
                    every,
                    remainder,
                } => {
                    let named = |series: &usize| every > 0 && series % every == remainder % every;
                    let named = (0..SERIES).filter(named).collect::<Vec<_>>();
                    self.push(
                        writer,
                        BatchKind::Full { forgotten_seq: 0 },
                        |batch, value| {
                            for series in &named {
                                define(batch, *series, value);
                            }
                        },
                    );
                    self.writers[writer].2 = named.len() as u32;
                }
                Deed::Define { writer, series } => {
                    self.push(writer, BatchKind::Incremental, |batch, value| {
                        define(batch, series, value);
                    });
                    self.writers[writer].2 += 1;
                }
                Deed::Update { writer, index } | Deed::Retire { writer, index } => {
                    let count = self.writers[writer].2;
                    let is_update = matches!(deed, Deed::Update { .. });
                    self.push(writer, BatchKind::Incremental, |batch, value| {
                        let index = index as u32 % count.max(1);
                        if is_update {
                            batch.update(index, &Point::Scalar(0.0), &Point::Scalar(value));
                        } else {
                            batch.retire(index);
                        }
                    });
                }
                Deed::Heartbeat { writer } => self.push(writer, BatchKind::Incremental, |_, _| {}),
                Deed::Leave { writer } => {
                    let (id, seq, _) = self.writers[writer];
                    let stamp = Stamp::at(self.now_ms, EPOCH);
                    let replies = self.registries.each_mut().map(|registry| {
                        registry.leave(&stamp, &id.to_le_bytes(), seq, Some(EPOCH))
                    });
                    assert_eq!(replies[0], replies[1]);
                    self.begin(writer);
                }
                Deed::Wait { ms } => self.now_ms += ms,
            }
            self.settle(1);
            let snapshot = self.registries[2].encode_snapshot();
            self.registries[2] = Registry::decode_snapshot(&snapshot).unwrap();
            assert!(self.registries[2].encode_snapshot() == snapshot);
        }

        fn settle(&mut self, of: usize) {
            self.registries[of].settle_all(&Stamp::at(self.now_ms, EPOCH));
        }

        /// In which order the writers of one gauge are shown depends on when they were worked off.
        fn page(&self, of: usize) -> Vec<String> {
            let page = self.registries[of].expose(self.now_ms, &ExposeRequest::default());
            let text = String::from_utf8(page.unwrap().body).unwrap();
            let mut lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
            lines.sort_unstable();
            lines
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 100,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_a_full_state_has_not_named_is_as_if_given_up_at_once(
            deeds in prop::collection::vec(deed(), 1..40),
        ) {
            let mut world = World::new();
            for writer in 0..WRITERS {
                world.take(&Deed::Full { writer, every: 1, remainder: 0 });
            }
            for deed in deeds {
                world.take(&deed);
                let expected = world.page(1);
                for of in [0, 2] {
                    let page = world.page(of);
                    let mut lines = page.iter().zip(&expected);
                    let difference = lines.find(|(one, other)| one != other);
                    prop_assert!(page == expected, "{}: {:?} after {:?}", of, difference, deed);
                }
            }
        }
    }
}

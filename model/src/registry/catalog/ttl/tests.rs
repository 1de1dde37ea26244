//! TTLs of series and of whole families, settled late or at once.

use proptest::prelude::*;

use super::*;
use crate::{Declaration, Epoch, FamilySpec, FamilyType, Limits};

const EPOCH: Epoch = Epoch(7);
/// More than one write walks through.
const SERIES: usize = 300;

#[derive(Debug, Clone)]
enum Deed {
    Inc { series: usize, ttl_ms: Option<u64> },
    Ttl { series: Option<usize>, ttl_ms: u64 },
    Delete { series: Option<usize> },
    Wait { ms: u64 },
    Settle,
    Copy,
}

fn deed() -> impl Strategy<Value = Deed> {
    let ttl_ms = prop_oneof![Just(0), Just(u64::MAX), Just(5_000_000_000), 1..100_u64];
    let series = 0..SERIES;
    prop_oneof![
        3 => (series.clone(), prop::option::of(ttl_ms.clone()))
            .prop_map(|(series, ttl_ms)| Deed::Inc { series, ttl_ms }),
        3 => ttl_ms.clone().prop_map(|ttl_ms| Deed::Ttl { series: None, ttl_ms }),
        3 => (series.clone(), ttl_ms)
            .prop_map(|(series, ttl_ms)| Deed::Ttl { series: Some(series), ttl_ms }),
        1 => series.prop_map(|series| Deed::Delete { series: Some(series) }),
        1 => Just(Deed::Delete { series: None }),
        5 => prop_oneof![Just(1), 1..50_u64, Just(5_000_000_000)]
            .prop_map(|ms| Deed::Wait { ms }),
        1 => Just(Deed::Settle),
        1 => Just(Deed::Copy),
    ]
}

/// A series under the same rules when everything is done at once.
#[derive(Debug, Clone, Copy)]
struct Slow {
    value: f64,
    idle_since_ms: u64,
    ttl_ms: u64,
}

struct World {
    registry: Registry,
    slow: Vec<Option<Slow>>,
    family_ttl_ms: u64,
    now_ms: u64,
}

fn labels(series: usize) -> Labels {
    Labels::new([("n", series.to_string().as_str())]).unwrap()
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            registry: Registry::new(EPOCH, Limits::default(), 0),
            slow: vec![None; SERIES],
            family_ttl_ms: 0,
            now_ms: 1_000_000,
        };
        world.declare();
        for series in 0..SERIES {
            let ttl_ms = (series % 3 == 0).then_some(40);
            world.inc(series, ttl_ms);
        }
        world
    }

    fn stamp(&self) -> Stamp {
        Stamp::at(self.now_ms, EPOCH)
    }

    /// Keeps the family when its last series is removed.
    fn declare(&mut self) {
        let spec = FamilySpec::new("c", FamilyType::Counter);
        let done = self
            .registry
            .declare(&self.stamp(), &spec, &Declaration::default());
        assert_eq!(done, Ok(()));
    }

    fn inc(&mut self, series: usize, ttl_ms: Option<u64>) {
        let stamp = self.stamp();
        let done = self.registry.inc(&stamp, "c", &labels(series), 1.0, ttl_ms);
        let slow = &mut self.slow[series];
        let was = slow.unwrap_or(Slow {
            value: 0.0,
            idle_since_ms: 0,
            ttl_ms: self.family_ttl_ms,
        });
        *slow = Some(Slow {
            value: was.value + 1.0,
            idle_since_ms: self.now_ms,
            ttl_ms: ttl_ms.unwrap_or(was.ttl_ms),
        });
        assert_eq!(done, Ok(was.value + 1.0));
    }

    fn ttl(&mut self, series: Option<usize>, ttl_ms: u64) {
        let is_walked = self.registry.catalog.ttls.walks.is_empty();
        let labels = series.map(labels);
        let stamp = self.stamp();
        let touched = self.registry.set_ttl(&stamp, "c", labels.as_ref(), ttl_ms);
        let mut expected = 0;
        for (at, slow) in self.slow.iter_mut().enumerate() {
            if series.is_none_or(|series| series == at)
                && let Some(slow) = slow
            {
                slow.ttl_ms = ttl_ms;
                expected += 1;
            }
        }
        if series.is_none() {
            self.family_ttl_ms = ttl_ms;
        }
        // Series that expired by a TTL that was just set are noticed when the walk passes them.
        assert!(touched == expected || !is_walked && touched > expected);
    }

    fn delete(&mut self, series: Option<usize>) {
        let stamp = self.stamp();
        self.registry.del(&stamp, "c", series.map(labels).as_ref());
        if let Some(series) = series {
            self.slow[series] = None;
        } else {
            (self.slow, self.family_ttl_ms) = (vec![None; SERIES], 0);
            self.declare();
        }
    }

    fn take(&mut self, deed: &Deed) {
        match *deed {
            Deed::Inc { series, ttl_ms } => self.inc(series, ttl_ms),
            Deed::Ttl { series, ttl_ms } => self.ttl(series, ttl_ms),
            Deed::Delete { series } => self.delete(series),
            Deed::Wait { ms } => self.now_ms += ms,
            Deed::Settle => self.registry.settle(&self.stamp()),
            Deed::Copy => {
                let snapshot = self.registry.encode_snapshot();
                self.registry = Registry::decode_snapshot(&snapshot).unwrap();
                assert!(self.registry.encode_snapshot() == snapshot);
            }
        }
        for slow in &mut self.slow {
            let has_ended = |slow: &Slow| {
                let ends_ms = slow.idle_since_ms.saturating_add(slow.ttl_ms);
                slow.ttl_ms > 0 && ends_ms <= self.now_ms
            };
            *slow = slow.filter(|slow| !has_ended(slow));
        }
    }

    fn check(&self) {
        for (series, slow) in self.slow.iter().enumerate() {
            let shown = self.registry.get(self.now_ms, "c", &labels(series));
            let expected = slow.map(|slow| crate::Aggregate::Number(slow.value));
            assert_eq!(shown, expected, "series {series}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_ttl_is_as_if_each_series_had_got_it_at_once(
        deeds in prop::collection::vec(deed(), 1..40),
    ) {
        let mut world = World::new();
        for deed in deeds {
            // Another test covers more changes than are stored.
            let family = world.registry.catalog.families.iter().next();
            if family.is_some_and(|(_, family)| family.ttl.changes.len() == MAX_CHANGES) {
                world.registry.settle_all(&world.stamp());
            }
            world.take(&deed);
            world.check();
        }
        world.registry.settle_all(&world.stamp());
        world.check();
        let shown = world.slow.iter().flatten().count();
        prop_assert_eq!(world.registry.series_count(), shown);
        prop_assert!(world.registry.catalog.ttls.walks.is_empty());
        let kept = world.registry.catalog.families.iter().map(|(_, family)| family.ttl.changes.len());
        prop_assert!(kept.sum::<usize>() <= 1);
    }
}

#[test]
fn more_changes_than_are_kept_hide_nothing_too_early() {
    let mut world = World::new();
    for times in 0..100 {
        world.now_ms += 3;
        let stamp = world.stamp();
        world.registry.set_ttl(&stamp, "c", None, 1000 + times);
    }
    // Those that started with a TTL of 40 ms got a longer one before it was over.
    for series in 0..SERIES {
        let shown = world.registry.get(world.now_ms, "c", &labels(series));
        assert_eq!(shown, Some(crate::Aggregate::Number(1.0)), "{series}");
    }
}

#[test]
fn a_long_ttl_is_exact_and_forgotten_with_its_series() {
    let mut world = World::new();
    let long_ms = u64::from(u32::MAX) + 1000;
    world.inc(1, Some(long_ms));
    world.now_ms += long_ms - 1;
    let shown = |world: &World| world.registry.get(world.now_ms, "c", &labels(1)).is_some();
    assert!(shown(&world));
    world.now_ms += 1;
    assert!(!shown(&world));
    world.registry.settle_all(&world.stamp());
    assert_eq!(world.registry.catalog.ttls.long_ms, BTreeMap::new());
}

//! Gauges of many writers agree with a plain list of their values and leases.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

use metrics_model::{
    Aggregate, Epoch, GaugeMode, GaugeWrite, Labels, Limits, PushStatus, Registry, Stamp,
};
use proptest::prelude::*;

const EPOCH: Epoch = Epoch(7);

#[derive(Debug, Clone)]
enum Step {
    /// A writer sets the gauge.
    Set { writer: usize, value: f64 },
    /// A writer sets another one, which renews its lease.
    Renew { writer: usize },
    /// Time passes; leases last 100 ms.
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![8 => (-50..50_i32).prop_map(f64::from), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)];
    prop_oneof![
        6 => (0..6_usize, value).prop_map(|(writer, value)| Step::Set { writer, value }),
        2 => (0..6_usize).prop_map(|writer| Step::Renew { writer }),
        3 => (1..90_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

fn expected(mode: GaugeMode, live: &[f64]) -> Option<f64> {
    let values = live.iter().copied();
    match mode {
        GaugeMode::LiveMin => values.reduce(f64::min),
        GaugeMode::LiveMax => values.reduce(f64::max),
        _ => values.reduce(|a, b| a + b),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn live_modes_show_what_writers_with_a_lease_have_set(
        steps in prop::collection::vec(step(), 1..60),
        mode in prop::sample::select(vec![GaugeMode::LiveSum, GaugeMode::LiveMin, GaugeMode::LiveMax]),
        reload in any::<bool>(),
    ) {
        let mut registry = Registry::new(EPOCH, Limits::default(), 0);
        let mut writers = [(None, 0); 6];
        let (mut now_ms, none) = (1000, Labels::none());
        for step in steps {
            let (writer, family, value, mode_of_family) = match step {
                Step::Set { writer, value } => (writer, "g", value, mode),
                Step::Renew { writer } => (writer, "other", 1.0, GaugeMode::Sum),
                Step::Wait { ms } => {
                    now_ms += ms;
                    continue;
                }
            };
            let id = writer.to_string();
            let write = GaugeWrite {
                family,
                labels: &none,
                value,
                mode: Some(mode_of_family),
                writer: id.as_bytes(),
                lease_ms: Some(100),
                ttl_ms: None,
            };
            registry.set(&Stamp::at(now_ms, EPOCH), &write).unwrap();
            writers[writer].1 = now_ms + 100;
            if family == "g" {
                writers[writer].0 = Some(value);
            }
            if reload {
                registry = Registry::decode_snapshot(&registry.encode_snapshot()).unwrap();
            }
            for later_ms in [0, 50, 150] {
                let now_ms = now_ms + later_ms;
                let live = writers.iter().filter(|(_, until_ms)| *until_ms > now_ms);
                let live = live.filter_map(|(value, _)| *value).collect::<Vec<_>>();
                let shown = match registry.get(now_ms, "g", &none) {
                    Some(Aggregate::Number(number)) => Some(number),
                    None => None,
                    other => panic!("{other:?}"),
                };
                let expected = expected(mode, &live);
                let agree = match (shown, expected) {
                    (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
                    (a, b) => a.is_none() && b.is_none(),
                };
                prop_assert!(agree, "{:?} for {:?}, expected {:?}", shown, live, expected);
            }
        }
    }
}

/// An action of a writer of the gauge.
#[derive(Debug, Clone)]
enum Deed {
    Set {
        writer: usize,
        value: f64,
    },
    /// The writer leaves; what it sets later counts as another writer's.
    Leave {
        writer: usize,
    },
    Tick,
}

fn deed() -> impl Strategy<Value = Deed> {
    let odd = [
        0.0,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        5e-324,
        -5e-324,
        9.0,
        3.0,
    ];
    let value = prop_oneof![
        3 => (-50..50_i32).prop_map(|number| f64::from(number) / 8.0),
        4 => prop::sample::select(odd.to_vec()),
    ];
    prop_oneof![
        6 => (0..4_usize, value).prop_map(|(writer, value)| Deed::Set { writer, value }),
        3 => (0..4_usize).prop_map(|writer| Deed::Leave { writer }),
        2 => Just(Deed::Tick),
    ]
}

/// The last value of one writer.
struct Said {
    id: String,
    value: f64,
    time: u64,
    has_left: bool,
}

/// A second implementation, with only comparisons of bits and of order.
fn shown_of(mode: GaugeMode, said: &[Said]) -> Option<f64> {
    let counts = said
        .iter()
        .filter(|said| !(mode.is_live() && said.has_left));
    let values = counts.clone().map(|said| said.value).collect::<Vec<_>>();
    let mut numbers = values.clone();
    numbers.retain(|value| !value.is_nan());
    numbers.sort_by(f64::total_cmp);
    match mode {
        GaugeMode::Min | GaugeMode::LiveMin => numbers.first().or(values.first()).copied(),
        GaugeMode::Max | GaugeMode::LiveMax => numbers.last().or(values.first()).copied(),
        GaugeMode::MostRecent | GaugeMode::LiveMostRecent => counts
            .max_by_key(|said| (said.time, said.id.clone()))
            .map(|said| said.value),
        GaugeMode::Sum | GaugeMode::LiveSum | GaugeMode::All | GaugeMode::LiveAll => {
            values.into_iter().reduce(|a, b| a + b)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_gauge_is_what_its_writers_set_last_whichever_have_left(
        deeds in prop::collection::vec(deed(), 1..40),
        mode in prop::sample::select(GaugeMode::EVERY.to_vec()),
    ) {
        let mut registry = Registry::new(EPOCH, Limits::default(), 0);
        let (mut now_ms, none) = (1000, Labels::none());
        let mut said: Vec<Said> = Vec::new();
        let mut lives = [0; 4];
        for deed in deeds {
            let stamp = Stamp::at(now_ms, EPOCH);
            match deed {
                Deed::Tick => now_ms += 1,
                Deed::Set { writer, value } => {
                    let id = format!("{writer}.{}", lives[writer]);
                    let write = GaugeWrite {
                        family: "g",
                        labels: &none,
                        value,
                        mode: Some(mode),
                        writer: id.as_bytes(),
                        lease_ms: None,
                        ttl_ms: None,
                    };
                    registry.set(&stamp, &write).unwrap();
                    said.retain(|said| said.id != id);
                    said.push(Said { id, value, time: now_ms, has_left: false });
                }
                Deed::Leave { writer } => {
                    let id = format!("{writer}.{}", lives[writer]);
                    if let Some(said) = said.iter_mut().find(|said| said.id == id) {
                        let reply = registry.leave(&stamp, id.as_bytes(), 0, None);
                        prop_assert_eq!(reply.status, PushStatus::Ok);
                        said.has_left = true;
                        lives[writer] += 1;
                    }
                }
            }
            let shown = match registry.get(now_ms, "g", &none) {
                Some(Aggregate::Number(number)) => Some(number),
                None => None,
                other => panic!("{other:?}"),
            };
            let expected = shown_of(mode, &said);
            // A sum begins at 0, which absorbs a −0, and is rounded once, not with each number.
            let is_sum = mode.name().ends_with("sum") || mode.is_per_writer();
            let agree = match (shown, expected) {
                (Some(a), Some(b)) => {
                    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || is_sum && (a == b || (a - b).abs() < 1e-9)
                }
                (a, b) => a.is_none() && b.is_none(),
            };
            prop_assert!(agree, "{:?}, expected {:?}", shown, expected);
        }
    }
}

//! Gauges of many writers show what a plain list of their values and leases says.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

use metrics_model::{Aggregate, Epoch, GaugeMode, GaugeWrite, Labels, Limits, Registry, Stamp};
use proptest::prelude::*;

const EPOCH: Epoch = Epoch(7);

#[derive(Debug, Clone)]
enum Step {
    /// A writer sets the gauge.
    Set { writer: usize, value: f64 },
    /// A writer sets another one, which renews its lease.
    Renew { writer: usize },
    /// Time passes; leases last 100.
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

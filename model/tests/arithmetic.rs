//! No total is ever spoilt: values that would make it too large are refused, and values that go
//! leave no trace.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

use metrics_model::{
    Aggregate, Batch, BatchHeader, BatchWriter, Epoch, FamilySpec, FamilyType, GaugeMode,
    GaugeWrite, Labels, Layout, Limits, NativeHistogram, Observation, Point, PushReply, Reason,
    Registry, RegistryError, Stamp,
};
use proptest::prelude::*;

const EPOCH: Epoch = Epoch(7);
const HUGE: f64 = 1.7e308;

fn registry() -> Registry {
    Registry::new(EPOCH, Limits::default(), 0)
}

fn at(now_ms: u64) -> Stamp {
    Stamp::at(now_ms, EPOCH)
}

fn number(registry: &Registry, family: &str) -> f64 {
    match registry.get(1, family, &Labels::none()) {
        Some(Aggregate::Number(number)) => number,
        other => panic!("{other:?}"),
    }
}

fn buckets(registry: &Registry, family: &str) -> (u64, f64) {
    match registry.get(1, family, &Labels::none()) {
        Some(Aggregate::Buckets { count, sum, .. }) => (count, sum),
        other => panic!("{other:?}"),
    }
}

/// Defines one series in a full state, with its value.
fn define(
    registry: &mut Registry,
    writer: &str,
    seq: u64,
    family_type: FamilyType,
    layout: &[&str],
    point: &Point,
    base: Option<&Point>,
) -> PushReply {
    let mut batch = BatchWriter::new();
    let family = batch.family(&FamilySpec::new("f", family_type));
    let layout = (family_type == FamilyType::Histogram)
        .then(|| batch.layout(&Layout::new(layout.iter().copied()).unwrap()));
    batch.define(family, 0, [].into_iter(), "", layout, point, base);
    push(registry, writer, seq, batch, BatchHeader::FULL)
}

fn push(
    registry: &mut Registry,
    writer: &str,
    seq: u64,
    batch: BatchWriter,
    header: BatchHeader,
) -> PushReply {
    let bytes = batch.finish(header);
    let batch = Batch::decode(&bytes).unwrap();
    registry.push(&at(1), writer.as_bytes(), seq, Some(EPOCH), 15_000, &batch)
}

fn overflows(registry: &Registry) -> u64 {
    let mut rejected = registry.rejected();
    rejected
        .find(|(reason, _)| *reason == Reason::Overflow)
        .map_or(0, |(_, count)| count)
}

#[test]
fn an_increment_that_does_not_fit_is_refused() {
    let mut registry = registry();
    let inc = |registry: &mut Registry, by| registry.inc(&at(1), "f", &Labels::none(), by, None);
    assert_eq!(inc(&mut registry, HUGE), Ok(HUGE));
    let before = registry.encode_snapshot();
    let refused = inc(&mut registry, HUGE).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("family 'f': {HUGE} more would make the total too large for its type")
    );
    assert_eq!(registry.encode_snapshot(), before);
    assert_eq!(inc(&mut registry, 1.0), Ok(HUGE));
    // Nor in small steps.
    for _ in 0..200 {
        let _refused = inc(&mut registry, 1e307);
        assert!(number(&registry, "f").is_finite());
    }
    let mut edge = self::registry();
    assert_eq!(inc(&mut edge, f64::MAX), Ok(f64::MAX));
    for _ in 0..64 {
        let _refused = inc(&mut edge, 2f64.powi(966));
    }
    assert_eq!(number(&edge, "f"), f64::MAX);
}

#[test]
fn a_writer_that_does_not_fit_leaves_the_others_counts() {
    let mut registry = registry();
    let counter = FamilyType::Counter;
    let scalar = Point::Scalar;
    let first = define(&mut registry, "a", 1, counter, &[], &scalar(HUGE), None);
    let second = define(&mut registry, "b", 1, counter, &[], &scalar(HUGE), None);
    assert_eq!((first.left_out, second.left_out), (0, 1));
    assert_eq!(number(&registry, "f"), HUGE);
    assert_eq!(overflows(&registry), 1);
    // A large value that grows a little fits, whatever the intermediate results.
    let grown = define(&mut registry, "a", 2, counter, &[], &scalar(1.71e308), None);
    assert_eq!(grown.left_out, 0);
    assert_eq!(number(&registry, "f"), 1.71e308);
    // The part above the base fits.
    let base = scalar(1.69e308);
    let with_base = define(
        &mut registry,
        "b",
        2,
        counter,
        &[],
        &scalar(HUGE),
        Some(&base),
    );
    assert_eq!(with_base.left_out, 0);
    assert_eq!(number(&registry, "f"), 1.72e308);
    let mut update = BatchWriter::new();
    update.update(0, &scalar(0.0), &scalar(f64::MAX));
    let update = push(&mut registry, "b", 3, update, BatchHeader::INCREMENTAL);
    assert_eq!((update.left_out, overflows(&registry)), (1, 2));
    assert_eq!(number(&registry, "f"), 1.72e308);
    // Its next value counts in full.
    let mut update = BatchWriter::new();
    update.update(0, &scalar(0.0), &scalar(1.71e308));
    let update = push(&mut registry, "b", 4, update, BatchHeader::INCREMENTAL);
    assert_eq!(update.left_out, 0);
    assert_eq!(number(&registry, "f"), 1.71e308 + (1.71e308 - 1.69e308));
}

/// A point with a sum and so many observations in its first bucket.
type PointOf = fn(f64, u64) -> Point;

fn histogram(sum: f64, count: u64) -> Point {
    let counts = vec![count, 0];
    Point::Buckets { sum, counts }
}

fn summary(sum: f64, count: u64) -> Point {
    let counts = vec![count];
    Point::Buckets { sum, counts }
}

fn native(sum: f64, count: u64) -> Point {
    let mut histogram = NativeHistogram::empty(0, 0.0);
    histogram.sum = sum;
    histogram.positive = vec![(1, count)];
    Point::Native(Box::new(histogram))
}

#[test]
fn sums_and_counts_of_observations_stay_what_they_are() {
    let points = [
        (FamilyType::Histogram, histogram as PointOf),
        (FamilyType::Summary, summary),
        (FamilyType::NativeHistogram, native),
    ];
    for (family_type, point) in points {
        let mut registry = registry();
        let mut left_out = |writer: &str, seq, sum, count| {
            let point = point(sum, count);
            define(
                &mut registry,
                writer,
                seq,
                family_type,
                &["1"],
                &point,
                None,
            )
            .left_out
        };
        assert_eq!(left_out("a", 1, HUGE, 5), 0, "{family_type:?}");
        assert_eq!(left_out("b", 1, HUGE, 5), 1, "{family_type:?}");
        assert_eq!(left_out("c", 1, 1.0, u64::MAX - 4), 1, "{family_type:?}");
        assert_eq!(left_out("c", 2, 1.0, u64::MAX - 5), 0, "{family_type:?}");
        assert_eq!(left_out("d", 1, 1.0, 1), 1, "{family_type:?}");
        assert_eq!(buckets(&registry, "f"), (u64::MAX, HUGE), "{family_type:?}");
        let observed = registry.observe(
            &at(1),
            &Observation {
                family: "f",
                labels: &Labels::none(),
                value: 1.0,
                layout: None,
                exemplar: None,
                ttl_ms: None,
            },
        );
        assert!(matches!(observed, Err(RegistryError::Overflow { .. })));
        assert_eq!(buckets(&registry, "f"), (u64::MAX, HUGE), "{family_type:?}");
        let again = Registry::decode_snapshot(&registry.encode_snapshot()).unwrap();
        assert_eq!(buckets(&again, "f"), (u64::MAX, HUGE), "{family_type:?}");
    }
}

#[test]
fn counts_of_all_buckets_and_all_layouts_fit_together() {
    let mut registry = registry();
    let point = |counts: &[u64]| Point::Buckets {
        sum: 0.0,
        counts: counts.to_vec(),
    };
    let histogram = FamilyType::Histogram;
    let most = u64::MAX / 2;
    let own = define(
        &mut registry,
        "a",
        1,
        histogram,
        &["1"],
        &point(&[u64::MAX, 1]),
        None,
    );
    assert_eq!(own.left_out, 1);
    let one = define(
        &mut registry,
        "b",
        1,
        histogram,
        &["1"],
        &point(&[most, 0]),
        None,
    );
    let two = define(
        &mut registry,
        "c",
        1,
        histogram,
        &["2"],
        &point(&[0, most]),
        None,
    );
    let three = define(
        &mut registry,
        "d",
        1,
        histogram,
        &["3"],
        &point(&[1, 1]),
        None,
    );
    assert_eq!((one.left_out, two.left_out, three.left_out), (0, 0, 1));
    assert_eq!(buckets(&registry, "f"), (u64::MAX - 1, 0.0));
}

#[test]
fn an_infinite_sum_does_not_become_nothing() {
    let mut registry = registry();
    let point = |sum, count| Point::Buckets {
        sum,
        counts: vec![count],
    };
    let summary = FamilyType::Summary;
    let infinite = point(f64::INFINITY, 2);
    assert_eq!(
        define(&mut registry, "a", 1, summary, &[], &infinite, None).left_out,
        0
    );
    assert_eq!(buckets(&registry, "f"), (2, f64::INFINITY));
    let finite = point(3.0, 3);
    assert_eq!(
        define(&mut registry, "a", 2, summary, &[], &finite, None).left_out,
        1
    );
    assert_eq!(buckets(&registry, "f"), (2, f64::INFINITY));
}

fn set(registry: &mut Registry, writer: usize, mode: GaugeMode, value: f64) {
    let (writer, none) = (writer.to_string(), Labels::none());
    let write = GaugeWrite {
        family: "g",
        labels: &none,
        value,
        mode: Some(mode),
        writer: writer.as_bytes(),
        lease_ms: Some(10_000),
        ttl_ms: None,
    };
    registry.set(&at(1), &write).unwrap();
}

#[test]
fn large_values_of_a_gauge_leave_nothing_behind() {
    for mode in [GaugeMode::Sum, GaugeMode::LiveSum] {
        let mut registry = registry();
        set(&mut registry, 1, mode, HUGE);
        set(&mut registry, 2, mode, HUGE);
        assert_eq!(number(&registry, "g"), f64::INFINITY);
        set(&mut registry, 1, mode, 1.0);
        set(&mut registry, 2, mode, 1.0);
        assert_eq!(number(&registry, "g"), 2.0);
        set(&mut registry, 1, mode, 1e300);
        set(&mut registry, 2, mode, 1e100);
        set(&mut registry, 3, mode, 0.1);
        set(&mut registry, 1, mode, 0.0);
        set(&mut registry, 2, mode, 0.0);
        assert_eq!(number(&registry, "g"), 0.1);
    }
}

#[test]
fn adding_to_a_gauge_what_does_not_fit_is_refused() {
    let mut registry = registry();
    let none = Labels::none();
    let write = GaugeWrite {
        family: "g",
        labels: &none,
        value: HUGE,
        mode: None,
        writer: b"",
        lease_ms: None,
        ttl_ms: None,
    };
    assert_eq!(registry.add(&at(1), &write), Ok(HUGE));
    assert!(matches!(
        registry.add(&at(1), &write),
        Err(RegistryError::Overflow { .. })
    ));
    assert_eq!(number(&registry, "g"), HUGE);
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -1e3..1e3,
        2 => prop::sample::select(vec![HUGE, -HUGE, 1e300, 1e16, 0.1, 5e-324, f64::MAX]),
        1 => prop::sample::select(vec![f64::INFINITY, f64::NEG_INFINITY, f64::NAN]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the earlier values and their order.
    #[test]
    fn a_sum_is_that_of_what_writers_say_now(
        steps in prop::collection::vec((0..5_usize, value()), 1..60),
        mode in prop::sample::select(vec![GaugeMode::Sum, GaugeMode::LiveSum]),
    ) {
        let (mut long, mut last) = (registry(), [None; 5]);
        for (writer, value) in steps {
            set(&mut long, writer, mode, value);
            last[writer] = Some(value);
        }
        let mut short = registry();
        for (writer, value) in last.into_iter().enumerate().rev() {
            if let Some(value) = value {
                set(&mut short, writer, mode, value);
            }
        }
        let (long, short) = (number(&long, "g"), number(&short, "g"));
        prop_assert!(long.to_bits() == short.to_bits() || (long.is_nan() && short.is_nan()));
    }
}

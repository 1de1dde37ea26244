//! Infos, statesets, native histograms and exemplars: from writers to pages.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Aggregate, Batch, Declaration, Epoch, Exemplar, FamilySpec, FamilyType, GaugeWrite, Labels,
    Layout, Limits, NativeHistogram, Observation, Point, Registry, RegistryError, Session,
    SessionOptions, SourceExemplar, Stamp,
};
use support::{TestSource, labels, observation};

const EPOCH: Epoch = Epoch(7);

fn registry() -> Registry {
    Registry::new(EPOCH, Limits::default(), 0)
}

fn at(now_ms: u64) -> Stamp {
    registry().stamp(now_ms, &Limits::default(), false)
}

fn declare(registry: &mut Registry, name: &str, family_type: FamilyType) {
    let spec = FamilySpec::new(name, family_type);
    registry
        .declare(&at(0), &spec, &Declaration::default())
        .unwrap();
}

fn write<'a>(family: &'a str, labels: &'a Labels, value: f64) -> GaugeWrite<'a> {
    GaugeWrite {
        family,
        labels,
        value,
        mode: None,
        writer: b"",
        lease_ms: None,
        ttl_ms: None,
    }
}

/// Sends everything in a source; returns how many entries were left out.
fn push(registry: &mut Registry, id: &str, source: &TestSource) -> u64 {
    let options = SessionOptions {
        registry_ttl_ms: 0,
        tombstone_retention_ms: u64::MAX,
    };
    let mut session = Session::new(id.as_bytes().to_vec(), options);
    let mut left_out = 0;
    while let Some(push) = session.next(source, 1) {
        let batch = Batch::decode(&push.batch).unwrap();
        let reply = registry.push(&at(1), id.as_bytes(), push.seq, push.epoch, 1000, &batch);
        left_out += reply.left_out;
        session.on_reply(&reply, 1);
    }
    left_out
}

fn native(schema: i8, positive: &[(i32, u64)]) -> Point {
    let mut histogram = NativeHistogram::empty(schema, 0.0);
    histogram.positive = positive.to_vec();
    histogram.sum = 1.5;
    Point::Native(Box::new(histogram))
}

#[test]
fn an_info_is_true_while_a_live_writer_says_so() {
    let mut registry = registry();
    let mut source = TestSource::default();
    source.add(
        "build",
        FamilyType::Info,
        &[("version", "1")],
        Point::Scalar(1.0),
    );
    assert_eq!(push(&mut registry, "a", &source), 0);
    let version = labels(&[("version", "1")]);
    assert_eq!(
        registry.get(2, "build", &version),
        Some(Aggregate::Number(1.0))
    );
    assert_eq!(registry.get(2000, "build", &version), None);
}

#[test]
fn an_info_is_one_and_a_state_is_zero_or_one() {
    let mut registry = registry();
    declare(&mut registry, "build", FamilyType::Info);
    declare(&mut registry, "mode", FamilyType::StateSet);
    let (none, fast) = (Labels::none(), labels(&[("mode", "fast")]));
    registry.set(&at(1), &write("build", &none, 1.0)).unwrap();
    registry.set(&at(1), &write("mode", &fast, 0.0)).unwrap();
    let error = |result: Result<f64, RegistryError>| result.unwrap_err().to_string();
    assert_eq!(
        error(registry.set(&at(1), &write("build", &none, 2.0))),
        "value 2 is not allowed: an info is always 1"
    );
    assert_eq!(
        error(registry.set(&at(1), &write("mode", &fast, 0.5))),
        "value 0.5 is not allowed: a state is 0 or 1"
    );
    assert_eq!(
        error(registry.set(&at(1), &write("mode", &none, 1.0))),
        "a series of stateset 'mode' needs a label of that name, which tells the state"
    );
    assert_eq!(
        error(registry.add(&at(1), &write("mode", &fast, 1.0))),
        "family 'mode' is a stateset: it can be set, but not added to"
    );
}

#[test]
fn native_histograms_meet_at_the_lowest_schema() {
    let mut registry = registry();
    let (mut fine, mut coarse) = (TestSource::default(), TestSource::default());
    fine.add(
        "n",
        FamilyType::NativeHistogram,
        &[],
        native(1, &[(1, 2), (2, 3), (3, 1)]),
    );
    coarse.add("n", FamilyType::NativeHistogram, &[], native(0, &[(1, 10)]));
    assert_eq!(push(&mut registry, "fine", &fine), 0);
    assert_eq!(push(&mut registry, "coarse", &coarse), 0);
    let buckets = vec![("2".into(), 15), ("4".into(), 16), ("+Inf".into(), 16)];
    let expected = Aggregate::Buckets {
        count: 16,
        sum: 3.0,
        buckets,
    };
    assert_eq!(registry.get(2, "n", &Labels::none()), Some(expected));
}

#[test]
fn a_native_histogram_below_the_floor_of_its_family_is_left_out() {
    let mut registry = registry();
    let mut source = TestSource::default();
    source.add("n", FamilyType::NativeHistogram, &[], native(-1, &[(1, 2)]));
    assert_eq!(push(&mut registry, "a", &source), 1);
    let rejected = registry.rejected().map(|(reason, n)| (reason.name(), n));
    assert_eq!(rejected.collect::<Vec<_>>(), [("schema", 1)]);

    let spec = FamilySpec::new("n", FamilyType::NativeHistogram);
    let declaration = Declaration {
        schema: Some(-4),
        ..Declaration::default()
    };
    registry.declare(&at(1), &spec, &declaration).unwrap();
    assert_eq!(push(&mut registry, "b", &source), 0);
}

#[test]
fn direct_observations_go_into_a_declared_native_histogram() {
    let mut registry = registry();
    declare(&mut registry, "n", FamilyType::NativeHistogram);
    let none = Labels::none();
    for value in [0.0, 1.0, 1.0, -2.0, f64::INFINITY] {
        registry
            .observe(&at(1), &observation("n", &none, value, None))
            .unwrap();
    }
    let Some(Aggregate::Buckets {
        count,
        sum,
        buckets,
    }) = registry.get(1, "n", &none)
    else {
        panic!("no histogram");
    };
    assert_eq!((count, sum), (5, f64::INFINITY));
    let counts = buckets.iter().map(|(_, count)| *count).collect::<Vec<_>>();
    assert_eq!(counts, [1, 2, 4, 5]);
    assert_eq!(buckets[2].0, "1");
    assert_eq!(buckets[3].0, "+Inf");
}

#[test]
fn many_different_observations_make_a_native_histogram_coarser_not_larger() {
    let mut registry = registry();
    declare(&mut registry, "n", FamilyType::NativeHistogram);
    let none = Labels::none();
    for step in 0..3000 {
        let value = 1.02_f64.powi(step);
        registry
            .observe(&at(1), &observation("n", &none, value, None))
            .unwrap();
    }
    let Some(Aggregate::Buckets { count, buckets, .. }) = registry.get(1, "n", &none) else {
        panic!("no histogram");
    };
    assert_eq!(count, 3000);
    assert!(buckets.len() <= 162, "{}", buckets.len());
}

#[test]
fn the_newest_exemplar_of_each_bucket_stays() {
    let mut registry = registry();
    let (none, layout) = (Labels::none(), Layout::new(["1", "2"]).unwrap());
    let trace =
        |id: &'static str, value| Exemplar::new([("trace", id)].into_iter(), value, 0.0).unwrap();
    for (now_ms, id, value) in [(1, "a", 0.5), (2, "b", 0.7), (3, "c", 5.0)] {
        let observation = Observation {
            exemplar: Some(&trace(id, value)),
            ..observation("h", &none, value, Some(&layout))
        };
        registry.observe(&at(now_ms), &observation).unwrap();
    }
    let exemplars = registry.exemplars("h", &none);
    let kept = exemplars
        .iter()
        .map(|e| (e.labels.as_str(), e.value, e.time));
    assert_eq!(
        kept.collect::<Vec<_>>(),
        [(r#"trace="b""#, 0.7, 0.002), (r#"trace="c""#, 5.0, 0.003)]
    );
    registry.del(&at(4), "h", Some(&none));
    assert_eq!(registry.exemplars("h", &none), []);
}

#[test]
fn a_writer_s_exemplars_come_with_its_values() {
    let mut registry = registry();
    let mut source = TestSource::default();
    let number = source.add("c", FamilyType::Counter, &[], Point::Scalar(3.0));
    source.exemplars.push((
        number,
        SourceExemplar {
            labels: vec![("trace".into(), "x".into())],
            value: 1.0,
            time: 0.001,
        },
    ));
    assert_eq!(push(&mut registry, "a", &source), 0);
    let exemplars = registry.exemplars("c", &Labels::none());
    assert_eq!(exemplars.len(), 1);
    assert_eq!((exemplars[0].value, exemplars[0].time), (1.0, 0.001));
}

#[test]
fn an_exemplar_with_too_much_text_is_refused() {
    let long = "x".repeat(125);
    let error = Exemplar::new([("trace", long.as_str())].into_iter(), 1.0, 0.0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "130 characters of exemplar labels, at most 128 are allowed (OpenMetrics)"
    );
}

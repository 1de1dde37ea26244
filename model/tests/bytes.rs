//! The two codecs: encoded bytes decode to the same, and no decoded bytes break anything.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Batch, BatchHeader, BatchKind, BatchWriter, Declaration, Entry, Epoch, ExposeRequest,
    FamilySpec, FamilyType, GaugeMode, GaugeWrite, Labels, Layout, Limits, NativeHistogram, Point,
    Registry, SourceExemplar,
};
use proptest::prelude::*;
use proptest::sample::Index;
use support::observation;

const EPOCH: Epoch = Epoch(3);

/// A direct command, or a batch, on one of a few families.
#[derive(Debug, Clone)]
enum Write {
    Inc(u8, f64),
    Set(u8, usize, f64, u8),
    Observe(u8, f64),
    Del(u8, bool),
    Ttl(u8, u64),
    Push(u8, Vec<(u8, u32)>),
    Leave(u8),
}

fn write() -> impl Strategy<Value = Write> {
    let ttl = prop_oneof![Just(0), Just(500), Just(100_000)];
    prop_oneof![
        (0..4_u8, 0.0..10.0).prop_map(|(label, by)| Write::Inc(label, by)),
        (
            0..4_u8,
            0..10_usize,
            prop_oneof![Just(f64::NAN), -9.0..9.0, Just(f64::INFINITY)],
            0..3_u8
        )
            .prop_map(|(label, mode, value, writer)| Write::Set(label, mode, value, writer)),
        (0..4_u8, -1.0..12.0).prop_map(|(label, value)| Write::Observe(label, value)),
        (0..4_u8, any::<bool>()).prop_map(|(label, family)| Write::Del(label, family)),
        (0..4_u8, ttl).prop_map(|(label, ttl)| Write::Ttl(label, ttl)),
        (0..4_u8, prop::collection::vec((0..6_u8, 0..99_u32), 0..6))
            .prop_map(|(writer, points)| Write::Push(writer, points)),
        (0..4_u8).prop_map(Write::Leave),
    ]
}

/// Applies writes one after the other, with time passing in steps of very different lengths.
fn apply(registry: &mut Registry, writes: &[(Write, u64)]) {
    let native = FamilySpec::new("n", FamilyType::NativeHistogram);
    let stamp = registry.stamp(0, &Limits::default(), false);
    // In a damaged registry another family may have the name.
    drop(registry.declare(&stamp, &native, &Declaration::default()));
    for (write, pause_ms) in writes {
        let clock_ms = registry.last_stamp_ms() + pause_ms;
        let stamp = registry.stamp(clock_ms, &Limits::default(), false);
        let label = |label: &u8| Labels::new([("n", label.to_string().as_str())]).unwrap();
        match write {
            Write::Inc(n, by) => drop(registry.inc(&stamp, "c", &label(n), *by, None)),
            Write::Set(n, mode, value, writer) => {
                let mode = GaugeMode::EVERY[*mode];
                let id = format!("direct {writer}");
                let write = GaugeWrite {
                    family: mode.name(),
                    labels: &label(n),
                    value: *value,
                    mode: Some(mode),
                    writer: if *writer == 0 { b"" } else { id.as_bytes() },
                    lease_ms: (*writer == 1).then_some(1000),
                    ttl_ms: None,
                };
                drop(registry.set(&stamp, &write));
            }
            Write::Observe(n, value) => {
                let family = if *n % 2 == 0 { "h" } else { "n" };
                drop(registry.observe(&stamp, &observation(family, &label(n), *value, None)));
            }
            Write::Del(n, whole) => {
                registry.del(&stamp, "c", (!whole).then(|| label(n)).as_ref());
            }
            Write::Ttl(n, ttl) => {
                registry.set_ttl(&stamp, "c", Some(&label(n)), *ttl);
            }
            Write::Push(writer, points) => {
                let bytes = full_batch(points);
                let id = [*writer];
                registry.push(
                    &stamp,
                    &id,
                    clock_ms + 1,
                    Some(EPOCH),
                    1000,
                    &Batch::decode(&bytes).unwrap(),
                );
            }
            Write::Leave(writer) => {
                registry.leave(
                    &stamp,
                    &[*writer],
                    registry.last_stamp_ms() + 1,
                    Some(EPOCH),
                );
            }
        }
    }
}

fn full_batch(points: &[(u8, u32)]) -> Vec<u8> {
    let mut batch = BatchWriter::new();
    let counter = batch.family(&FamilySpec::new("c", FamilyType::Counter));
    let gauge = batch.family(&FamilySpec::new("g", FamilyType::Gauge(GaugeMode::All)));
    let native = batch.family(&FamilySpec::new("n", FamilyType::NativeHistogram));
    let info = batch.family(&FamilySpec::new("i", FamilyType::Info));
    let histogram = batch.family(&FamilySpec::new("h", FamilyType::Histogram));
    let layout = batch.layout(&Layout::new(["1", "5"]).unwrap());
    for (number, (label, value)) in points.iter().enumerate() {
        let label = format!("{label}.{number}");
        let labels = [("n", label.as_str())].into_iter();
        let value = f64::from(*value);
        match number % 5 {
            0 => batch.define(counter, 700, labels, "", None, &Point::Scalar(value), None),
            1 => batch.define(gauge, 0, labels, "17", None, &Point::Scalar(value), None),
            2 => {
                let mut histogram = NativeHistogram::empty((value % 3.0) as i8, 0.25);
                histogram.positive = vec![(-3, 2), (value as i32, 7)];
                histogram.negative = vec![(1, 1)];
                histogram.zero_count = 3;
                let point = Point::Native(Box::new(histogram));
                batch.define(native, 0, labels, "", None, &point, None);
            }
            3 => batch.define(info, 0, labels, "", None, &Point::Scalar(1.0), None),
            _ => {
                let point = Point::Buckets {
                    sum: value,
                    counts: vec![1, 2, value as u64],
                };
                batch.define(histogram, 0, labels, "", Some(layout), &point, None);
            }
        }
        let exemplar = SourceExemplar {
            labels: vec![("trace".into(), value.to_string().into())],
            value,
            time: value,
        };
        batch.exemplar(number as u32, &exemplar);
    }
    batch.finish(BatchHeader {
        registry_ttl_ms: 9,
        ..BatchHeader::FULL
    })
}

fn history() -> impl Strategy<Value = Vec<(Write, u64)>> {
    let pause = prop_oneof![4 => 0..50_u64, 2 => 500..2000_u64, 1 => Just(3_700_000)];
    prop::collection::vec((write(), pause), 0..80)
}

fn render(registry: &Registry) -> Vec<u8> {
    registry
        .expose(registry.last_stamp_ms() + 1, &ExposeRequest::default())
        .unwrap()
        .body
}

/// More cases than usual: damage is cheap to try.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(1000),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_copy_goes_on_exactly_as_the_original(before in history(), after in history()) {
        let mut original = Registry::new(EPOCH, Limits::default(), 1000);
        apply(&mut original, &before);
        let snapshot = original.encode_snapshot();
        let mut copy = Registry::decode_snapshot(&snapshot).unwrap();
        prop_assert_eq!(copy.encode_snapshot(), snapshot);
        prop_assert_eq!(render(&copy), render(&original));

        apply(&mut original, &after);
        apply(&mut copy, &after);
        prop_assert_eq!(copy.encode_snapshot(), original.encode_snapshot());
        prop_assert_eq!(render(&copy), render(&original));
        // The memory that is counted in steps equals the memory that a walk finds.
        let recounted = Registry::decode_snapshot(&original.encode_snapshot()).unwrap();
        let (counted, recounted) = (original.memory_bytes(), recounted.memory_bytes());
        prop_assert!(counted >= recounted / 2 && recounted >= counted / 4, "{} {}", counted, recounted);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_harmless(
        before in history(),
        after in history(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut original = Registry::new(EPOCH, Limits::default(), 1000);
        apply(&mut original, &before);
        let mut bytes = original.encode_snapshot();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(mut registry) = Registry::decode_snapshot(&bytes) {
            apply(&mut registry, &after);
            drop(registry.expose(registry.last_stamp_ms(), &ExposeRequest::default()));
        }
    }

    #[test]
    fn hostile_bytes_are_no_snapshot(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Registry::decode_snapshot(&bytes));
    }

    #[test]
    fn hostile_bytes_are_no_batch(
        points in prop::collection::vec((0..6_u8, 0..99_u32), 0..6),
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let mut bytes = full_batch(&points);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend(tail);
        if let Ok(batch) = Batch::decode(&bytes) {
            prop_assert!(batch.entries().count() <= batch.len());
            let mut registry = Registry::new(EPOCH, Limits::default(), 0);
            let stamp = registry.stamp(5, &Limits::default(), false);
            registry.push(&stamp, b"w", 1, Some(EPOCH), 10, &batch);
            drop(registry.expose(6, &ExposeRequest::default()));
        }
    }

    #[test]
    fn decode_of_encode_is_identity(
        name in "[a-z_]{1,9}", label in ".{0,20}", value: f64, index: u32, seq: u64,
        counts in prop::collection::vec(any::<u64>(), 3),
    ) {
        let layout = Layout::new(["0.5", "1.0"]).unwrap();
        let family = FamilySpec { help: "h\n", unit: "s", ..FamilySpec::new(&name, FamilyType::Histogram) };
        let point = Point::Buckets { sum: value, counts: counts.clone() };
        let mut batch = BatchWriter::new();
        let number = batch.family(&family);
        let layout_number = batch.layout(&layout);
        let labels = [("label", label.as_str())].into_iter();
        batch.define(number, 7, labels, "pid", Some(layout_number), &point, Some(&point.zero()));
        batch.update(index, &point.zero(), &point);
        batch.update(index, &Point::Scalar(0.0), &Point::Scalar(value));
        batch.update(index, &Point::Scalar(0.0), &Point::Timed { value, time: 5.0 });
        batch.retire(index);
        let header = BatchHeader {
            kind: BatchKind::Full { forgotten_seq: seq },
            last: true,
            names_left_out: seq % 2 == 1,
            left_out_before: 0,
            registry_ttl_ms: seq,
        };
        let bytes = batch.finish(header);
        let read = Batch::decode(&bytes).unwrap();
        prop_assert_eq!(read.header(), header);
        let entries = read.entries().collect::<Vec<_>>();
        prop_assert_eq!((entries.len(), read.len()), (7, 7));
        prop_assert_eq!(&entries[0], &Entry::Family(family));
        prop_assert_eq!(&entries[1], &Entry::Layout(layout));
        let Entry::Define(define) = &entries[2] else { panic!("{:?}", entries[2]) };
        prop_assert_eq!(define.labels.collect::<Vec<_>>(), vec![("label", label.as_str())]);
        prop_assert!(define.point.is_same(&point));
        prop_assert_eq!(define.base.as_ref(), Some(&point.zero()));
        let Entry::Buckets { changes, .. } = &entries[3] else { panic!("{:?}", entries[3]) };
        let new = counts.iter().copied().enumerate().filter(|(_, count)| *count > 0);
        prop_assert_eq!(changes.collect::<Vec<_>>(), new.collect::<Vec<_>>());
        prop_assert_eq!(&entries[5], &Entry::Retire { index });
        let Entry::Values(values) = &entries[6] else { panic!("{:?}", entries[6]) };
        let values = values.iter().map(|(index, value)| (index, value.to_bits()));
        prop_assert_eq!(values.collect::<Vec<_>>(), vec![(index, value.to_bits())]);
    }
}

//! Writes the first entries of the corpora of `batch` and `snapshot`: one example of each kind.

use std::fs;

use metrics_model::{
    Batch, BatchHeader, BatchWriter, Declaration, Epoch, Exemplar, FamilySpec, FamilyType, GaugeMode,
    Labels, Layout, Limits, NativeHistogram, Observation, Point, Registry, SourceExemplar,
};

fn batch() -> Vec<u8> {
    let mut batch = BatchWriter::new();
    let layout = batch.layout(&Layout::new(["0.5", "1.0"]).expect("ascending"));
    let mut native = NativeHistogram::empty(3, 0.25);
    (native.positive, native.negative) = (vec![(-3, 2), (9, 7)], vec![(1, 1)]);
    let points = [
        (FamilyType::Counter, Point::Scalar(3.0)),
        (FamilyType::Gauge(GaugeMode::All), Point::Scalar(-1.5)),
        (FamilyType::Gauge(GaugeMode::MostRecent), Point::Timed { value: 2.0, time: 0.5 }),
        (FamilyType::Gauge(GaugeMode::LiveSum), Point::Scalar(4.0)),
        (FamilyType::Histogram, Point::Buckets { sum: 2.5, counts: vec![1, 2, 3] }),
        (FamilyType::Summary, Point::Buckets { sum: 2.5, counts: vec![4] }),
        (FamilyType::NativeHistogram, Point::Native(Box::new(native))),
        (FamilyType::Info, Point::Scalar(1.0)),
    ];
    for (number, (family_type, point)) in points.iter().enumerate() {
        let name = format!("f{number}");
        let spec = FamilySpec { help: "h", unit: "s", ..FamilySpec::new(&name, *family_type) };
        let family = batch.family(&spec);
        let of_histogram = (*family_type == FamilyType::Histogram).then_some(layout);
        let labels = [("a", "b"), ("c", "\"\n")].into_iter();
        batch.define(family, 50, labels, "17", of_histogram, point, None);
        batch.update(number as u32, &point.zero(), point);
    }
    let exemplar = SourceExemplar { labels: vec![("t".into(), "x".into())], value: 0.7, time: 1.0 };
    batch.exemplar(0, &exemplar);
    batch.exemplar(4, &exemplar);
    batch.retire(3);
    batch.finish(BatchHeader { registry_ttl_ms: 9, ..BatchHeader::FULL })
}

fn main() {
    let bytes = batch();
    fs::write("corpus/batch/everything", &bytes).expect("corpus/batch is there");
    let (epoch, limits) = (Epoch(1), Limits::default());
    let mut registry = Registry::new(epoch, limits, 1000);
    let stamp = registry.stamp(2000, &limits, false);
    registry.push(&stamp, b"w", 1, Some(epoch), 500, &Batch::decode(&bytes).expect("a batch"));
    fs::write("corpus/snapshot/pushed", registry.encode_snapshot()).expect("corpus/snapshot is there");
    let spec = FamilySpec::new("n", FamilyType::NativeHistogram);
    registry.declare(&stamp, &spec, &Declaration::default()).expect("a new name");
    let exemplar = Exemplar::new([("t", "x")].into_iter(), 1.0, 0.0).expect("short");
    for (family, value) in [("n", 1.5), ("h", 0.2)] {
        let observation = Observation {
            family,
            labels: &Labels::none(),
            value,
            layout: None,
            exemplar: Some(&exemplar),
            ttl_ms: Some(40),
        };
        registry.observe(&stamp, &observation).expect("an observation");
    }
    registry.del(&stamp, "f0", None);
    let stamp = registry.stamp(9_000, &limits, false);
    registry.leave(&stamp, b"w", 1, Some(epoch));
    fs::write("corpus/snapshot/left", registry.encode_snapshot()).expect("corpus/snapshot is there");
}

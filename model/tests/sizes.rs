//! Limits on the size of everything that clients send.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

use metrics_model::{
    Batch, BatchHeader, BatchWriter, CELLS_OF_BOUND, CELLS_OF_LABEL, Declaration, DecodeError,
    Epoch, Exemplar, FamilySpec, FamilyType, GaugeMode, GaugeWrite, Labels, Layout, Limits,
    MAX_BATCH_BYTES, MAX_BATCH_CELLS, MAX_BOUND_BYTES, MAX_HELP_BYTES, MAX_INDEX,
    MAX_LABEL_NAME_BYTES, MAX_LABEL_SET_BYTES, MAX_LAYOUTS_OF_SERIES, MAX_NATIVE_BUCKETS,
    MAX_PID_BYTES, MAX_UNIT_BYTES, MAX_WRITER_ID_BYTES, NativeHistogram, Observation, Point,
    PushReply, PushStatus, Reason, Registry, Session, SessionOptions, Stamp,
};

use support::TestSource;

mod support;

const EPOCH: Epoch = Epoch(7);

fn registry() -> Registry {
    Registry::new(EPOCH, Limits::default(), 0)
}

fn at(now_ms: u64) -> Stamp {
    Stamp::at(now_ms, EPOCH)
}

fn push(registry: &mut Registry, writer: &str, batch: BatchWriter) -> PushReply {
    let bytes = batch.finish(BatchHeader::FULL);
    let batch = Batch::decode(&bytes).unwrap();
    registry.push(&at(1), writer.as_bytes(), 1, Some(EPOCH), 15_000, &batch)
}

fn rejected(registry: &Registry, reason: Reason) -> u64 {
    let found = registry.rejected().find(|(found, _)| *found == reason);
    found.map_or(0, |(_, count)| count)
}

fn refusal(batch: BatchWriter) -> DecodeError {
    Batch::decode(&batch.finish(BatchHeader::FULL)).unwrap_err()
}

#[test]
fn a_batch_is_refused_by_its_bytes_before_it_is_read() {
    let bytes = vec![0; MAX_BATCH_BYTES + 1];
    assert_eq!(
        Batch::decode(&bytes).unwrap_err().to_string(),
        "number of bytes 1048577 at byte 0, expected at most 1048576"
    );
}

#[test]
fn a_batch_is_refused_by_its_cells() {
    let scalar = Point::Scalar(1.0);
    let texts = (0..1000).map(|bound| bound.to_string()).collect::<Vec<_>>();
    let layout = Layout::new(texts.iter().map(String::as_str)).unwrap();

    let mut layouts = BatchWriter::new();
    for _ in 0..=MAX_BATCH_CELLS / CELLS_OF_BOUND / 1000 {
        layouts.layout(&layout);
    }
    let mut labels = BatchWriter::new();
    let family = labels.family(&FamilySpec::new("f", FamilyType::Counter));
    let names = (0..64).map(|name| name.to_string()).collect::<Vec<_>>();
    for _ in 0..=MAX_BATCH_CELLS / 64 / CELLS_OF_LABEL {
        let pairs = names.iter().map(|name| (name.as_str(), ""));
        labels.define(family, 0, pairs, "", None, &scalar, None);
    }
    let mut points = BatchWriter::new();
    let family = points.family(&FamilySpec::new("f", FamilyType::Histogram));
    let number = points.layout(&layout);
    let point = Point::Buckets {
        sum: 0.0,
        counts: vec![1; 1001],
    };
    for _ in 0..26 {
        let labels = [].into_iter();
        points.define(family, 0, labels, "", Some(number), &point, Some(&point));
    }
    let mut changes = BatchWriter::new();
    for index in 0..66 {
        changes.update(index, &scalar, &point);
    }
    let mut natives = BatchWriter::new();
    let mut histogram = NativeHistogram::empty(8, 0.0);
    histogram.positive = (0..4096).map(|number| (number, 1)).collect();
    let native = Point::Native(Box::new(histogram));
    for index in 0..17 {
        natives.update(index, &scalar, &native);
    }
    for (batch, found) in [
        (layouts, 80_000),
        (labels, 65_792),
        (points, 66_050),
        (changes, 66_066),
        (natives, 69_632),
    ] {
        let refused = refusal(batch).to_string();
        assert!(
            refused.starts_with(&format!("number of cells {found} at byte "))
                && refused.ends_with(", expected at most 65536"),
            "{refused}"
        );
    }
}

#[test]
fn a_text_that_is_too_long_is_left_out_of_a_batch() {
    let mut registry = registry();
    let long = "x".repeat(100_000);
    // Encoded by hand, because the writer of this project cuts its texts.
    let mut bytes = vec![1, 129, 0, 0, 2, 1, 0, 0, 1, b'f'];
    for text in [MAX_HELP_BYTES + 1, MAX_UNIT_BYTES + 1] {
        bytes.extend([text as u8 | 0x80, (text >> 7) as u8]);
        bytes.extend(&long.as_bytes()[..text]);
    }
    bytes.extend([3, 0, 0, 0, 0]);
    bytes.extend(5f64.to_le_bytes());
    bytes.push(0);
    let batch = Batch::decode(&bytes).unwrap();
    let reply = registry.push(&at(1), b"w", 1, Some(EPOCH), 15_000, &batch);
    assert_eq!((reply.left_out, rejected(&registry, Reason::Size)), (1, 1));
    let (families, _) = registry.list_families(b"0").unwrap();
    assert_eq!(
        (families[0].help, families[0].unit, families[0].series),
        ("", "", 1)
    );

    let spec = FamilySpec {
        help: &long,
        unit: &long,
        ..FamilySpec::new("g", FamilyType::Gauge(GaugeMode::All))
    };
    let mut batch = BatchWriter::new();
    let family = batch.family(&spec);
    let scalar = Point::Scalar(1.0);
    let name = &long[..=MAX_LABEL_NAME_BYTES];
    let value = &long[..=MAX_LABEL_SET_BYTES];
    batch.define(
        family,
        0,
        [].into_iter(),
        &long[..=MAX_PID_BYTES],
        None,
        &scalar,
        None,
    );
    batch.define(
        family,
        0,
        [(name, "1")].into_iter(),
        "",
        None,
        &scalar,
        None,
    );
    batch.define(
        family,
        0,
        [("n", value)].into_iter(),
        "",
        None,
        &scalar,
        None,
    );
    batch.define(
        family,
        0,
        [("n", "1")].into_iter(),
        "7",
        None,
        &scalar,
        None,
    );
    assert_eq!(push(&mut registry, "x", batch).left_out, 3);
    for (reason, count) in [(Reason::Size, 2), (Reason::Labels, 2)] {
        assert_eq!(rejected(&registry, reason), count, "{reason:?}");
    }
    let (families, _) = registry.list_families(b"0").unwrap();
    assert_eq!(families[1].help.len(), MAX_HELP_BYTES);
    assert_eq!(families[1].unit.len(), MAX_UNIT_BYTES);
}

#[test]
fn a_command_with_a_text_that_is_too_long_is_refused_with_one_line() {
    let mut registry = registry();
    let long = "x".repeat(100_000);
    let spec = |help, unit| FamilySpec {
        help,
        unit,
        ..FamilySpec::new("f", FamilyType::Counter)
    };
    let none = Declaration::default();
    let help = registry
        .declare(&at(1), &spec(&long, ""), &none)
        .unwrap_err();
    assert_eq!(
        help.to_string(),
        "a help text of 100000 bytes, at most 4096 are allowed"
    );
    let unit = registry
        .declare(&at(1), &spec("", &long), &none)
        .unwrap_err();
    assert_eq!(
        unit.to_string(),
        "a unit of 100000 bytes, at most 128 are allowed"
    );
    let write = GaugeWrite {
        family: "g",
        labels: &Labels::none(),
        value: 1.0,
        mode: None,
        writer: &long.as_bytes()[..=MAX_WRITER_ID_BYTES],
        lease_ms: None,
        ttl_ms: None,
    };
    let writer = registry.set(&at(1), &write).unwrap_err();
    assert_eq!(
        writer.to_string(),
        "a writer id of 257 bytes, at most 256 are allowed"
    );
    assert_eq!(registry.series_count(), 0);

    let labels = Labels::new([(&*long, "1")]).unwrap_err();
    assert_eq!(
        labels.to_string(),
        "100001 bytes of labels, at most 65536 are allowed (metrics.max-label-bytes may allow less)"
    );
    let labels = Labels::new([(&long[..=MAX_LABEL_NAME_BYTES], "1")]).unwrap_err();
    assert_eq!(
        labels.to_string(),
        "a label name of 513 bytes, at most 512 are allowed"
    );
    let exemplar = Exemplar::new([("a", &*long)].into_iter(), 1.0, 0.0).unwrap_err();
    assert_eq!(
        exemplar.to_string(),
        "100001 bytes of exemplar labels, at most 128 characters are allowed (OpenMetrics)"
    );
    let exemplar = Exemplar::new([("trace", "a\0b")].into_iter(), 1.0, 0.0).unwrap_err();
    assert_eq!(
        exemplar.to_string(),
        "the value of exemplar label 'trace' has a NUL, which no scraper reads"
    );
    for bound in ["1".repeat(MAX_BOUND_BYTES + 1), "1".repeat(1_000_000)] {
        let refused = Layout::new([bound.as_str()]).unwrap_err().to_string();
        assert!(
            refused.contains(" bytes, at most 64 are allowed)") && refused.len() < 200,
            "{refused}"
        );
    }
}

#[test]
fn a_series_has_so_many_layouts_side_by_side() {
    let mut registry = registry();
    let observe = |registry: &mut Registry, layout: &Layout| {
        let labels = Labels::none();
        let observation = Observation {
            family: "wait",
            labels: &labels,
            value: 1.0,
            layout: Some(layout),
            exemplar: None,
            ttl_ms: None,
        };
        registry
            .observe(&at(1), &observation)
            .map_err(|error| error.to_string())
    };
    let layout = |bound: usize| Layout::new([&*bound.to_string()]).unwrap();
    for bound in 0..MAX_LAYOUTS_OF_SERIES {
        assert_eq!(observe(&mut registry, &layout(bound)), Ok(()));
    }
    let refused = observe(&mut registry, &layout(99)).unwrap_err();
    assert_eq!(
        refused,
        "family 'wait' has a series with 16 bucket layouts or 4096 buckets, as many as are allowed"
    );
    assert_eq!(observe(&mut registry, &layout(3)), Ok(()));

    let mut registry = self::registry();
    let wide = |from: usize| {
        let texts = (from..from + 1000)
            .map(|n| n.to_string())
            .collect::<Vec<_>>();
        Layout::new(texts.iter().map(String::as_str)).unwrap()
    };
    for from in 0..4 {
        assert_eq!(observe(&mut registry, &wide(from)), Ok(()));
    }
    assert!(observe(&mut registry, &wide(4)).is_err());
    let mut batch = BatchWriter::new();
    let family = batch.family(&FamilySpec::new("wait", FamilyType::Histogram));
    let number = batch.layout(&wide(4));
    let point = Point::Buckets {
        sum: 0.0,
        counts: vec![1; 1001],
    };
    batch.define(family, 0, [].into_iter(), "", Some(number), &point, None);
    assert_eq!(push(&mut registry, "w", batch).left_out, 1);
    assert_eq!(rejected(&registry, Reason::Size), 1);
}

#[test]
fn a_total_of_many_native_histograms_gets_coarser_and_loses_nothing() {
    let mut registry = registry();
    for writer in 0..20 {
        let mut histogram = NativeHistogram::empty(8, 0.0);
        histogram.positive = (0..1000)
            .map(|bucket| (1000 * writer + bucket, 1))
            .collect();
        let mut batch = BatchWriter::new();
        let family = batch.family(&FamilySpec::new("size", FamilyType::NativeHistogram));
        let point = Point::Native(Box::new(histogram));
        batch.define(family, 0, [].into_iter(), "", None, &point, None);
        assert_eq!(push(&mut registry, &writer.to_string(), batch).left_out, 0);
    }
    let shown = registry.get(1, "size", &Labels::none()).unwrap();
    let metrics_model::Aggregate::Buckets { count, buckets, .. } = shown else {
        panic!("{shown:?}");
    };
    assert_eq!(count, 20_000);
    assert!(buckets.len() <= MAX_NATIVE_BUCKETS + 2, "{}", buckets.len());
}

/// Whatever the size of its series, a session makes batches that every registry accepts.
#[test]
fn a_full_state_of_large_series_is_a_run_of_batches_that_are_small_enough() {
    let mut source = TestSource::with_pid("1");
    let large = NativeHistogram {
        schema: 8,
        positive: (0..4096).map(|bucket| (bucket, u64::MAX >> 20)).collect(),
        negative: (0..4096).map(|bucket| (bucket, 1)).collect(),
        ..NativeHistogram::default()
    };
    let label = "x".repeat(30_000);
    for number in 0..60_usize {
        let labels = [("n", &*number.to_string()), ("large", &*label)];
        let native = Point::Native(Box::new(large.clone()));
        source.add("native", FamilyType::NativeHistogram, &labels, native);
        let counts = vec![1; 1001];
        let buckets = Point::Buckets { sum: 1.0, counts };
        let at = source.add("wait", FamilyType::Histogram, &labels, buckets);
        let texts = (number..number + 1000)
            .map(|n| n.to_string())
            .collect::<Vec<_>>();
        source.series[at].layout = Some(Layout::new(texts.iter().map(String::as_str)).unwrap());
    }
    let huge = "x".repeat(3_000_000);
    source.add(
        "huge",
        FamilyType::Counter,
        &[("n", &huge)],
        Point::Scalar(1.0),
    );
    source.add("small", FamilyType::Counter, &[], Point::Scalar(7.0));

    let limits = Limits {
        max_label_bytes: MAX_LABEL_SET_BYTES as u64,
        ..Limits::default()
    };
    let mut registry = Registry::new(EPOCH, limits, 0);
    let options = SessionOptions {
        registry_ttl_ms: 0,
        tombstone_retention_ms: 604_800_000,
    };
    let mut session = Session::new(b"w".to_vec(), options);
    let mut left_out = 0;
    while let Some(push) = session.next(&source, 1) {
        let batch = Batch::decode(&push.batch).unwrap();
        let reply = registry.push(&at(1), b"w", push.seq, push.epoch, 15_000, &batch);
        left_out += reply.left_out;
        session.on_reply(&reply, 1);
    }
    assert_eq!((left_out, rejected(&registry, Reason::Labels)), (1, 1));
    assert_eq!(registry.series_count(), 121);
    let small = registry.get(1, "small", &Labels::none());
    assert_eq!(small, Some(metrics_model::Aggregate::Number(7.0)));
}

#[test]
fn a_writer_that_defines_the_same_series_for_ever_sends_its_full_state() {
    let mut registry = registry();
    let definitions = |kind| {
        let mut batch = BatchWriter::new();
        let family = batch.family(&FamilySpec::new("f", FamilyType::Counter));
        for _ in 0..4_095 {
            batch.define(
                family,
                0,
                [].into_iter(),
                "",
                None,
                &Point::Scalar(1.0),
                None,
            );
        }
        batch.finish(kind)
    };
    let (full, more) = (
        definitions(BatchHeader::FULL),
        definitions(BatchHeader::INCREMENTAL),
    );
    let mut push = |seq, bytes: &[u8]| {
        let batch = Batch::decode(bytes).unwrap();
        registry.push(&at(1), b"w", seq, Some(EPOCH), 15_000, &batch)
    };
    assert_eq!(push(1, &full).status, PushStatus::Ok);
    let refused = (2..1000).find(|seq| push(*seq, &more).status != PushStatus::Ok);
    let refused = refused.unwrap();
    assert_eq!(refused as usize - 1, MAX_INDEX / 4_095 + 1);
    assert_eq!(push(refused, &more).status, PushStatus::Resync);
    assert_eq!(push(refused, &full).status, PushStatus::Ok);
    assert_eq!(push(refused + 1, &more).status, PushStatus::Ok);
    assert!(registry.memory_bytes() < 10 << 20);
}

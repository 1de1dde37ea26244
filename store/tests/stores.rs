//! What a writer wrote, a reader sees; and what nobody wrote harms no reader.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which fail by panicking"
)]

use std::os::fd::{AsFd, OwnedFd};

use metrics_model::{FamilySpec, FamilyType, GaugeMode, Layout, Point, SourceExemplar};
use metrics_store::hidden::REQUESTS_STARTED;
use metrics_store::{
    Identity, Process, PushHeader, Role, StoreCopy, StoreError, StoreFile, StoreReader, WorkerStore,
};
use proptest::prelude::*;

fn identity() -> Identity {
    Identity {
        role: Role::Worker,
        number: 7,
        slot: 3,
        name: "shop:8000:3".to_owned(),
    }
}

fn store() -> (WorkerStore, StoreReader) {
    let file = StoreFile::create(&identity()).unwrap();
    let copy = file.as_fd().try_clone_to_owned().unwrap();
    (file.adopt().unwrap(), StoreReader::open(copy).unwrap())
}

fn counter(name: &str) -> FamilySpec<'_> {
    FamilySpec::new(name, FamilyType::Counter)
}

#[test]
fn a_reader_knows_whose_store_it_is() {
    let file = StoreFile::create(&identity()).unwrap();
    let reader = StoreReader::open(file.as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(*reader.identity(), identity());
    assert_eq!(reader.process(), None);

    let store = file.adopt().unwrap();
    assert_eq!(reader.process(), Some(Process::current()));
    assert_eq!(reader.writer_id(), store.writer_id());
    assert!(reader.writer_id().starts_with("shop:8000:3/"));
}

#[test]
fn every_type_reads_as_it_was_written() {
    let (store, mut reader) = store();
    let spec = FamilySpec {
        help: "Requests.",
        unit: "",
        ..counter("requests")
    };
    let requests = store.family(&spec, None).unwrap();
    let requests = store
        .series(&requests, &[("method", "GET"), ("code", "200")])
        .unwrap();
    requests.add(0, 2.0);
    requests.add(0, 0.5);

    let layout = Layout::new(["0.1", "1.0"]).unwrap();
    let spec = FamilySpec::new("seconds", FamilyType::Histogram);
    let seconds = store.family(&spec, Some(&layout)).unwrap();
    let seconds = store.series(&seconds, &[]).unwrap();
    seconds.observe(layout.bucket_of(0.5), 0.5);
    seconds.observe(layout.bucket_of(3.0), 3.0);

    let spec = FamilySpec::new("latest", FamilyType::Gauge(GaugeMode::MostRecent));
    let latest = store.family(&spec, None).unwrap();
    store.series(&latest, &[]).unwrap().set_timed(4.0, 99.0);

    reader.refresh().unwrap();
    assert_eq!(reader.len(), 3);
    let view = reader.series(0);
    assert_eq!(&*view.family.help, "Requests.");
    let labels = view.labels.iter().map(|(name, value)| (&**name, &**value));
    assert_eq!(
        labels.collect::<Vec<_>>(),
        [("code", "200"), ("method", "GET")]
    );
    assert_eq!(reader.point(0), Point::Scalar(2.5));
    assert_eq!(reader.series(1).family.layout, Some(layout));
    let buckets = Point::Buckets {
        sum: 3.5,
        counts: vec![0, 1, 1],
    };
    assert_eq!(reader.point(1), buckets);
    let timed = Point::Timed {
        value: 4.0,
        time: 99.0,
    };
    assert_eq!(reader.point(2), timed);
}

#[test]
fn the_same_labels_are_the_same_series() {
    let (store, mut reader) = store();
    let family = store.family(&counter("hits"), None).unwrap();
    let one = store.series(&family, &[("a", "1"), ("b", "2")]).unwrap();
    let other = store
        .series(&family, &[("b", "2"), ("c", ""), ("a", "1")])
        .unwrap();
    one.add(0, 1.0);
    other.add(0, 1.0);
    reader.refresh().unwrap();
    assert_eq!((reader.len(), reader.point(0)), (1, Point::Scalar(2.0)));
}

#[test]
fn a_removed_series_may_come_back_and_goes_on() {
    let (store, mut reader) = store();
    let family = store.family(&counter("hits"), None).unwrap();
    let series = store.series(&family, &[]).unwrap();
    series.add(0, 3.0);
    series.retire();
    reader.refresh().unwrap();
    assert!(reader.is_retired(0));

    let again = store.series(&family, &[]).unwrap();
    again.revive();
    again.add(0, 1.0);
    assert!(!reader.is_retired(0));
    assert_eq!(reader.point(0), Point::Scalar(4.0));
}

#[test]
fn a_name_has_one_type() {
    let (store, _) = store();
    store.family(&counter("size"), None).unwrap();
    let spec = FamilySpec::new("size", FamilyType::Gauge(GaugeMode::Max));
    let error = store.family(&spec, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "family 'size' is a counter, it cannot also be a gauge in mode max"
    );
}

#[test]
fn a_store_grows_and_addresses_stay() {
    let (store, mut reader) = store();
    let family = store.family(&counter("hits"), None).unwrap();
    let handles = (0..20_000)
        .map(|i| {
            let user = format!("user-{i}");
            store.series(&family, &[("user", &user)]).unwrap()
        })
        .collect::<Vec<_>>();
    for (i, series) in handles.iter().enumerate() {
        series.add(0, i as f64);
    }
    reader.refresh().unwrap();
    assert_eq!(reader.len(), handles.len());
    for i in 0..handles.len() {
        assert_eq!(&*reader.series(i).labels[0].1, format!("user-{i}"));
        assert_eq!(reader.point(i), Point::Scalar(i as f64));
    }
}

#[test]
fn a_series_too_large_for_a_record_is_refused_and_the_store_goes_on() {
    let (store, mut reader) = store();
    let family = store.family(&counter("hits"), None).unwrap();
    let long = "x".repeat(100_000);
    let error = store.series(&family, &[("path", &long)]).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    store.series(&family, &[("path", "/")]).unwrap();
    reader.refresh().unwrap();
    assert_eq!(reader.len(), 1);
}

#[test]
fn a_successor_goes_on_as_the_same_writer() {
    let file = StoreFile::create(&identity()).unwrap();
    let copy = || file.as_fd().try_clone_to_owned().unwrap();
    let first = StoreFile::from_fd(copy()).adopt().unwrap();
    let family = first.family(&counter("hits"), None).unwrap();
    first.series(&family, &[("a", "1")]).unwrap().add(0, 5.0);

    let second = StoreFile::from_fd(copy()).adopt().unwrap();
    assert_eq!(second.writer_id(), first.writer_id());
    let family = second.family(&counter("hits"), None).unwrap();
    second.series(&family, &[("a", "1")]).unwrap().add(0, 1.0);
    second.series(&family, &[("a", "2")]).unwrap().add(0, 1.0);

    let reader = StoreReader::open(copy()).unwrap();
    assert_eq!(reader.len(), 2);
    assert_eq!(reader.point(0), Point::Scalar(6.0));
}

#[test]
fn what_was_sent_and_not_acknowledged_is_told_apart() {
    let (store, mut reader) = store();
    let family = store.family(&counter("hits"), None).unwrap();
    store.series(&family, &[]).unwrap();
    reader.refresh().unwrap();
    let value = Point::Scalar;
    let header = |seq, acked_seq| PushHeader {
        seq,
        sent_seq: seq,
        acked_seq,
        acked_at_ms: 1,
        epoch: Some(0),
        incarnation: 0,
        sent_full: seq % 2 == 0,
        ..PushHeader::default()
    };
    assert_eq!(
        (reader.acked(0, 0), reader.sent(0, 0)),
        (value(0.0), value(0.0))
    );
    for seq in 1..5 {
        let of = |seq: u64| value(seq as f64);
        reader.set_sent(0, 0, seq, &of(seq));
        // Killed here, the batch was never sent.
        assert_eq!(
            (reader.acked(0, 0), reader.sent(0, 0)),
            (of(seq - 1), of(seq - 1))
        );
        reader.set_push_header(0, &header(seq, seq - 1));
        assert_eq!(
            (reader.acked(0, 0), reader.sent(0, 0)),
            (of(seq - 1), of(seq))
        );
        reader.set_push_header(0, &header(seq, seq));
        assert_eq!((reader.acked(0, 0), reader.sent(0, 0)), (of(seq), of(seq)));
    }
    assert_eq!(reader.push_header(0), header(4, 4));
}

#[test]
fn a_successor_forgets_what_its_predecessor_was_about_to_send() {
    let (store, mut reader) = store();
    let family = store.family(&counter("hits"), None).unwrap();
    store.series(&family, &[]).unwrap();
    reader.refresh().unwrap();
    reader.set_sent(0, 0, 1, &Point::Scalar(1.0));
    let header = PushHeader {
        seq: 1,
        sent_seq: 1,
        acked_seq: 1,
        ..PushHeader::default()
    };
    reader.set_push_header(0, &header);
    reader.set_sent(0, 0, 2, &Point::Scalar(2.0));

    reader.resume_push(|_| 0);
    let header = PushHeader { seq: 2, ..header };
    reader.set_push_header(0, &header);
    assert_eq!(reader.sent(0, 0), Point::Scalar(1.0));
}

#[test]
fn what_a_registry_has_left_out_counts_as_never_sent() {
    let (store, mut reader) = store();
    let family = store.family(&counter("hits"), None).unwrap();
    let [a, b] = ["a", "b"].map(|label| store.series(&family, &[("of", label)]).unwrap());
    a.set(0, 7.0);
    b.set(0, 7.0);
    reader.refresh().unwrap();
    let value = Point::Scalar;
    let header = |seq, acked_seq| PushHeader {
        seq,
        sent_seq: seq,
        acked_seq,
        ..PushHeader::default()
    };
    let push = |seq, number: f64| {
        for series in [0, 1] {
            reader.set_sent(0, series, seq, &value(number));
        }
        reader.set_push_header(0, &header(seq, seq - 1));
    };
    push(1, 1.0);
    reader.set_push_header(0, &header(1, 1));

    push(2, 2.0);
    reader.set_left_out(1, 2);
    // A successor of an exporter that was killed here still finds the series of the batch.
    reader.resume_push(|_| 0);
    assert!(reader.is_in_batch(0, 2) && reader.is_in_batch(1, 2));
    reader.set_push_header(0, &header(2, 2));
    assert_eq!(
        (reader.acked(0, 0), reader.acked(0, 1)),
        (value(2.0), value(1.0))
    );
    assert_eq!(reader.sent(0, 1), value(1.0));

    push(3, 3.0);
    reader.set_push_header(0, &header(3, 3));
    assert_eq!(
        (reader.acked(0, 0), reader.acked(0, 1)),
        (value(3.0), value(3.0))
    );
    assert!(!reader.is_in_batch(1, 2));
}

#[test]
fn a_copy_reads_as_its_store_and_goes_on_with_it() {
    let (store, mut reader) = store();
    let family = store.family(&counter("hits"), None).unwrap();
    let hits = store.series(&family, &[]).unwrap();
    hits.add(0, 3.0);
    reader.refresh().unwrap();
    let bytes = reader.copy(false).to_bytes(1);
    let first = StoreCopy::from_bytes(&bytes).unwrap();
    let mut copied = StoreReader::from_copy(&first).unwrap();
    assert_eq!(copied.writer_id(), store.writer_id());
    assert_eq!(copied.process(), reader.process());
    assert_eq!(copied.point(0), Point::Scalar(3.0));

    // Into the second and third segment.
    for i in 0..2_000 {
        let user = format!("user-{i}");
        store
            .series(&family, &[("user", &user)])
            .unwrap()
            .add(0, 1.0);
    }
    hits.add(0, 1.0);
    assert_eq!(copied.point(0), Point::Scalar(3.0), "it shares no memory");
    reader.refresh().unwrap();
    let bytes = reader.copy(true).to_bytes(2);
    let second = StoreCopy::from_bytes(&bytes).unwrap();
    assert_eq!((second.generation(), second.has_ended()), (2, true));
    copied.update(&second).unwrap();
    assert_eq!((copied.len(), copied.point(0)), (2_001, Point::Scalar(4.0)));
    assert!(
        copied.update(&first).is_err(),
        "an older copy changes nothing"
    );
    assert_eq!((copied.len(), copied.point(0)), (2_001, Point::Scalar(4.0)));
}

#[test]
fn an_empty_store_has_a_copy_and_another_stores_copy_is_refused() {
    let (_, reader) = store();
    let copy = StoreCopy::from_bytes(&reader.copy(false).to_bytes(1)).unwrap();
    let mut copied = StoreReader::from_copy(&copy).unwrap();
    let (_, other) = store();
    assert!(copied.update(&other.copy(false)).is_err());
}

#[test]
fn a_file_of_any_file_system_is_no_store() {
    let (_, reader) = store();
    let bytes = reader.copy(false).to_bytes(1);
    for place in ["/dev/shm", "/tmp", "."] {
        let path = format!("{place}/metrics-store-{}", std::process::id());
        let open = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let Ok(file) = open else { continue };
        std::fs::remove_file(&path).unwrap();
        rustix::io::pwrite(&file, &bytes, 0).unwrap();
        let error = StoreReader::open(file.into()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "damaged store: its memory may shrink at byte 0",
            "{place}"
        );
    }
}

/// A file whose memory may be mapped, with these bytes from word `at` on.
fn damage(file: &StoreFile, at: usize, bytes: &[u8]) -> OwnedFd {
    rustix::io::pwrite(file, bytes, (at * 8) as u64).unwrap();
    file.as_fd().try_clone_to_owned().unwrap()
}

/// Reads everything that a reader offers.
fn read_all(fd: OwnedFd) {
    let Ok(reader) = StoreReader::open(fd) else {
        return;
    };
    for i in 0..reader.len() {
        let view = reader.series(i);
        view.family.layout.as_ref().map(Layout::len);
        let _ = (reader.point(i), reader.base(i), reader.acked(0, i));
        let _ = (reader.sent(0, i), reader.is_retired(i));
    }
    let _ = (reader.writer_id(), reader.process());
}

proptest! {
    #[test]
    fn a_damaged_copy_is_refused_as_a_whole(
        at in 0..4_000_usize, by in 1..=255_u8, cut in 0..4_000_usize, grown in 0..2_usize,
    ) {
        let (store, mut reader) = store();
        let family = store.family(&counter("hits"), None).unwrap();
        store.series(&family, &[("a", "1")]).unwrap().add(0, 3.0);
        reader.refresh().unwrap();
        let whole = reader.copy(false).to_bytes(7);
        let mut damaged = whole.clone();
        let place = at % damaged.len();
        damaged[place] ^= by;
        prop_assert_eq!(StoreCopy::from_bytes(&damaged), None);
        let cut = cut % whole.len();
        prop_assert_eq!(StoreCopy::from_bytes(&whole[..cut]), None);
        let longer = [&whole[..], &vec![0; 1 + grown * 4096]].concat();
        prop_assert_eq!(StoreCopy::from_bytes(&longer), None);
    }

    #[test]
    fn hostile_records_never_panic(
        words in prop::collection::vec(prop_oneof![any::<u64>(), 0..2000_u64, (1..4_u64).prop_flat_map(|kind| (0..40_u64).prop_map(move |n| kind | n << 8))], 1..200),
        used in prop_oneof![0..2000_u64, any::<u64>()],
    ) {
        let file = StoreFile::create(&identity()).unwrap();
        damage(&file, 8, &used.to_ne_bytes());
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        read_all(damage(&file, 512, &bytes));
    }

    #[test]
    fn a_damaged_byte_never_panics(changes in prop::collection::vec((0..700_usize, any::<u64>()), 1..6)) {
        let file = StoreFile::create(&identity()).unwrap();
        let copy = file.as_fd().try_clone_to_owned().unwrap();
        let store = StoreFile::from_fd(copy).adopt().unwrap();
        let layout = Layout::new(["1", "2"]).unwrap();
        let spec = FamilySpec::new("seconds", FamilyType::Histogram);
        let family = store.family(&spec, Some(&layout)).unwrap();
        store.series(&family, &[("a", "b")]).unwrap();
        for (at, word) in changes {
            damage(&file, at, &word.to_ne_bytes());
        }
        read_all(file.as_fd().try_clone_to_owned().unwrap());
    }

    #[test]
    fn a_reader_sees_what_a_writer_wrote(writes in prop::collection::vec((0..4_usize, "[a-c]{0,2}", -1e9..1e9_f64), 0..60)) {
        let (store, mut reader) = store();
        let mut expected = Vec::<((usize, String), f64)>::new();
        for (family, label, by) in writes {
            let name = format!("family_{family}");
            let handle = store.family(&counter(&name), None).unwrap();
            store.series(&handle, &[("label", &label)]).unwrap().add(0, by);
            let key = (family, label);
            match expected.iter_mut().find(|(known, _)| *known == key) {
                Some((_, total)) => *total += by,
                None => expected.push((key, by)),
            }
            reader.refresh().unwrap();
            let seen = (0..reader.len()).map(|i| reader.point(i)).collect::<Vec<_>>();
            let wanted = expected.iter().map(|(_, total)| Point::Scalar(*total)).collect::<Vec<_>>();
            prop_assert_eq!(seen, wanted);
        }
    }
}

#[test]
fn an_exemplar_is_the_last_of_its_cell_also_when_it_needs_more_room() {
    let (writer, mut reader) = store();
    let family = writer.family(&counter("seen"), None).unwrap();
    let series = writer.series(&family, &[]).unwrap();
    let long = "x".repeat(400);
    for (trace, time) in [("first", 1.0), (&long, 2.0), ("third", 3.0)] {
        writer
            .set_exemplar(&series, 0, &[("trace", trace)], 5.0, time)
            .unwrap();
        reader.refresh().unwrap();
        let exemplar = SourceExemplar {
            labels: vec![("trace".into(), trace.into())],
            value: 5.0,
            time,
        };
        assert_eq!(reader.exemplars(0), [exemplar]);
    }
    let again = StoreReader::open(reader.as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(again.exemplars(0), reader.exemplars(0));
}

/// The session of an exporter, as far as a record that is used again needs it.
fn release_returned(reader: &StoreReader) -> usize {
    let returned = (0..reader.len()).filter(|number| reader.is_returned(*number));
    returned.filter(|number| reader.release(*number)).count()
}

fn label_of(reader: &StoreReader, number: usize) -> &str {
    &reader.series(number).labels[0].1
}

#[test]
fn the_record_of_a_removed_gauge_is_used_again_once_the_exporter_has_released_it() {
    let (store, mut reader) = store();
    let gauge = FamilySpec::new("depth", FamilyType::Gauge(GaugeMode::Sum));
    let family = store.family(&gauge, None).unwrap();
    let mut used = Vec::new();
    for round in 0..1000 {
        let label = format!("{round:05}");
        let labels = [("queue", label.as_str())];
        let series = store.series(&family, &labels).unwrap();
        assert!(!series.is_retired());
        assert_eq!(series.get(0), 0.0);
        series.set(0, f64::from(round));
        reader.refresh().unwrap();
        let live = (0..reader.len()).filter(|number| !reader.is_retired(*number));
        let live = live.collect::<Vec<_>>();
        assert_eq!(live.len(), 1);
        assert_eq!(label_of(&reader, live[0]), label);
        assert_eq!(reader.point(live[0]), Point::Scalar(f64::from(round)));
        store.give_back(&family, &labels);
        if round % 3 == 0 {
            release_returned(&reader);
        }
        used.push(store.used_bytes());
    }
    assert!(reader.len() < 6, "{} records", reader.len());
    assert_eq!(used.last(), used.get(10));
}

#[test]
fn a_gauge_that_comes_back_in_time_goes_on_in_its_record() {
    let (store, mut reader) = store();
    let gauge = FamilySpec::new("depth", FamilyType::Gauge(GaugeMode::Sum));
    let family = store.family(&gauge, None).unwrap();
    let labels = [("queue", "a")];
    for round in 0..100 {
        let series = store.series(&family, &labels).unwrap();
        series.revive();
        series.set(0, 1.0);
        reader.refresh().unwrap();
        assert_eq!(reader.len(), 1);
        store.give_back(&family, &labels);
        if round % 2 == 0 {
            assert_eq!(release_returned(&reader), 1);
        }
    }
    // Its record may now be another's, once.
    store.give_back(&family, &labels);
    release_returned(&reader);
    store.series(&family, &[("queue", "b")]).unwrap();
    let back = store.series(&family, &labels).unwrap();
    back.set(0, 7.0);
    reader.refresh().unwrap();
    assert_eq!(reader.len(), 2);
    assert_eq!((label_of(&reader, 0), label_of(&reader, 1)), ("b", "a"));
}

#[test]
fn a_record_with_another_handle_and_that_of_a_counter_are_not_used_again() {
    let (store, mut reader) = store();
    let gauge = FamilySpec::new("depth", FamilyType::Gauge(GaugeMode::Sum));
    for (spec, handles) in [(gauge, 2), (counter("done"), 1)] {
        let family = store.family(&spec, None).unwrap();
        let labels = [("queue", "a")];
        let series = (0..handles).map(|_| store.series(&family, &labels).unwrap());
        let series = series.last().unwrap();
        store.give_back(&family, &labels);
        // As long as another object has it, it is not removed.
        assert_eq!(series.is_retired(), handles == 1);
        reader.refresh().unwrap();
        assert_eq!(release_returned(&reader), 0);
        store.series(&family, &[("queue", "b")]).unwrap();
    }
    reader.refresh().unwrap();
    assert_eq!(reader.len(), 4);
}

#[test]
fn a_reader_that_comes_later_sees_what_is_in_a_record_now() {
    let file = StoreFile::create(&identity()).unwrap();
    let copy = || file.as_fd().try_clone_to_owned().unwrap();
    let (first, second, third) = (copy(), copy(), copy());
    let store = file.adopt().unwrap();
    let gauge = FamilySpec::new("depth", FamilyType::Gauge(GaugeMode::Sum));
    let family = store.family(&gauge, None).unwrap();
    store.series(&family, &[("queue", "a")]).unwrap();
    let reader = StoreReader::open(first).unwrap();
    store.give_back(&family, &[("queue", "a")]);
    assert_eq!(release_returned(&reader), 1);
    // Between the two uses no series has the record.
    let between = StoreReader::open(second).unwrap();
    assert!(between.is_retired(0) && between.series(0).labels.is_empty());
    store.series(&family, &[("queue", "b")]).unwrap();
    let later = StoreReader::open(third).unwrap();
    assert_eq!(label_of(&later, 0), "b");
    assert!(!later.is_retired(0));
    let mut between = between;
    between.refresh().unwrap();
    assert_eq!(label_of(&between, 0), "b");
}

#[test]
fn a_value_that_is_written_before_the_labels_are_read_again_is_not_that_of_the_old_ones() {
    let (store, mut reader) = store();
    let gauge = FamilySpec::new("depth", FamilyType::Gauge(GaugeMode::Sum));
    let family = store.family(&gauge, None).unwrap();
    store
        .series(&family, &[("queue", "a")])
        .unwrap()
        .set(0, 1.0);
    reader.refresh().unwrap();
    store.give_back(&family, &[("queue", "a")]);
    assert_eq!(release_returned(&reader), 1);
    // The reader has looked for what is new; then comes another series, with its value.
    store
        .series(&family, &[("queue", "b")])
        .unwrap()
        .set(0, 2.0);
    assert_eq!(label_of(&reader, 0), "a");
    assert!(reader.is_retired(0));
    reader.refresh().unwrap();
    assert_eq!(label_of(&reader, 0), "b");
    assert!(!reader.is_retired(0));
    assert_eq!(reader.point(0), Point::Scalar(2.0));
}

/// A worker makes and removes gauges whose value says what their label is, while an exporter reads and
/// releases them, and is replaced in any moment.
#[test]
fn no_value_is_taken_for_that_of_another_series_while_records_are_used_again() {
    let file = StoreFile::create(&identity()).unwrap();
    let copy = file.as_fd().try_clone_to_owned().unwrap();
    let open = || StoreReader::open(copy.try_clone().unwrap()).unwrap();
    let mut reader = open();
    let store = file.adopt().unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let gauge = FamilySpec::new("depth", FamilyType::Gauge(GaugeMode::Sum));
            let family = store.family(&gauge, None).unwrap();
            let mut live = std::collections::VecDeque::new();
            for round in 1.. {
                let label = round.to_string();
                let series = store.series(&family, &[("queue", &label)]).unwrap();
                series.set(0, f64::from(round));
                live.push_back(label);
                if live.len() > 5 {
                    let label = live.pop_front().unwrap();
                    store.give_back(&family, &[("queue", &label)]);
                }
                if round % 16 == 0 {
                    std::thread::sleep(std::time::Duration::from_micros(20));
                }
                if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        });
        let until = std::time::Instant::now() + std::time::Duration::from_millis(500);
        let (mut turns, mut seen, mut used) = (0_u64, 0_u64, 0);
        while std::time::Instant::now() < until {
            turns += 1;
            if turns.is_multiple_of(7) {
                reader = open();
            }
            reader.refresh().unwrap();
            for number in 0..reader.len() {
                if reader.is_retired(number) {
                    continue;
                }
                let label: f64 = label_of(&reader, number).parse().unwrap();
                let Point::Scalar(value) = reader.point(number) else {
                    unreachable!()
                };
                // It is 0 between its record and its value.
                assert!(value == label || value == 0.0, "{value} of {label}");
                seen += 1;
            }
            used += release_returned(&reader);
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(
            seen > 100 && used > 100,
            "{turns} turns, {seen} seen, {used} released"
        );
    });
}

#[test]
fn only_families_for_the_exporter_are_hidden_and_those_of_older_stores_stay_hidden() {
    const AT_HIDES_BY: usize = 54;
    let file = StoreFile::create(&identity()).unwrap();
    let (fd, old) = (file.duplicate_fd().unwrap(), file.duplicate().unwrap());
    let store = file.adopt().unwrap();
    let names = [REQUESTS_STARTED, "__requests_started", "__mine", "mine"];
    for name in names {
        store.family(&counter(name), None).unwrap();
    }
    let families = |fd| {
        let reader = StoreReader::open(fd).unwrap();
        let families = reader.families().iter();
        let found = families.map(|family| (family.name.to_string(), family.is_hidden()));
        found.collect::<Vec<_>>()
    };
    let is_hidden = [true, false, false, false];
    let expected = names.map(String::from).into_iter().zip(is_hidden);
    assert_eq!(families(fd), expected.collect::<Vec<_>>());

    // An older version has written no such word, and hid what begins with two underscores.
    let fd = damage(&old, AT_HIDES_BY, &0_u64.to_ne_bytes());
    let names = [REQUESTS_STARTED, REQUESTS_STARTED, "\0mine", "mine"];
    let is_hidden = [true, true, true, false];
    let expected = names.map(String::from).into_iter().zip(is_hidden);
    assert_eq!(families(fd), expected.collect::<Vec<_>>());
}

//! The behaviour of a registry, shown in pages.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Aggregate, Batch, Declaration, Epoch, FamilySpec, FamilyType, Format, GaugeMode, GaugeWrite,
    Labels, Layout, Limits, Point, PushStatus, Registry, RegistryError, Session, SessionOptions,
    Stamp,
};
use support::{TestSource, labels, observation, page, pages};

const EPOCH: Epoch = Epoch(7);
const LEASE_MS: u64 = 15_000;
const OPTIONS: SessionOptions = SessionOptions {
    registry_ttl_ms: 0,
    tombstone_retention_ms: 604_800_000,
};

fn registry() -> Registry {
    Registry::new(EPOCH, Limits::default(), 0)
}

fn at(now_ms: u64) -> Stamp {
    Stamp::at(now_ms, EPOCH)
}

/// Sends everything that is new; returns the last answer.
fn flush(registry: &mut Registry, session: &mut Session, source: &TestSource, now_ms: u64) {
    while let Some(push) = session.next(source, now_ms) {
        let batch = Batch::decode(&push.batch).unwrap();
        let writer = session.writer().to_vec();
        let reply = registry.push(&at(now_ms), &writer, push.seq, push.epoch, LEASE_MS, &batch);
        session.on_reply(&reply, now_ms);
    }
}

fn leave(registry: &mut Registry, session: &mut Session, now_ms: u64) -> PushStatus {
    let (seq, epoch) = session.leave().unwrap();
    let writer = session.writer().to_vec();
    let reply = registry.leave(&at(now_ms), &writer, seq, epoch);
    session.on_leave_reply(&reply);
    reply.status
}

fn session(id: &str) -> Session {
    Session::new(id.as_bytes().to_vec(), OPTIONS)
}

#[test]
fn direct_commands_make_a_page() {
    let mut registry = registry();
    let help = FamilySpec {
        help: "Requests\nby \\ code.",
        ..FamilySpec::new("http_requests_total", FamilyType::Counter)
    };
    registry
        .declare(&at(1), &help, &Declaration::default())
        .unwrap();
    registry
        .inc(
            &at(2),
            "http_requests",
            &labels(&[("code", "200")]),
            2.0,
            None,
        )
        .unwrap();
    registry
        .inc(
            &at(2),
            "http_requests_total",
            &labels(&[("code", "500")]),
            1e6,
            None,
        )
        .unwrap();
    let none = Labels::none();
    let write = GaugeWrite {
        family: "temp",
        labels: &none,
        value: 2.5,
        mode: None,
        writer: b"",
        lease_ms: None,
        ttl_ms: None,
    };
    registry.set(&at(3), &write).unwrap();
    assert_eq!(
        registry.add(
            &at(3),
            &GaugeWrite {
                value: -1.0,
                ..write
            }
        ),
        Ok(1.5)
    );
    let layout = Layout::new(["0.1", "1.0", "+Inf"]).unwrap();
    for value in [0.05, 0.1, 0.5, 7.0] {
        registry
            .observe(&at(4), &observation("lat", &none, value, Some(&layout)))
            .unwrap();
    }
    insta::assert_snapshot!(page(&registry, 5), @r#"
    # HELP http_requests_total Requests\nby \\ code.
    # TYPE http_requests_total counter
    http_requests_total{code="200"} 2
    http_requests_total{code="500"} 1e+06
    # TYPE lat histogram
    lat_bucket{le="0.1"} 2
    lat_bucket{le="1.0"} 3
    lat_bucket{le="+Inf"} 4
    lat_sum 7.65
    lat_count 4
    # TYPE temp gauge
    temp 1.5
    "#);
    let (openmetrics, _) = pages(&registry, 5, 100, Format::OpenMetrics);
    assert!(openmetrics.starts_with("# HELP http_requests Requests\\nby \\\\ code.\n"));
    assert!(openmetrics.ends_with("temp 1.5\n# EOF\n"));
}

#[test]
fn pages_join_to_the_whole() {
    let mut registry = registry();
    for number in 0..100 {
        let labels = labels(&[("n", &number.to_string())]);
        registry.inc(&at(1), "a", &labels, 1.0, None).unwrap();
        registry
            .observe(&at(1), &observation("b", &labels, 0.3, None))
            .unwrap();
    }
    for count in [1, 7, 1000] {
        let (joined, parts) = pages(&registry, 2, count, Format::Text);
        assert_eq!(joined, page(&registry, 2));
        assert!(parts >= 200 / count);
    }
}

#[test]
fn start_times_are_shown_where_the_format_has_a_place_for_them() {
    let mut registry = registry();
    registry
        .inc(&at(1500), "a", &labels(&[("n", "1")]), 1.0, None)
        .unwrap();
    registry
        .inc(&at(2500), "a", &labels(&[("n", "2")]), 1.0, None)
        .unwrap();
    let shown = |format, cursor: Option<&str>, count| {
        let request = metrics_model::ExposeRequest {
            format,
            created: true,
            cursor: cursor.map(|cursor| cursor.as_bytes().to_vec()),
            count,
            ..Default::default()
        };
        let page = registry.expose(3000, &request).unwrap();
        (String::from_utf8(page.body).unwrap(), page.next)
    };
    let (whole, _) = shown(Format::Text, None, None);
    insta::assert_snapshot!(whole, @r#"
    # TYPE a_total counter
    a_total{n="1"} 1
    a_total{n="2"} 1
    # TYPE a_created gauge
    a_created{n="1"} 1.5
    a_created{n="2"} 2.5
    "#);
    let (mut joined, mut cursor) = (String::new(), Some("0".to_owned()));
    while let Some(at) = cursor {
        let (part, next) = shown(Format::Text, Some(&at), Some(1));
        joined.push_str(&part);
        cursor = next;
    }
    assert_eq!(joined, whole);
    let (openmetrics, _) = shown(Format::OpenMetrics, None, None);
    insta::assert_snapshot!(openmetrics, @r#"
    # TYPE a counter
    a_total{n="1"} 1
    a_created{n="1"} 1.500
    a_total{n="2"} 1
    a_created{n="2"} 2.500
    # EOF
    "#);
}

#[test]
fn series_created_between_pages_are_left_out() {
    let mut registry = registry();
    for name in ["a", "c"] {
        registry
            .inc(&at(1), name, &Labels::none(), 1.0, None)
            .unwrap();
    }
    let request = metrics_model::ExposeRequest {
        cursor: Some(b"0".to_vec()),
        count: Some(1),
        ..Default::default()
    };
    let first = registry.expose(2, &request).unwrap();
    registry
        .inc(&at(3), "b", &Labels::none(), 1.0, None)
        .unwrap();
    let rest = metrics_model::ExposeRequest {
        cursor: first.next.map(String::into_bytes),
        count: None,
        ..request
    };
    let rest = registry.expose(4, &rest).unwrap();
    let text = String::from_utf8([first.body, rest.body].concat()).unwrap();
    assert_eq!(
        text,
        "# TYPE a_total counter\na_total 1\n# TYPE c_total counter\nc_total 1\n"
    );
}

#[test]
fn errors_say_what_is_wrong_and_change_nothing() {
    let mut registry = registry();
    registry
        .inc(&at(1), "foo", &Labels::none(), 1.0, None)
        .unwrap();
    let before = registry.encode_snapshot();
    let declare = |registry: &mut Registry, name, family_type| {
        let spec = FamilySpec::new(name, family_type);
        registry
            .declare(&at(9), &spec, &Declaration::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        declare(&mut registry, "foo", FamilyType::Gauge(GaugeMode::Max)),
        "family 'foo' is a counter, not a gauge in mode max"
    );
    assert_eq!(
        declare(&mut registry, "foo_created", FamilyType::Summary),
        "family 'foo_created' would share the sample name 'foo_created' with family 'foo'"
    );
    assert_eq!(
        registry.inc(&at(9), "foo", &Labels::none(), -1.0, None),
        Err(RegistryError::CounterValue(-1.0))
    );
    assert_eq!(registry.encode_snapshot(), before);
}

#[test]
fn every_gauge_mode_means_what_it_does_in_prometheus_client() {
    // Two writers set 3 and then 5; then the first leaves; then the other's lease ends.
    let stories = [
        (GaugeMode::All, ["g{pid=\"1\"} 3\ng{pid=\"2\"} 5\n"; 3]),
        (GaugeMode::Min, ["g 3\n"; 3]),
        (GaugeMode::Max, ["g 5\n"; 3]),
        (GaugeMode::Sum, ["g 8\n"; 3]),
        (GaugeMode::MostRecent, ["g 5\n"; 3]),
        (
            GaugeMode::LiveAll,
            ["g{pid=\"1\"} 3\ng{pid=\"2\"} 5\n", "g{pid=\"2\"} 5\n", ""],
        ),
        (GaugeMode::LiveMin, ["g 3\n", "g 5\n", ""]),
        (GaugeMode::LiveMax, ["g 5\n", "g 5\n", ""]),
        (GaugeMode::LiveSum, ["g 8\n", "g 5\n", ""]),
        (GaugeMode::LiveMostRecent, ["g 5\n", "g 5\n", ""]),
    ];
    for (mode, story) in stories {
        let mut registry = registry();
        let mut sessions = [session("writer 1"), session("writer 2")];
        for (number, (session, value)) in sessions.iter_mut().zip([3.0, 5.0]).enumerate() {
            let mut source = TestSource::with_pid(&(number + 1).to_string());
            let timed = Point::Timed { value, time: value };
            let point = if mode.is_timed() {
                timed
            } else {
                Point::Scalar(value)
            };
            source.add("g", FamilyType::Gauge(mode), &[], point);
            flush(&mut registry, session, &source, 1000);
        }
        let shown = |registry: &Registry, now| page(registry, now).replace("# TYPE g gauge\n", "");
        let mut seen = vec![shown(&registry, 1001)];
        assert_eq!(leave(&mut registry, &mut sessions[0], 1500), PushStatus::Ok);
        seen.push(shown(&registry, 1501));
        seen.push(shown(&registry, 1000 + LEASE_MS));
        for text in &mut seen {
            // Writers that have left may come after writers that have not.
            let mut lines = text.split_inclusive('\n').collect::<Vec<_>>();
            lines.sort_unstable();
            *text = lines.concat();
        }
        assert_eq!(seen, story, "{mode:?}");
    }
}

#[test]
fn a_writer_that_leaves_keeps_its_counts() {
    let mut registry = registry();
    let (mut session, mut source) = (session("w"), TestSource::default());
    source.add("c", FamilyType::Counter, &[], Point::Scalar(17.0));
    let counts = Point::Buckets {
        sum: 2.5,
        counts: vec![1, 0, 2],
    };
    source.add("h", FamilyType::Histogram, &[("a", "b")], counts);
    source.add(
        "s",
        FamilyType::Summary,
        &[],
        Point::Buckets {
            sum: 4.0,
            counts: vec![2],
        },
    );
    flush(&mut registry, &mut session, &source, 1);
    assert_eq!(leave(&mut registry, &mut session, 2), PushStatus::Ok);
    insta::assert_snapshot!(page(&registry, 1_000_000), @r#"
    # TYPE c_total counter
    c_total 17
    # TYPE h histogram
    h_bucket{a="b",le="1"} 1
    h_bucket{a="b",le="2"} 1
    h_bucket{a="b",le="+Inf"} 3
    h_sum{a="b"} 2.5
    h_count{a="b"} 3
    # TYPE s summary
    s_sum 4
    s_count 2
    "#);
}

#[test]
fn a_retired_gauge_is_gone_at_once_and_a_retired_counter_goes_on() {
    let mut registry = registry();
    let (mut session, mut source) = (session("w"), TestSource::default());
    let counter = source.add("c", FamilyType::Counter, &[], Point::Scalar(3.0));
    let gauge = source.add(
        "g",
        FamilyType::Gauge(GaugeMode::Sum),
        &[],
        Point::Scalar(4.0),
    );
    flush(&mut registry, &mut session, &source, 1);
    source.series[counter].is_retired = true;
    source.series[gauge].is_retired = true;
    flush(&mut registry, &mut session, &source, 2);
    assert_eq!(page(&registry, 3), "# TYPE c_total counter\nc_total 3\n");
    source.series[counter].is_retired = false;
    source.set(counter, 5.0);
    flush(&mut registry, &mut session, &source, 4);
    assert_eq!(page(&registry, 5), "# TYPE c_total counter\nc_total 5\n");
}

#[test]
fn a_series_expires_when_nobody_owns_it_and_its_ttl_has_passed() {
    let mut registry = registry();
    let (mut session, mut source) = (session("w"), TestSource::default());
    let number = source.add(
        "c",
        FamilyType::Counter,
        &[("worker_id", "0")],
        Point::Scalar(3.0),
    );
    source.series[number].ttl_ms = 1000;
    flush(&mut registry, &mut session, &source, 0);
    // Owned while the lease runs, whatever the TTL; then shown for the TTL.
    let shown = "# TYPE c_total counter\nc_total{worker_id=\"0\"} 3\n";
    assert_eq!(page(&registry, LEASE_MS + 999), shown);
    assert_eq!(page(&registry, LEASE_MS + 1000), "");
    // The writer comes back: its earlier counts are not counted again.
    source.set(number, 5.0);
    flush(&mut registry, &mut session, &source, LEASE_MS + 2000);
    assert_eq!(page(&registry, LEASE_MS + 2000), shown.replace('3', "2"));
}

#[test]
fn what_was_deleted_is_not_counted_again() {
    let mut registry = registry();
    let (mut session, mut source) = (session("w"), TestSource::default());
    for number in 0..200 {
        let label = number.to_string();
        source.add(
            "c",
            FamilyType::Counter,
            &[("n", &label)],
            Point::Scalar(3.0),
        );
    }
    flush(&mut registry, &mut session, &source, 1);
    assert_eq!(registry.del(&at(2), "c", Some(&labels(&[("n", "7")]))), 1);
    assert_eq!(registry.del(&at(2), "c", Some(&labels(&[("n", "7")]))), 0);
    assert_eq!(registry.del(&at(2), "c_total", None), 199);
    assert_eq!(page(&registry, 3), "");
    source.set(7, 4.0);
    source.set(150, 5.0);
    flush(&mut registry, &mut session, &source, 4);
    let shown = "# TYPE c_total counter\nc_total{n=\"7\"} 1\nc_total{n=\"150\"} 2\n";
    assert_eq!(page(&registry, 5), shown);
}

#[test]
fn a_deleted_family_may_be_declared_anew_as_another_type() {
    let mut registry = registry();
    let (mut session, mut source) = (session("w"), TestSource::default());
    source.add("x", FamilyType::Counter, &[], Point::Scalar(3.0));
    flush(&mut registry, &mut session, &source, 1);
    registry.del(&at(2), "x", None);
    let none = Labels::none();
    let write = GaugeWrite {
        family: "x",
        labels: &none,
        value: 9.0,
        mode: None,
        writer: b"",
        lease_ms: None,
        ttl_ms: None,
    };
    registry.set(&at(3), &write).unwrap();
    // The writer still means the counter: its values are left out, and the reply tells it.
    source.set(0, 4.0);
    flush(&mut registry, &mut session, &source, 4);
    let text = page(&registry, 5);
    assert!(text.starts_with("# TYPE x gauge\nx 9\n"), "{text}");
    assert!(
        text.ends_with("metrics_rejected_samples_total{reason=\"conflict\"} 1\n"),
        "{text}"
    );
}

#[test]
fn layouts_that_differ_are_shown_on_the_bounds_they_share() {
    let mut registry = registry();
    let none = Labels::none();
    for (bounds, value) in [
        (["1", "2", "4"], 3.0),
        (["1", "3", "4"], 2.5),
        (["0.5", "1", "4"], 0.7),
    ] {
        let layout = Layout::new(bounds).unwrap();
        registry
            .observe(&at(1), &observation("h", &none, value, Some(&layout)))
            .unwrap();
    }
    let expected = Aggregate::Buckets {
        count: 3,
        sum: 6.2,
        buckets: vec![("1".into(), 1), ("4".into(), 3), ("+Inf".into(), 3)],
    };
    assert_eq!(registry.get(2, "h", &none), Some(expected));
}

#[test]
fn limits_leave_out_what_does_not_fit_and_say_so() {
    let limits = Limits {
        max_series: 2,
        max_label_bytes: 10,
        ..Limits::default()
    };
    let mut registry = Registry::new(EPOCH, limits, 0);
    let (mut session, mut source) = (session("w"), TestSource::default());
    for value in ["1", "2", "3", "a value that is too long"] {
        source.add(
            "c",
            FamilyType::Counter,
            &[("n", value)],
            Point::Scalar(1.0),
        );
    }
    flush(&mut registry, &mut session, &source, 1);
    let text = page(&registry, 2);
    insta::assert_snapshot!(text, @r#"
    # TYPE c_total counter
    c_total{n="1"} 1
    c_total{n="2"} 1
    # HELP metrics_rejected_samples_total Entries of batches that the registry left out, by reason.
    # TYPE metrics_rejected_samples_total counter
    metrics_rejected_samples_total{reason="max_series"} 1
    metrics_rejected_samples_total{reason="max_label_bytes"} 1
    "#);
    // A direct command returns the error to its sender.
    let error = registry
        .inc(&at(3), "c", &labels(&[("n", "4")]), 1.0, None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the registry has 2 series, as many as metrics.max-series allows"
    );
}

#[test]
fn time_and_state_stand_still_for_what_is_not_applied() {
    let mut registry = registry();
    let (mut session, mut source) = (session("w"), TestSource::default());
    source.add("c", FamilyType::Counter, &[], Point::Scalar(1.0));
    flush(&mut registry, &mut session, &source, 1);
    let before = registry.encode_snapshot();
    let push = session.heartbeat(&source, 2).unwrap();
    let batch = Batch::decode(&push.batch).unwrap();
    let stamp = at(50_000_000);
    for (seq, epoch, status) in [
        (push.seq, None, PushStatus::Resync),
        (push.seq, Some(Epoch(1)), PushStatus::Resync),
        (push.seq - 1, push.epoch, PushStatus::Dup),
        (push.seq + 1, push.epoch, PushStatus::Forgotten),
    ] {
        let reply = registry.push(&stamp, b"w", seq, epoch, LEASE_MS, &batch);
        assert_eq!(reply.status, status);
        assert_eq!(registry.encode_snapshot(), before);
    }
}

//! One registry in every format, whole and in pages.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Declaration, Epoch, Escaping, Exemplar, ExposeRequest, FamilySpec, FamilyType, Format,
    GaugeMode, GaugeWrite, Labels, Layout, Limits, Observation, Registry, Stamp,
};
use support::{labels, observation};

const EPOCH: Epoch = Epoch(7);

fn at(now_ms: u64) -> Stamp {
    Stamp::at(now_ms, EPOCH)
}

/// Makes a registry with a family of every type.
fn registry() -> Registry {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    let declare = |registry: &mut Registry, spec: FamilySpec<'_>| {
        registry
            .declare(&at(1000), &spec, &Declaration::default())
            .unwrap();
    };
    for (name, family_type, help, unit) in [
        (
            "calls",
            FamilyType::Counter,
            "Calls \"by\" path.\nAll of them",
            "",
        ),
        ("build", FamilyType::Info, "", ""),
        ("mode", FamilyType::StateSet, "", ""),
        ("wait_seconds", FamilyType::Histogram, "", "seconds"),
        ("size", FamilyType::NativeHistogram, "", ""),
        ("load", FamilyType::Summary, "", ""),
    ] {
        declare(
            &mut registry,
            FamilySpec {
                help,
                unit,
                ..FamilySpec::new(name, family_type)
            },
        );
    }
    let none = Labels::none();
    let path = labels(&[("path", "/a\"b")]);
    let trace = Exemplar::new([("trace", "x")].into_iter(), 2.0, 0.0).unwrap();
    registry
        .inc_with(&at(2500), "calls", &path, 2.0, Some(&trace), None)
        .unwrap();
    let set = |registry: &mut Registry, family, labels: &Labels, value, mode, writer| {
        let write = GaugeWrite {
            family,
            labels,
            value,
            mode,
            writer,
            lease_ms: None,
            ttl_ms: None,
        };
        registry.set(&at(2500), &write).unwrap();
    };
    set(
        &mut registry,
        "build",
        &labels(&[("version", "1")]),
        1.0,
        None,
        b"",
    );
    set(
        &mut registry,
        "mode",
        &labels(&[("mode", "fast")]),
        1.0,
        None,
        b"",
    );
    set(
        &mut registry,
        "busy",
        &none,
        3.0,
        Some(GaugeMode::All),
        b"w1",
    );
    set(
        &mut registry,
        "busy",
        &none,
        4.5,
        Some(GaugeMode::All),
        b"w2",
    );
    let layout = Layout::new(["0.5", "1"]).unwrap();
    for value in [0.25, 0.75, 7.0] {
        let exemplar = (value == 0.75).then_some(&trace);
        let observation = Observation {
            exemplar,
            ..observation("wait_seconds", &none, value, Some(&layout))
        };
        registry.observe(&at(2500), &observation).unwrap();
    }
    for value in [0.0, 1.0, 2.0, -1.0] {
        registry
            .observe(&at(2500), &observation("size", &none, value, None))
            .unwrap();
        registry
            .observe(&at(2500), &observation("load", &none, value.abs(), None))
            .unwrap();
    }
    registry
}

fn page(registry: &Registry, format: Format, escaping: Escaping) -> Vec<u8> {
    let request = ExposeRequest {
        format,
        escaping,
        ..ExposeRequest::default()
    };
    registry.expose(3000, &request).unwrap().body
}

fn text(format: Format) -> String {
    String::from_utf8(page(&registry(), format, Escaping::Underscores)).unwrap()
}

#[test]
fn text_0_0_4_shows_everything_in_the_types_it_has() {
    assert_eq!(
        text(Format::Text),
        r#"# TYPE build_info gauge
build_info{version="1"} 1
# TYPE busy gauge
busy{pid="w1"} 3
busy{pid="w2"} 4.5
# HELP calls_total Calls "by" path.\nAll of them
# TYPE calls_total counter
calls_total{path="/a\"b"} 2
# TYPE load summary
load_sum 4
load_count 4
# TYPE mode gauge
mode{mode="fast"} 1
# TYPE size histogram
size_bucket{le="+Inf"} 4
size_sum 2
size_count 4
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.5"} 1
wait_seconds_bucket{le="1"} 2
wait_seconds_bucket{le="+Inf"} 3
wait_seconds_sum 8
wait_seconds_count 3
"#
    );
    assert_eq!(text(Format::Text1), text(Format::Text));
}

#[test]
fn open_metrics_1_has_types_units_and_exemplars() {
    assert_eq!(
        text(Format::OpenMetrics),
        r#"# TYPE build info
build_info{version="1"} 1
# TYPE busy gauge
busy{pid="w1"} 3
busy{pid="w2"} 4.5
# HELP calls Calls \"by\" path.\nAll of them
# TYPE calls counter
calls_total{path="/a\"b"} 2 # {trace="x"} 2 2.500
# TYPE load summary
load_sum 4
load_count 4
# TYPE mode stateset
mode{mode="fast"} 1
# TYPE size histogram
size_bucket{le="+Inf"} 4
size_sum 2
size_count 4
# TYPE wait_seconds histogram
# UNIT wait_seconds seconds
wait_seconds_bucket{le="0.5"} 1
wait_seconds_bucket{le="1.0"} 2
wait_seconds_bucket{le="+Inf"} 3 # {trace="x"} 2 2.500
wait_seconds_sum 8
wait_seconds_count 3
# EOF
"#
    );
}

#[test]
fn open_metrics_2_has_composite_values_and_start_times() {
    assert_eq!(
        text(Format::OpenMetrics2),
        r#"# TYPE build_info info
build_info{version="1"} 1
# TYPE busy gauge
busy{pid="w1"} 3
busy{pid="w2"} 4.5
# TYPE calls_total counter
# HELP calls_total Calls \"by\" path.\nAll of them
calls_total{path="/a\"b"} 2 st@2.500 # {trace="x"} 2 2.500
# TYPE load summary
load {count:4,sum:4,quantile:[]} st@2.500
# TYPE mode stateset
mode{mode="fast"} 1
# TYPE size histogram
size {count:4,sum:2,schema:3,zero_threshold:2.938735877055719e-39,zero_count:1,negative_spans:[0:1],negative_buckets:[1],positive_spans:[0:1,7:1],positive_buckets:[1,1]} st@2.500
# TYPE wait_seconds histogram
# UNIT wait_seconds seconds
wait_seconds {count:3,sum:8,bucket:[0.5:1,1:2,+Inf:3]} st@2.500 # {trace="x"} 2 2.500
# EOF
"#
    );
}

#[test]
fn names_of_utf_8_are_quoted_or_escaped() {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    let labels = labels(&[("http.method", "GET"), ("a_b", "1")]);
    registry
        .inc(&at(1), "my.calls", &labels, 1.0, None)
        .unwrap();
    let shown = |format, escaping| String::from_utf8(page(&registry, format, escaping)).unwrap();
    for (escaping, expected) in [
        (
            Escaping::Underscores,
            "# TYPE my_calls_total counter\nmy_calls_total{http_method=\"GET\",a_b=\"1\"} 1\n",
        ),
        (
            Escaping::Dots,
            "# TYPE my_dot_calls__total counter\nmy_dot_calls__total{http_dot_method=\"GET\",a__b=\"1\"} 1\n",
        ),
        (
            Escaping::Values,
            "# TYPE U__my_2e_calls__total counter\nU__my_2e_calls__total{U__http_2e_method=\"GET\",a_b=\"1\"} 1\n",
        ),
        (
            Escaping::AllowUtf8,
            "# TYPE \"my.calls_total\" counter\n{\"my.calls_total\",\"http.method\"=\"GET\",a_b=\"1\"} 1\n",
        ),
    ] {
        assert_eq!(shown(Format::Text1, escaping), expected, "{escaping:?}");
    }
    assert_eq!(
        shown(Format::OpenMetrics2, Escaping::AllowUtf8),
        "# TYPE \"my.calls_total\" counter\n{\"my.calls_total\",\"http.method\"=\"GET\",a_b=\"1\"} 1 st@0.001\n# EOF\n"
    );
    let request = ExposeRequest {
        escaping: Escaping::AllowUtf8,
        ..ExposeRequest::default()
    };
    assert_eq!(
        registry.expose(3, &request).unwrap_err().to_string(),
        "text 0.0.4 has no quoted names: ESCAPING ALLOWUTF8 goes with the other formats"
    );
}

#[test]
fn a_unit_is_shown_only_where_it_is_the_ending_of_the_name_as_written() {
    let unit_of = |name: &str, family_type, unit: &str, format, escaping| {
        let mut registry = Registry::new(EPOCH, Limits::default(), 0);
        let stamp = Stamp::at(1, EPOCH);
        let spec = FamilySpec {
            unit,
            ..FamilySpec::new(name, family_type)
        };
        registry
            .declare(&stamp, &spec, &Declaration::default())
            .unwrap();
        let labels = [(name.trim_end_matches("_info"), "1")];
        let labels = Labels::new(labels).unwrap();
        if family_type == FamilyType::Counter {
            registry.inc(&stamp, name, &labels, 1.0, None).unwrap();
        } else {
            let write = GaugeWrite {
                family: name.trim_end_matches("_info"),
                labels: &labels,
                value: 1.0,
                mode: None,
                writer: b"",
                lease_ms: None,
                ttl_ms: None,
            };
            registry.set(&stamp, &write).unwrap();
        }
        let request = ExposeRequest {
            format,
            escaping,
            ..ExposeRequest::default()
        };
        let body = registry.expose(2, &request).unwrap().body;
        let field = [&[5 << 3 | 2, unit.len() as u8], unit.as_bytes()].concat();
        match format {
            Format::Protobuf => body.windows(field.len()).any(|part| part == field),
            _ => String::from_utf8(body).unwrap().contains("# UNIT"),
        }
    };
    let gauge = FamilyType::Gauge(GaugeMode::Sum);
    let units = [
        ("wait_seconds", gauge, "seconds", true),
        ("wait_seconds_total", FamilyType::Counter, "seconds", true),
        ("wait", gauge, "seconds", false),
        ("waitseconds", gauge, "seconds", false),
        ("wait_a.b", gauge, "a.b", false),
        ("wait_a b", gauge, "a b", false),
        ("state_seconds", FamilyType::StateSet, "seconds", false),
        ("build_seconds_info", FamilyType::Info, "seconds", false),
    ];
    for (name, family_type, unit, expected) in units {
        for format in [Format::OpenMetrics, Format::OpenMetrics2, Format::Protobuf] {
            for escaping in [Escaping::Underscores, Escaping::Values, Escaping::AllowUtf8] {
                let shown = unit_of(name, family_type, unit, format, escaping);
                assert_eq!(shown, expected, "{name} {unit} in {format:?}, {escaping:?}");
            }
        }
    }
}

#[test]
fn open_metrics_1_has_no_sum_that_is_negative_or_nan() {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    let none = Labels::none();
    let spec = FamilySpec::new("s", FamilyType::Summary);
    let declared = registry.declare(&at(1), &spec, &Declaration::default());
    declared.unwrap();
    let layout = Layout::new(["-1", "1"]).unwrap();
    for (name, value, layout) in [
        ("bounds", 3.0, Some(&layout)),
        ("h", -1.0, None),
        ("nan", f64::INFINITY, None),
        ("nan", f64::NEG_INFINITY, None),
        ("ok", 1.0, None),
        ("s", -1.0, None),
    ] {
        let seen = observation(name, &none, value, layout);
        registry.observe(&at(1), &seen).unwrap();
    }
    let samples = |format| {
        let request = ExposeRequest {
            format,
            ..ExposeRequest::default()
        };
        let text = String::from_utf8(registry.expose(1, &request).unwrap().body).unwrap();
        let names = text.lines().filter_map(|line| line.split_once(' '));
        let names = names.map(|(name, _)| name.to_owned());
        let has_ending = |name: &String| name.ends_with("_sum") || name.ends_with("_count");
        names.filter(has_ending).collect::<Vec<_>>()
    };
    assert_eq!(
        samples(Format::OpenMetrics),
        ["ok_sum", "ok_count", "s_count"]
    );
    assert_eq!(samples(Format::Text).len(), 2 * 5);
}

//! Pages: they join to the whole, byte for byte, and each has a bounded size and cost.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Declaration, Epoch, Escaping, ExposeRequest, FamilySpec, FamilyType, Format, GaugeMode,
    GaugeWrite, Labels, Layout, Limits, Registry, Stamp,
};
use proptest::prelude::*;
use support::{labels, observation};

const EPOCH: Epoch = Epoch(7);
/// More than the last series adds to a page, or its last message in protobuf.
const LAST_SERIES: usize = 32 * 1024;

fn at(now_ms: u64) -> Stamp {
    Stamp::at(now_ms, EPOCH)
}

/// Returns all pages joined, the size of the largest, and their number. Checks that no page visits
/// more values than allowed.
fn pages(registry: &Registry, request: &ExposeRequest) -> (Vec<u8>, usize, usize) {
    let (mut all, mut largest, mut count) = (Vec::new(), 0, 0);
    let mut cursor = b"0".to_vec();
    loop {
        let request = ExposeRequest {
            cursor: Some(cursor),
            ..request.clone()
        };
        let page = registry.expose(3000, &request).unwrap();
        assert!(page.visited <= 10_200, "{} values", page.visited);
        all.extend_from_slice(&page.body);
        (largest, count) = (largest.max(page.body.len()), count + 1);
        match page.next {
            Some(next) => cursor = next.into_bytes(),
            None => return (all, largest, count),
        }
    }
}

/// Makes a registry with families of every type, and label sets of very different lengths.
fn registry(sizes: &[u16]) -> Registry {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    let spec = FamilySpec {
        help: "Of both kinds",
        ..FamilySpec::new("native", FamilyType::NativeHistogram)
    };
    registry
        .declare(&at(1000), &spec, &Declaration::default())
        .unwrap();
    let layout = Layout::new(["0.5", "1", "2"]).unwrap();
    for (number, size) in sizes.iter().enumerate() {
        let text = format!("{number}-{}", "v".repeat(usize::from(*size)));
        // Some names of labels are written otherwise in most schemes.
        let name = if number % 5 == 0 { "a.b" } else { "n" };
        let of = labels(&[(name, &text)]);
        for family in ["plain", "dotted.name"] {
            let by = number as f64 + 0.25;
            registry.inc(&at(1000), family, &of, by, None).unwrap();
        }
        for family in ["native", "wait"] {
            let seen = observation(family, &of, number as f64, Some(&layout));
            let seen = if family == "wait" {
                seen
            } else {
                observation(family, &of, 1.5, None)
            };
            registry.observe(&at(1000), &seen).unwrap();
        }
        for (family, mode) in [("each", GaugeMode::All), ("most", GaugeMode::Max)] {
            let writer = format!("w{}-{text}", number % 7);
            let write = GaugeWrite {
                family,
                labels: &labels(&[("n", &(number / 100).to_string())]),
                value: number as f64,
                mode: Some(mode),
                writer: &writer.as_bytes()[..writer.len().min(256)],
                lease_ms: None,
                ttl_ms: None,
            };
            registry.set(&at(1000), &write).unwrap();
        }
    }
    registry
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_of_any_mix_of_sizes_join_to_the_whole(
        sizes in prop::collection::vec(0..3000_u16, 1..250),
        format in prop::sample::select(&Format::EVERY[..]),
        escaping in prop::sample::select(vec![Escaping::Underscores, Escaping::Dots, Escaping::Values]),
        created: bool,
        wishes in prop::collection::vec(
            (
                prop::option::of(prop_oneof![Just(16 * 1024), Just(1024 * 1024), 16 * 1024..=1024 * 1024_usize]),
                prop::option::weighted(0.3, 1..200_usize),
            ),
            1..20,
        ),
    ) {
        let registry = registry(&sizes);
        let whole = ExposeRequest { format, escaping, created, ..ExposeRequest::default() };
        let mut joined = Vec::new();
        let (mut cursor, mut next) = (b"0".to_vec(), wishes.iter().cycle());
        loop {
            let (bytes, count) = *next.next().unwrap();
            let request = ExposeRequest { cursor: Some(cursor), bytes, count, ..whole.clone() };
            let page = registry.expose(3000, &request).unwrap();
            let bytes = bytes.unwrap_or(256 * 1024);
            prop_assert!(page.body.len() < bytes + LAST_SERIES, "{} for {bytes}", page.body.len());
            joined.extend_from_slice(&page.body);
            let Some(place) = page.next else { break };
            // It ended because it was full, or had as many series as it may have.
            prop_assert!(count.is_some() || page.body.len() >= bytes || page.visited >= 10_000);
            cursor = place.into_bytes();
        }
        match registry.expose(3000, &whole) {
            Ok(page) => prop_assert!(joined == page.body),
            // Larger than a whole page may be.
            Err(error) => prop_assert_eq!(
                (error.to_string(), joined.len() > 4 * 1024 * 1024),
                ("the page is larger than 4 MiB, ask for it in parts with CURSOR 0".to_owned(), true)
            ),
        }
    }
}

#[test]
fn a_page_has_the_size_that_was_asked_for() {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    counters(40_000, &mut registry);
    let sizes = |bytes| {
        let request = ExposeRequest {
            cursor: Some(b"0".to_vec()),
            bytes,
            ..ExposeRequest::default()
        };
        registry.expose(3000, &request).unwrap().body.len()
    };
    let is_about = |size: usize, bytes: usize| (bytes..bytes + 100).contains(&size);
    for bytes in [16 * 1024, 50_000, 128 * 1024] {
        assert!(is_about(sizes(Some(bytes)), bytes));
    }
    // 10,000 values are less than a page of the largest size, and less than one of the default size.
    assert_eq!(sizes(Some(1024 * 1024)), sizes(None));
    // Out of range: the nearest size that is allowed.
    assert!(is_about(sizes(Some(0)), 16 * 1024));
}

#[test]
fn a_page_is_of_256_kib_unless_the_request_says_otherwise() {
    let registry = registry(&[2000; 400]);
    let request = ExposeRequest {
        cursor: Some(b"0".to_vec()),
        ..ExposeRequest::default()
    };
    let size = registry.expose(3000, &request).unwrap().body.len();
    assert!(
        (256 * 1024..256 * 1024 + LAST_SERIES).contains(&size),
        "{size}"
    );
}

#[test]
fn a_gauge_of_eighty_thousand_writers_takes_many_pages_each_of_bounded_size() {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    let none = Labels::none();
    for number in 0..80_000 {
        let writer = format!("writer-{number:05}");
        for (family, mode) in [("all", GaugeMode::All), ("most", GaugeMode::Max)] {
            let write = GaugeWrite {
                family,
                labels: &none,
                value: f64::from(number),
                mode: Some(mode),
                writer: writer.as_bytes(),
                lease_ms: None,
                ttl_ms: None,
            };
            registry.set(&at(1000), &write).unwrap();
        }
    }
    for format in Format::EVERY {
        let request = ExposeRequest {
            format,
            names: vec!["all".to_owned()],
            ..ExposeRequest::default()
        };
        let (joined, largest, count) = pages(&registry, &request);
        assert!(
            count > 8 && largest < 256 * 1024 + LAST_SERIES,
            "{format:?}: {count} pages of up to {largest}"
        );
        let found = joined
            .windows(13)
            .filter(|window| window.starts_with(b"writer-"))
            .count();
        assert_eq!(found, 80_000, "{format:?}");
    }
    let names = vec!["most".to_owned()];
    let request = ExposeRequest {
        names,
        ..ExposeRequest::default()
    };
    let body = registry.expose(3000, &request).unwrap().body;
    assert_eq!(
        String::from_utf8(body).unwrap(),
        "# TYPE most gauge\nmost 79999\n"
    );
}

/// Makes a counter with that many series, defined by one batch after another.
fn counters(series: usize, registry: &mut Registry) {
    for number in 0..series {
        let labels = labels(&[("n", &number.to_string())]);
        registry.inc(&at(2600), "many", &labels, 1.0, None).unwrap();
    }
}

#[test]
fn a_page_is_bounded_also_where_there_is_nothing_to_show() {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    for number in 0..12_000 {
        let write = GaugeWrite {
            family: "gone",
            labels: &labels(&[("n", &number.to_string())]),
            value: 1.0,
            mode: None,
            writer: b"",
            lease_ms: None,
            ttl_ms: Some(10),
        };
        registry.set(&at(1000), &write).unwrap();
        let name = format!("empty_{number}");
        let spec = FamilySpec::new(&name, FamilyType::Counter);
        registry
            .declare(&at(1000), &spec, &Declaration::default())
            .unwrap();
    }
    let (body, _, count) = pages(&registry, &ExposeRequest::default());
    assert_eq!((body.len(), count), (0, 3));
}

#[test]
fn gauges_that_are_folded_count_as_several_values() {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    for number in 0..9_000 {
        let write = GaugeWrite {
            family: "most",
            labels: &labels(&[("n", &number.to_string())]),
            value: 1.0,
            mode: Some(GaugeMode::Max),
            writer: b"",
            lease_ms: None,
            ttl_ms: None,
        };
        registry.set(&at(1000), &write).unwrap();
    }
    let request = ExposeRequest {
        cursor: Some(b"0".to_vec()),
        ..ExposeRequest::default()
    };
    let page = registry.expose(3000, &request).unwrap();
    let lines = page.body.split(|byte| *byte == b'\n').count() - 1;
    // A page of 256 KiB has room for all of them.
    assert_eq!(lines, 1 + 2_000);
}

#[test]
fn a_page_of_few_names_does_not_walk_over_the_others() {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    counters(20_000, &mut registry);
    registry
        .inc(&at(2600), "one", &Labels::none(), 3.0, None)
        .unwrap();
    let request = ExposeRequest {
        names: vec!["one_total".to_owned(), "two".to_owned()],
        ..ExposeRequest::default()
    };
    let page = registry.expose(3000, &request).unwrap();
    assert_eq!(page.body, b"# TYPE one_total counter\none_total 3\n");
    assert_eq!(page.visited, 2);
}

#[test]
fn protobuf_pages_of_writers_with_long_names_are_of_bounded_size_too() {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    for number in 0..5_000 {
        let writer = format!("writer-{number:05}-{}", "x".repeat(100 + number % 100));
        let write = GaugeWrite {
            family: "all",
            labels: &Labels::none(),
            value: 1.0,
            mode: Some(GaugeMode::All),
            writer: writer.as_bytes(),
            lease_ms: None,
            ttl_ms: None,
        };
        registry.set(&at(1000), &write).unwrap();
    }
    let request = ExposeRequest {
        format: Format::Protobuf,
        ..ExposeRequest::default()
    };
    let (joined, largest, _) = pages(&registry, &request);
    assert!(largest < 256 * 1024 + LAST_SERIES, "{largest}");
    assert!(joined == registry.expose(3000, &request).unwrap().body);
}

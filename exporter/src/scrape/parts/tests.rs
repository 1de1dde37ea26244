use std::collections::BTreeSet;

use metrics_model::{
    Declaration, Epoch, Escaping, ExposeRequest, FamilySpec, FamilyType, GaugeMode, Labels, Limits,
    Registry,
};
use proptest::prelude::*;

use super::*;

const GAUGE: FamilyType = FamilyType::Gauge(GaugeMode::Sum);
const TYPES: [FamilyType; 7] = [
    FamilyType::Counter,
    GAUGE,
    FamilyType::Histogram,
    FamilyType::NativeHistogram,
    FamilyType::Summary,
    FamilyType::Info,
    FamilyType::StateSet,
];

/// Returns a registry with these families, except those that an earlier one rules out, and the value
/// of the label `id` of each family's only series: the numbers of the part and of the family.
fn registry(part: usize, families: &[(String, FamilyType)]) -> (Registry, Vec<String>) {
    let mut registry = Registry::new(Epoch(1), Limits::default(), 1);
    let mut ids = Vec::new();
    for (number, (name, family_type)) in families.iter().enumerate() {
        let stamp = registry.stamp(1, &Limits::default(), false);
        let spec = FamilySpec {
            help: "Of a name that others have",
            unit: "seconds",
            ..FamilySpec::new(name, *family_type)
        };
        if registry
            .declare(&stamp, &spec, &Declaration::default())
            .is_err()
        {
            continue;
        }
        let id = format!("<{part}/{number}>");
        let labels = match family_type {
            FamilyType::StateSet => Labels::new([("id", &*id), (&**name, "on")]),
            _ => Labels::new([("id", &*id)]),
        };
        let labels = labels.unwrap();
        let write = metrics_model::GaugeWrite {
            family: name,
            labels: &labels,
            value: 1.0,
            mode: None,
            writer: b"",
            lease_ms: None,
            ttl_ms: None,
        };
        let written = match family_type {
            FamilyType::Counter => registry.inc(&stamp, name, &labels, 1.0, None).map(drop),
            FamilyType::Gauge(_) | FamilyType::Info | FamilyType::StateSet => {
                registry.set(&stamp, &write).map(drop)
            }
            _ => {
                let observation = metrics_model::Observation {
                    family: name,
                    labels: &labels,
                    value: 1.0,
                    layout: None,
                    exemplar: None,
                    ttl_ms: None,
                };
                registry.observe(&stamp, &observation)
            }
        };
        if written.is_err() {
            continue;
        }
        ids.push(id);
    }
    (registry, ids)
}

/// Returns the joined page; every page of a registry has few series.
fn joined(registries: &[Registry], format: Format, escaping: Escaping, series: usize) -> Vec<u8> {
    let mut parts = Parts::new(format, registries.len());
    let mut whole = Vec::new();
    for (number, registry) in registries.iter().enumerate() {
        let mut cursor = Some(b"0".to_vec());
        while let Some(at) = cursor {
            let request = ExposeRequest {
                format,
                escaping,
                cursor: Some(at),
                count: Some(series),
                is_part: true,
                ..ExposeRequest::default()
            };
            let page = registry.expose(1, &request).unwrap();
            let body = parts.join(number + 1, page.body.clone(), &Moved::default());
            // A reader that was left behind reads the same.
            assert_eq!(parts.join(number + 1, page.body, &Moved::default()), body);
            whole.extend(body);
            cursor = page.next.map(String::into_bytes);
        }
    }
    whole
}

fn text_of(families: &[&[(&str, FamilyType)]], format: Format) -> String {
    let registries = families.iter().enumerate().map(|(part, families)| {
        let families = families.iter().map(|(name, of)| ((*name).to_owned(), *of));
        registry(part, &families.collect::<Vec<_>>()).0
    });
    let registries = registries.collect::<Vec<_>>();
    String::from_utf8(joined(&registries, format, Escaping::Underscores, 1)).unwrap()
}

#[test]
fn a_family_with_the_sample_of_another_part_is_written_in_the_unique_form() {
    let families: [&[_]; 2] = [&[("x", FamilyType::Counter)], &[("x_total", GAUGE)]];
    assert_eq!(
        text_of(&families, Format::Text),
        "# HELP x_total Of a name that others have\n\
         # TYPE x_total counter\n\
         x_total{id=\"<0/0>\"} 1\n\
         # HELP U__x__total Of a name that others have\n\
         # TYPE U__x__total gauge\n\
         U__x__total{id=\"<1/0>\"} 1\n"
    );
    let page = text_of(&families, Format::OpenMetrics);
    assert!(page.contains("# TYPE x counter\n"), "{page}");
    assert!(page.contains("# TYPE U__x__total gauge\n"), "{page}");
}

#[test]
fn a_counter_has_one_name_in_all_formats() {
    let families: [&[_]; 2] = [&[("x_total", GAUGE)], &[("x", FamilyType::Counter)]];
    for format in [
        Format::Text,
        Format::Text1,
        Format::OpenMetrics,
        Format::OpenMetrics2,
    ] {
        let page = text_of(&families, format);
        assert!(page.contains("\nx_total{id=\"<0/0>\"} 1\n"), "{page}");
        assert!(page.contains("\nU__x__total{id=\"<1/0>\"} 1"), "{page}");
    }
}

#[test]
fn the_family_that_comes_first_keeps_its_name() {
    let families: [&[_]; 3] = [
        &[("h_sum", GAUGE), ("x_seconds", GAUGE)],
        &[("h", FamilyType::Histogram), ("U__x__seconds", GAUGE)],
        &[("U__h", GAUGE), ("x_seconds", GAUGE)],
    ];
    let page = text_of(&families, Format::OpenMetrics);
    let types = page.lines().filter(|line| line.starts_with("# TYPE"));
    assert_eq!(
        types.collect::<Vec<_>>(),
        [
            "# TYPE h_sum gauge",
            "# TYPE x_seconds gauge",
            "# TYPE U__x__seconds gauge",
            "# TYPE U__h histogram",
            "# TYPE U__U____h gauge",
            "# TYPE UU__x__seconds gauge",
        ]
    );
    assert!(
        page.contains("\nU__h_bucket{id=\"<1/0>\",le=\"+Inf\"} 1\n"),
        "{page}"
    );
    // The unit is the ending of one of the names.
    assert_eq!(page.matches("# UNIT").count(), 2, "{page}");
}

#[test]
fn a_state_set_becomes_a_gauge_because_its_label_keeps_its_name() {
    let families: [&[_]; 2] = [&[("x", GAUGE)], &[("x", FamilyType::StateSet)]];
    let page = text_of(&families, Format::OpenMetrics);
    assert!(
        page.ends_with("# TYPE U__x gauge\nU__x{id=\"<1/0>\",x=\"on\"} 1\n"),
        "{page}"
    );
}

/// Names of families that collide with each other's samples.
fn names() -> impl Strategy<Value = String> {
    let stems = prop::sample::select(vec!["x", "U__x", "x.y", "x_y"]);
    let endings = [
        "", "_total", "_created", "_sum", "_bucket", "_count", "_info", "_seconds",
    ];
    let endings = prop::sample::select(endings.to_vec());
    (stems, endings.clone(), endings).prop_map(|(stem, one, two)| format!("{stem}{one}{two}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_page_has_a_name_twice_and_none_is_lost(
        parts in prop::collection::vec(
            prop::collection::vec((names(), prop::sample::select(TYPES.to_vec())), 0..8), 1..5),
        format in prop::sample::select(Format::EVERY.to_vec()),
        scheme in 0..3_usize,
        series in 1..4_usize,
    ) {
        let escaping = match (scheme, format) {
            (0, _) => Escaping::Underscores,
            (1, _) | (_, Format::Text) => Escaping::Values,
            _ => Escaping::AllowUtf8,
        };
        let parts = parts.iter().enumerate().map(|(part, families)| registry(part, families));
        let (registries, ids): (Vec<_>, Vec<_>) = parts.unzip();
        let ids = ids.concat();
        let page = joined(&registries, format, escaping, series);
        let check = Parts::new(format, 1);
        let mut seen = BTreeSet::new();
        let families = families(&page, format).map(|(name, word)| (name.into_owned(), check.kind(word)));
        for (name, kind) in families {
            // A registry may have a gauge with the name of a counter's start times.
            for sample in kind.samples(&name) {
                prop_assert!(seen.insert(sample.clone()) || sample.ends_with("_created"), "{} twice", sample);
            }
        }
        let text = String::from_utf8_lossy(&page);
        for id in ids {
            prop_assert!(text.contains(&id), "{} is lost", id);
        }
    }
}

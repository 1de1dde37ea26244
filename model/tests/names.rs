//! Names that an escaping scheme makes equal: no page has a duplicate, and no sample is missing.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use metrics_model::{
    Declaration, Epoch, Escaping, Exemplar, ExposeRequest, FamilySpec, FamilyType, Format,
    GaugeMode, GaugeWrite, Labels, Limits, Registry, Stamp,
};
use proptest::prelude::*;
use support::{labels, observation};

const EPOCH: Epoch = Epoch(7);
const SCHEMES: [Escaping; 3] = [Escaping::Underscores, Escaping::Dots, Escaping::Values];

fn at(now_ms: u64) -> Stamp {
    Stamp::at(now_ms, EPOCH)
}

fn registry() -> Registry {
    Registry::new(EPOCH, Limits::default(), 0)
}

fn set(registry: &mut Registry, family: &str, pairs: &[(&str, &str)], value: f64) {
    let write = GaugeWrite {
        family,
        labels: &labels(pairs),
        value,
        mode: None,
        writer: b"",
        lease_ms: None,
        ttl_ms: None,
    };
    registry.set(&at(1), &write).unwrap();
}

fn request(format: Format, escaping: Escaping, names: &[&str]) -> ExposeRequest {
    ExposeRequest {
        format,
        escaping,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..ExposeRequest::default()
    }
}

/// Returns the samples of a page of text 1.0.0.
fn samples(registry: &Registry, escaping: Escaping, names: &[&str]) -> Vec<String> {
    let request = request(Format::Text1, escaping, names);
    let body = registry.expose(2, &request).unwrap().body;
    let text = String::from_utf8(body).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(str::to_owned).collect()
}

#[test]
fn families_that_a_scheme_makes_equal_are_written_in_full() {
    let mut registry = registry();
    for (value, name) in ["a-b", "a.b", "a_b", "c.d"].into_iter().enumerate() {
        set(&mut registry, name, &[], value as f64);
    }
    let by_scheme = SCHEMES.map(|scheme| samples(&registry, scheme, &[]).join(";"));
    assert_eq!(
        by_scheme,
        [
            "U__a_2d_b 0;U__a_2e_b 1;a_b 2;c_d 3",
            "U__a_2d_b 0;a_dot_b 1;a__b 2;c_dot_d 3",
            "U__a_2d_b 0;U__a_2e_b 1;a_b 2;U__c_2e_d 3",
        ]
    );
    registry.del(&at(2), "a-b", None);
    registry.del(&at(2), "a_b", None);
    let shown = samples(&registry, Escaping::Underscores, &[]);
    assert_eq!(shown, ["a_b 1", "c_d 3"]);
}

#[test]
fn a_legal_name_stays_whatever_the_other_names_are() {
    let mut registry = registry();
    for (value, name) in ["a.b", "a_b", "U__a_2e_b", "UU__a_2e_b", "U..x"]
        .into_iter()
        .enumerate()
    {
        set(&mut registry, name, &[], value as f64);
    }
    let mut shown = samples(&registry, Escaping::Underscores, &[]);
    shown.sort_unstable();
    assert_eq!(
        shown,
        [
            "UUU__a_2e_b 0",
            "UU__a_2e_b 3",
            "U__U_2e__2e_x 4",
            "U__a_2e_b 2",
            "a_b 1"
        ]
    );
}

#[test]
fn the_samples_of_families_count_too() {
    let mut registry = registry();
    registry
        .inc(&at(1), "a.b", &Labels::none(), 1.0, None)
        .unwrap();
    set(&mut registry, "a_b_total", &[], 2.0);
    let wait = Labels::none();
    registry
        .observe(&at(1), &observation("c-d", &wait, 1.0, None))
        .unwrap();
    set(&mut registry, "c_d_sum", &[], 3.0);
    set(&mut registry, "metrics.rejected_samples_total", &[], 4.0);
    let shown = samples(&registry, Escaping::Underscores, &[]).join(";");
    for expected in [
        "U__a_2e_b__total 1",
        "a_b_total 2",
        "U__c_2d_d_sum 1",
        "c_d_sum 3",
        "U__metrics_2e_rejected__samples__total 4",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
}

#[test]
fn labels_that_a_scheme_makes_equal_are_written_in_full() {
    let mut registry = registry();
    set(&mut registry, "g", &[("a-b", "1"), ("a_b", "2")], 1.0);
    set(&mut registry, "g", &[("a.b", "3")], 2.0);
    set(&mut registry, "g", &[("a_b", "3")], 3.0);
    set(&mut registry, "g", &[("a.b", "4")], 4.0);
    set(&mut registry, "g", &[("a.b", "4"), ("_.name__", "5")], 5.0);
    let by_scheme = SCHEMES.map(|scheme| samples(&registry, scheme, &[]).join(";"));
    assert_eq!(
        by_scheme,
        [
            r#"g{U__a_2d_b="1",a_b="2"} 1;g{U__a_2e_b="3"} 2;g{a_b="3"} 3;g{a_b="4"} 4;g{U_____2e_name____="5",U__a_2e_b="4"} 5"#,
            r#"g{U__a_2d_b="1",a__b="2"} 1;g{a_dot_b="3"} 2;g{a__b="3"} 3;g{a_dot_b="4"} 4;g{U_____2e_name____="5",U__a_2e_b="4"} 5"#,
            r#"g{U__a_2d_b="1",a_b="2"} 1;g{U__a_2e_b="3"} 2;g{a_b="3"} 3;g{U__a_2e_b="4"} 4;g{U_____2e_name____="5",U__a_2e_b="4"} 5"#,
        ]
    );
    registry.del(&at(2), "g", Some(&labels(&[("a_b", "3")])));
    let shown = samples(&registry, Escaping::Underscores, &[]);
    assert!(shown.contains(&r#"g{a_b="3"} 2"#.to_owned()), "{shown:?}");
}

#[test]
fn the_state_of_a_stateset_is_called_as_its_family() {
    let mut registry = registry();
    for name in ["a.b", "a:b"] {
        let spec = FamilySpec::new(name, FamilyType::StateSet);
        let declared = registry.declare(&at(1), &spec, &Declaration::default());
        declared.unwrap();
        set(&mut registry, name, &[(name, "on"), ("a_b", "x")], 1.0);
    }
    set(&mut registry, "a_b", &[], 2.0);
    let shown = |format, escaping| {
        let page = registry.expose(2, &request(format, escaping, &[])).unwrap();
        String::from_utf8(page.body).unwrap()
    };
    assert_eq!(
        shown(Format::OpenMetrics, Escaping::Underscores),
        r#"# TYPE U__a_2e_b stateset
U__a_2e_b{U__a_2e_b="on",a_b="x"} 1
# TYPE a:b gauge
a:b{U__a_3a_b="on",a_b="x"} 1
# TYPE a_b gauge
a_b 2
# EOF
"#
    );
    assert!(shown(Format::OpenMetrics, Escaping::AllowUtf8).contains("# TYPE a:b stateset\n"));
}

#[test]
fn a_request_may_use_any_name_under_which_a_family_is_shown() {
    let mut registry = registry();
    registry
        .inc(&at(1), "a.b", &Labels::none(), 1.0, None)
        .unwrap();
    registry
        .inc(&at(1), "c.d", &Labels::none(), 2.0, None)
        .unwrap();
    registry
        .observe(&at(1), &observation("e.f", &Labels::none(), 3.0, None))
        .unwrap();
    set(&mut registry, "a_b_total", &[], 4.0);
    set(&mut registry, "g_h", &[], 5.0);
    let found = |escaping, name| {
        let whole = samples(&registry, escaping, &[name]);
        let values = whole.iter().filter_map(|line| line.split_once(' '));
        values
            .map(|(_, value)| value.to_owned())
            .next_back()
            .unwrap_or_default()
    };
    for (scheme, name, value) in [
        (Escaping::Underscores, "a.b_total", "1"),
        (Escaping::Underscores, "a_b_total", "4"),
        (Escaping::Underscores, "U__a_2e_b__total", "1"),
        (Escaping::AllowUtf8, "U__a_2e_b__total", "1"),
        (Escaping::Underscores, "c_d_total", "2"),
        (Escaping::Underscores, "c_d", "2"),
        (Escaping::AllowUtf8, "c_d_total", "2"),
        (Escaping::Dots, "c_dot_d__total", "2"),
        (Escaping::Values, "U__c_2e_d_", "2"),
        (Escaping::Underscores, "e_f_bucket", "1"),
        (Escaping::Dots, "e_dot_f_count", "1"),
        (Escaping::Values, "U__e_2e_f_sum", "1"),
        (Escaping::Dots, "g__h", "5"),
        (Escaping::Underscores, "g__h", ""),
        (Escaping::Underscores, "e_f_total", ""),
        (Escaping::Underscores, "U__a_zz_b", ""),
    ] {
        assert_eq!(found(scheme, name), value, "{scheme:?} {name}");
    }
    assert_eq!(
        samples(&registry, Escaping::Underscores, &["a_b_total"]).len(),
        1
    );
}

/// An action of a user; the registry may refuse it.
#[derive(Debug, Clone)]
enum Step {
    Count(String, BTreeMap<String, String>, BTreeMap<String, String>),
    Set(String, BTreeMap<String, String>, GaugeMode),
    Observe(String, BTreeMap<String, String>),
    Fact(String, BTreeMap<String, String>, FamilyType),
    Del(String, BTreeMap<String, String>),
}

impl Step {
    fn apply(&self, registry: &mut Registry) {
        let to_labels = |map: &BTreeMap<String, String>| {
            Labels::new(map.iter().map(|(n, v)| (n.as_str(), v.as_str())))
        };
        // Refusals are part of the rules.
        match self {
            Self::Count(family, map, trace) => {
                let pairs = trace.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                let exemplar = Exemplar::new(pairs, 1.0, 0.0).ok();
                if let Ok(labels) = to_labels(map) {
                    let _ =
                        registry.inc_with(&at(1), family, &labels, 1.0, exemplar.as_ref(), None);
                }
            }
            Self::Set(family, map, mode) => {
                if let Ok(labels) = to_labels(map) {
                    let _ = registry.set(
                        &at(1),
                        &GaugeWrite {
                            family,
                            labels: &labels,
                            value: 1.0,
                            mode: Some(*mode),
                            writer: b"w",
                            lease_ms: None,
                            ttl_ms: None,
                        },
                    );
                }
            }
            Self::Observe(family, map) => {
                if let Ok(labels) = to_labels(map) {
                    let _ = registry.observe(&at(1), &observation(family, &labels, 1.0, None));
                }
            }
            Self::Fact(family, map, family_type) => {
                let mut map = map.clone();
                map.insert(family.clone(), "on".to_owned());
                let spec = FamilySpec::new(family, *family_type);
                if let Ok(labels) = to_labels(&map)
                    && registry
                        .declare(&at(1), &spec, &Declaration::default())
                        .is_ok()
                {
                    let _ = registry.set(
                        &at(1),
                        &GaugeWrite {
                            family,
                            labels: &labels,
                            value: 1.0,
                            mode: None,
                            writer: b"",
                            lease_ms: None,
                            ttl_ms: None,
                        },
                    );
                }
            }
            Self::Del(family, map) => {
                if let Ok(labels) = to_labels(map) {
                    registry.del(&at(1), family, Some(&labels));
                }
            }
        }
    }
}

fn family() -> impl Strategy<Value = String> {
    let ending = prop::sample::select(vec![
        "", "", "_total", "_created", "_sum", "-count", ".info",
    ]);
    let name = prop_oneof![
        3 => "[a.:_-]{1,3}",
        1 => "U{1,2}[_.]{2}a(_2[de]_)?",
        1 => Just("metrics.rejected_samples".to_owned()),
    ];
    (name, ending).prop_map(|(name, ending)| name + ending)
}

fn label_set() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop_oneof![
        4 => "[a.:_-]{1,2}",
        1 => "U{1,2}[_.]{2}(_2[de]_|a)",
        1 => prop::sample::select(vec!["..name__".to_owned(), "_name_".to_owned()]),
    ];
    prop::collection::btree_map(name, "[x]?", 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop::sample::select(vec![GaugeMode::Sum, GaugeMode::All]);
    let fact = prop::sample::select(vec![FamilyType::Info, FamilyType::StateSet]);
    prop_oneof![
        (family(), label_set(), label_set()).prop_map(|(f, l, t)| Step::Count(f, l, t)),
        (family(), label_set(), mode).prop_map(|(f, l, m)| Step::Set(f, l, m)),
        (family(), label_set()).prop_map(|(f, l)| Step::Observe(f, l)),
        (family(), label_set(), fact).prop_map(|(f, l, t)| Step::Fact(f, l, t)),
        (family(), label_set()).prop_map(|(f, l)| Step::Del(f, l)),
    ]
}

/// Parses `name{label="value",...} rest`, with quoted names or not: returns the name, and the
/// labels by name.
fn read_sample(line: &str) -> (String, BTreeMap<String, String>) {
    let (mut name, rest) = match line.find(['{', ' ']) {
        Some(at) => (line[..at].to_owned(), &line[at..]),
        None => panic!("no value in {line}"),
    };
    let mut labels = BTreeMap::new();
    let Some(mut rest) = rest.strip_prefix('{') else {
        return (name, labels);
    };
    while !rest.starts_with('}') {
        let (key, after) = if rest.starts_with('"') {
            read_quoted(rest)
        } else {
            let at = rest.find('=').unwrap();
            (rest[..at].to_owned(), &rest[at..])
        };
        rest = after;
        if let Some(after) = rest.strip_prefix('=') {
            let (value, after) = read_quoted(after);
            assert!(labels.insert(key, value).is_none(), "twice in {line}");
            rest = after;
        } else {
            name = key;
        }
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name, labels)
}

fn read_quoted(text: &str) -> (String, &str) {
    let mut escaped = false;
    let end = text[1..].find(|character| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    });
    let end = end.unwrap() + 1;
    (text[1..end].to_owned(), &text[end + 1..])
}

/// Returns how many samples a page has; checks that no sample and no family appears twice.
fn count_samples(text: &str, is_escaped: bool) -> usize {
    let (mut types, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ") {
            let name = name.rsplit_once(' ').unwrap().0;
            assert!(types.insert(name.to_owned()), "{name} twice in\n{text}");
        } else if !line.starts_with('#') {
            let (name, labels) = read_sample(line);
            if is_escaped {
                let is_legal = |name: &str| {
                    name.bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
                };
                assert!(is_legal(&name), "{line}");
                let mut names = labels.keys();
                assert!(
                    names.all(|name| is_legal(name) && !name.contains(':')),
                    "{line}"
                );
            }
            assert!(!labels.keys().any(|name| name.starts_with("__")), "{line}");
            assert!(seen.insert((name, labels)), "{line} twice in\n{text}");
        }
    }
    seen.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_page_has_a_family_or_a_sample_twice_and_none_is_missing(
        steps in prop::collection::vec(step(), 1..24),
    ) {
        let mut one = registry();
        for step in &steps {
            step.apply(&mut one);
        }
        // The same after a restart, in any order of reading.
        let restored = Registry::decode_snapshot(&one.encode_snapshot()).unwrap();
        for format in [Format::Text, Format::Text1, Format::OpenMetrics, Format::OpenMetrics2] {
            for created in [false, true] {
                let text = |registry: &Registry, format, escaping| {
                    let request = ExposeRequest { created, ..request(format, escaping, &[]) };
                    String::from_utf8(registry.expose(2, &request).unwrap().body).unwrap()
                };
                let kept = if format == Format::Text { Format::Text1 } else { format };
                let all = count_samples(&text(&one, kept, Escaping::AllowUtf8), false);
                for escaping in SCHEMES {
                    let page = text(&one, format, escaping);
                    prop_assert_eq!(count_samples(&page, true), all, "{}", page);
                    prop_assert_eq!(&text(&restored, format, escaping), &page);
                }
            }
        }
    }

    #[test]
    fn written_names_do_not_depend_on_the_order_of_arrival(
        names in prop::collection::btree_set("[a.:_-]{1,3}|U{1,2}[_.]{2}a", 1..9),
        sets in prop::collection::vec(label_set(), 1..9),
    ) {
        let fill = |backwards: bool| {
            let mut registry = registry();
            let mut writes = names.iter().map(|name| (name.as_str(), Vec::new())).collect::<Vec<_>>();
            for set in &sets {
                let pairs = set.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                writes.push(("labelled", pairs));
            }
            if backwards {
                writes.reverse();
            }
            for (name, pairs) in writes {
                set_if_allowed(&mut registry, name, &pairs);
            }
            SCHEMES.map(|escaping| {
                let mut shown = samples(&registry, escaping, &[]);
                shown.sort_unstable();
                shown
            })
        };
        prop_assert_eq!(fill(false), fill(true));
    }
}

fn set_if_allowed(registry: &mut Registry, family: &str, pairs: &[(&str, &str)]) {
    if let Ok(labels) = Labels::new(pairs.iter().copied()) {
        let write = GaugeWrite {
            family,
            labels: &labels,
            value: 1.0,
            mode: None,
            writer: b"",
            lease_ms: None,
            ttl_ms: None,
        };
        let _ = registry.set(&at(1), &write);
    }
}

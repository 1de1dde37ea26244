//! The `prometheus-client` crate as a second encoder: the same metrics give the same samples.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

use metrics_model::{
    Epoch, ExposeRequest, Format, GaugeMode, GaugeWrite, Labels, Layout, Limits, Observation,
    Registry, Stamp,
};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use proptest::prelude::*;

type Pairs = Vec<(String, String)>;

/// Returns the samples of a page in a fixed order; metadata of families differs in help texts and
/// blanks.
fn samples(page: &str) -> Vec<String> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    // Both spellings of a whole number are canonical.
    let mut lines = lines
        .map(|line| line.strip_suffix(".0").unwrap_or(line).to_owned())
        .collect::<Vec<_>>();
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_metrics_give_the_same_samples(
        counts in prop::collection::btree_map("[a-z/\"\\\\\n é]{1,6}", 0..1000_u32, 1..5),
        gauge in -1000..1000_i64,
        observations in prop::collection::vec(0..400_u32, 1..20),
    ) {
        let mut ours = Registry::new(Epoch(1), Limits::default(), 1000);
        let mut theirs = prometheus_client::registry::Registry::default();
        let stamp = Stamp::at(2000, Epoch(1));

        let family = Family::<Pairs, Counter<u64>>::default();
        theirs.register("calls", "Calls", family.clone());
        for (path, count) in &counts {
            family.get_or_create(&vec![("path".to_owned(), path.clone())]).inc_by((*count).into());
            let labels = Labels::new([("path", path.as_str())]).unwrap();
            ours.inc(&stamp, "calls", &labels, f64::from(*count), None).unwrap();
        }

        let level = Gauge::<i64>::default();
        level.set(gauge);
        theirs.register("level", "Level", level);
        let write = GaugeWrite {
            family: "level",
            labels: &Labels::none(),
            value: gauge as f64,
            mode: Some(GaugeMode::Sum),
            writer: b"",
            lease_ms: None,
            ttl_ms: None,
        };
        ours.set(&stamp, &write).unwrap();

        let seconds = Histogram::new([0.5, 1.0, 2.5]);
        theirs.register("seconds", "Seconds", seconds.clone());
        let layout = Layout::new(["0.5", "1.0", "2.5"]).unwrap();
        for hundredths in observations {
            let value = f64::from(hundredths) / 128.0;
            seconds.observe(value);
            let observation = Observation {
                family: "seconds",
                labels: &Labels::none(),
                value,
                layout: Some(&layout),
                exemplar: None,
                ttl_ms: None,
            };
            ours.observe(&stamp, &observation).unwrap();
        }

        let mut page = String::new();
        encode(&mut page, &theirs).unwrap();
        let request = ExposeRequest { format: Format::OpenMetrics, ..ExposeRequest::default() };
        let body = ours.expose(3000, &request).unwrap().body;
        prop_assert_eq!(samples(std::str::from_utf8(&body).unwrap()), samples(&page));
    }
}

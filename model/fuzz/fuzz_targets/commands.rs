//! Runs any sequence of commands with any arguments. The registry must still render its page, and
//! its decoded snapshot must equal it.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metrics_model::{
    Batch, BatchHeader, BatchKind, BatchWriter, Declaration, Epoch, Exemplar, ExposeRequest,
    FamilySpec, FamilyType, GaugeMode, GaugeWrite, Labels, Layout, Limits, NativeHistogram,
    Observation, Point, Registry, Replacement,
};

#[derive(Debug, Arbitrary)]
struct Call<'a> {
    pause_ms: u32,
    family: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    number: f64,
    ttl_ms: Option<u16>,
    command: Command<'a>,
}

#[derive(Debug, Arbitrary)]
enum Command<'a> {
    Declare { kind: u8, mode: u8, help: &'a str, unit: &'a str, bounds: Vec<&'a str>, schema: Option<i8> },
    Inc { exemplar: Option<Vec<(&'a str, &'a str)>> },
    Set { mode: Option<u8>, writer: &'a [u8], lease_ms: Option<u16> },
    Add { mode: Option<u8>, writer: &'a [u8] },
    Observe { bounds: Option<Vec<&'a str>>, exemplar: Option<Vec<(&'a str, &'a str)>> },
    Leave { writer: &'a [u8] },
    Del { whole: bool },
    Ttl { whole: bool },
    Replace { series: Vec<Series<'a>>, keeps_others: bool },
    Settle,
    Get,
    Load,
}

/// What a group is given.
#[derive(Debug, Arbitrary)]
struct Series<'a> {
    family: &'a str,
    kind: u8,
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
    counts: Vec<u64>,
    is_in_a_new_batch: bool,
}

/// The batches of a run of full state.
fn batches(series: &[Series<'_>], ttl_ms: u64) -> Vec<Vec<u8>> {
    let new_batch = |(at, one): (usize, &Series<'_>)| (at > 0 && one.is_in_a_new_batch).then_some(at);
    let mut starts = vec![0];
    starts.extend(series.iter().enumerate().filter_map(new_batch));
    let last = starts.len() - 1;
    let write = |(number, from): (usize, &usize)| {
        let to = starts.get(number + 1).copied().unwrap_or(series.len());
        let mut batch = BatchWriter::new();
        for one in &series[*from..to] {
            define(&mut batch, one, ttl_ms);
        }
        let kind = if number == 0 { BatchHeader::FULL.kind } else { BatchKind::More };
        batch.finish(BatchHeader { kind, last: number == last, ..BatchHeader::FULL })
    };
    starts.iter().enumerate().map(write).collect()
}

fn define(batch: &mut BatchWriter, series: &Series<'_>, ttl_ms: u64) {
    let bounds = ["0.5", "1.0", "2.0"];
    let (family_type, point) = match series.kind % 5 {
        0 => (FamilyType::Counter, Point::Scalar(series.value)),
        1 => (FamilyType::Gauge(GaugeMode::Sum), Point::Scalar(series.value)),
        2 => {
            let count = |at: usize| series.counts.get(at).copied().unwrap_or(0);
            let counts = (0..=bounds.len()).map(count).collect();
            (FamilyType::Histogram, Point::Buckets { sum: series.value, counts })
        }
        3 => {
            let counts = vec![series.counts.first().copied().unwrap_or(0)];
            (FamilyType::Summary, Point::Buckets { sum: series.value, counts })
        }
        _ => {
            let mut histogram = NativeHistogram::empty((series.kind / 5 % 9) as i8, 0.25);
            let buckets = series.counts.iter().take(20).enumerate();
            histogram.positive = buckets.map(|(at, count)| (at as i32 * 3, *count)).collect();
            histogram.sum = series.value;
            (FamilyType::NativeHistogram, Point::Native(Box::new(histogram)))
        }
    };
    let layout = (family_type == FamilyType::Histogram)
        .then(|| batch.layout(&Layout::new(bounds).expect("ascending")));
    let family = batch.family(&FamilySpec::new(series.family, family_type));
    let labels = series.labels.iter().copied();
    batch.define(family, ttl_ms, labels, "", layout, &point, None);
}

fn exemplar(pairs: Option<&Vec<(&str, &str)>>, value: f64) -> Option<Exemplar> {
    Exemplar::new(pairs?.iter().copied(), value, 0.0).ok()
}

fn call(registry: &mut Registry, call: &Call<'_>) {
    let now_ms = registry.last_stamp_ms() + u64::from(call.pause_ms);
    let stamp = registry.stamp(now_ms, &Limits::default(), call.pause_ms == 3);
    let Ok(labels) = Labels::new(call.labels.iter().copied()) else {
        return;
    };
    let (family, value, ttl_ms) = (call.family, call.number, call.ttl_ms.map(u64::from));
    let gauge = |mode: Option<u8>, writer, lease_ms: Option<u16>| GaugeWrite {
        family,
        labels: &labels,
        value,
        mode: mode.and_then(|mode| GaugeMode::from_number(mode % 10)),
        writer,
        lease_ms: lease_ms.map(u64::from),
        ttl_ms,
    };
    match &call.command {
        Command::Declare { kind, mode, help, unit, bounds, schema } => {
            let Some(family_type) = FamilyType::from_numbers(*kind, *mode) else {
                return;
            };
            let layout = Layout::new(bounds.iter().copied()).ok();
            let spec = FamilySpec { help, unit, ..FamilySpec::new(family, family_type) };
            let declaration = Declaration {
                layout: layout.as_ref(),
                schema: schema.filter(|schema| metrics_model::NATIVE_SCHEMAS.contains(schema)),
                ttl_ms,
            };
            drop(registry.declare(&stamp, &spec, &declaration));
        }
        Command::Inc { exemplar: pairs } => {
            let exemplar = exemplar(pairs.as_ref(), value);
            drop(registry.inc_with(&stamp, family, &labels, value, exemplar.as_ref(), ttl_ms));
        }
        Command::Set { mode, writer, lease_ms } => {
            drop(registry.set(&stamp, &gauge(*mode, writer, *lease_ms)));
        }
        Command::Add { mode, writer } => drop(registry.add(&stamp, &gauge(*mode, writer, None))),
        Command::Observe { bounds, exemplar: pairs } => {
            let layout = bounds.as_ref().and_then(|bounds| Layout::new(bounds.iter().copied()).ok());
            let exemplar = exemplar(pairs.as_ref(), value);
            let observation = Observation {
                family,
                labels: &labels,
                value,
                layout: layout.as_ref(),
                exemplar: exemplar.as_ref(),
                ttl_ms,
            };
            drop(registry.observe(&stamp, &observation));
        }
        Command::Leave { writer } if !writer.is_empty() => {
            registry.leave(&stamp, writer, 0, None);
        }
        Command::Leave { .. } => {}
        Command::Del { whole } => {
            registry.del(&stamp, family, (!whole).then_some(&labels));
        }
        Command::Ttl { whole } => {
            registry.set_ttl(&stamp, family, (!whole).then_some(&labels), ttl_ms.unwrap_or(0));
        }
        Command::Replace { series, keeps_others } => {
            let bytes = batches(series, ttl_ms.unwrap_or(0));
            let batches = bytes.iter().map(|bytes| Batch::decode(bytes));
            // Texts may be too long for a batch.
            let Ok(batches) = batches.collect::<Result<Vec<_>, _>>() else {
                return;
            };
            let batches = if series.is_empty() { &[][..] } else { &batches };
            let replacement = Replacement { group: &labels, batches, keeps_others: *keeps_others };
            let before = registry.encode_snapshot();
            if registry.replace_group(&stamp, &replacement).is_err() {
                assert!(registry.encode_snapshot() == before, "what is refused changes nothing");
            }
        }
        Command::Settle => registry.settle(&stamp),
        Command::Get => drop(registry.get(now_ms, family, &labels)),
        Command::Load => {
            *registry = Registry::decode_snapshot(&registry.encode_snapshot()).expect("it reads back");
            registry.rolled_back(now_ms);
        }
    }
}

fuzz_target!(|calls: Vec<Call<'_>>| {
    let mut registry = Registry::new(Epoch(1), Limits::default(), 1000);
    for one in &calls {
        call(&mut registry, one);
    }
    let copy = Registry::decode_snapshot(&registry.encode_snapshot()).expect("it reads back");
    assert_eq!(copy.encode_snapshot(), registry.encode_snapshot());
    let now_ms = registry.last_stamp_ms();
    let page = |registry: &Registry| registry.expose(now_ms, &ExposeRequest::default()).map(|page| page.body).ok();
    // Names and labels may be any text; the page must be UTF-8.
    let body = page(&registry);
    assert!(body.is_none_or(|body| std::str::from_utf8(&body).is_ok()));
});

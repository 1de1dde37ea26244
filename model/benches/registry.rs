//! What a batch costs per update and a page per sample. `make bench` prints both beside Redis' own
//! commands; here they are alone, for a profile.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "criterion's macros, and a benchmark"
)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use metrics_model::{
    Batch, BatchHeader, BatchKind, BatchWriter, Epoch, ExposeRequest, FamilySpec, FamilyType,
    Limits, Point, Registry, Stamp,
};

const EPOCH: Epoch = Epoch(1);
const PER_BATCH: usize = 4000;

fn limits() -> Limits {
    Limits {
        max_series: 10_000_000,
        ..Limits::default()
    }
}

/// A registry in which one writer has that many counters with identities of about 100 bytes.
fn filled(series: usize) -> (Registry, u64) {
    let mut registry = Registry::new(EPOCH, limits(), 0);
    let mut seq = 0;
    let mut number = 0;
    while number < series {
        let mut batch = BatchWriter::new();
        let family = batch.family(&FamilySpec::new("http_requests", FamilyType::Counter));
        for _ in 0..PER_BATCH.min(series - number) {
            let path = format!("/api/v1/customers/{number:08}/orders");
            let labels = [
                ("method", "GET"),
                ("endpoint", path.as_str()),
                ("status", "200"),
            ];
            batch.define(
                family,
                0,
                labels.into_iter(),
                "",
                None,
                &Point::Scalar(value(number)),
                None,
            );
            number += 1;
        }
        let kind = if seq == 0 {
            BatchKind::Full { forgotten_seq: 0 }
        } else {
            BatchKind::More
        };
        let bytes = batch.finish(BatchHeader {
            kind,
            last: number == series,
            names_left_out: false,
            left_out_before: 0,
            registry_ttl_ms: 0,
        });
        seq += 1;
        push(&mut registry, seq, &bytes);
    }
    (registry, seq)
}

/// The first value of a counter: up to 10^12, one in eight with a fraction.
fn value(number: usize) -> f64 {
    let whole = (number as u64 * 2_654_435_761 % 1_000_000_000_000) as f64;
    if number.is_multiple_of(8) {
        whole / 1000.0
    } else {
        whole
    }
}

fn push(registry: &mut Registry, seq: u64, bytes: &[u8]) {
    let batch = Batch::decode(bytes).unwrap();
    let stamp = Stamp::at(seq, EPOCH);
    let reply = registry.push(&stamp, b"writer", seq, Some(EPOCH), 1_000_000, &batch);
    assert_eq!((reply.status.as_str(), reply.left_out), ("OK", 0));
}

fn updates(first: usize, series: usize, value: f64) -> Vec<u8> {
    let mut batch = BatchWriter::new();
    for number in 0..PER_BATCH.min(series) {
        let index = ((first + number) % series) as u32;
        batch.update(
            index,
            &Point::Scalar(0.0),
            &Point::Scalar(self::value(index as usize) + value),
        );
    }
    batch.finish(BatchHeader::INCREMENTAL)
}

fn pushes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("push");
    group.throughput(Throughput::Elements(PER_BATCH as u64));
    for series in [10_000, 100_000, 1_000_000] {
        let (mut registry, mut seq) = filled(series);
        let (mut first, mut value) = (0, 1.0);
        group.bench_function(format!("{series} series"), |bencher| {
            bencher.iter_batched(
                || {
                    value += 1.0;
                    first = (first + PER_BATCH) % series;
                    updates(first, series, value)
                },
                |bytes| {
                    seq += 1;
                    push(&mut registry, seq, &bytes);
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn pages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("expose");
    for series in [10_000, 100_000, 1_000_000] {
        let (registry, _) = filled(series);
        println!(
            "{series} series: {} bytes each",
            registry.memory_bytes() / series
        );
        group
            .throughput(Throughput::Elements(series as u64))
            .sample_size(20);
        group.bench_function(format!("{series} series"), |bencher| {
            bencher.iter(|| {
                let mut cursor = Some(b"0".to_vec());
                while let Some(at) = cursor.take() {
                    let request = ExposeRequest {
                        cursor: Some(at),
                        ..ExposeRequest::default()
                    };
                    let page = registry.expose(5, &request).unwrap();
                    black_box(&page.body);
                    cursor = page.next.map(String::into_bytes);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pushes, pages);
criterion_main!(benches);

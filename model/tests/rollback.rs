//! Servers that restart with their data or an older copy, while exporters push at any
//! `flush_interval` and memory may be full: no page shows a dip, no counter restarts, and the total
//! is exact.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Batch, Epoch, FamilyType, GaugeMode, Labels, Limits, Point, Registry, Session, SessionOptions,
};
use proptest::prelude::*;
use support::{TestSource, page};

const OPTIONS: SessionOptions = SessionOptions {
    registry_ttl_ms: 0,
    tombstone_retention_ms: 604_800_000,
};
const LEASE_MS: u64 = 15_000;
const STEP_MS: u64 = 50;
/// Times of an exporter besides `flush_interval`: the longest time between two turns, and the pause
/// after which it sends an empty batch.
const RETRY_PERIOD_MS: u64 = 500;
const HEARTBEAT_MS: u64 = 750;

/// One outage: its start, its length, and the age of the server's data after it.
#[derive(Debug, Clone)]
struct Outage {
    after_ms: u64,
    lasts_ms: u64,
    age_ms: u64,
}

#[derive(Debug, Clone)]
struct Plan {
    /// For each exporter: its `flush_interval`, and the start of its worker.
    exporters: Vec<(u64, u64)>,
    outages: Vec<Outage>,
}

fn plan() -> impl Strategy<Value = Plan> {
    // The whole range of the setting.
    let flush_ms = prop_oneof![Just(10_000), 50..=10_000_u64];
    let exporter = (flush_ms, prop_oneof![Just(0), 0..40_000_u64]);
    let outage = (
        1000..20_000_u64,
        0..20_000_u64,
        prop_oneof![Just(0), 0..5000_u64],
    );
    let outage = outage.prop_map(|(after_ms, lasts_ms, age_ms)| Outage {
        after_ms,
        lasts_ms,
        age_ms,
    });
    let exporters = prop::collection::vec(exporter, 1..4);
    let outages = prop::collection::vec(outage, 1..4);
    (exporters, outages).prop_map(|(exporters, outages)| Plan { exporters, outages })
}

struct Exporter {
    source: TestSource,
    session: Session,
    flush_ms: u64,
    flush_at_ms: u64,
    retry_at_ms: u64,
    sent_at_ms: u64,
}

impl Exporter {
    fn new(number: usize, flush_ms: u64, begins_ms: u64) -> Self {
        let mut source = TestSource::default();
        source.add("c", FamilyType::Counter, &[], Point::Scalar(0.0));
        let mode = FamilyType::Gauge(GaugeMode::Sum);
        source.add("g", mode, &[], Point::Scalar(1.0));
        Self {
            source,
            session: Session::new(format!("writer {number}").into_bytes(), OPTIONS),
            flush_ms,
            flush_at_ms: begins_ms,
            retry_at_ms: begins_ms,
            sent_at_ms: 0,
        }
    }

    /// Takes its turn, if it is due; there may be no server.
    fn turn(&mut self, mut server: Option<&mut Registry>, now_ms: u64) {
        let is_flush = now_ms >= self.flush_at_ms;
        if !is_flush && now_ms < self.retry_at_ms {
            return;
        }
        self.retry_at_ms = now_ms + RETRY_PERIOD_MS.min(self.flush_ms);
        if is_flush {
            self.flush_at_ms = now_ms + self.flush_ms;
        }
        loop {
            let is_silent = now_ms >= self.sent_at_ms + HEARTBEAT_MS;
            if !is_flush && !is_silent && !self.session.is_pending(now_ms) {
                return;
            }
            let push = if is_silent {
                self.session.heartbeat(&self.source, now_ms)
            } else {
                self.session.next(&self.source, now_ms)
            };
            let (Some(push), Some(registry)) = (push, server.as_deref_mut()) else {
                return;
            };
            let stamp = registry.stamp(now_ms, &Limits::default(), false);
            let batch = Batch::decode(&push.batch).unwrap();
            let id = self.session.writer().to_vec();
            let reply = registry.push(&stamp, &id, push.seq, push.epoch, LEASE_MS, &batch);
            self.session.on_reply(&reply, now_ms);
            self.sent_at_ms = now_ms;
        }
    }
}

/// What a Prometheus has seen.
#[derive(Default)]
struct Scraped {
    value: f64,
    count: usize,
    /// The longest time without a page while there was a server.
    without_ms: u64,
    since_ms: u64,
}

impl Scraped {
    fn scrape(&mut self, registry: &Registry, now_ms: u64) {
        if registry.is_healing(now_ms) {
            self.without_ms = self.without_ms.max(now_ms - self.since_ms);
            return;
        }
        let text = page(registry, now_ms);
        let line = text.lines().find_map(|line| line.strip_prefix("c_total "));
        let value = line.map_or(0.0, |value| value.parse().unwrap());
        assert!(value >= self.value, "{} became {value}", self.value);
        (self.value, self.since_ms) = (value, now_ms);
        self.count += 1;
    }
}

/// Returns the longest time without a page while there was a server.
fn run(plan: &Plan) -> u64 {
    let exporters = plan.exporters.iter().enumerate();
    let exporters = exporters.map(|(number, &(flush_ms, begins_ms))| {
        let begins_ms = begins_ms + 1_000_000;
        Exporter::new(number, flush_ms, begins_ms)
    });
    let mut exporters: Vec<Exporter> = exporters.collect();
    let mut now_ms = 1_000_000;
    let mut registry = Registry::new(Epoch(1), Limits::default(), now_ms);
    let mut copies = Vec::new();
    let mut scraped = Scraped::default();
    let rest = Outage {
        after_ms: 70_000,
        lasts_ms: 0,
        age_ms: 0,
    };
    for outage in plan.outages.iter().chain([&rest]) {
        let end_ms = now_ms + outage.after_ms;
        scraped.since_ms = now_ms;
        while now_ms < end_ms {
            now_ms += STEP_MS;
            copies.push((now_ms, registry.encode_snapshot()));
            copies.retain(|(at_ms, _)| at_ms + 6000 > now_ms);
            let counts = end_ms.saturating_sub(now_ms) > 20_000 || outage.lasts_ms > 0;
            for exporter in &mut exporters {
                if counts {
                    exporter.source.set(0, exporter.source.scalar(0) + 1.0);
                }
                exporter.turn(Some(&mut registry), now_ms);
            }
            scraped.scrape(&registry, now_ms);
        }
        let stopped_ms = now_ms;
        for _ in 0..outage.lasts_ms / STEP_MS {
            now_ms += STEP_MS;
            for exporter in &mut exporters {
                exporter.source.set(0, exporter.source.scalar(0) + 1.0);
                exporter.turn(None, now_ms);
            }
        }
        // The copy of that time, or the newest one that is at least as old.
        let of_then = copies
            .iter()
            .rev()
            .find(|(at, _)| at + outage.age_ms <= stopped_ms);
        if let Some((_, copy)) = of_then.filter(|_| outage.lasts_ms > 0) {
            let mut promoted = Registry::decode_snapshot(copy).unwrap();
            promoted.rolled_back(now_ms);
            // A copy without leases waits for no writer: documented as not exact.
            if promoted.is_healing(now_ms) {
                registry = promoted;
            }
            // Copies of the lost branch are not promoted any more.
            copies.clear();
        }
    }
    let counted: f64 = exporters.iter().map(|e| e.source.scalar(0)).sum();
    let total = registry.get(now_ms, "c", &Labels::none());
    assert_eq!(total, Some(metrics_model::Aggregate::Number(counted)));
    assert_eq!(scraped.value, counted);
    scraped.without_ms
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_flush_interval_loses_a_total_when_a_server_restarts(plan in plan()) {
        run(&plan);
    }
}

#[test]
fn pages_are_back_as_soon_as_the_writers_are() {
    let outage = Outage {
        after_ms: 15_000,
        lasts_ms: 3000,
        age_ms: 0,
    };
    let without_ms = run(&Plan {
        exporters: vec![(10_000, 0), (1000, 0)],
        outages: vec![outage],
    });
    assert!(without_ms <= 2000, "{without_ms}");
}

/// What a copy lacks of two writers of one counter.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lack {
    /// One of the writers.
    Writer,
    /// The series of one of the writers, which has others.
    SeriesOfWriter,
    /// The counter, which both writers have defined since.
    Series,
}

/// Sends everything that a writer has; false if the server refuses it because memory is full.
fn send(registry: &mut Registry, session: &mut Session, source: &TestSource, now_ms: u64) -> bool {
    let mut push = session.heartbeat(source, now_ms);
    while let Some(next) = push {
        let stamp = registry.stamp(now_ms, &Limits::default(), true);
        let id = session.writer().to_vec();
        if registry.check_writer(&stamp, &id).is_err() {
            session.on_error();
            return false;
        }
        let batch = Batch::decode(&next.batch).unwrap();
        let reply = registry.push(&stamp, &id, next.seq, next.epoch, LEASE_MS, &batch);
        session.on_reply(&reply, now_ms);
        push = session.next(source, now_ms);
    }
    session.left_out_count() == 0
}

#[test]
fn a_full_server_takes_back_what_its_copy_lacks() {
    for lack in [Lack::Writer, Lack::SeriesOfWriter, Lack::Series] {
        let mut now_ms = 1_000_000;
        let mut registry = Registry::new(Epoch(1), Limits::default(), now_ms);
        let mut writers = [1, 2].map(|number| {
            let session = Session::new(format!("writer {number}").into_bytes(), OPTIONS);
            let mut source = TestSource::default();
            source.add(
                "g",
                FamilyType::Gauge(GaugeMode::Sum),
                &[],
                Point::Scalar(1.0),
            );
            (session, source)
        });
        let write =
            |registry: &mut Registry, (session, source): &mut (Session, TestSource), now_ms| {
                // Memory is not full yet.
                while let Some(push) = session.next(source, now_ms) {
                    let stamp = registry.stamp(now_ms, &Limits::default(), false);
                    let batch = Batch::decode(&push.batch).unwrap();
                    let id = session.writer().to_vec();
                    let reply = registry.push(&stamp, &id, push.seq, push.epoch, LEASE_MS, &batch);
                    session.on_reply(&reply, now_ms);
                }
            };
        let count = |(_, source): &mut (Session, TestSource), value| {
            source.add("c", FamilyType::Counter, &[], Point::Scalar(value));
        };
        if lack != Lack::Series {
            count(&mut writers[1], 16.0);
        }
        write(&mut registry, &mut writers[1], now_ms);
        if lack != Lack::Writer {
            write(&mut registry, &mut writers[0], now_ms);
        }
        let copy = registry.encode_snapshot();
        count(&mut writers[0], 1.0);
        if lack == Lack::Series {
            count(&mut writers[1], 16.0);
        }
        now_ms += 1;
        for writer in &mut writers {
            write(&mut registry, writer, now_ms);
        }
        assert!(page(&registry, now_ms).contains("c_total 17\n"));

        let mut promoted = Registry::decode_snapshot(&copy).unwrap();
        now_ms += 1000;
        promoted.rolled_back(now_ms);
        for (session, source) in &mut writers {
            assert!(send(&mut promoted, session, source, now_ms), "{lack:?}");
        }
        now_ms += 2000;
        assert!(!promoted.is_healing(now_ms));
        assert!(page(&promoted, now_ms).contains("c_total 17\n"), "{lack:?}");

        // From now on nothing new is made, as before the rollback.
        let (session, source) = &mut writers[0];
        source.add("new", FamilyType::Counter, &[], Point::Scalar(1.0));
        assert!(!send(&mut promoted, session, source, now_ms));
        let mut session = Session::new(b"writer 3".to_vec(), OPTIONS);
        assert!(!send(&mut promoted, &mut session, source, now_ms));
        assert!(page(&promoted, now_ms).contains("c_total 17\n"));
    }
}

/// The copy is from the middle of an earlier healing, when one of two writers was back.
#[test]
fn a_copy_that_was_healing_heals_again() {
    run(&Plan {
        exporters: vec![(4401, 5951), (10_000, 0)],
        outages: vec![
            Outage {
                after_ms: 10_151,
                lasts_ms: 8600,
                age_ms: 0,
            },
            Outage {
                after_ms: 3451,
                lasts_ms: 1,
                age_ms: 3201,
            },
        ],
    });
}

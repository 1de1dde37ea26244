//! One instance without Redis: the content of its page, whichever processes die.

use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics_model::{FamilySpec, FamilyType, GaugeMode};
use metrics_store::catalogue::COLLECTED_TIMESTAMP;
use metrics_store::{LinkError, Role, Series, StoreFile, ToArbiter, ToExporter, WorkerStore};
use rustix::process::Signal;

use crate::arbiter::{Exporter, Instance, copy, has};

pub(crate) const FINISHED: &str = r#"gunicorn_worker_requests_total{worker_id="shop:8000:0"} 3"#;
pub(crate) const WITH_ABORTED: &str =
    r#"gunicorn_worker_requests_total{worker_id="shop:8000:0"} 5"#;

#[test]
fn a_worker_that_is_killed_keeps_its_counts_and_its_live_values_go() {
    let mut instance = Instance::new(&[]);
    let (number, mut worker) = instance.worker("shop:8000:0");
    let mut exporter = instance.export();
    let page = instance.page_with("/metrics", "done 1");
    assert!(has(&page, FINISHED), "{page}");
    assert!(has(&page, "gunicorn_http_requests_in_progress 2"), "{page}");
    assert!(
        has(
            &page,
            "gunicorn_worker_memory_bytes{worker_id=\"shop:8000:0\"} "
        ),
        "{page}"
    );
    assert!(!page.contains("requests_started"), "{page}");

    worker.kill();
    assert_eq!(exporter.next_message(), ToArbiter::Released { number });
    let page = instance.get("/metrics");
    assert!(has(&page, WITH_ABORTED), "{page}");
    assert!(
        has(
            &page,
            r#"gunicorn_worker_state{state="stopped",timestamp=""#
        ),
        "{page}"
    );
    for gone in [
        "gunicorn_http_requests_in_progress",
        "gunicorn_worker_memory_bytes",
        "done",
    ] {
        assert!(!has(&page, gone), "{gone} in {page}");
    }
}

/// A worker, played by this process, that evaluates functions of gauges when the test says so.
struct EvaluatingWorker {
    _store: WorkerStore,
    value: Series,
    evaluated_at: Series,
}

impl EvaluatingWorker {
    fn begin(instance: &mut Instance) -> Self {
        instance.add_store(Role::Worker, "shop:8000:0");
        let file = copy(&instance.stores.last().unwrap().1);
        let store = StoreFile::from_fd(file).adopt().unwrap();
        let gauge = FamilySpec::new("asked", FamilyType::Gauge(GaugeMode::LiveSum));
        let series = |spec| store.series(&store.family(&spec, None).unwrap(), &[]);
        Self {
            value: series(gauge).unwrap(),
            evaluated_at: series(COLLECTED_TIMESTAMP.spec()).unwrap(),
            _store: store,
        }
    }

    fn evaluate(&self, value: f64, ago: f64) {
        evaluate(self.value, self.evaluated_at, value, ago);
    }

    /// In a thread of its own, for a page that is asked for meanwhile.
    fn evaluate_after(&self, pause: Duration, value: f64) -> JoinHandle<()> {
        let (series, evaluated_at) = (self.value, self.evaluated_at);
        spawn(move || {
            sleep(pause);
            evaluate(series, evaluated_at, value, 0.0);
        })
    }
}

fn evaluate(series: Series, evaluated_at: Series, value: f64, ago: f64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    series.set(0, value);
    evaluated_at.set(0, now.as_secs_f64() - ago);
}

#[test]
fn the_first_page_after_a_pause_waits_for_values_that_workers_evaluate() {
    let mut instance = Instance::new(&[]);
    let worker = EvaluatingWorker::begin(&mut instance);
    worker.evaluate(1.0, 600.0);
    let _exporter = instance.export();
    let evaluating = worker.evaluate_after(Duration::from_millis(700), 2.0);
    let page = instance.get("/metrics");
    evaluating.join().unwrap();
    assert!(has(&page, "asked 2"), "{page}");
}

#[test]
fn a_worker_that_evaluates_nothing_delays_a_page_for_two_seconds_once() {
    let mut instance = Instance::new(&[]);
    let worker = EvaluatingWorker::begin(&mut instance);
    worker.evaluate(1.0, 600.0);
    let _exporter = instance.export();
    for path in ["/metrics", "/metrics/instance"] {
        let page = instance.get(path);
        assert!(has(&page, "asked 1"), "{page}");
    }
    // Pages are not held any more: neither sees what is evaluated after it was asked for.
    let evaluating = worker.evaluate_after(Duration::from_millis(1_500), 2.0);
    let page = instance.get("/metrics");
    evaluating.join().unwrap();
    assert!(has(&page, "asked 1"), "{page}");
    let own = instance.get("/-/metrics");
    assert!(!own.contains("where=\"refresh\""), "{own}");
}

#[test]
fn the_exporter_after_a_killed_one_knows_the_dead_workers() {
    let mut instance = Instance::new(&[]);
    let (number, mut first) = instance.worker("shop:8000:0");
    let (_, _second) = instance.worker("shop:8000:1");
    let mut exporter = instance.export();
    instance.page_with("/metrics", "done 2");
    first.kill();
    assert_eq!(exporter.next_message(), ToArbiter::Released { number });
    exporter.process.kill();

    // The arbiter may not have read that its store is released: then it sends the store again.
    for is_store_kept in [true, false] {
        if !is_store_kept {
            instance.stores.retain(|(store, _)| store.number != number);
        }
        let mut exporter = instance.export();
        let page = instance.page_with("/metrics", "done 1");
        assert!(has(&page, WITH_ABORTED), "{page}");
        assert!(has(&page, "gunicorn_http_requests_in_progress 2"), "{page}");
        let stopped = page
            .lines()
            .filter(|line| line.contains("state=\"stopped\""))
            .count();
        assert_eq!(stopped, 1, "{page}");
        exporter.process.kill();
    }
}

#[test]
fn a_worker_that_died_without_an_exporter_is_counted() {
    let mut instance = Instance::new(&[]);
    let (number, mut worker) = instance.worker("shop:8000:0");
    let mut exporter = instance.export();
    instance.page_with("/metrics", "done 1");
    exporter.process.kill();
    worker.kill();

    let mut exporter = instance.export();
    assert_eq!(exporter.next_message(), ToArbiter::Released { number });
    let page = instance.get("/metrics");
    assert!(has(&page, WITH_ABORTED), "{page}");
}

#[test]
fn signals_to_the_whole_group_do_not_end_it_and_a_shutdown_does() {
    let instance = Instance::new(&[]);
    let mut exporter = instance.export();
    for signal in [Signal::INT, Signal::QUIT, Signal::HUP, Signal::TERM] {
        exporter.process.signal(signal);
    }
    exporter.link.send(&ToExporter::Ping, vec![]).unwrap();
    assert_eq!(exporter.next_message(), ToArbiter::Pong);

    exporter.link.send(&ToExporter::Shutdown, vec![]).unwrap();
    let mut messages = Vec::new();
    while messages.last() != Some(&ToArbiter::Bye) {
        messages.push(exporter.next_message());
    }
    assert_eq!(exporter.process.status().code(), Some(0));
    assert!(matches!(exporter.link.receive(), Err(LinkError::Closed)));
}

#[test]
fn it_outlives_the_arbiter_until_the_workers_have_ended() {
    let mut instance = Instance::new(&[]);
    let (_, mut worker) = instance.worker("shop:8000:0");
    let Exporter { mut process, link } = instance.export();
    instance.page_with("/metrics", "done 1");
    drop(link);
    // The page is still answered: its worker runs.
    let page = instance.get("/metrics");
    assert!(has(&page, FINISHED), "{page}");
    assert_eq!(process.0.try_wait().unwrap(), None);
    worker.kill();
    assert_eq!(process.status().code(), Some(0));
}

#[test]
fn one_exporter_is_active_and_the_next_waits_for_it() {
    let instance = Instance::new(&[]);
    let mut active = instance.export();
    let mut waiting = instance.boot();
    waiting.link.send(&ToExporter::Ping, vec![]).unwrap();
    assert_eq!(waiting.next_message(), ToArbiter::Pong);
    active.process.kill();
    assert_eq!(waiting.next_message(), ToArbiter::Ready);
}

#[test]
fn the_next_exporter_goes_on_as_the_same_writers() {
    let mut instance = Instance::new(&[]);
    let (_, mut worker) = instance.worker("shop:8000:0");
    let mut exporter = instance.export();
    instance.page_with("/metrics", "done 1");
    worker.kill();
    assert!(matches!(
        exporter.next_message(),
        ToArbiter::Released { .. }
    ));
    // No worker runs, but the instance does not end.
    exporter.link.send(&ToExporter::Replace, vec![]).unwrap();
    assert_eq!(exporter.next_message(), ToArbiter::Bye);
    assert_eq!(exporter.process.status().code(), Some(0));

    let _next = instance.export();
    let page = instance.page_with("/metrics", WITH_ABORTED);
    assert!(
        has(&page, r#"gunicorn_worker_state{state="stopped""#),
        "{page}"
    );
}

#[test]
fn the_page_shows_workers_listeners_and_versions() {
    let mut instance = Instance::new(&[]);
    let (_, _worker) = instance.worker("shop:8000:0");
    let _exporter = instance.export();
    // The exporter may have looked at the worker before its requests were all there.
    let page = instance.page_with("/metrics", r#"gunicorn_workers{state="busy"} 1"#);
    for line in [
        r#"gunicorn_workers{state="idle"} 0"#,
        r#"gunicorn_workers{state="starting"} 0"#,
        r#"gunicorn_backlog_connections{listener="here"} 0"#,
        r#"gunicorn_backlog_limit{listener="here"} "#,
        r#"gunicorn_build_info{version="1.2.3"} 1"#,
        r#"gunicorn_worker_open_files{worker_id="shop:8000:0"} "#,
    ] {
        assert!(has(&page, line), "{line} is not in {page}");
    }
}

#[test]
fn an_exporter_that_gets_another_store_of_its_own_goes_on_there() {
    let mut instance = Instance::new(&[]);
    let (number, mut worker) = instance.worker("shop:8000:0");
    let (_, _other) = instance.worker("shop:8000:1");
    let mut exporter = instance.export();
    instance.page_with("/metrics", "done 2");
    worker.kill();
    assert_eq!(exporter.next_message(), ToArbiter::Released { number });
    let stopped = |page: &str| -> Vec<String> {
        let lines = page
            .lines()
            .filter(|line| line.contains(r#"state="stopped""#));
        lines.map(str::to_owned).collect()
    };
    let before = stopped(&instance.get("/metrics"));
    assert_eq!(before.len(), 1, "{before:?}");

    // A second other than the one in which it was seen to stop.
    sleep(Duration::from_secs(1));
    let old = instance.stores[0].0.number;
    instance.add_store(Role::Exporter, "shop:8000");
    exporter.link.send(&ToExporter::Replace, vec![]).unwrap();
    assert_eq!(exporter.next_message(), ToArbiter::Bye);
    let mut next = instance.export();
    assert_eq!(next.next_message(), ToArbiter::Released { number: old });
    let page = instance.get("/metrics");
    assert_eq!(stopped(&page), before);
    for line in [
        r#"gunicorn_workers{state="busy"} 1"#,
        r#"gunicorn_build_info{version="1.2.3"} 1"#,
        r#"gunicorn_worker_memory_bytes{worker_id="shop:8000:1"} "#,
    ] {
        assert!(has(&page, line), "{line} is not in {page}");
    }
}

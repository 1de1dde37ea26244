//! The exporter of an instance as its arbiter sees it: a process at the other end of a link.
//!
//! These tests play the arbiter. The exporter and the worker are separate processes: this same
//! program, started with the name of the test that stands for them.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which fail by panicking"
)]

mod arbiter;
mod embedded;
mod redis;

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use gunicorn_prometheus_exporter::run_instance;
use metrics_model::{FamilySpec, FamilyType, GaugeMode};
use metrics_store::hidden::{REQUESTS_FINISHED, REQUESTS_STARTED};
use metrics_store::{StoreFile, WorkerStore};

use arbiter::PLAY;

/// How often a worker counts while the test observes it, for two seconds.
const TICKS: usize = 400;

#[test]
#[ignore = "not a test: the exporter process of the others"]
fn play_exporter() {
    if std::env::var(PLAY).is_ok() {
        let link = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        std::process::exit(run_instance(link).into());
    }
}

#[test]
#[ignore = "not a test: the worker process of the others"]
fn play_worker() {
    if std::env::var(PLAY).is_ok() {
        let store = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let store = StoreFile::from_fd(store).adopt().unwrap();
        let worker_id = [("worker_id", store.identity().name.as_str())];
        // Five requests have reached the application, three are finished.
        for (family, value) in [
            (REQUESTS_STARTED, 5.0),
            (REQUESTS_FINISHED, 3.0),
            ("gunicorn_worker_requests", 3.0),
        ] {
            add(&store, family, FamilyType::Counter, &worker_id, value);
        }
        let live = FamilyType::Gauge(GaugeMode::LiveSum);
        add(&store, "gunicorn_http_requests_in_progress", live, &[], 2.0);
        add(&store, "done", live, &[], 1.0);
        for _ in 0..TICKS {
            add(&store, "ticks", FamilyType::Counter, &[], 1.0);
            sleep(Duration::from_millis(5));
        }
        add(&store, "ticked", live, &[], 1.0);
        sleep(Duration::from_mins(1));
    }
}

fn add(store: &WorkerStore, family: &str, of: FamilyType, labels: &[(&str, &str)], value: f64) {
    let family = store.family(&FamilySpec::new(family, of), None).unwrap();
    store.series(&family, labels).unwrap().add(0, value);
}

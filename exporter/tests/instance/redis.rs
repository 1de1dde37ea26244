//! One instance that shares its metrics in Redis: exactly once, whichever process dies, hangs or
//! loses data.
//!
//! These need `redis-server`, and the module of a release build.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use metrics_store::ToArbiter;
use rustix::process::Signal;

use crate::TICKS;
use crate::arbiter::{ChildGuard, Instance, eventually, has};
use crate::embedded::{FINISHED, WITH_ABORTED};

/// A server on a socket of a directory of its own, which ends with the test.
struct Redis {
    process: ChildGuard,
    directory: PathBuf,
}

impl Redis {
    fn start(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("exporter-instance-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let process = serve(&directory);
        let redis = Self { process, directory };
        redis.wait();
        redis
    }

    /// Kills it and starts it again without its data.
    fn restart_empty(&mut self) {
        self.process.kill();
        std::fs::remove_file(self.socket()).unwrap();
        self.process = serve(&self.directory);
        self.wait();
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("redis.sock")
    }

    fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn wait(&self) {
        eventually("redis-server begins", || {
            std::os::unix::net::UnixStream::connect(self.socket()).ok()
        });
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

fn serve(directory: &Path) -> ChildGuard {
    let module =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/libredis_metrics.so");
    assert!(
        module.exists(),
        "{} is missing: cargo build --release -p redis-metrics",
        module.display()
    );
    let child = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--unixsocket",
            "redis.sock",
            "--dir",
        ])
        .arg(directory)
        .arg("--loadmodule")
        .arg(module)
        .current_dir(directory)
        .stdout(Stdio::null())
        .spawn();
    ChildGuard(child.unwrap())
}

fn instance(redis: &Redis) -> Instance {
    Instance::new(&[("GUNICORN_EXPORTER_REDIS_URL", &redis.url())])
}

fn ticks() -> String {
    format!("ticks_total {TICKS}")
}

#[test]
fn a_killed_worker_leaves_the_shared_registry() {
    let redis = Redis::start("leave");
    let mut instance = instance(&redis);
    let (number, mut worker) = instance.worker("shop:8000:0");
    let mut exporter = instance.export();
    let page = instance.page_with("/metrics", "done 1");
    assert!(has(&page, "gunicorn_exporter_registry_info{"), "{page}");
    assert!(has(&page, FINISHED), "{page}");

    worker.kill();
    assert_eq!(exporter.next_message(), ToArbiter::Released { number });
    let page = instance.get("/metrics");
    assert!(has(&page, WITH_ABORTED), "{page}");
    assert!(
        has(&page, "gunicorn_worker_state{state=\"stopped\""),
        "{page}"
    );
    for gone in ["gunicorn_http_requests_in_progress", "done"] {
        assert!(!has(&page, gone), "{gone} in {page}");
    }
}

#[test]
fn exporters_that_are_killed_while_they_push_count_nothing_twice() {
    let redis = Redis::start("killed");
    let mut instance = instance(&redis);
    let (_, _worker) = instance.worker("shop:8000:0");
    for _ in 0..8 {
        let mut exporter = instance.export();
        let began = Instant::now();
        // Each scrape causes a push.
        while began.elapsed() < Duration::from_millis(150) {
            instance.get("/metrics");
        }
        exporter.process.kill();
    }
    let _last = instance.export();
    let page = instance.page_with("/metrics", "ticked 1");
    assert!(has(&page, &ticks()), "{page}");
    assert!(has(&page, FINISHED), "{page}");
    let page = instance.get("/metrics/instance");
    assert!(has(&page, &ticks()), "{page}");
}

#[test]
fn while_redis_hangs_the_instance_answers_and_then_everything_arrives_once() {
    let redis = Redis::start("hangs");
    let mut instance = instance(&redis);
    let (number, mut worker) = instance.worker("shop:8000:0");
    let mut exporter = instance.export();
    instance.page_with("/metrics", "done 1");
    redis.process.signal(Signal::STOP);
    let began = Instant::now();
    let mut pages = 0;
    while began.elapsed() < Duration::from_secs(3) {
        instance.get("/metrics/instance");
        pages += 1;
        sleep(Duration::from_millis(50));
    }
    // If each waited for Redis, there would be one or two.
    assert!(pages > 5, "{pages} pages");
    let page = instance.page_with("/metrics/instance", "ticked 1");
    assert!(has(&page, &ticks()), "{page}");
    // Its store is kept until the shared registry has everything.
    worker.kill();
    sleep(Duration::from_millis(300));
    assert!(exporter.link.receive().unwrap().is_none());

    redis.process.signal(Signal::CONT);
    assert_eq!(exporter.next_message(), ToArbiter::Released { number });
    let page = instance.page_with("/metrics", &ticks());
    assert!(has(&page, WITH_ABORTED), "{page}");
    assert!(!has(&page, "ticked"), "{page}");
}

#[test]
fn a_redis_that_lost_its_data_is_given_what_is_new_only() {
    let mut redis = Redis::start("lost");
    let mut instance = instance(&redis);
    let (_, _worker) = instance.worker("shop:8000:0");
    let _exporter = instance.export();
    let before = instance.page_with("/metrics", "ticked 1");
    assert!(has(&before, &ticks()), "{before}");

    redis.restart_empty();
    let after = instance.page_with("/metrics", "ticked 1");
    // Counters restart at zero; gauges come back whole.
    assert!(has(&after, "ticks_total 0"), "{after}");
    assert!(
        has(&after, "gunicorn_http_requests_in_progress 2"),
        "{after}"
    );
    // This instance has lost nothing.
    let page = instance.get("/metrics/instance");
    assert!(has(&page, &ticks()), "{page}");
}

#[test]
fn an_instance_that_ends_leaves_nothing_live_behind() {
    let redis = Redis::start("ends");
    let mut first = instance(&redis);
    let (_, mut worker) = first.worker("shop:8000:0");
    let mut exporter = first.export();
    first.page_with("/metrics", "done 1");
    worker.kill();
    // The arbiter is killed too, before it sends anything.
    drop(exporter.link);
    assert_eq!(exporter.process.status().code(), Some(0));

    let second = instance(&redis);
    let _exporter = second.export();
    let page = second.get("/metrics");
    assert!(has(&page, WITH_ABORTED), "{page}");
    for gone in [
        "gunicorn_http_requests_in_progress",
        "gunicorn_worker_state",
    ] {
        assert!(!has(&page, gone), "{gone} in {page}");
    }
}

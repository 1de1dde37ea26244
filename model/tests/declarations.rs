//! A declaration that changes takes effect once no live writer holds the old one.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

mod support;

use metrics_model::{
    Batch, Declaration, Epoch, FamilySpec, FamilyType, GaugeMode, Labels, Layout, Limits, Point,
    PushStatus, Registry, Session, SessionOptions,
};
use support::{TestSource, page};

const EPOCH: Epoch = Epoch(7);
const LEASE_MS: u64 = 15_000;
const MAX: FamilyType = FamilyType::Gauge(GaugeMode::Max);
const SUM: FamilyType = FamilyType::Gauge(GaugeMode::Sum);

/// A registry, and a copy that repeats its commands.
struct World {
    primary: Registry,
    replica: Registry,
    limits: Limits,
    now_ms: u64,
}

/// A process with one series, and its session.
struct Process {
    session: Session,
    source: TestSource,
}

impl Process {
    fn new(id: &str, family_type: FamilyType, point: Point) -> Self {
        let options = SessionOptions {
            registry_ttl_ms: 0,
            tombstone_retention_ms: u64::MAX,
        };
        let mut source = TestSource::with_pid(id);
        source.add("jobs", family_type, &[("queue", "a")], point);
        Self {
            session: Session::new(id.as_bytes().to_vec(), options),
            source,
        }
    }

    fn gauge(id: &str, family_type: FamilyType, value: f64) -> Self {
        Self::new(id, family_type, Point::Scalar(value))
    }

    fn counter(id: &str, help: &'static str, value: f64) -> Self {
        let mut process = Self::new(id, FamilyType::Counter, Point::Scalar(value));
        process.source.series[0].help = help;
        process
    }

    /// A histogram with one observation in the lowest bucket.
    fn histogram(id: &str, bounds: [&str; 2]) -> Self {
        let point = Point::Buckets {
            sum: 0.5,
            counts: vec![1, 0, 0],
        };
        let mut process = Self::new(id, FamilyType::Histogram, point);
        process.source.series[0].layout = Some(Layout::new(bounds).unwrap());
        process
    }
}

impl World {
    fn new() -> Self {
        let registry = Registry::new(EPOCH, Limits::default(), 0);
        Self {
            primary: registry.clone(),
            replica: registry,
            limits: Limits::default(),
            now_ms: 1000,
        }
    }

    /// Lets a second pass, and the process send its changes, or a heartbeat if there are none.
    fn push(&mut self, process: &mut Process) {
        self.now_ms += 1000;
        let mut next = process.session.heartbeat(&process.source, self.now_ms);
        while let Some(push) = next {
            let stamp = self.primary.stamp(self.now_ms, &self.limits, false);
            let batch = Batch::decode(&push.batch).unwrap();
            let id = process.session.writer().to_vec();
            let reply = self
                .primary
                .push(&stamp, &id, push.seq, push.epoch, LEASE_MS, &batch);
            self.replica
                .push(&stamp, &id, push.seq, push.epoch, LEASE_MS, &batch);
            process.session.on_reply(&reply, self.now_ms);
            next = process.session.next(&process.source, self.now_ms);
        }
        self.check();
    }

    fn leave(&mut self, process: &mut Process) {
        self.push(process);
        let (seq, epoch) = process.session.leave().unwrap();
        let stamp = self.primary.stamp(self.now_ms, &self.limits, false);
        let id = process.session.writer();
        let reply = self.primary.leave(&stamp, id, seq, epoch);
        self.replica.leave(&stamp, id, seq, epoch);
        assert_eq!(reply.status, PushStatus::Ok);
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..10 {
            let stamp = self.primary.stamp_of_settling(self.now_ms, &self.limits);
            self.primary.settle(&stamp);
            self.replica.settle(&stamp);
        }
        self.check();
    }

    /// Checks that the copy equals the registry, also after decoding.
    fn check(&mut self) {
        let bytes = self.primary.encode_snapshot();
        assert!(bytes == self.replica.encode_snapshot());
        let read = Registry::decode_snapshot(&bytes).unwrap();
        assert!(bytes == read.encode_snapshot());
        self.replica = read;
    }

    /// Returns what a page shows of `jobs`.
    fn page(&self) -> String {
        let page = page(&self.primary, self.now_ms);
        let lines = page.lines();
        let lines = lines.filter(|line| line.contains("jobs") && !line.contains("_created"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn another_mode_takes_effect_when_the_last_live_writer_of_the_old_one_has_left() {
    let mut world = World::new();
    let (mut old, mut new) = (
        Process::gauge("old", SUM, 3.0),
        Process::gauge("new", MAX, 5.0),
    );
    let mut other = Process::gauge("other", SUM, 4.0);
    for process in [&mut old, &mut other, &mut new] {
        world.push(process);
    }
    let of_old = "# TYPE jobs gauge\njobs{queue=\"a\"} 7";
    assert_eq!(world.page(), of_old);
    assert_eq!(new.session.left_out_count(), 1);
    world.leave(&mut old);
    world.push(&mut new);
    assert_eq!(world.page(), of_old);
    world.leave(&mut other);
    world.push(&mut new);
    assert_eq!(world.page(), "# TYPE jobs gauge\njobs{queue=\"a\"} 5");
    assert_eq!(new.session.left_out_count(), 0);
    // And back again.
    world.leave(&mut new);
    world.push(&mut Process::gauge("back", SUM, 1.0));
    assert_eq!(world.page(), "# TYPE jobs gauge\njobs{queue=\"a\"} 1");
}

#[test]
fn another_type_takes_effect_when_the_lease_of_the_old_one_is_over() {
    let mut world = World::new();
    let mut old = Process::counter("old", "", 3.0);
    let mut new = Process::gauge("new", MAX, 5.0);
    world.push(&mut old);
    while world.now_ms < 1000 + LEASE_MS {
        world.push(&mut new);
        assert_eq!(
            world.page(),
            "# TYPE jobs_total counter\njobs_total{queue=\"a\"} 3"
        );
    }
    world.settle();
    world.push(&mut new);
    world.push(&mut new);
    let of_new = "# TYPE jobs gauge\njobs{queue=\"a\"} 5";
    assert_eq!(world.page(), of_new);
    // It was only silent: now its declaration is the one that waits.
    old.source.set(0, 10.0);
    world.push(&mut old);
    assert_eq!(world.page(), of_new);
    assert_eq!(old.session.left_out_count(), 1);
    world.leave(&mut new);
    world.push(&mut old);
    // What it had counted before was shown; DEL counts the same way.
    assert_eq!(
        world.page(),
        "# TYPE jobs_total counter\njobs_total{queue=\"a\"} 7"
    );
}

#[test]
fn a_family_whose_sample_names_meet_it_gives_way_too() {
    let mut world = World::new();
    let mut old = Process::counter("old", "", 3.0);
    let mut new = Process::gauge("new", MAX, 5.0);
    new.source.series[0].name = "jobs_total";
    world.push(&mut old);
    world.push(&mut new);
    assert_eq!(
        world.page(),
        "# TYPE jobs_total counter\njobs_total{queue=\"a\"} 3"
    );
    world.leave(&mut old);
    world.push(&mut new);
    assert_eq!(
        world.page(),
        "# TYPE jobs_total gauge\njobs_total{queue=\"a\"} 5"
    );
}

#[test]
fn another_help_text_keeps_the_numbers_and_is_shown_when_the_old_ones_writers_have_gone() {
    let mut world = World::new();
    let mut old = Process::counter("old", "Old words", 3.0);
    let mut new = Process::counter("new", "New words", 4.0);
    world.push(&mut old);
    world.push(&mut new);
    let page = |help: &str| {
        format!("# HELP jobs_total {help}\n# TYPE jobs_total counter\njobs_total{{queue=\"a\"}} 7")
    };
    assert_eq!(world.page(), page("Old words"));
    world.leave(&mut old);
    assert_eq!(world.page(), page("New words"));
    // A restart: between the two no writer is live.
    world.leave(&mut new);
    assert_eq!(world.page(), page("New words"));
    world.push(&mut Process::counter("newer", "Newer words", 0.0));
    assert_eq!(world.page(), page("Newer words"));
}

#[test]
fn the_newest_of_three_help_texts_is_shown() {
    let mut world = World::new();
    let mut processes = ["one", "two", "three"].map(|help| Process::counter(help, help, 1.0));
    for process in &mut processes {
        world.push(process);
    }
    let [one, two, three] = &mut processes;
    assert!(world.page().contains("HELP jobs_total one\n"));
    world.leave(one);
    assert!(world.page().contains("HELP jobs_total three\n"));
    world.leave(two);
    assert!(world.page().contains("HELP jobs_total three\n"));
    world.leave(three);
    assert!(world.page().ends_with(" 3"));
}

#[test]
fn other_bounds_stand_alone_when_no_live_writer_has_the_old_ones() {
    let mut world = World::new();
    let mut old = Process::histogram("old", ["1", "2"]);
    old.source.add(
        "jobs",
        FamilyType::Histogram,
        &[],
        old.source.series[0].point.clone(),
    );
    let mut new = Process::histogram("new", ["1", "5"]);
    world.push(&mut old);
    world.push(&mut new);
    // Both count, on their common bounds.
    let shared = world.page();
    assert!(shared.contains("jobs_count{queue=\"a\"} 2"), "{shared}");
    assert!(!shared.contains("queue=\"a\",le=\"2\"") && !shared.contains("le=\"5\""));
    world.leave(&mut old);
    let of_new = "# TYPE jobs histogram\n\
        jobs_bucket{queue=\"a\",le=\"1\"} 1\n\
        jobs_bucket{queue=\"a\",le=\"5\"} 1\n\
        jobs_bucket{queue=\"a\",le=\"+Inf\"} 1\n\
        jobs_sum{queue=\"a\"} 0.5\n\
        jobs_count{queue=\"a\"} 1";
    assert_eq!(world.page(), of_new);
    // A restart: the old series stay until the new writer comes.
    world.leave(&mut new);
    assert_eq!(world.page(), of_new);
    world.push(&mut Process::histogram("newer", ["3", "4"]));
    world.settle();
    assert_eq!(
        world.page(),
        of_new.replace("\"1\"", "\"3\"").replace("\"5\"", "\"4\"")
    );
}

#[test]
fn a_writer_of_new_bounds_that_comes_and_goes_changes_nothing_while_the_old_ones_are_held() {
    let mut world = World::new();
    let mut old = Process::histogram("old", ["1", "2"]);
    world.push(&mut old);
    for canary in ["one", "two"] {
        let mut new = Process::histogram(canary, ["1", "5"]);
        world.push(&mut new);
        world.leave(&mut new);
        world.push(&mut old);
    }
    assert!(world.page().ends_with("jobs_count{queue=\"a\"} 3"));
}

#[test]
fn families_written_or_declared_by_hand_stay() {
    let labels = Labels::new([("queue", "a")]).unwrap();
    let mut world = World::new();
    let stamp = world.primary.stamp(1000, &world.limits, false);
    for registry in [&mut world.primary, &mut world.replica] {
        registry.inc(&stamp, "jobs", &labels, 2.0, None).unwrap();
    }
    let mut new = Process::gauge("new", MAX, 5.0);
    world.push(&mut new);
    let by_hand = "# TYPE jobs_total counter\njobs_total{queue=\"a\"} 2";
    assert_eq!(world.page(), by_hand);
    world.now_ms += 1000;
    let stamp = world.primary.stamp(world.now_ms, &world.limits, false);
    let spec = FamilySpec::new("jobs", FamilyType::Counter);
    for registry in [&mut world.primary, &mut world.replica] {
        registry.del(&stamp, "jobs", None);
        registry
            .declare(&stamp, &spec, &Declaration::default())
            .unwrap();
    }
    world.push(&mut new);
    assert_eq!(new.session.left_out_count(), 1);
    for registry in [&mut world.primary, &mut world.replica] {
        registry.del(&stamp, "jobs", None);
    }
    world.push(&mut new);
    world.push(&mut new);
    assert_eq!(world.page(), "# TYPE jobs gauge\njobs{queue=\"a\"} 5");
}

#[test]
fn a_full_registry_takes_a_new_declaration_in_the_place_of_the_old_one() {
    let mut world = World::new();
    world.limits.max_series = 1;
    let mut old = Process::gauge("old", SUM, 3.0);
    world.push(&mut old);
    world.leave(&mut old);
    world.push(&mut Process::gauge("new", MAX, 5.0));
    assert_eq!(world.page(), "# TYPE jobs gauge\njobs{queue=\"a\"} 5");
}

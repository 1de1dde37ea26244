//! The shared registry shows the same as the instance's own, whichever writers have died, and when,
//! and whether they or a carry-over store have sent the remaining values.

use std::sync::{Arc, Mutex};

use metrics_model::{Epoch, ExposeRequest, Limits, Registry};
use metrics_store::{Identity, Role, WorkerStore};
use proptest::prelude::*;

use super::super::{Leaving, PushScope, SharedPush, TakenGauges, Writer, WriterOptions};
use super::*;
use crate::embedded::EmbeddedRegistry;

const WRITERS: usize = 5;
const LEASE_MS: u64 = 15_000;

#[derive(Debug, Clone)]
enum Step {
    /// A writer sets its gauge, and counts.
    Set { writer: usize, value: f64, time: u8 },
    /// The writer sends what it has to the shared registry.
    Push { writer: usize },
    /// Its process ends; another takes its place.
    Die { writer: usize },
    /// All waiting dead writers are merged.
    PassOn,
    /// Some batches of dead writers arrive; the last answer may be lost.
    Arrive { batches: u8 },
    /// The exporter is killed, and another continues.
    Succeed,
    /// The shared registry loses its data.
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    let odd = [
        0.0,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        5e-324,
        9.0,
        3.0,
    ];
    let value = prop_oneof![
        2 => (-40..40_i8).prop_map(|number| f64::from(number) / 4.0),
        3 => prop::sample::select(odd.to_vec()),
    ];
    let writer = || 0..WRITERS;
    prop_oneof![
        6 => (writer(), value, 1..4_u8).prop_map(|(writer, value, time)| Step::Set { writer, value, time }),
        4 => writer().prop_map(|writer| Step::Push { writer }),
        3 => writer().prop_map(|writer| Step::Die { writer }),
        2 => Just(Step::PassOn),
        1 => (0..12_u8).prop_map(|batches| Step::Arrive { batches }),
        1 => Just(Step::Succeed),
        1 => Just(Step::Lose),
    ]
}

fn registry(epoch: u64) -> EmbeddedRegistry {
    let now_ms = crate::clock::now_ms();
    let registry = Registry::new(Epoch(epoch), Limits::default(), now_ms);
    EmbeddedRegistry::new(Arc::new(Mutex::new(registry)))
}

/// A store, its writing process, and its reader.
struct Process {
    store: Option<WorkerStore>,
    file: StoreFile,
    writer: Writer,
}

struct World {
    mode: GaugeMode,
    number: u64,
    living: Vec<Process>,
    waiting: Vec<Process>,
    local: EmbeddedRegistry,
    shared: EmbeddedRegistry,
    epoch: u64,
    /// What the shared registry does not get again after it lost its data.
    lost: f64,
}

impl World {
    fn new(mode: GaugeMode) -> Self {
        let mut world = Self {
            mode,
            number: 0,
            living: Vec::new(),
            waiting: Vec::new(),
            local: registry(1),
            shared: registry(2),
            epoch: 2,
            lost: 0.0,
        };
        for _ in 0..WRITERS {
            let process = world.begin();
            world.living.push(process);
        }
        world
    }

    fn options() -> WriterOptions {
        WriterOptions {
            instance: "shop:1".to_owned(),
            ttl_ms: 300_000,
            shards: 1,
        }
    }

    fn file(&mut self, role: Role) -> StoreFile {
        self.number += 1;
        let identity = Identity {
            role,
            number: self.number,
            slot: 0,
            name: format!("shop:1:{}", self.number),
        };
        StoreFile::create(&identity).unwrap()
    }

    fn read(file: &StoreFile) -> Writer {
        let reader = StoreReader::open(file.duplicate_fd().unwrap()).unwrap();
        Writer::new(reader, None, &Self::options())
    }

    fn begin(&mut self) -> Process {
        let file = self.file(Role::Worker);
        // Each has a pid of its own: of several writers with one pid, a gauge shows only the last.
        let process = metrics_store::Process {
            pid: u32::try_from(self.number).unwrap(),
            ..metrics_store::Process::current()
        };
        let store = file.duplicate().unwrap().adopt_as(process).unwrap();
        let writer = Self::read(&file);
        Process {
            store: Some(store),
            file,
            writer,
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Set {
                writer,
                value,
                time,
            } => self.set(writer, value, time),
            Step::Push { writer } => {
                let shared = self.shared.clone();
                let writer = &mut self.living[writer].writer;
                writer.refresh().unwrap();
                talk(writer, &shared, true, usize::MAX);
            }
            Step::Die { writer } => {
                let next = self.begin();
                let mut dead = std::mem::replace(&mut self.living[writer], next);
                dead.store = None;
                dead.writer.refresh().unwrap();
                dead.writer.leave_local(&self.local).unwrap();
                self.waiting.push(dead);
            }
            Step::PassOn => self.carry_over(),
            Step::Arrive { batches } => {
                for process in &mut self.waiting {
                    talk(&mut process.writer, &self.shared, false, batches.into());
                }
            }
            Step::Succeed => {
                for process in &mut self.waiting {
                    process.writer = Self::read(&process.file);
                }
            }
            Step::Lose => {
                self.lost += counted(&self.shared);
                self.epoch += 1;
                self.shared = registry(self.epoch);
            }
        }
    }

    fn set(&mut self, writer: usize, value: f64, time: u8) {
        let store = self.living[writer].store.as_ref().unwrap();
        let spec = FamilySpec::new("g", FamilyType::Gauge(self.mode));
        let gauge = store.series(&store.family(&spec, None).unwrap(), &[]);
        if self.mode.is_timed() {
            gauge.unwrap().set_timed(value, time.into());
        } else {
            gauge.unwrap().set(0, value);
        }
        let spec = FamilySpec::new("c", FamilyType::Counter);
        let counter = store.series(&store.family(&spec, None).unwrap(), &[]);
        counter.unwrap().add(0, 1.0);
    }

    fn carry_over(&mut self) {
        let file = self.file(Role::CarryOver);
        let mut carry_over = CarryOver::new(&file).unwrap();
        let (gone, staying): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|process| process.writer.may_carry_over());
        for process in &gone {
            process.writer.carry_over(&mut carry_over).unwrap();
        }
        carry_over.finish().unwrap();
        self.waiting = staying;
        let writer = Self::read(&file);
        self.waiting.push(Process {
            store: None,
            file,
            writer,
        });
    }

    /// Redis answers again, and every writer has a turn.
    fn settle(&mut self) {
        for process in &mut self.living {
            process.writer.refresh().unwrap();
            process.writer.flush_local(&self.local).unwrap();
            talk(&mut process.writer, &self.shared, true, usize::MAX);
        }
        for process in &mut self.waiting {
            talk(&mut process.writer, &self.shared, false, usize::MAX);
            assert!(process.writer.has_left_shared());
        }
    }
}

fn counted(registry: &EmbeddedRegistry) -> f64 {
    let lines = lines(registry, "c_total");
    lines.first().copied().unwrap_or(0.0)
}

/// A writer's turn, as long as the registry answers.
fn talk(writer: &mut Writer, shared: &EmbeddedRegistry, is_live: bool, answers: usize) {
    talk_without(writer, shared, is_live, answers, &TakenGauges::default());
}

/// The same, without the gauges that a living process has taken.
fn talk_without(
    writer: &mut Writer,
    shared: &EmbeddedRegistry,
    is_live: bool,
    answers: usize,
    taken: &TakenGauges,
) {
    let now_ms = crate::clock::now_ms();
    let what = if is_live {
        PushScope::Changes
    } else {
        PushScope::Rest
    };
    for round in 0.. {
        if let Some(SharedPush { writer: id, push }) = writer.next_shared(0, now_ms, what, taken) {
            let reply = shared.push(&id, push.seq, push.epoch, LEASE_MS, &push.batch);
            if round >= answers {
                return;
            }
            writer.on_shared_reply(0, &reply.unwrap(), now_ms);
            // One heartbeat is enough.
            if is_live && round > 3 {
                return;
            }
            continue;
        }
        if is_live {
            return;
        }
        let Leaving::Leave(leave) = writer.leave_shared(0) else {
            return;
        };
        let reply = shared.leave(&leave.writer, leave.seq, leave.epoch);
        if round >= answers || writer.on_shared_leave_reply(0, &reply) {
            return;
        }
    }
}

/// Returns the values of a page's samples of that name, sorted.
fn lines(registry: &EmbeddedRegistry, name: &str) -> Vec<f64> {
    let page = registry.page(&ExposeRequest::default()).unwrap().body;
    let page = String::from_utf8(page).unwrap();
    let of_name = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{']))
    };
    let values = page.lines().filter(of_name).map(|line| {
        let (_, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap()
    });
    let mut values = values.collect::<Vec<_>>();
    values.sort_by(f64::total_cmp);
    values
}

fn agree(one: &[f64], other: &[f64]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(a, b)| {
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || (a - b).abs() < 1e-9
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn shared_and_instance_pages_agree_after_any_deaths(
        steps in prop::collection::vec(step(), 1..40),
        mode in prop::sample::select(GaugeMode::EVERY.to_vec()),
    ) {
        let mut world = World::new(mode);
        for step in &steps {
            world.take(step);
        }
        world.settle();
        let has_lost = steps.iter().any(|step| matches!(step, Step::Lose));
        let (local, shared) = (lines(&world.local, "g"), lines(&world.shared, "g"));
        let shared_count = counted(&world.shared) + world.lost;
        // Writers that had left before the data were lost do not send again; unacknowledged values
        // are sent again.
        // acknowledged is.
        if has_lost {
            prop_assert!(counted(&world.local) <= shared_count);
        } else {
            prop_assert!(agree(&local, &shared), "{:?} here, {:?} shared", local, shared);
            prop_assert_eq!(counted(&world.local), shared_count);
        }
    }
}

#[test]
fn the_gauges_of_seventy_dead_writers_are_what_they_had_set_last() {
    let cases = [
        (GaugeMode::Min, 0.0, 5.0, 0.0),
        (GaugeMode::Max, 0.0, -5.0, 0.0),
        (GaugeMode::Min, -0.0, 4.0, -0.0),
        (GaugeMode::Sum, f64::INFINITY, 5.0, f64::INFINITY),
    ];
    for (mode, first, others, expected) in cases {
        let mut world = World::new(mode);
        for number in 0..70 {
            let value = if number == 0 { first } else { others };
            world.set(0, value, 1);
            world.take(&Step::Die { writer: 0 });
        }
        world.take(&Step::PassOn);
        world.settle();
        for registry in [&world.local, &world.shared] {
            let shown = lines(registry, "g");
            assert_eq!(shown.len(), 1);
            assert_eq!(
                shown[0].to_bits(),
                f64::to_bits(expected),
                "{mode:?}: {shown:?}"
            );
        }
    }
}

#[test]
fn a_dead_writers_gauge_does_not_take_the_place_of_a_living_ones_with_the_same_process_id() {
    for is_carried_over in [false, true] {
        let mut world = World::new(GaugeMode::All);
        world.set(0, 5.0, 1);
        let other = |store: &WorkerStore, name| {
            let spec = FamilySpec::new(name, FamilyType::Gauge(GaugeMode::All));
            let family = store.family(&spec, None).unwrap();
            store.series(&family, &[]).unwrap().set(0, 6.0);
        };
        other(world.living[0].store.as_ref().unwrap(), "of_the_dead_alone");
        // Redis is away; the process dies, and another gets its id.
        let process = world.living[0].writer.process().unwrap();
        world.take(&Step::Die { writer: 0 });
        if is_carried_over {
            world.take(&Step::PassOn);
        }
        let file = world.file(Role::Worker);
        let store = file.duplicate().unwrap().adopt_as(process).unwrap();
        let writer = World::read(&file);
        world.living[0] = Process {
            store: Some(store),
            file,
            writer,
        };
        world.set(0, 7.0, 1);
        let mut living = world.living.swap_remove(0).writer;
        living.refresh().unwrap();
        talk(&mut living, &world.shared, true, usize::MAX);

        for dead in &mut world.waiting {
            let mut taken = TakenGauges::default();
            let pid = dead.writer.next_pid(0).unwrap();
            living.add_gauges_of(&pid, &mut taken);
            talk_without(&mut dead.writer, &world.shared, false, usize::MAX, &taken);
            assert!(dead.writer.has_left_shared());
        }
        assert_eq!(lines(&world.shared, "g"), [7.0], "{is_carried_over}");
        assert_eq!(lines(&world.shared, "of_the_dead_alone"), [6.0]);
        assert_eq!(counted(&world.shared), 2.0);
    }
}

#[test]
fn putting_dead_writers_together_again_and_again_keeps_no_memory() {
    let mut world = World::new(GaugeMode::Sum);
    let mut stores = Vec::new();
    for _ in 0..50 {
        for writer in 0..WRITERS {
            world.set(writer, 1.0, 1);
            world.take(&Step::Die { writer });
        }
        world.take(&Step::PassOn);
        let put_together = &world.waiting.last().unwrap().file;
        stores.push(rustix::fs::fstat(put_together).unwrap().st_ino);
        world.settle();
        world.waiting.clear();
    }
    // By their inodes: this process also maps the stores of the workers that it plays, and of other tests.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter(|line| {
        let mut fields = line.split_whitespace();
        let inode = fields.nth(4).and_then(|inode| inode.parse().ok());
        line.contains("memfd") && inode.is_some_and(|inode| stores.contains(&inode))
    });
    assert_eq!(mapped.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn what_a_registry_had_acknowledged_gives_way_to_what_was_set_unseen() {
    for (mode, acknowledged, unseen) in [
        (GaugeMode::Max, 9.0, 3.0),
        (GaugeMode::Min, -9.0, 3.0),
        (GaugeMode::Sum, f64::INFINITY, 5.0),
        (GaugeMode::All, 9.0, 3.0),
    ] {
        let mut world = World::new(mode);
        world.set(0, acknowledged, 1);
        world.take(&Step::Push { writer: 0 });
        assert_eq!(lines(&world.shared, "g"), [acknowledged]);
        world.set(0, unseen, 1);
        world.take(&Step::Die { writer: 0 });
        world.take(&Step::PassOn);
        world.settle();
        assert_eq!(lines(&world.shared, "g"), [unseen], "{mode:?}");
    }
}

//! In the modes that show each writer, no page has one `pid` twice: the writer that wrote last has it.
#![allow(clippy::unwrap_used, reason = "a failed test should stop here")]

use metrics_model::{
    Batch, BatchHeader, BatchKind, BatchWriter, Epoch, ExposeRequest, FamilySpec, FamilyType,
    Format, GaugeMode, GaugeWrite, Labels, Limits, Point, PushStatus, Reason, Registry, Stamp,
};
use proptest::prelude::*;

const EPOCH: Epoch = Epoch(7);
const LEASE_MS: u64 = 100;
const RETENTION_MS: u64 = 200;

/// Who writes: ids and texts that meet each other.
const WRITERS: [Kind; 8] = [
    Kind::Direct(b"\xff"),
    Kind::Direct(b"\xfe"),
    Kind::Direct(b"7"),
    Kind::Pushing("7"),
    Kind::Pushing("7"),
    Kind::Pushing("8"),
    Kind::Pushing(""),
    Kind::Direct(b""),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// It sets values by commands, under its id.
    Direct(&'static [u8]),
    /// It sends batches, under that text; each of its lives has another id.
    Pushing(&'static str),
}

impl Kind {
    fn pid(self) -> &'static str {
        match self {
            Self::Direct(id) => std::str::from_utf8(id).unwrap_or("\u{fffd}"),
            Self::Pushing(pid) => pid,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Set { writer: usize, value: f64 },
    Renew { writer: usize },
    Leave { writer: usize },
    Wait { ms: u64 },
}

fn deed() -> impl Strategy<Value = Deed> {
    let writer = 0..WRITERS.len();
    prop_oneof![
        6 => (writer.clone(), 0..100_u32).prop_map(|(writer, value)| Deed::Set { writer, value: f64::from(value) }),
        2 => writer.clone().prop_map(|writer| Deed::Renew { writer }),
        2 => writer.prop_map(|writer| Deed::Leave { writer }),
        3 => prop_oneof![Just(0), 1..90_u64, 100..500_u64].prop_map(|ms| Deed::Wait { ms }),
    ]
}

/// One life of one writer, as the test sees it.
#[derive(Debug, Clone, Copy, Default)]
struct Life {
    seq: u64,
    lease_end_ms: u64,
    left_ms: Option<u64>,
}

impl Life {
    fn is_over(&self, now_ms: u64) -> bool {
        self.left_ms.is_some() || self.lease_end_ms.saturating_add(RETENTION_MS) <= now_ms
    }

    fn shows(&self, mode: GaugeMode, now_ms: u64) -> bool {
        if mode == GaugeMode::LiveAll {
            return self.left_ms.is_none() && self.lease_end_ms > now_ms;
        }
        let forgotten_ms = self.lease_end_ms.saturating_add(RETENTION_MS);
        let gone_ms = self.left_ms.unwrap_or(forgotten_ms);
        gone_ms.saturating_add(RETENTION_MS) > now_ms
    }
}

/// A registry that is left alone, one that is settled all the time, and one that is read back from its
/// bytes all the time; and what they should show.
struct World {
    registries: [Registry; 3],
    mode: GaugeMode,
    now_ms: u64,
    lives: Vec<Life>,
    /// The present life of each writer.
    current: [Option<usize>; WRITERS.len()],
    /// The life that wrote last under each text, and its value.
    holders: Vec<(&'static str, usize, f64)>,
}

impl World {
    fn new(mode: GaugeMode) -> Self {
        let limits = Limits {
            writer_retention_ms: RETENTION_MS,
            ..Limits::default()
        };
        Self {
            registries: [(); 3].map(|()| Registry::new(EPOCH, limits, 0)),
            mode,
            now_ms: 1_000,
            lives: Vec::new(),
            current: [None; WRITERS.len()],
            holders: Vec::new(),
        }
    }

    fn begin(&mut self, writer: usize) -> usize {
        let known = self.current[writer].filter(|life| !self.lives[*life].is_over(self.now_ms));
        known.unwrap_or_else(|| {
            self.lives.push(Life::default());
            self.current[writer] = Some(self.lives.len() - 1);
            self.lives.len() - 1
        })
    }

    fn set_directly(&mut self, id: &[u8], family: &str, mode: GaugeMode, value: f64) {
        let write = GaugeWrite {
            family,
            labels: &Labels::none(),
            value,
            mode: Some(mode),
            writer: id,
            lease_ms: (!id.is_empty()).then_some(LEASE_MS),
            ttl_ms: None,
        };
        let stamp = Stamp::at(self.now_ms, EPOCH);
        for registry in &mut self.registries {
            registry.set(&stamp, &write).unwrap();
        }
    }

    fn push(&mut self, life: usize, kind: BatchKind, fill: impl Fn(&mut BatchWriter)) {
        let mut batch = BatchWriter::new();
        fill(&mut batch);
        let bytes = batch.finish(BatchHeader {
            kind,
            last: kind != BatchKind::Incremental,
            ..BatchHeader::FULL
        });
        let (batch, stamp) = (
            Batch::decode(&bytes).unwrap(),
            Stamp::at(self.now_ms, EPOCH),
        );
        self.lives[life].seq += 1;
        let (id, seq) = (life.to_be_bytes(), self.lives[life].seq);
        for registry in &mut self.registries {
            let reply = registry.push(&stamp, &id, seq, Some(EPOCH), LEASE_MS, &batch);
            assert_eq!((reply.status, reply.left_out), (PushStatus::Ok, 0));
        }
    }

    fn take(&mut self, deed: Deed) {
        match deed {
            Deed::Set { writer, value } => self.set(writer, value),
            Deed::Renew { writer } => self.renew(writer),
            Deed::Leave { writer } => self.leave(writer),
            Deed::Wait { ms } => self.now_ms += ms,
        }
        while let Some(at_ms) = self.registries[1].next_work_ms(self.now_ms)
            && at_ms <= self.now_ms
        {
            self.registries[1].settle(&Stamp::at(self.now_ms, EPOCH));
        }
        let snapshot = self.registries[0].encode_snapshot();
        let copy = Registry::decode_snapshot(&snapshot).unwrap();
        assert!(copy.encode_snapshot() == snapshot);
        assert!(self.registries[2].encode_snapshot() == snapshot);
        self.registries[2] = copy;
    }

    fn set(&mut self, writer: usize, value: f64) {
        let life = self.begin(writer);
        let (mode, kind) = (self.mode, WRITERS[writer]);
        match kind {
            Kind::Direct(id) => self.set_directly(id, "g", mode, value),
            Kind::Pushing(pid) if self.lives[life].seq == 0 => {
                let full = BatchKind::Full { forgotten_seq: 0 };
                self.push(life, full, |batch| {
                    let family = batch.family(&FamilySpec::new("g", FamilyType::Gauge(mode)));
                    let (labels, point) = (std::iter::empty(), Point::Scalar(value));
                    batch.define(family, 0, labels, pid, None, &point, None);
                });
            }
            Kind::Pushing(_) => self.push(life, BatchKind::Incremental, |batch| {
                batch.update(0, &Point::Scalar(-1.0), &Point::Scalar(value));
            }),
        }
        self.extend(writer, life);
        self.holders.retain(|(pid, ..)| *pid != kind.pid());
        self.holders.push((kind.pid(), life, value));
    }

    fn extend(&mut self, writer: usize, life: usize) {
        let is_everybody = matches!(WRITERS[writer], Kind::Direct(b""));
        self.lives[life].lease_end_ms = if is_everybody {
            u64::MAX
        } else {
            self.now_ms + LEASE_MS
        };
    }

    /// It is heard of, and says nothing of the gauge.
    fn renew(&mut self, writer: usize) {
        let known = self.current[writer].filter(|life| !self.lives[*life].is_over(self.now_ms));
        let Some(life) = known else { return };
        match WRITERS[writer] {
            Kind::Direct(id) => self.set_directly(id, "other", GaugeMode::Sum, 1.0),
            Kind::Pushing(_) => self.push(life, BatchKind::Incremental, |_| {}),
        }
        self.extend(writer, life);
    }

    fn leave(&mut self, writer: usize) {
        let known = self.current[writer].filter(|life| !self.lives[*life].is_over(self.now_ms));
        let Some(life) = known else { return };
        let (stamp, seq) = (Stamp::at(self.now_ms, EPOCH), self.lives[life].seq);
        let number = life.to_be_bytes();
        let id = match WRITERS[writer] {
            Kind::Direct(b"") => return,
            Kind::Direct(id) => id,
            Kind::Pushing(_) => &number,
        };
        for registry in &mut self.registries {
            let reply = registry.leave(&stamp, id, seq, Some(EPOCH));
            assert_eq!(reply.status, PushStatus::Ok);
        }
        self.lives[life].left_ms = Some(self.now_ms);
    }

    /// The samples of the gauge at that time, by the rule.
    fn expected(&self, now_ms: u64) -> Vec<String> {
        let shown = self.holders.iter();
        let shown = shown.filter(|(_, life, _)| self.lives[*life].shows(self.mode, now_ms));
        let mut lines = shown
            .map(|(pid, _, value)| match *pid {
                "" => format!("g {value}"),
                pid => format!("g{{pid=\"{pid}\"}} {value}"),
            })
            .collect::<Vec<_>>();
        lines.sort_unstable();
        lines
    }
}

/// The samples of the gauge on a page.
fn samples(registry: &Registry, now_ms: u64) -> Vec<String> {
    let mut cursor = Some("0".to_owned());
    let mut lines = Vec::new();
    while let Some(at) = cursor {
        let request = ExposeRequest {
            format: Format::Text,
            names: vec!["g".to_owned()],
            cursor: Some(at.into_bytes()),
            ..ExposeRequest::default()
        };
        let page = registry.expose(now_ms, &request).unwrap();
        let text = String::from_utf8(page.body).unwrap();
        let of_page = text.lines().filter(|line| !line.starts_with('#'));
        lines.extend(of_page.map(str::to_owned));
        cursor = page.next;
    }
    lines.sort_unstable();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_writers_with_one_pid_the_last_that_wrote_is_shown(
        deeds in prop::collection::vec(deed(), 1..60),
        mode in prop::sample::select(vec![GaugeMode::All, GaugeMode::LiveAll]),
    ) {
        let mut world = World::new(mode);
        for deed in deeds {
            world.take(deed);
            for later_ms in [0, 50, 150, 350] {
                let at_ms = world.now_ms + later_ms;
                let expected = world.expected(at_ms);
                for (number, registry) in world.registries.iter().enumerate() {
                    let shown = samples(registry, at_ms);
                    prop_assert_eq!(&shown, &expected, "{} ms after {:?} in registry {}", later_ms, deed, number);
                }
            }
        }
    }
}

/// A registry in which a process of that text has set the gauge, and ended as the test says.
fn after_a_process(mode: GaugeMode, leaves: bool, waits_ms: u64) -> World {
    let mut world = World::new(mode);
    world.take(Deed::Set {
        writer: 3,
        value: 1.0,
    });
    if leaves {
        world.take(Deed::Leave { writer: 3 });
    }
    world.take(Deed::Wait { ms: waits_ms });
    world
}

#[test]
fn a_container_that_restarts_is_shown_once() {
    for mode in [GaugeMode::All, GaugeMode::LiveAll] {
        for (leaves, waits_ms) in [
            (false, 0),
            (false, 150),
            (false, 350),
            (true, 0),
            (true, 150),
        ] {
            let mut world = after_a_process(mode, leaves, waits_ms);
            world.take(Deed::Set {
                writer: 4,
                value: 2.0,
            });
            for registry in &world.registries {
                let shown = samples(registry, world.now_ms);
                assert_eq!(shown, ["g{pid=\"7\"} 2"], "{mode:?} {leaves} {waits_ms}");
            }
        }
    }
}

#[test]
fn two_processes_with_one_pid_take_turns() {
    for mode in [GaugeMode::All, GaugeMode::LiveAll] {
        let mut world = World::new(mode);
        for turn in 0..6 {
            world.take(Deed::Set {
                writer: 3 + turn % 2,
                value: turn as f64,
            });
            let shown = samples(&world.registries[0], world.now_ms);
            assert_eq!(shown, [format!("g{{pid=\"7\"}} {turn}")]);
        }
        // What the other one has set is gone for good.
        world.take(Deed::Leave { writer: 4 });
        let shown = samples(&world.registries[0], world.now_ms);
        let left = if mode == GaugeMode::All {
            vec!["g{pid=\"7\"} 5".to_owned()]
        } else {
            Vec::new()
        };
        assert_eq!(shown, left);
        world.take(Deed::Set {
            writer: 3,
            value: 9.0,
        });
        let shown = samples(&world.registries[0], world.now_ms);
        assert_eq!(shown, ["g{pid=\"7\"} 9"]);
    }
}

#[test]
fn thousands_of_restarts_leave_one_value_and_no_memory() {
    let mut world = World::new(GaugeMode::All);
    let mut bytes = 0;
    for turn in 0..300 {
        world.take(Deed::Set {
            writer: 3,
            value: f64::from(turn),
        });
        world.take(Deed::Leave { writer: 3 });
        if turn == 200 {
            bytes = world.registries[1].memory_bytes();
        }
    }
    let shown = samples(&world.registries[1], world.now_ms);
    assert_eq!(shown, ["g{pid=\"7\"} 299"]);
    // Records of the writers that have left are still there, for METRICS.WRITERS.
    assert!(world.registries[1].memory_bytes() < bytes + 100 * 200);
}

#[test]
fn a_writer_keeps_the_pid_of_its_series() {
    let mut registry = Registry::new(EPOCH, Limits::default(), 0);
    let mut push = |seq: u64, series: [(&str, FamilyType, &str); 2]| {
        let mut batch = BatchWriter::new();
        for (name, family_type, pid) in series {
            let family = batch.family(&FamilySpec::new(name, family_type));
            let (labels, point) = (std::iter::empty(), Point::Scalar(1.0));
            batch.define(family, 0, labels, pid, None, &point, None);
        }
        let bytes = batch.finish(BatchHeader::FULL);
        let batch = Batch::decode(&bytes).unwrap();
        let stamp = Stamp::at(1_000, EPOCH);
        registry
            .push(&stamp, b"w", seq, Some(EPOCH), LEASE_MS, &batch)
            .left_out
    };
    let all = FamilyType::Gauge(GaugeMode::All);
    assert_eq!(
        push(1, [("c", FamilyType::Counter, "1"), ("g", all, "7")]),
        0
    );
    assert_eq!(
        push(2, [("c", FamilyType::Counter, "9"), ("g", all, "")]),
        0
    );
    assert_eq!(
        push(3, [("c", FamilyType::Counter, ""), ("g", all, "8")]),
        1
    );
    assert_eq!(
        registry.rejected().collect::<Vec<_>>(),
        [(Reason::Conflict, 1)]
    );
    assert_eq!(samples(&registry, 1_000), Vec::<String>::new());
}

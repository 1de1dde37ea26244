//! The metrics state of an arbiter, and how it keeps an exporter running.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_agent::create_directory;
use metrics_settings::Settings;
use metrics_store::{
    Boot, ChildListener, ChildrenLink, Control, Counter, Descriptor, Facts, Snapshots, ToExporter,
};

use super::Line;
use super::deaths::Remains;
use super::exporter::{End, Exporter, Pause};
use super::listener::Listener;
use super::peer::Peer;
use super::stores::Held;
use crate::exporter_process::Program;
use crate::failure;

/// The metrics state of an arbiter.
pub(super) struct Supervisor {
    /// File mode: a file whose lock shows that the instance lives. It is neither read nor written
    /// here.
    pub(super) life: Option<Descriptor>,
    pub(super) control: Arc<Control>,
    /// `None` in a child.
    pub(super) snapshots: Option<Snapshots>,
    /// Stores that no exporter has released, by number.
    pub(super) stores: BTreeMap<u64, Held>,
    /// Of workers whose stores are released although the arbiter has not noticed their end yet: the
    /// exporter may notice it first.
    pub(super) remains: BTreeMap<u64, Remains>,
    /// The task of the exporter; `None` until the arbiter is ready.
    pub(super) task: Option<Task>,
    pub(super) listener: Listener,
    /// The certificates of the listener, in memory: workers drop the descriptor, and so have no
    /// key.
    pub(super) certificates: Option<Descriptor>,
    /// The socket on which processes of this instance request its page.
    pub(super) pages: Option<Descriptor>,
    pub(super) exporter: Option<Exporter>,
    pub(super) pause: Pause,
    /// The last line that told why no exporter could be started.
    pub(super) cannot_start: Option<String>,
    /// The other arbiter, while this instance has two.
    pub(super) peer: Option<Peer>,
    /// The other arbiter's end of the link, open until it has inherited it.
    pub(super) handed_over: Option<Descriptor>,
    /// Receives the stores of workers' children; `None` in a child.
    pub(super) from_children: Option<ChildrenLink>,
    /// Receives the stores of children without an inherited descriptor; `None` in a child.
    pub(super) children: Option<ChildListener>,
    /// Those of them that have connected and sent nothing yet.
    pub(super) connected: Vec<ChildrenLink>,
}

#[derive(Clone, PartialEq)]
pub(super) struct Task {
    pub(super) program: Program,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) name: String,
    pub(super) serves: bool,
    pub(super) facts: Facts,
    pub(super) settings: Settings,
}

impl Supervisor {
    pub(super) fn configure(&mut self, task: Task) {
        if self.task.as_ref() == Some(&task) {
            return;
        }
        let address = |task: &Task| {
            let prometheus = &task.settings.prometheus;
            (
                task.serves,
                prometheus.bind_address.clone(),
                prometheus.metrics_port,
            )
        };
        if let Some(before) = &self.task
            && address(before) != address(&task)
        {
            self.listener = Listener::default();
        }
        self.task = Some(task);
        self.pause = Pause::default();
        if let Some(exporter) = &mut self.exporter {
            exporter.send(&ToExporter::Replace, Vec::new());
        }
    }

    pub(super) fn use_certificates(&mut self, certificates: Option<OwnedFd>) {
        self.certificates = certificates.map(Descriptor::new);
        self.pass_certificates();
    }

    pub(super) fn pass_certificates(&mut self) {
        let Some(exporter) = &mut self.exporter else {
            return;
        };
        match self.certificates.as_ref().map(Descriptor::duplicate) {
            None => {}
            Some(Ok(copy)) => exporter.send(&ToExporter::Tls, vec![copy]),
            Some(Err(error)) => exporter.lose(format!("cannot be given certificates: {error}")),
        }
    }

    pub(super) fn supervise(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        let Some(task) = self.task.clone() else {
            return lines;
        };
        self.receive_from_peer();
        // While no exporter could answer, scrapers are refused at once and need not wait.
        let may_serve = self.exporter.is_some() || self.pause.is_over(now);
        if task.serves
            && may_serve
            && let Some(listener) = self.listener.open(&task.settings, &mut lines)
            && let Some(exporter) = &mut self.exporter
        {
            exporter.send(&ToExporter::Listener, vec![listener]);
        }
        self.attend_children();
        self.show_lost_children();
        self.attend(now, &mut lines);
        self.attend_peer(now, &mut lines);
        let is_our_turn = self
            .peer
            .as_ref()
            .is_none_or(|peer| !peer.exporter_is_active());
        if is_our_turn
            && self.exporter.is_none()
            && self.snapshots.is_some()
            && self.pause.is_over(now)
        {
            self.start(&task, now, &mut lines);
        }
        lines
    }

    /// Counts children of workers without a store, which cannot count themselves.
    fn show_lost_children(&self) {
        while self.control.counted(Counter::LostChildrenShown)
            < self.control.counted(Counter::LostChildren)
        {
            self.control.count(Counter::LostChildrenShown);
            failure::count("children");
        }
    }

    /// Receives the exporter's messages, and notices its end.
    pub(super) fn attend(&mut self, now: Instant, lines: &mut Vec<Line>) {
        let Some(exporter) = &mut self.exporter else {
            return;
        };
        let said = exporter.attend(now);
        for number in said.released {
            self.release(number);
        }
        for (new, file, replaces) in said.carry_overs {
            self.take_carry_over(new, file, replaces);
        }
        if said.life.is_some() {
            self.life = said.life.map(Descriptor::new);
        }
        if said.needs_store {
            self.renew_exporter(lines);
        }
        let Some(exporter) = &mut self.exporter else {
            return;
        };
        if let Some(why) = exporter.end() {
            match why {
                End::Failed(_) if self.peer.as_ref().is_some_and(Peer::exporter_is_active) => {}
                End::Failed(why) => {
                    self.pause.lengthen(now, exporter.started);
                    if self.pause.is_long() {
                        self.listener.close();
                    }
                    lines.push((
                        "warning",
                        format!("the metrics exporter {why}; starting another"),
                    ));
                }
                End::Asked => self.pause = Pause::default(),
            }
            self.exporter = None;
        }
    }

    /// Replaces the exporter and its own store; the old store takes retired series with it.
    pub(super) fn renew_exporter(&mut self, lines: &mut Vec<Line>) {
        if let Err(error) = self.new_exporter_store() {
            // The old store stays in use, and grows.
            lines.push(("warning", format!("the exporter keeps its store: {error}")));
            return;
        }
        if let Some(exporter) = &mut self.exporter {
            exporter.send(&ToExporter::Replace, Vec::new());
        }
    }

    pub(super) fn start(&mut self, task: &Task, now: Instant, lines: &mut Vec<Line>) {
        if let Some(owner) = task.owner {
            create_directory(&task.settings, owner);
        }
        match self.boot(task, now) {
            Ok(exporter) => {
                self.exporter = Some(exporter);
                self.cannot_start = None;
            }
            Err(error) => {
                self.pause.lengthen(now, now);
                self.listener.close();
                let line = format!(
                    "cannot start the metrics exporter: {error}; nothing listens on the metrics port \
                     until it can be started, which is tried again"
                );
                if self.cannot_start.as_ref() != Some(&line) {
                    lines.push(("error", line.clone()));
                    self.cannot_start = Some(line);
                }
                return;
            }
        }
        let numbers: Vec<_> = self.stores.keys().copied().collect();
        for number in numbers {
            self.tell_of(number);
        }
        self.pass_certificates();
        if let Some(exporter) = &mut self.exporter
            && let Some(Ok(pages)) = self.pages.as_ref().map(Descriptor::duplicate)
        {
            exporter.send(&ToExporter::Pages, vec![pages]);
        }
        if let Some(listener) = self.listener.duplicate()
            && let Some(exporter) = &mut self.exporter
        {
            exporter.send(&ToExporter::Listener, vec![listener]);
        }
    }

    pub(super) fn boot(
        &self,
        task: &Task,
        now: Instant,
    ) -> Result<Exporter, Box<dyn std::error::Error>> {
        let Some(snapshots) = &self.snapshots else {
            return Err("this process is no arbiter".into());
        };
        let mut memory = vec![self.control.duplicate_fd()?];
        memory.extend(snapshots.duplicate_fds()?);
        let boot = Boot {
            settings: serde_json::to_value(&task.settings)?,
            instance: task.name.clone(),
            facts: task.facts.clone(),
        };
        let mut exporter = Exporter::start(&task.program, task.owner, now)?;
        exporter.send(&ToExporter::Boot(boot), memory);
        Ok(exporter)
    }

    pub(super) fn shut_down(&mut self, patience: Duration) -> Vec<Line> {
        let numbers: Vec<_> = self.stores.keys().copied().collect();
        for number in numbers {
            if self.stores[&number].is_to_end() {
                self.end(number);
            }
        }
        self.task = None;
        let Some(mut exporter) = self.exporter.take() else {
            return Vec::new();
        };
        // With another arbiter there is another exporter, which continues from the present state.
        let end = match self.peer {
            Some(_) => ToExporter::Replace,
            None => ToExporter::Shutdown,
        };
        exporter.send(&end, Vec::new());
        match exporter.wait_for_bye(patience) {
            Ok(()) => Vec::new(),
            Err(why) => vec![("warning", format!("the metrics exporter {why}"))],
        }
    }

    pub(super) fn forked(&mut self) {
        self.exporter = None;
        self.listener = Listener::default();
        self.certificates = None;
        self.pages = None;
        self.life = None;
        self.snapshots = None;
        self.task = None;
        self.peer = None;
        // Not closed: this child may be the one that executes the new arbiter, which takes it from there.
        std::mem::forget(self.handed_over.take());
        self.from_children = None;
        self.children = None;
        self.connected = Vec::new();
        // A store without a process belongs to the worker that this child may be about to become.
        self.stores.retain(|_, held| !held.is_begun);
    }
}

//! One store, and the sessions that bring it into the registries.
//!
//! The session with this instance's registry ends with the exporter: the registry remembers what it
//! has seen, and its snapshot includes that memory. The sessions with the shared registry, one per
//! shard, are continued by the next exporter (see `shard.rs`).

mod sharing;

use metrics_model::{Outcome, Point, Push, Session};
use metrics_store::catalogue::COLLECTED_TIMESTAMP;
use metrics_store::{FamilyDef, OpenRequests, Process, Role, StoreCopy, StoreError, StoreReader};

use super::carry_over::departures_in;
use super::declarations::FamiliesToCompare;
use super::departure::Departure;
use super::in_flight::InFlight;
use super::shard::{ShardSession, session_options};
use super::{StoreSource, TakenGauges, VisibleSeries};
use crate::embedded::{BatchError, EmbeddedRegistry};
use crate::figures::Activity;

/// Lease of writers in this instance's registry: they leave when their process has ended, not
/// before. Ten years.
pub(super) const LOCAL_LEASE_MS: u64 = 10 * 365 * 24 * 3600 * 1000;
/// Maximum number of batches in a row: a session that the registry keeps refusing is a defect, and
/// must not stop the others.
pub(super) const LOCAL_ROUNDS: usize = 10_000;

/// Options that are the same for all writers of an instance.
#[derive(Debug, Clone)]
pub(crate) struct WriterOptions {
    /// The instance's name.
    pub(crate) instance: String,
    /// How long series and the shared key outlive their last writer; 0 = for ever.
    pub(crate) ttl_ms: u64,
    /// Number of keys over which the families of the shared registry are spread; 0 = there is none.
    pub(crate) shards: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Writer {
    reader: StoreReader,
    /// The process that the arbiter forked for it; a worker writes this itself as soon as it adopts
    /// the store.
    forked_as: Option<Process>,
    visible: VisibleSeries,
    in_flight: InFlight,
    options: WriterOptions,
    local: Session,
    /// Families to compare with those of this instance's registry.
    suspects: FamiliesToCompare,
    shared: Vec<ShardSession>,
    /// For a carry-over store: the dead writers whose last gauges it stores.
    departures: Vec<Departure>,
    /// Whether the store was found damaged, which is logged once.
    is_damaged: bool,
}

impl Writer {
    pub(crate) fn new(
        reader: StoreReader,
        forked_as: Option<Process>,
        options: &WriterOptions,
    ) -> Self {
        let mut visible = VisibleSeries::all();
        visible.extend(&reader);
        let mut in_flight = InFlight::default();
        in_flight.extend(&reader);
        let local = Session::new(reader.writer_id().into_bytes(), session_options(0));
        let shared = ShardSession::resume_all(&reader, options.shards, options.ttl_ms);
        let departures = match reader.identity().role {
            Role::CarryOver => departures_in(&reader, options.ttl_ms),
            _ => Vec::new(),
        };
        Self {
            reader,
            forked_as,
            visible,
            in_flight,
            options: options.clone(),
            local,
            suspects: FamiliesToCompare::default(),
            shared,
            departures,
            is_damaged: false,
        }
    }

    /// Returns the worker's id, or the other name of the store.
    pub(crate) fn name(&self) -> &str {
        &self.reader.identity().name
    }

    /// Returns the id of its values in this instance's registry.
    pub(crate) fn id(&self) -> String {
        self.reader.writer_id()
    }

    /// Returns a copy of its store; with `has_ended` it is the last one.
    pub(crate) fn copy(&self, has_ended: bool) -> StoreCopy {
        self.reader.copy(has_ended)
    }

    /// Continues with a later copy of the same store.
    pub(crate) fn update(&mut self, copy: &StoreCopy) -> Result<(), StoreError> {
        self.reader.update(copy)
    }

    pub(crate) fn role(&self) -> Role {
        self.reader.identity().role
    }

    /// Returns the process that writes it, once there is one.
    pub(crate) fn process(&self) -> Option<Process> {
        self.reader.process().or(self.forked_as)
    }

    /// See [`StoreReader::read_again`].
    pub(crate) fn read_again(&mut self) {
        self.reader.read_again();
    }

    /// Finds new series; returns whether any of them is visible.
    pub(crate) fn refresh(&mut self) -> Result<bool, StoreError> {
        let refreshed = self.reader.refresh();
        let has_new = self.visible.extend(&self.reader);
        self.in_flight.extend(&self.reader);
        for session in &mut self.shared {
            session.extend(&self.reader);
        }
        match refreshed {
            Ok(()) => Ok(has_new),
            // The part before the damage is still read.
            Err(_) if self.is_damaged => Ok(has_new),
            Err(error) => {
                self.is_damaged = true;
                Err(error)
            }
        }
    }

    /// Brings changes into this instance's registry.
    pub(crate) fn flush_local(&mut self, registry: &EmbeddedRegistry) -> Result<(), BatchError> {
        let pid = self.pid().to_string();
        let now_ms = crate::clock::now_ms();
        for _ in 0..LOCAL_ROUNDS {
            let source = StoreSource {
                reader: &self.reader,
                visible: &self.visible,
                pid: &pid,
                ttl_ms: self.options.ttl_ms,
                is_live: true,
                taken: &TakenGauges::default(),
            };
            let Some(push) = self.local.next(&source, now_ms) else {
                return Ok(());
            };
            let writer = self.local.writer();
            let Push { seq, epoch, batch } = push;
            let reply = registry.push(writer, seq, epoch, LOCAL_LEASE_MS, &batch)?;
            if self.local.on_reply(&reply, now_ms) == Outcome::Gone {
                // It was folded under the exporter before: there is nothing to add.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lets the process use the records again of gauges that it has removed and that no registry has
    /// any more, so that its store does not grow with what was removed.
    pub(crate) fn release_removed(&mut self) {
        for number in 0..self.reader.len() {
            if !self.reader.is_returned(number) {
                continue;
            }
            let Some(local) = self.visible.of_store(number) else {
                continue;
            };
            let may_forget = self.local.may_forget(local)
                && self.shared.iter().all(|session| session.may_forget(number));
            if may_forget && self.reader.release(number) {
                self.local.forget(local);
                for session in &mut self.shared {
                    session.forget(number);
                }
            }
        }
    }

    /// The families to compare with those of this instance's registry: new ones, and those of which it
    /// has left out series.
    pub(crate) fn take_local_suspects(&mut self) -> Vec<FamilyDef> {
        for number in self.local.take_not_applied() {
            let in_store = self.visible.in_store(number);
            self.suspects.add(self.reader.series(in_store).family);
        }
        self.suspects.take(&self.reader)
    }

    /// Returns this writer's declarations of families of that name.
    pub(crate) fn declarations_of<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = &'a FamilyDef> {
        let families = self.reader.families().iter();
        families.filter(move |family| *family.name == *name)
    }

    /// Removes this writer from this instance's registry: its counts stay, its live values go.
    /// Returns how many series the registry has never accepted. Their values are given up, because
    /// the reason is not a limit that may be lifted.
    pub(crate) fn leave_local(&mut self, registry: &EmbeddedRegistry) -> Result<usize, BatchError> {
        self.local.retry_left_out_now();
        for _ in 0..LOCAL_ROUNDS {
            self.flush_local(registry)?;
            let Some((seq, epoch)) = self.local.leave() else {
                break;
            };
            let reply = registry.leave(self.local.writer(), seq, epoch);
            if self.local.on_leave_reply(&reply) {
                break;
            }
        }
        Ok(self.local.left_out_count())
    }

    /// Counts the open requests of its ended process among its requests.
    pub(crate) fn count_aborted(&mut self) {
        self.in_flight.abort(&self.reader);
    }

    /// When its process has evaluated its custom collectors and functions of gauges, in Unix seconds;
    /// `None` if it has none.
    pub(crate) fn collected_at(&self) -> Option<f64> {
        let number = self.reader.find(COLLECTED_TIMESTAMP.name).next()?;
        match self.reader.point(number) {
            Point::Scalar(seconds) => Some(seconds),
            Point::Timed { .. } | Point::Buckets { .. } | Point::Native(_) => None,
        }
    }

    /// Returns the age of its oldest request, in seconds; 0 if it has none.
    pub(crate) fn longest_request(&self, now_ns: u64) -> f64 {
        let requests = self.reader.requests();
        let oldest = requests.listed.first();
        oldest.map_or(0.0, |request| request.age(now_ns))
    }

    /// Returns its requests in progress.
    pub(crate) fn requests(&mut self) -> OpenRequests {
        // What is damaged is reported by the next flush.
        let _found_so_far = self.reader.refresh();
        self.reader.requests()
    }

    /// Returns its activity.
    pub(crate) fn activity(&self) -> Activity {
        if self.reader.process().is_none() {
            Activity::Starting
        } else if self.in_flight.count(&self.reader) > 0.0 {
            Activity::Busy
        } else {
            Activity::Idle
        }
    }

    fn pid(&self) -> u32 {
        self.process().map_or(0, |process| process.pid)
    }
}

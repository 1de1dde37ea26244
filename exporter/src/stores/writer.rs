//! One store, and the sessions that bring it into the registries.
//!
//! The session with this instance's registry lives and dies with the exporter: the registry
//! remembers what it has seen, and is snapshotted with that memory. The session with the shared
//! registry goes on under a successor, so what it knows is kept in the store itself: values before
//! they are sent, and then the header, which makes them count (see `metrics_store::PushHeader`).

use metrics_model::{
    Epoch, Limits, Outcome, Point, Push, PushReply, Saved, SavedPoint, Session, SessionOptions,
};
use metrics_store::{Process, PushHeader, Role, StoreError, StoreReader};

use super::{StoreSource, Visible};
use crate::backend::{BackendError, Embedded};

/// Writers of this instance's registry leave when their process has ended, not before: ten years.
const LOCAL_LEASE_MS: u64 = 10 * 365 * 24 * 3600 * 1000;
/// A batch of a session that the registry keeps refusing is a defect; it must not stop the others.
const LOCAL_ROUNDS: usize = 10_000;

/// What is the same for all writers of an instance.
#[derive(Debug, Clone)]
pub(crate) struct WriterOptions {
    /// The instance's name.
    pub(crate) instance: String,
    /// How long series and the shared key outlive their last writer; 0 = for ever.
    pub(crate) ttl_ms: u64,
    /// Whether there is a shared registry.
    pub(crate) is_shared: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Writer {
    reader: StoreReader,
    /// What the arbiter says; a worker says it itself as soon as it adopts the store.
    forked_as: Option<Process>,
    visible: Visible,
    options: WriterOptions,
    local: Session,
    shared: Option<Session>,
    /// Whether the store was found damaged: said once.
    is_damaged: bool,
}

impl Writer {
    pub(crate) fn new(
        mut reader: StoreReader,
        forked_as: Option<Process>,
        options: &WriterOptions,
    ) -> Self {
        let mut visible = Visible::default();
        visible.extend(&reader);
        let id = reader.writer_id();
        let local = Session::new(id.into_bytes(), session_options(0));
        let shared = options.is_shared.then(|| {
            reader.resume_push();
            let saved = saved(&mut reader, &visible);
            let id = reader.writer_id();
            Session::resume(id.into_bytes(), session_options(options.ttl_ms), saved)
        });
        Self {
            reader,
            forked_as,
            visible,
            options: options.clone(),
            local,
            shared,
            is_damaged: false,
        }
    }

    /// The worker's id, or what else the store is called.
    pub(crate) fn name(&self) -> &str {
        &self.reader.identity().name
    }

    pub(crate) fn role(&self) -> Role {
        self.reader.identity().role
    }

    /// The process that writes it, once there is one.
    pub(crate) fn process(&self) -> Option<Process> {
        self.reader.process().or(self.forked_as)
    }

    /// Finds new series; answers whether there are any on display.
    pub(crate) fn refresh(&mut self) -> Result<bool, StoreError> {
        let refreshed = self.reader.refresh();
        let has_new = self.visible.extend(&self.reader);
        match refreshed {
            Ok(()) => Ok(has_new),
            // What stands before the damage goes on being read.
            Err(_) if self.is_damaged => Ok(has_new),
            Err(error) => {
                self.is_damaged = true;
                Err(error)
            }
        }
    }

    /// Brings what has changed into this instance's registry.
    pub(crate) fn flush_local(&mut self, registry: &Embedded) -> Result<(), BackendError> {
        let pid = self.pid().to_string();
        let now_ms = crate::instance::now_ms();
        for _ in 0..LOCAL_ROUNDS {
            let source = StoreSource {
                reader: &self.reader,
                visible: &self.visible,
                pid: &pid,
                ttl_ms: self.options.ttl_ms,
            };
            let Some(push) = self.local.next(&source, now_ms) else {
                return Ok(());
            };
            let writer = self.local.writer();
            let Push { seq, epoch, batch } = push;
            let reply = registry.push(writer, seq, epoch, LOCAL_LEASE_MS, &batch)?;
            if self.local.on_reply(&reply, now_ms) == Outcome::Gone {
                // It was folded under a predecessor: there is nothing to add.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes this writer out of this instance's registry: its counts stay, its live values go.
    pub(crate) fn leave_local(&mut self, registry: &Embedded) -> Result<(), BackendError> {
        for _ in 0..LOCAL_ROUNDS {
            self.flush_local(registry)?;
            let Some((seq, epoch)) = self.local.leave() else {
                return Ok(());
            };
            let reply = registry.leave(self.local.writer(), seq, epoch);
            if self.local.on_leave_reply(&reply) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What the shared registry is to be sent now, saved before it is sent. With `heartbeat`, an
    /// empty batch where nothing is new.
    pub(crate) fn next_shared(&mut self, now_ms: u64, heartbeat: bool) -> Option<SharedPush> {
        let pid = format!("{}:{}", self.options.instance, self.pid());
        let session = self.shared.as_mut()?;
        let was_in_flight = session.is_in_flight();
        let source = StoreSource {
            reader: &self.reader,
            visible: &self.visible,
            pid: &pid,
            ttl_ms: self.options.ttl_ms,
        };
        let push = if heartbeat {
            session.heartbeat(&source, now_ms)
        } else {
            session.next(&source, now_ms)
        }?;
        if !was_in_flight {
            for number in session.take_touched() {
                let in_store = self.visible.in_store(number);
                if let Some(saved) = session.saved_point(number) {
                    self.reader.set_base(in_store, &saved.base);
                    self.reader.set_sent(in_store, push.seq, &saved.sent);
                }
            }
            save_header(&self.reader, session);
        }
        Some(SharedPush {
            writer: session.writer().to_vec(),
            push,
        })
    }

    /// Takes the shared registry's answer.
    pub(crate) fn on_shared_reply(&mut self, reply: &PushReply, now_ms: u64) {
        let Some(session) = self.shared.as_mut() else {
            return;
        };
        if session.on_reply(reply, now_ms) == Outcome::Gone {
            self.reborn();
            return;
        }
        save_answer(&self.reader, &self.visible, session);
    }

    /// The seq and epoch to leave the shared registry with; `None` if it has never heard of it.
    pub(crate) fn leave_shared(&self) -> Option<SharedLeave> {
        let session = self.shared.as_ref()?;
        let (seq, epoch) = session.leave()?;
        Some(SharedLeave {
            writer: session.writer().to_vec(),
            seq,
            epoch,
        })
    }

    /// Takes the answer to that; false if there is something to send first.
    pub(crate) fn on_shared_leave_reply(&mut self, reply: &PushReply) -> bool {
        let Some(session) = self.shared.as_mut() else {
            return true;
        };
        let has_left = session.on_leave_reply(reply);
        save_answer(&self.reader, &self.visible, session);
        has_left
    }

    /// Its process has ended: the requests that it took with it did reach the application, so they
    /// are added to its requests, and counted as aborted. Doing it again changes nothing.
    pub(crate) fn count_aborted(&mut self) {
        let read = |family| {
            let number = self.reader.find(family).next()?;
            match self.reader.point(number) {
                Point::Scalar(value) => Some((number, value)),
                _ => None,
            }
        };
        let (Some((_, started)), Some((_, finished))) =
            (read("__requests_started"), read("__requests_finished"))
        else {
            return;
        };
        let cut_off = started - finished;
        if cut_off.is_nan() || cut_off <= 0.0 {
            return;
        }
        // The worker's own series, so that a successor that does this again writes the same.
        if let Some((number, _)) = read("gunicorn_http_aborted") {
            self.reader.complete(number, cut_off);
        }
        if let Some((number, _)) = read("gunicorn_worker_requests") {
            self.reader.complete(number, started);
        }
    }

    fn pid(&self) -> u32 {
        self.process().map_or(0, |process| process.pid)
    }

    /// The shared registry believes that this writer has left. It goes on as another one, counting
    /// nothing again that was acknowledged.
    fn reborn(&mut self) {
        let Some(session) = self.shared.take() else {
            return;
        };
        let old = self.reader.writer_id();
        let header = self.reader.push_header();
        let points = (0..self.visible.len())
            .filter_map(|number| Some((number, session.saved_point(number)?.acked.clone())))
            .collect::<Vec<_>>();
        let id = self.reader.writer_id_of(header.incarnation + 1);
        let mut session = session.reborn(id.clone().into_bytes());
        for (number, acked) in points {
            let in_store = self.visible.in_store(number);
            if let Some(saved) = session.saved_point(number) {
                self.reader.set_base(in_store, &saved.base);
            }
            self.reader.restart_push(in_store, &acked);
        }
        session.take_touched();
        self.reader.set_push_header(&PushHeader {
            incarnation: header.incarnation + 1,
            ..PushHeader::default()
        });
        tracing::error!("the shared registry says that writer {old} has left; it goes on as {id}");
        self.shared = Some(session);
    }
}

/// One batch for the shared registry.
#[derive(Debug)]
pub(crate) struct SharedPush {
    pub(crate) writer: Vec<u8>,
    pub(crate) push: Push,
}

/// One LEAVE for the shared registry.
#[derive(Debug)]
pub(crate) struct SharedLeave {
    pub(crate) writer: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) epoch: Option<Epoch>,
}

fn session_options(registry_ttl_ms: u64) -> SessionOptions {
    SessionOptions {
        registry_ttl_ms,
        tombstone_retention_ms: Limits::default().tombstone_retention_ms,
    }
}

fn saved(reader: &mut StoreReader, visible: &Visible) -> Saved {
    let header = reader.push_header();
    if header == PushHeader::default() {
        return Saved::default();
    }
    let points = (0..visible.len()).map(|number| {
        let number = visible.in_store(number);
        SavedPoint {
            family_type: reader.series(number).family.family_type,
            base: reader.base(number),
            acked: reader.acked(number),
            sent: reader.sent(number),
        }
    });
    Saved {
        seq: header.seq,
        sent_seq: header.sent_seq,
        acked_seq: header.acked_seq,
        acked_at_ms: header.acked_at_ms,
        epoch: header.epoch.map(Epoch),
        points: points.collect(),
    }
}

/// After an answer only bases may have changed, and the header, which makes what was sent
/// acknowledged.
fn save_answer(reader: &StoreReader, visible: &Visible, session: &mut Session) {
    for number in session.take_touched() {
        if let Some(saved) = session.saved_point(number) {
            reader.set_base(visible.in_store(number), &saved.base);
        }
    }
    save_header(reader, session);
}

fn save_header(reader: &StoreReader, session: &Session) {
    reader.set_push_header(&PushHeader {
        seq: session.seq(),
        sent_seq: session.sent_seq(),
        acked_seq: session.acked_seq(),
        acked_at_ms: session.acked_at_ms(),
        epoch: session.epoch().map(|epoch| epoch.0),
        incarnation: reader.push_header().incarnation,
    });
}

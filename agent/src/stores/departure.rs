//! Lets a dead writer leave the shared registry, with its last gauges, after its store is gone.
//!
//! # How it works
//!
//! Counts that a writer has not sent can be sent by another writer, but its gauges only under its
//! own id: the registry shows the last value that it has of this writer. So the session of a dead
//! writer continues under its own id. It sends a full state of the gauges that are stored for it,
//! by which the registry removes all others. Then it leaves. The shared registry is then as if the
//! writer had sent its last values itself.
//!
//! # What a killed exporter leaves behind
//!
//! The stored values do not change while the session continues, and the next exporter starts at the
//! same point. If the registry has applied more of the writer by then, it answers with a later seq,
//! and the full state is applied again.

use metrics_model::{
    AfterLeave, Epoch, Outcome, Point, PushReply, PushStatus, Saved, SavedPoint, SeriesDef,
    SeriesLife, Session, Source,
};
use metrics_store::StoreReader;
use metrics_store::hidden::HIDDEN;

use super::TakenGauges;
use super::shard::{Leaving, SharedLeave, SharedPush, session_options};
use super::source::ttl_of;

/// The stored record of a dead writer for one shard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DepartureRecord {
    pub(crate) shard: usize,
    pub(crate) writer: String,
    /// The seq of the last batch that was sent; 0: the shard has never heard of this writer.
    pub(crate) seq: u64,
    /// The epoch of the registry that acknowledged the last batch; below, the time of that.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) acked_at_ms: u64,
    /// The text of the `pid` label.
    pub(crate) pid: String,
    /// When the writer was found dead, in Unix milliseconds.
    pub(crate) died_ms: u64,
    /// Whether a LEAVE was sent, which may have arrived: then the record can hold no other writer's
    /// value.
    pub(crate) may_have_left: bool,
}

impl DepartureRecord {
    /// Encodes the changing part as one value: the seq, negative once a LEAVE was sent.
    pub(crate) fn to_value(&self) -> f64 {
        let seq = self.seq as f64;
        if self.may_have_left { -seq } else { seq }
    }

    /// Decodes the seq, and whether a LEAVE was sent.
    pub(crate) fn read_value(value: f64) -> (u64, bool) {
        (value.abs() as u64, value < 0.0)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Departure {
    pub(crate) record: DepartureRecord,
    /// The numbers of its gauges in the store, after that of the record itself.
    series: Vec<usize>,
    session: Session,
    is_over: bool,
}

impl Departure {
    /// Returns the departure of that record; `series` begins with its number.
    pub(crate) fn new(
        record: DepartureRecord,
        series: Vec<usize>,
        reader: &StoreReader,
        ttl_ms: u64,
    ) -> Self {
        let points = series.iter().map(|&number| {
            let acked = reader.acked(record.shard, number);
            SavedPoint {
                family_type: reader.series(number).family.family_type,
                base: reader.base(number),
                sent: acked.clone(),
                acked,
            }
        });
        let saved = Saved {
            seq: record.seq,
            sent_seq: record.seq,
            acked_seq: record.seq,
            acked_at_ms: record.acked_at_ms,
            epoch: record.epoch,
            points: points.collect(),
            ..Saved::default()
        };
        let options = session_options(ttl_ms);
        Self {
            session: Session::resume(record.writer.clone().into_bytes(), options, saved),
            record,
            series,
            is_over: false,
        }
    }

    /// Returns whether it has more to send to that shard.
    pub(crate) fn is_pending(&self, shard: usize) -> bool {
        self.record.shard == shard && !self.is_over
    }

    /// Returns whether it has nothing more to send.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Returns its gauges, by their numbers in the store.
    pub(crate) fn gauges(&self) -> &[usize] {
        &self.series[1..]
    }

    /// Returns what to send next.
    pub(crate) fn next(
        &mut self,
        reader: &StoreReader,
        ttl_ms: u64,
        now_ms: u64,
        taken: &TakenGauges,
    ) -> Option<SharedPush> {
        let source = Gauges {
            reader,
            departure: &self.record,
            series: &self.series,
            ttl_ms,
            now_ms,
            taken,
        };
        let push = self.session.next(&source, now_ms)?;
        if self.record.seq == 0 {
            // From now on the shard may know the writer; the next exporter must know that too.
            self.record.seq = push.seq;
            self.save(reader);
        }
        Some(SharedPush {
            writer: self.session.writer().to_vec(),
            push,
        })
    }

    /// Processes the answer to that.
    pub(crate) fn on_reply(&mut self, reply: &PushReply, now_ms: u64) {
        let epoch = self.record.epoch;
        let is_unknown = reply.last_seq == 0 || epoch.is_some_and(|epoch| epoch != reply.epoch);
        let outcome = self.session.on_reply(reply, now_ms);
        let has_nothing_there = reply.status == PushStatus::Resync && is_unknown;
        if outcome == Outcome::Gone || has_nothing_there && self.gauges().is_empty() {
            self.is_over = true;
        }
    }

    /// Returns how it leaves once there is nothing more to send; it does not while gauges are left
    /// out.
    pub(crate) fn leave(&mut self, reader: &StoreReader) -> Leaving {
        if self.session.in_flight().is_some() || self.session.left_out_count() > 0 {
            return Leaving::NotYet;
        }
        let Some((seq, epoch)) = self.session.leave() else {
            self.is_over = true;
            return Leaving::Unheard;
        };
        self.record.may_have_left = true;
        self.save(reader);
        Leaving::Leave(SharedLeave {
            writer: self.session.writer().to_vec(),
            seq,
            epoch,
        })
    }

    /// Returns how many gauges the registry has left out.
    pub(crate) fn left_out_count(&self) -> usize {
        if self.is_over {
            0
        } else {
            self.session.left_out_count()
        }
    }

    /// See [`Session::retry_left_out_now`].
    pub(crate) fn retry_left_out_now(&mut self) {
        self.session.retry_left_out_now();
    }

    /// See [`Session::on_error`].
    pub(crate) fn on_error(&mut self) {
        self.session.on_error();
    }

    /// See [`Session::on_unknown_question`].
    pub(crate) fn on_unknown_question(&mut self) -> bool {
        self.session.on_unknown_question()
    }

    /// Stores changes of the record for the next exporter.
    fn save(&self, reader: &StoreReader) {
        reader.complete(self.series[0], self.record.to_value());
    }

    /// Processes the answer to LEAVE.
    pub(crate) fn on_leave_reply(&mut self, reply: &PushReply) {
        self.is_over = self.session.on_leave_reply(reply);
    }
}

/// Returns the family that stores a gauge of the departure with that number.
pub(crate) fn kept_family(departure: usize, family: &str) -> String {
    format!("{HIDDEN}{departure}/{family}")
}

/// Returns the departure of such a family, and the gauge's own family name.
pub(crate) fn read_family(kept: &str) -> Option<(usize, &str)> {
    let (departure, family) = kept.strip_prefix(HIDDEN)?.split_once('/')?;
    Some((departure.parse().ok()?, family))
}

/// The gauges of a departure, as its session's source.
struct Gauges<'a> {
    reader: &'a StoreReader,
    departure: &'a DepartureRecord,
    /// The first is the record: it keeps the source from being empty, and is never sent.
    series: &'a [usize],
    ttl_ms: u64,
    now_ms: u64,
    taken: &'a TakenGauges,
}

impl Source for Gauges<'_> {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn series(&self, number: usize) -> SeriesDef<'_> {
        let view = self.reader.series(self.series[number]);
        let mut family = view.family.spec();
        if let Some((_, name)) = read_family(family.name) {
            family.name = name;
        }
        let mode = family.family_type.gauge_mode();
        let is_per_writer = mode.is_some_and(metrics_model::GaugeMode::is_per_writer);
        SeriesDef {
            family,
            layout: None,
            labels: view.labels,
            pid: if is_per_writer {
                &self.departure.pid
            } else {
                ""
            },
            ttl_ms: ttl_of(&view, self.ttl_ms),
        }
    }

    fn point(&self, number: usize) -> Point {
        self.reader.point(self.series[number])
    }

    /// A value is gone also if it would have expired by now, had the writer left at its death, and if a
    /// living process has taken it. The record is never live.
    fn life(&self, number: usize) -> SeriesLife {
        let view = self.reader.series(self.series[number]);
        let Some(mode) = view.family.family_type.gauge_mode() else {
            return SeriesLife::Gone;
        };
        let ttl_ms = ttl_of(&view, self.ttl_ms);
        let has_expired = mode.after_leave() == AfterLeave::UntilTtl
            && ttl_ms > 0
            && self.departure.died_ms.saturating_add(ttl_ms) <= self.now_ms;
        let name = read_family(&view.family.name).map_or("", |(_, name)| name);
        if has_expired || self.taken.has(name, &view) {
            SeriesLife::Gone
        } else {
            SeriesLife::Live
        }
    }
}

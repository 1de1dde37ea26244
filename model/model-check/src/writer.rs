//! A writer of one counter, and its packets.

use metrics_model::{
    Epoch, FamilySpec, FamilyType, Point, Push, SeriesDef, SeriesLife, Session, SessionOptions,
    Source,
};

pub(crate) const OPTIONS: SessionOptions = SessionOptions {
    registry_ttl_ms: 0,
    tombstone_retention_ms: 604_800_000,
};

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Writer {
    pub(crate) value: f64,
    pub(crate) counts_left: u8,
    pub(crate) session: Session,
    /// What a registry had acknowledged before it lost everything: it is not shown again.
    pub(crate) lost: f64,
    /// No request of the writer has been answered since the server was replaced.
    pub(crate) is_unheard: bool,
    /// Since then a late copy of one of its requests has been applied, so the registry takes it for
    /// back.
    pub(crate) seems_heard: bool,
    /// The writer is leaving: it sends only what the answer to LEAVE asks for.
    pub(crate) is_leaving: bool,
    pub(crate) has_left: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) writer: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) batch: Vec<u8>,
}

impl Writer {
    /// Returns the packet that the writer would send now.
    pub(crate) fn packet(&mut self, now_ms: u64) -> Option<Packet> {
        let source = OneCounter(self.value);
        let push = if self.is_unheard && !self.is_leaving {
            // Otherwise no heartbeats: they carry no information, and make the search longer.
            self.session.heartbeat(&source, now_ms)
        } else {
            self.session.next(&source, now_ms)
        };
        let Push { seq, epoch, batch } = push?;
        Some(Packet {
            writer: self.session.writer().to_vec(),
            seq,
            epoch,
            batch,
        })
    }

    pub(crate) fn has_news(&self, now_ms: u64) -> bool {
        let is_due = self.is_unheard && !self.is_leaving;
        self.value > 0.0
            && (is_due
                || self
                    .session
                    .clone()
                    .next(&OneCounter(self.value), now_ms)
                    .is_some())
    }

    /// Returns whether the writer has sent everything and the registry has applied it.
    pub(crate) fn may_leave(&self) -> bool {
        let is_complete = self.session.left_out_count() == 0;
        self.counts_left == 0 && is_complete && self.session.leave().is_some()
    }

    pub(crate) fn acked_and_sent(&self) -> (f64, f64) {
        let number = |point: &Point| match point {
            Point::Scalar(value) => *value,
            _ => 0.0,
        };
        self.session.saved_point(0).map_or((0.0, 0.0), |saved| {
            (number(&saved.acked), number(&saved.sent))
        })
    }

    /// Replaces the session with one that another exporter restores from the saved state.
    pub(crate) fn succeed(&mut self) {
        let session = &self.session;
        self.session = Session::resume(session.writer().to_vec(), OPTIONS, session.saved());
    }
}

/// The only series of a writer.
struct OneCounter(f64);

impl Source for OneCounter {
    fn len(&self) -> usize {
        1
    }

    fn series(&self, _number: usize) -> SeriesDef<'_> {
        SeriesDef {
            family: FamilySpec::new("c", FamilyType::Counter),
            layout: None,
            labels: &[],
            pid: "",
            ttl_ms: 0,
        }
    }

    fn point(&self, _number: usize) -> Point {
        Point::Scalar(self.0)
    }

    fn life(&self, _number: usize) -> SeriesLife {
        SeriesLife::Live
    }
}

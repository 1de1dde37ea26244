//! Keeps the state of a session in its store.

use metrics_model::{Epoch, FamilyType, Saved, SavedPoint};
use metrics_store::{PushHeader, StoreReader};

use super::ShardSession;
use crate::sharding::shard_of;
use crate::stores::VisibleSeries;

impl ShardSession {
    /// Saves the answer: the header marks what was sent as acknowledged, except what was marked as
    /// left out before.
    pub(super) fn save_answer(&mut self, reader: &StoreReader) {
        self.save_bases(reader);
        for number in self.session.take_not_applied() {
            let in_store = self.visible.in_store(number);
            reader.set_left_out(in_store, self.session.acked_seq());
            self.suspects.add(reader.series(in_store).family);
        }
        self.save_header(reader);
    }

    pub(super) fn save_bases(&mut self, reader: &StoreReader) {
        for number in self.session.take_touched() {
            if let Some(saved) = self.session.saved_point(number) {
                reader.set_base(self.visible.in_store(number), &saved.base);
            }
        }
    }

    pub(super) fn save_header(&self, reader: &StoreReader) {
        let session = &self.session;
        let header = PushHeader {
            seq: session.seq(),
            sent_seq: session.sent_seq(),
            acked_seq: session.acked_seq(),
            acked_at_ms: session.acked_at_ms(),
            epoch: session.epoch().map(|epoch| epoch.0),
            incarnation: reader.push_header(self.shard).incarnation,
            sent_full: session.sent_full(),
            leave: self.leave_state,
        };
        reader.set_push_header(self.shard, &header);
    }
}

/// Returns what the session before has saved for a shard.
pub(super) fn saved(reader: &StoreReader, shard: usize, visible: &VisibleSeries) -> Saved {
    let header = reader.push_header(shard);
    if header == PushHeader::default() {
        return Saved::default();
    }
    let points = (0..visible.len()).map(|number| {
        let number = visible.in_store(number);
        SavedPoint {
            family_type: reader.series(number).family.family_type,
            base: reader.base(number),
            acked: reader.acked(shard, number),
            sent: reader.sent(shard, number),
        }
    });
    let in_last_batch = |&number: &usize| {
        let in_store = visible.in_store(number);
        header.sent_seq > 0 && reader.is_in_batch(in_store, header.sent_seq)
    };
    Saved {
        seq: header.seq,
        sent_seq: header.sent_seq,
        sent_full: header.sent_full,
        acked_seq: header.acked_seq,
        acked_at_ms: header.acked_at_ms,
        epoch: header.epoch.map(Epoch),
        points: points.collect(),
        last_batch: (0..visible.len()).filter(in_last_batch).collect(),
    }
}

/// Adapts to another number of shards: the families are in other registries now, which do not know
/// this writer. It continues there with the values that the old ones have not acknowledged, under
/// new ids, as after the loss of a registry.
pub(super) fn spread_anew(reader: &StoreReader, before: usize, shards: usize) {
    for number in 0..reader.len() {
        let family = reader.series(number).family;
        let acked = reader.acked(shard_of(&family.spec(), before), number);
        let base = match family.family_type {
            FamilyType::Gauge(_) => acked.zero(),
            _ => acked.clone(),
        };
        reader.set_base(number, &base);
        reader.restart_push(number, &acked);
    }
    let incarnations = (0..before).map(|shard| reader.push_header(shard).incarnation);
    let incarnation = incarnations.max().unwrap_or(0) + 1;
    for shard in 0..before.max(shards) {
        let header = PushHeader {
            incarnation,
            ..PushHeader::default()
        };
        reader.set_push_header(shard, &header);
    }
}

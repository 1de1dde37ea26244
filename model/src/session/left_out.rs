//! What the registry has left out, and when it is defined again.

use std::collections::BTreeSet;

use super::{InFlight, SavedPoint, Session};
use crate::batch::without_question;
use crate::{LeftOut, Point};

/// Time until series that were left out are defined again, in milliseconds.
const RETRY_MS: u64 = 1000;

/// The series that are left out, and which of them are defined again next.
#[derive(Debug, Clone, Default)]
pub(super) struct Retry {
    series: BTreeSet<usize>,
    /// Where in `series` the next ones begin.
    from: usize,
    /// How many are defined again at a time; doubled whenever all of them are accepted.
    count: usize,
    at_ms: u64,
}

impl Retry {
    pub(super) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.series.contains(&number)
    }

    pub(super) fn remove(&mut self, number: usize) {
        self.series.remove(&number);
    }

    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        !self.series.is_empty() && now_ms >= self.at_ms
    }

    /// The series that are defined again now.
    pub(super) fn due(&mut self, now_ms: u64) -> BTreeSet<usize> {
        if !self.is_due(now_ms) {
            return BTreeSet::new();
        }
        let in_turn = self.series.range(self.from..);
        let in_turn = in_turn.chain(self.series.range(..self.from));
        let due: Vec<usize> = in_turn.copied().take(self.count).collect();
        if let Some(last) = due.last() {
            self.from = last + 1;
        }
        due.into_iter().collect()
    }

    /// A batch was applied, but for what the registry has left out of it.
    pub(super) fn on_applied(&mut self, batch: &InFlight, left_out: Option<&LeftOut>, now_ms: u64) {
        let is_first = self.series.is_empty();
        if !is_first {
            for number in &batch.sent {
                self.series.remove(number);
            }
        }
        if let Some(left_out) = left_out {
            let numbers = batch.sent.iter().enumerate();
            let numbers = numbers.filter(|(position, _)| left_out.contains(*position));
            self.series.extend(numbers.map(|(_, number)| *number));
            self.count = 1;
            // What is left out all the time does not put the others off.
            if is_first || batch.retried > 0 {
                self.at_ms = now_ms + RETRY_MS;
            }
        } else if batch.retried > 0 {
            (self.count, self.at_ms) = (self.count.saturating_mul(2), now_ms);
        }
    }

    /// All of them at once, now.
    fn hurry(&mut self) {
        (self.count, self.at_ms) = (usize::MAX, 0);
    }
}

/// Puts the series of a batch into the order of its bytes, for a successor that has only their
/// numbers and is told positions.
pub(super) fn sort_batch(series: &mut [usize], is_full: bool, points: &[SavedPoint]) {
    series.sort_unstable();
    if !is_full {
        series.sort_by_key(|&number| {
            let point = points.get(number);
            point.map(|point| place_of_change(number, &point.sent))
        });
    }
}

impl Session {
    /// How many series the registry has left out, so that it does not have their values.
    pub fn left_out_count(&self) -> usize {
        self.retry.series.len()
    }

    /// Defines everything again with the next batch that was left out: it is the last chance.
    pub fn retry_left_out_now(&mut self) {
        self.retry.hurry();
    }

    /// Takes note that the registry does not know the question what it leaves out, and refuses
    /// batches that ask; returns whether this is new. From now on no batch asks, also not the one
    /// in flight, and what a batch leaves out counts as acknowledged.
    pub fn on_unknown_question(&mut self) -> bool {
        if let Some(in_flight) = &mut self.in_flight {
            without_question(&mut in_flight.push.batch);
        }
        std::mem::replace(&mut self.asks_left_out, false)
    }
}

/// The order of series in an incremental batch: those first that have more than one number, then
/// plain values. In a full state it is that of their numbers.
fn place_of_change(number: usize, point: &Point) -> (bool, usize) {
    (matches!(point, Point::Scalar(_)), number)
}

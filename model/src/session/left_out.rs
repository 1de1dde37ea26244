//! Series that the registry has left out, and when the session defines them again.

use std::collections::BTreeSet;

use super::{InFlight, SavedPoint, Session};
use crate::batch::without_question;
use crate::{LeftOut, Point};

/// Time until left-out series are defined again, in milliseconds.
const RETRY_MS: u64 = 1000;

/// The series that are left out, and which of them are defined again next.
#[derive(Debug, Clone, Default)]
pub(super) struct Retry {
    series: BTreeSet<usize>,
    /// Index in `series` of the next ones.
    from: usize,
    /// Number of series that are defined again at a time; doubled whenever all of them are
    /// accepted.
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

    /// Returns the series to define again now.
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

    /// Processes an applied batch and the series that the registry has left out of it.
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
            // Series that are always left out do not delay the others.
            if is_first || batch.retried > 0 {
                self.at_ms = now_ms + RETRY_MS;
            }
        } else if batch.retried > 0 {
            (self.count, self.at_ms) = (self.count.saturating_mul(2), now_ms);
        }
    }

    /// Schedules all of them for now.
    fn hurry(&mut self) {
        (self.count, self.at_ms) = (usize::MAX, 0);
    }
}

/// Sorts the series of a batch in the order of its bytes, for a successor that has only their
/// numbers and receives positions.
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
    /// Returns how many series the registry has left out and therefore lacks.
    pub fn left_out_count(&self) -> usize {
        self.retry.series.len()
    }

    /// Defines all left-out series again with the next batch: it is the last chance.
    pub fn retry_left_out_now(&mut self) {
        self.retry.hurry();
    }

    /// Notes that the registry does not know the question what it leaves out, and refuses batches
    /// that ask; returns whether this is new. From now on no batch asks, including the one in
    /// flight, and series that a batch leaves out count as acknowledged.
    pub fn on_unknown_question(&mut self) -> bool {
        if let Some(in_flight) = &mut self.in_flight {
            without_question(&mut in_flight.push.batch);
        }
        std::mem::replace(&mut self.asks_left_out, false)
    }
}

/// Returns the sort key of a series in an incremental batch: first series with several numbers,
/// then plain values. In a full state the order is that of their numbers.
fn place_of_change(number: usize, point: &Point) -> (bool, usize) {
    (matches!(point, Point::Scalar(_)), number)
}

//! Which writers own a series, and when it has expired: answered in O(1), settled or not.
//!
//! # How it works
//!
//! A total expires when its TTL has passed since its last write or since the end of its last
//! owner's lease. It stays expired if a writer comes back later. A series knows how many writers
//! remember it, and how many of those count as owners; settling keeps the latter up to date (see
//! [`lifetime`](super::lifetime)). For what is not settled these rules hold:
//!
//! 1. A series that one writer remembers, as nearly all with a TTL are: that writer tells, exactly.
//! 2. A series of several writers, with all entries settled: the count is exact.
//! 3. No lease runs, and the TTL has passed since the last one ended: the series has expired.
//! 4. At most [`MAX_ASKED`] writers are not settled: each of them tells, exactly.
//! 5. Otherwise the series is shown as long as an owner is counted or a writer may have come back.
//!    That lasts until those writers are settled: seconds at most.
//!
//! Reading and writing follow the same rules, so that a hidden total begins anew, and a shown one
//! goes on.

use super::Registry;
use super::writers::{Phase, Writer};
use crate::ids::{SeriesId, WriterId};
use crate::registry::writers::Writers;

/// Asks at most this many writers whether they own a series of several.
const MAX_ASKED: usize = 8;

/// What a writer's entry means for the ownership of its series.
enum Claim {
    /// The writer never owned it since.
    None,
    /// The writer owns it.
    Now,
    /// The writer owned it until then.
    Until(u64),
    /// The writer may have owned it until the first time, and owns it again since the second.
    Again { until_ms: u64, since_ms: u64 },
    /// The same, and then it gave the series up.
    Returned {
        until_ms: u64,
        since_ms: u64,
        given_up_ms: u64,
    },
}

/// The writers to check for a series.
#[derive(Default)]
struct Asked {
    writers: [WriterId; MAX_ASKED],
    len: usize,
}

impl Asked {
    fn one(writer: WriterId) -> Self {
        let mut asked = Self::default();
        (asked.writers[0], asked.len) = (writer, 1);
        asked
    }

    fn iter(&self) -> impl Iterator<Item = WriterId> {
        self.writers.iter().take(self.len).copied()
    }
}

impl Registry {
    /// Returns whether a series' total has ended at that time, although it may not be removed yet.
    #[inline]
    pub(super) fn is_expired(&self, id: SeriesId, now_ms: u64) -> bool {
        self.catalog
            .may_be_overdue(&self.catalog.series[id], now_ms)
            && self.is_idle_for_too_long(id, now_ms)
    }

    /// Returns whether a series was neither written nor owned for so long at that time; 0 = never.
    pub(super) fn was_idle_for(&self, id: SeriesId, ttl_ms: u64, now_ms: u64) -> bool {
        let series = &self.catalog.series[id];
        if ttl_ms == 0 || now_ms < series.idle_since_ms.saturating_add(ttl_ms) {
            return false;
        }
        let writers = match series.only_writer() {
            // The writer without id owns nothing.
            Some(writer) if self.writers[writer].id.is_empty() => return true,
            Some(writer) => Asked::one(writer),
            None if series.memories == 0 => return true,
            None if self.writers.is_settled_at(now_ms) => return series.owners == 0,
            None if self.writers.have_all_ended(ttl_ms, now_ms) => return true,
            None => match self.writers.unsettled_writers(now_ms) {
                Some(writers) => writers,
                None => return false,
            },
        };
        let (mut owners, mut until_ms) = (series.owners, series.idle_since_ms);
        let mut ends_ms = now_ms;
        let (mut is_owned_again, mut given_up_ms) = (false, 0);
        for writer in writers.iter().map(|id| &self.writers[id]) {
            let Some(at) = writer.find(id) else { continue };
            owners = owners.saturating_sub(writer.entries[at].is_owned().into());
            match self.writers.claim(writer, at, now_ms) {
                Claim::None => {}
                Claim::Now => return false,
                Claim::Until(end_ms) => until_ms = until_ms.max(end_ms),
                Claim::Again {
                    until_ms: end_ms,
                    since_ms,
                } => {
                    until_ms = until_ms.max(end_ms);
                    ends_ms = ends_ms.min(since_ms);
                    is_owned_again = true;
                }
                Claim::Returned {
                    until_ms: end_ms,
                    since_ms,
                    given_up_ms: at_ms,
                } => {
                    until_ms = until_ms.max(end_ms);
                    ends_ms = ends_ms.min(since_ms);
                    given_up_ms = given_up_ms.max(at_ms);
                }
            }
        }
        let last_ms = until_ms.max(given_up_ms).saturating_add(ttl_ms);
        let has_ended = ends_ms >= until_ms.saturating_add(ttl_ms);
        owners == 0 && (has_ended || !is_owned_again && now_ms >= last_ms)
    }

    /// Returns the cost, in values, of telling whether a series that may be overdue has expired.
    #[cold]
    pub(super) fn cost_of_overdue(&self, id: SeriesId) -> usize {
        let series = &self.catalog.series[id];
        let of_writers = match series.only_writer() {
            Some(writer) => usize::from(!self.writers[writer].id.is_empty()),
            None if series.memories == 0 => 0,
            None => MAX_ASKED,
        };
        of_writers + usize::from(!self.catalog.ttls.walks.is_empty())
    }
}

impl Writers {
    /// Returns whether no lease runs, and all have been over for so long.
    fn have_all_ended(&self, ttl_ms: u64, now_ms: u64) -> bool {
        let last = self.leases.last();
        let last_ms = last.map_or(0, |(end_ms, _)| end_ms.saturating_add(self.paused_ms));
        let ended_ms = last_ms.max(self.latest_end_ms);
        self.endless == 0 && ended_ms.saturating_add(ttl_ms) <= now_ms
    }

    /// Returns every writer whose entries may disagree with its phase at that time, if they are
    /// few.
    fn unsettled_writers(&self, now_ms: u64) -> Option<Asked> {
        if self.unsettled.len() > MAX_ASKED {
            return None;
        }
        // Some of the due writers are queued too, which are few then.
        let due = self
            .leases
            .range(..=(self.lease_clock(now_ms), WriterId::NONE));
        let due = due.map(|(_, id)| *id).filter(|id| !self[*id].is_queued);
        let mut asked = Asked::default();
        for writer in self.unsettled.iter().copied().chain(due) {
            *asked.writers.get_mut(asked.len)? = writer;
            asked.len += 1;
        }
        Some(asked)
    }

    fn claim(&self, writer: &Writer, at: usize, now_ms: u64) -> Claim {
        let entry = writer.entries[at];
        if entry.is_retired() || writer.id.is_empty() {
            return Claim::None;
        }
        let is_settled = !writer.is_queued || at < writer.settle_from as usize;
        let was_owner = entry.is_owned() || writer.is_owed(at);
        if let Some(unnamed) = writer
            .unnamed
            .as_ref()
            .filter(|unnamed| unnamed.is_pending(at))
        {
            return match (writer.phase, is_settled) {
                (Phase::Live, false) => Claim::Returned {
                    until_ms: if was_owner { writer.end_ms } else { 0 },
                    since_ms: writer.back_ms,
                    given_up_ms: unnamed.at_ms,
                },
                _ if was_owner => Claim::Until(unnamed.at_ms),
                _ => Claim::None,
            };
        }
        match writer.phase {
            Phase::Live if self.is_live(writer, now_ms) => match (is_settled, was_owner) {
                (true, true) => Claim::Now,
                (true, false) => Claim::None,
                (false, _) => Claim::Again {
                    until_ms: if was_owner { writer.end_ms } else { 0 },
                    since_ms: writer.back_ms,
                },
            },
            Phase::Live if was_owner || !is_settled => Claim::Until(self.lease_end_ms(writer)),
            Phase::Ended | Phase::Closed | Phase::Forgotten if was_owner => {
                Claim::Until(writer.end_ms)
            }
            _ => Claim::None,
        }
    }
}

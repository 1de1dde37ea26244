//! The total of a gauge: the values of its writers, and what those that have gone have left.

use crate::footprint::{allocated, allocated_for};
use crate::ids::WriterId;
use crate::pieces::Pieces;
use crate::registry::pids::ByPid;
use crate::sum::ExactSum;
use crate::{GaugeMode, Setting};

/// The values that writers have set.
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct Gauge {
    pub(in crate::registry) members: Pieces<Member>,
    /// Free places in `members`.
    pub(in crate::registry) holes: Pieces<u32>,
    /// Exact sum of the finite live members, in the modes `sum` (in which all are live) and
    /// `livesum`.
    pub(in crate::registry) sum: ExactSum,
    /// Number of live members.
    pub(in crate::registry) live: u32,
    /// Number of live members that are not finite.
    pub(in crate::registry) odd: u32,
    /// Combined value of writers that have gone, in `min`, `max` and `sum`.
    pub(in crate::registry) retired: Option<f64>,
    /// Values of writers that have gone, in `all` and `mostrecent`.
    pub(in crate::registry) left_values: Vec<LeftValue>,
    /// In the modes that show each writer, once there is a value.
    pub(in crate::registry) by_pid: Option<Box<ByPid>>,
}

/// One writer's value.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct Member {
    pub(in crate::registry) writer: WriterId,
    /// In the live modes: whether its writer is live, as far as settled (see `lifetime`).
    pub(in crate::registry) is_live: bool,
    pub(in crate::registry) value: f64,
    /// Time of the value in Unix seconds, in the timed modes.
    pub(in crate::registry) time: f64,
}

/// The value of a writer that has gone.
#[derive(Debug, Clone)]
pub(in crate::registry) struct LeftValue {
    pub(in crate::registry) writer_id: Box<[u8]>,
    pub(in crate::registry) pid: Box<str>,
    pub(in crate::registry) value: f64,
    pub(in crate::registry) time: f64,
    pub(in crate::registry) until_ms: u64,
}

impl Gauge {
    pub(in crate::registry) fn heap_bytes(&self) -> usize {
        allocated(size_of::<Self>())
            + self.members.heap_bytes()
            + self.holes.heap_bytes()
            + allocated_for::<LeftValue>(self.left_values.capacity())
            + self.sum.heap_bytes()
            + self.by_pid.as_ref().map_or(0, |by_pid| by_pid.heap_bytes())
    }

    /// Returns whether that place belongs to that writer.
    #[inline]
    pub(in crate::registry) fn is_member(&self, place: u32, writer: WriterId) -> bool {
        self.members
            .get(place as usize)
            .is_some_and(|member| member.writer == writer)
    }

    /// Sets a writer's value and returns its place.
    #[inline]
    pub(in crate::registry) fn set(&mut self, place: u32, new: Member) -> u32 {
        if self.is_member(place, new.writer) {
            let old = std::mem::replace(&mut self.members[place as usize], new);
            self.sum_out(old);
            self.sum_in(new);
            return place;
        }
        self.sum_in(new);
        if let Some(hole) = self.holes.pop() {
            self.members[hole as usize] = new;
            return hole;
        }
        self.members.push(new);
        (self.members.len() - 1) as u32
    }

    pub(in crate::registry) fn remove(&mut self, place: u32, writer: WriterId) -> Option<Member> {
        if !self.is_member(place, writer) {
            return None;
        }
        let member = std::mem::replace(
            &mut self.members[place as usize],
            Member {
                writer: WriterId::NONE,
                is_live: false,
                value: 0.0,
                time: 0.0,
            },
        );
        self.holes.push(place);
        if self.holes.len() == self.members.len() {
            // No member is left, so no memory should be either.
            (self.members, self.holes) = Default::default();
            (self.sum, self.live, self.odd) = Default::default();
        } else {
            self.sum_out(member);
        }
        Some(member)
    }

    /// Folds the last value of a writer that has left into the combined value of those before.
    pub(in crate::registry) fn retire(&mut self, mode: GaugeMode, value: f64) {
        let fold = |before| mode.fold(folded(before), folded(value));
        let both = self.retired.map_or(Some(folded(value)), fold);
        self.retired = both.map(|both| both.value);
    }

    /// Notes that a writer's lease has ended, or begun again.
    pub(in crate::registry) fn set_live(&mut self, place: u32, writer: WriterId, is_live: bool) {
        if self.is_member(place, writer) {
            let member = &mut self.members[place as usize];
            let was = *member;
            member.is_live = is_live;
            let is = *member;
            self.sum_out(was);
            self.sum_in(is);
        }
    }

    /// Counts its members again, after they were decoded.
    pub(in crate::registry) fn count_members(&mut self) {
        let live = || self.present().filter(|member| member.is_live);
        let finite = || live().filter(|member| member.value.is_finite());
        let (all, of_finite) = (live().count(), finite().count());
        let sum = finite().map(|member| member.value).collect();
        (self.live, self.odd, self.sum) = (all as u32, (all - of_finite) as u32, sum);
    }

    pub(in crate::registry) fn present(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| member.writer != WriterId::NONE)
    }

    fn sum_in(&mut self, member: Member) {
        if !member.is_live {
            return;
        }
        self.live += 1;
        if member.value.is_finite() {
            self.sum.add(member.value);
        } else {
            self.odd += 1;
        }
    }

    fn sum_out(&mut self, member: Member) {
        if !member.is_live {
            return;
        }
        self.live -= 1;
        if member.value.is_finite() {
            self.sum.add(-member.value);
        } else {
            self.odd -= 1;
        }
    }
}

/// Returns a value without a writer, for modes in which the writer decides nothing.
pub(in crate::registry) fn folded(value: f64) -> Setting<'static> {
    Setting {
        value,
        time: 0.0,
        writer: b"",
    }
}

//! Series and families as a registry stores them.

use super::declarations::Holders;
use super::order::Order;
use super::ttl::{FamilyTtl, TtlChange};
use crate::footprint::{allocated, allocated_for};
use crate::ids::{DeadlineId, FamilyId, Id, LayoutId, WriterId};
use crate::measured::HeapBytes;
use crate::pieces::Pieces;
use crate::registry::Reason;
use crate::registry::pids::ByPid;
use crate::sum::{ExactSum, Sum};
use crate::{
    FamilyType, GaugeMode, MAX_BUCKETS_OF_SERIES, MAX_LAYOUTS_OF_SERIES, MAX_NATIVE_BUCKETS,
    NATIVE_SCHEMAS, NativeHistogram, Point, Setting,
};

/// Stands for no place.
pub(in crate::registry) const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
pub(in crate::registry) struct Family {
    pub(in crate::registry) name: Box<str>,
    pub(in crate::registry) family_type: FamilyType,
    pub(in crate::registry) help: Box<str>,
    pub(in crate::registry) unit: Box<str>,
    /// TTL of new series without one of their own.
    pub(in crate::registry) ttl_ms: Option<u64>,
    /// TTL that was set for all its series.
    pub(in crate::registry) ttl: FamilyTtl,
    /// Bucket layout of direct observations.
    pub(in crate::registry) layout: Option<LayoutId>,
    /// For native histograms: the lowest schema that a writer may have.
    pub(in crate::registry) schema: Option<i8>,
    /// Whether it stays without series.
    pub(in crate::registry) is_declared: bool,
    /// Whether another family may have its name; only writers still remember it.
    pub(in crate::registry) is_ended: bool,
    /// Series with a number up to this were deleted with the whole family, although their records
    /// may not be removed yet.
    pub(in crate::registry) deleted_up_to: u64,
    /// The series with a total.
    pub(in crate::registry) order: Order,
    /// Number of series of this family, including those that only writers remember.
    pub(in crate::registry) identities: u32,
    pub(in crate::registry) holders: Holders,
    /// Number of them with a label name that is not legal.
    pub(in crate::registry) odd_labels: u32,
    /// Number of them that an escaping scheme makes equal to another one; one of each such group
    /// does not count.
    pub(in crate::registry) equal_labels: u32,
}

impl HeapBytes for Family {
    /// Includes its entries in the indexes by name.
    fn heap_bytes(&self) -> usize {
        let texts = 4 * self.name.len() + self.help.len() + self.unit.len();
        let changes = allocated_for::<TtlChange>(self.ttl.changes.capacity());
        texts + self.order.heap_bytes() + changes + self.holders.heap_bytes() + 256
    }
}

/// One label set of one family.
///
/// It exists as long as it has a total *or* a writer remembers what it last sent of it. Removing a
/// total (expiry, DEL) never removes a memory, so that no old value is counted again.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Series {
    pub(in crate::registry) labels: Box<str>,
    pub(in crate::registry) family: FamilyId,
    /// Hash in the index; it differs between processes.
    pub(in crate::registry) hash: u32,
    /// Number of writers that remember it.
    pub(in crate::registry) memories: u32,
    /// The numbers of those writers, combined by XOR: for a single writer, its number.
    pub(in crate::registry) writers: u32,
    /// Number of writers with a lease that own it, as far as settled (see `lifetime`).
    pub(in crate::registry) owners: u32,
    /// Its place among the deadlines, if it has one.
    pub(in crate::registry) deadline: DeadlineId,
    /// Number of its total in the order of creation; 0 = it has no total.
    pub(in crate::registry) created_no: u64,
    /// When the total was created.
    pub(in crate::registry) start_ms: u64,
    /// Time of the last write, or of the end of the last owner if that is later.
    pub(in crate::registry) idle_since_ms: u64,
    /// Idle time after which it expires, in milliseconds; see [`ttl`](super::ttl).
    pub(in crate::registry) ttl: u32,
    /// Number of the last change of the family's TTL that does not apply to it.
    pub(in crate::registry) ttl_no: u32,
    pub(in crate::registry) total: Total,
}

impl Series {
    /// Notes that a writer begins to remember it.
    pub(in crate::registry) fn remember(&mut self, writer: WriterId) {
        self.memories += 1;
        self.writers ^= writer.number();
    }

    /// Notes that a writer no longer remembers it.
    pub(in crate::registry) fn forget(&mut self, writer: WriterId) {
        self.memories -= 1;
        self.writers ^= writer.number();
    }

    /// Returns the writer if it is the only one that remembers it.
    pub(in crate::registry) fn only_writer(&self) -> Option<WriterId> {
        (self.memories == 1).then_some(WriterId::from_number(self.writers))
    }
}

#[derive(Debug, Clone)]
pub(in crate::registry) enum Total {
    Counter(Sum),
    Gauge(Box<Gauge>),
    Buckets(Box<Buckets>),
    Native(Box<Native>),
}

impl Total {
    pub(in crate::registry) fn zero(family_type: FamilyType) -> Self {
        match family_type {
            FamilyType::Counter => Self::Counter(Sum::default()),
            FamilyType::Gauge(_) | FamilyType::Info | FamilyType::StateSet => {
                Self::Gauge(Box::default())
            }
            FamilyType::Histogram | FamilyType::Summary => Self::Buckets(Box::default()),
            FamilyType::NativeHistogram => Self::Native(Box::default()),
        }
    }

    pub(in crate::registry) fn heap_bytes(&self) -> usize {
        match self {
            Self::Counter(_) => 0,
            Self::Gauge(gauge) => gauge.heap_bytes(),
            Self::Buckets(buckets) => {
                let counts = |part: &Part| allocated_for::<u64>(part.counts.len());
                allocated(size_of::<Buckets>())
                    + allocated_for::<Part>(buckets.parts.capacity())
                    + buckets.parts.iter().map(counts).sum::<usize>()
            }
            Self::Native(native) => allocated(size_of::<Native>()) + native.histogram.heap_bytes(),
        }
    }
}

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

/// Totals of a histogram, one for each bucket layout of its writers; a summary has one.
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct Buckets {
    pub(in crate::registry) parts: Vec<Part>,
    /// Number of all observations, in any layout.
    pub(in crate::registry) count: u64,
}

#[derive(Debug, Clone)]
pub(in crate::registry) struct Part {
    pub(in crate::registry) layout: LayoutId,
    pub(in crate::registry) sum: ObservedSum,
    /// Not cumulative; the last is `+Inf`.
    pub(in crate::registry) counts: Box<[u64]>,
}

impl Buckets {
    /// Returns the total of that layout.
    pub(in crate::registry) fn part(&mut self, layout: LayoutId, buckets: usize) -> &mut Part {
        let at = self
            .parts
            .iter()
            .position(|part| part.layout == layout)
            .unwrap_or_else(|| {
                self.parts.push(Part {
                    layout,
                    sum: ObservedSum::default(),
                    counts: vec![0; buckets].into(),
                });
                self.parts.len() - 1
            });
        &mut self.parts[at]
    }

    /// Returns the sum of a layout after so many more observations, by which the writer's sum went
    /// from `before` to `now`.
    ///
    /// # Errors
    ///
    /// The count, the sum of the layout or that of all layouts would be too large; there would be
    /// too many layouts side by side; or no observations can take the writer's sum from `before` to
    /// `now`.
    pub(in crate::registry) fn sum_with(
        &self,
        (layout, buckets): (LayoutId, usize),
        more: u64,
        now: f64,
        before: f64,
    ) -> Result<ObservedSum, Reason> {
        let is_new = self.parts.iter().all(|part| part.layout != layout);
        let all = self.parts.iter().map(|part| part.counts.len());
        if is_new
            && (self.parts.len() >= MAX_LAYOUTS_OF_SERIES
                || all.sum::<usize>() + buckets > MAX_BUCKETS_OF_SERIES)
        {
            return Err(Reason::Size);
        }
        self.count.checked_add(more).ok_or(Reason::Overflow)?;
        let (mut sum, mut others) = (ObservedSum::default(), 0.0);
        for part in &self.parts {
            if part.layout == layout {
                sum = part.sum;
            } else {
                others += part.sum.finite.value();
            }
        }
        let sum = sum.plus(now, before)?;
        let is_finite = (sum.finite.value() + others).is_finite();
        is_finite.then_some(sum).ok_or(Reason::Overflow)
    }
}

/// The total of a native histogram.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Native {
    /// In the lowest schema and with the highest zero threshold of all its writers; in a still
    /// lower schema if it would have more than [`MAX_NATIVE_BUCKETS`].
    pub(in crate::registry) histogram: NativeHistogram,
    pub(in crate::registry) sum: ObservedSum,
}

impl Default for Native {
    /// An empty total, which takes the schema and the zero threshold of the first histogram that is
    /// added.
    fn default() -> Self {
        Self {
            histogram: NativeHistogram::empty(*NATIVE_SCHEMAS.end(), 0.0),
            sum: ObservedSum::default(),
        }
    }
}

impl Native {
    /// Returns the sum after adding what was counted since `before`, which was the sum then.
    ///
    /// # Errors
    ///
    /// Those of [`Buckets::sum_with`].
    pub(in crate::registry) fn sum_with(
        &self,
        counted: &NativeHistogram,
        before: f64,
    ) -> Result<ObservedSum, Reason> {
        let more = counted.checked_count().ok_or(Reason::Overflow)?;
        let count = self.histogram.checked_count().ok_or(Reason::Overflow)?;
        count.checked_add(more).ok_or(Reason::Overflow)?;
        self.sum.plus(counted.sum, before)
    }

    /// Adds what was counted; `sum` is the result of [`sum_with`](Self::sum_with).
    pub(in crate::registry) fn add(&mut self, mut counted: NativeHistogram, sum: ObservedSum) {
        self.histogram.align(&mut counted);
        self.histogram.add_counts(&counted);
        while self.histogram.len() > MAX_NATIVE_BUCKETS
            && self.histogram.schema > *NATIVE_SCHEMAS.start()
        {
            self.histogram.lower_schema(self.histogram.schema - 1);
        }
        self.sum = sum;
        self.histogram.sum = sum.value();
    }
}

/// A sum of observations, some of which may be infinite.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::registry) struct ObservedSum {
    pub(in crate::registry) finite: Sum,
    /// Sum of the infinite observations; 0 if there are none.
    pub(in crate::registry) odd: f64,
}

impl ObservedSum {
    /// Returns the sum of one writer.
    pub(in crate::registry) fn of(sum: f64) -> Self {
        let mut total = Self::default();
        if sum.is_finite() {
            total.finite.high = sum;
        } else {
            total.odd = sum;
        }
        total
    }

    /// Returns this sum plus the difference between a writer's sum and its earlier value.
    ///
    /// # Errors
    ///
    /// The sum of finite observations would be infinite; or an infinite sum has become finite,
    /// which no observation can cause.
    pub(in crate::registry) fn plus(self, now: f64, before: f64) -> Result<Self, Reason> {
        if now.is_finite() && before.is_finite() {
            let finite = self.finite.plus_difference(now, before);
            let finite = finite.ok_or(Reason::Overflow)?;
            return Ok(Self { finite, ..self });
        }
        if now == before || (now.is_nan() && before.is_nan()) {
            return Ok(self);
        }
        if before.is_finite() || now.is_nan() {
            let odd = self.odd + now;
            return Ok(Self { odd, ..self });
        }
        Err(Reason::Value)
    }

    pub(in crate::registry) fn value(self) -> f64 {
        if self.odd == 0.0 {
            self.finite.value()
        } else {
            self.odd
        }
    }
}

/// Returns whether a value may enter a total.
pub(in crate::registry) fn is_countable(point: &Point) -> bool {
    match point {
        Point::Scalar(value) => value.is_finite() && *value >= 0.0,
        Point::Timed { .. } | Point::Buckets { .. } | Point::Native(_) => true,
    }
}

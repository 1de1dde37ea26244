//! Series and families as a registry stores them.

use super::declarations::Holders;
pub(in crate::registry) use super::gauge::{Gauge, LeftValue, Member, folded};
pub(in crate::registry) use super::histograms::{Buckets, Native, ObservedSum, Part};
use super::order::Order;
use super::ttl::{FamilyTtl, TtlChange};
use crate::footprint::{allocated, allocated_for};
use crate::ids::{DeadlineId, FamilyId, Id, LayoutId, WriterId};
use crate::measured::HeapBytes;
use crate::registry::Relocate;
use crate::sum::Sum;
use crate::{FamilyType, Point};

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

    /// Moves its memory.
    pub(in crate::registry) fn relocate(&mut self, by: &mut impl Relocate) {
        by.text(&mut self.labels);
        match &mut self.total {
            Total::Counter(_) => {}
            Total::Gauge(gauge) => {
                by.boxed(gauge);
                gauge
                    .members
                    .vectors_mut()
                    .for_each(|piece| by.vector(piece));
                gauge.holes.vectors_mut().for_each(|piece| by.vector(piece));
                by.vector(&mut gauge.left_values);
            }
            Total::Buckets(buckets) => {
                by.boxed(buckets);
                by.vector(&mut buckets.parts);
                for part in &mut buckets.parts {
                    by.slice(&mut part.counts);
                }
            }
            Total::Native(native) => {
                by.boxed(native);
                by.vector(&mut native.histogram.positive);
                by.vector(&mut native.histogram.negative);
            }
        }
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

/// Returns whether a value may enter a total.
pub(in crate::registry) fn is_countable(point: &Point) -> bool {
    match point {
        Point::Scalar(value) => value.is_finite() && *value >= 0.0,
        Point::Timed { .. } | Point::Buckets { .. } | Point::Native(_) => true,
    }
}

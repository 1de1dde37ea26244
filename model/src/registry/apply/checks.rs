//! Checks of a definition's value: against itself, what its writer sent before, and the total.

use super::values::{above_base, counter_of, grown};
use crate::ids::{LayoutId, SeriesId, WriterId};
use crate::registry::catalog::series::{Buckets, Native, Total, is_countable};
use crate::registry::{Reason, Registry};
use crate::{Define, FamilySpec, FamilyType, MAX_PID_BYTES, Point};

impl Registry {
    /// Returns whether a value continues what the writer has sent.
    pub(super) fn check_memory(
        &self,
        id: WriterId,
        at: usize,
        layout: Option<LayoutId>,
        point: &Point,
    ) -> Result<(), Reason> {
        let writer = &self.writers[id];
        let entry = writer.entries[at];
        match (point, &self.catalog.series[entry.series].total) {
            (Point::Scalar(value), Total::Counter(_)) if *value < entry.last => {
                Err(Reason::Decrease)
            }
            (Point::Native(now), _) => {
                let memory = writer.natives.get(entry.place() as usize);
                let counted = memory.and_then(|memory| now.since(memory));
                counted.map(|_| ()).ok_or(Reason::Decrease)
            }
            (Point::Buckets { counts, .. }, _) => {
                let memory = writer
                    .buckets
                    .get(entry.place() as usize)
                    .ok_or(Reason::Value)?;
                if Some(memory.layout) != layout {
                    return Err(Reason::Conflict);
                }
                let decreases = counts
                    .iter()
                    .zip(&memory.counts)
                    .any(|(new, old)| new < old);
                if decreases {
                    Err(Reason::Decrease)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the total can take what the definition adds to it.
    pub(super) fn check_growth(
        &self,
        id: WriterId,
        known: Option<SeriesId>,
        memory: Option<usize>,
        layout: Option<LayoutId>,
        define: &Define<'_>,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let writer = &self.writers[id];
        let entry = memory.filter(|at| !self.is_given_up_gauge(id, *at));
        let entry = entry.map(|at| writer.entries[at]);
        let total = known.and_then(|series| self.running_total(series, now_ms));
        match (&define.point, &define.base) {
            (Point::Scalar(value), base) => {
                let base = match (entry, base) {
                    (Some(entry), _) => entry.last,
                    (None, Some(Point::Scalar(base))) => *base,
                    (None, _) => 0.0,
                };
                let is_counter = known
                    .is_some_and(|id| matches!(self.catalog.series[id].total, Total::Counter(_)));
                if is_counter {
                    grown(counter_of(total), base, *value)?;
                } else {
                    above_base(*value, base)?;
                }
            }
            (Point::Buckets { sum, counts }, base) => {
                let memory = entry.and_then(|entry| writer.buckets.get(entry.place() as usize));
                let (before_sum, before) = match (memory, base) {
                    (Some(memory), _) => (memory.sum, &*memory.counts),
                    (None, Some(Point::Buckets { sum, counts })) => (*sum, counts.as_slice()),
                    (None, _) => (0.0, &[][..]),
                };
                let before = |bucket: usize| before.get(bucket).copied().unwrap_or(0);
                let more = counts
                    .iter()
                    .enumerate()
                    .try_fold(0_u64, |sum, (bucket, now)| {
                        sum.checked_add(now.checked_sub(before(bucket))?)
                    });
                let more = more.ok_or(Reason::Overflow)?;
                let layout = (layout.unwrap_or(LayoutId::NONE), counts.len());
                match total {
                    Some(Total::Buckets(total)) => {
                        total.sum_with(layout, more, *sum, before_sum)?
                    }
                    _ => Buckets::default().sum_with(layout, more, *sum, before_sum)?,
                };
            }
            (Point::Native(now), base) => {
                let memory = entry.and_then(|entry| writer.natives.get(entry.place() as usize));
                let counted = match (memory, base) {
                    (Some(memory), _) => now.since(memory).map(|counted| (counted, memory.sum)),
                    (None, Some(Point::Native(base))) => {
                        now.since(base).map(|counted| (counted, base.sum))
                    }
                    (None, _) => Some(((**now).clone(), 0.0)),
                };
                let (counted, before) = counted.ok_or(Reason::Decrease)?;
                match total {
                    Some(Total::Native(total)) => total.sum_with(&counted, before)?,
                    _ => Native::default().sum_with(&counted, before)?,
                };
            }
            (Point::Timed { .. }, _) => {}
        }
        Ok(())
    }
}

/// Checks what a definition says, whatever the registry has.
pub(super) fn check_form(spec: &FamilySpec<'_>, define: &Define<'_>) -> Result<(), Reason> {
    if define.pid.len() > MAX_PID_BYTES {
        return Err(Reason::Size);
    }
    if matches!(define.point, Point::Scalar(value) if !spec.family_type.allows(value)) {
        return Err(Reason::Value);
    }
    let is_counter = spec.family_type == FamilyType::Counter;
    if is_counter && !define.base.iter().chain([&define.point]).all(is_countable) {
        return Err(Reason::Value);
    }
    Ok(())
}

/// Refuses a base above the value: the base is the part that was counted already.
pub(super) fn check_base(
    is_counter: bool,
    point: &Point,
    base: Option<&Point>,
) -> Result<(), Reason> {
    let fits = match (point, base) {
        (Point::Scalar(value), Some(Point::Scalar(base))) if is_counter => base <= value,
        (Point::Buckets { counts, .. }, Some(Point::Buckets { counts: base, .. })) => {
            counts.iter().zip(base).all(|(value, base)| base <= value)
        }
        (Point::Native(value), Some(Point::Native(base))) => value.since(base).is_some(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(Reason::Decrease) }
}

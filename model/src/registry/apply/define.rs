//! Defines series for a writer, and begins its memory of them.

use super::values::{above_base, counter_of, grown};
use crate::ids::{FamilyId, LayoutId, SeriesId, WriterId};
use crate::name::kept_name;
use crate::registry::catalog::Catalog;
use crate::registry::catalog::series::{Buckets, Native, Total, is_countable};
use crate::registry::writers::{BucketMemory, Entry as Memory};
use crate::registry::{Reason, Registry, RegistryError, Stamp};
use crate::{
    Define, FamilySpec, FamilyType, GaugeMode, LabelError, Labels, Layout, MAX_PID_BYTES, Point,
};

impl Registry {
    /// Defines a series of this writer, with its value; what the registry remembers of it wins over
    /// the base. Returns its entry.
    pub(super) fn define(
        &mut self,
        stamp: &Stamp,
        id: WriterId,
        define: &Define<'_>,
        families: &[FamilySpec<'_>],
        layouts: &[Layout],
    ) -> Result<usize, Reason> {
        let spec = &families[define.family];
        if define.pid.len() > MAX_PID_BYTES {
            return Err(Reason::Size);
        }
        let mode = spec.family_type.gauge_mode();
        let shows_pid = mode.is_some_and(GaugeMode::is_per_writer);
        if shows_pid && self.writers.has_other_pid(id, define.pid) {
            return Err(Reason::Conflict);
        }
        if matches!(define.point, Point::Scalar(value) if !spec.family_type.allows(value)) {
            return Err(Reason::Value);
        }
        let is_counter = spec.family_type == FamilyType::Counter;
        if is_counter && !define.base.iter().chain([&define.point]).all(is_countable) {
            return Err(Reason::Value);
        }
        let labels = Labels::new(define.labels).map_err(|error| match error {
            LabelError::TooLarge(_) => Reason::LabelBytes,
            _ => Reason::Labels,
        })?;
        let (found, superseded) = self.family_of_definition(spec)?;
        let family = match found {
            None => self
                .catalog
                .ended_family(kept_name(spec).unwrap_or_default(), spec.family_type),
            family => family,
        };
        let known = family.and_then(|family| self.catalog.find_series(family, labels.as_str()));
        Catalog::check_labels(spec, &labels, known, &self.limits).map_err(|e| Reason::of(&e))?;
        self.check_not_of_group(known, stamp.now_ms)
            .map_err(|e| Reason::of(&e))?;
        let memory = known.and_then(|series| self.writers[id].find(series));
        if let Some(at) = memory {
            self.give_up_entry(id, at);
        }
        if memory.is_none() && stamp.refuse_definitions {
            return Err(Reason::Memory);
        }
        if !known.is_some_and(|series| self.catalog.has_total(series)) {
            let totals = superseded
                .iter()
                .map(|id| self.catalog.families[*id].order.len());
            self.catalog
                .check_room(totals.sum(), &self.limits)
                .map_err(|e| Reason::of(&e))?;
        }
        let layout = match (define.layout, spec.family_type) {
            (Some(number), _) => {
                let layout = &layouts[number];
                if memory.is_some() && self.catalog.layouts.find(layout).is_none() {
                    return Err(Reason::Conflict);
                }
                let room = self.catalog.layouts.check_room([layout].into_iter());
                room.map_err(|_| Reason::Size)?;
                Some(self.catalog.layouts.number_of(layout))
            }
            (None, FamilyType::Summary) => Some(self.catalog.layouts.number_of(&Layout::none())),
            (None, _) => None,
        };
        if let Some(at) = memory {
            self.check_memory(id, at, layout, &define.point)?;
        } else if matches!(&define.point, Point::Native(now) if now.schema < self.catalog.schema_floor(family))
        {
            return Err(Reason::Schema);
        } else {
            check_base(is_counter, &define.point, define.base.as_ref())?;
        }
        self.check_growth(id, known, memory, layout, define, stamp.now_ms)?;

        for old in superseded {
            self.catalog.delete_family(old);
        }
        // While memory is full a known family gets no new texts.
        let bare = FamilySpec::new(spec.name, spec.family_type);
        let spec = if stamp.refuse_definitions {
            &bare
        } else {
            spec
        };
        let family = self.catalog.family_for(spec).map_err(|e| Reason::of(&e))?;
        let series = match known {
            Some(series) => series,
            None => self
                .catalog
                .create_series(family, labels.as_str(), &self.limits),
        };
        let at = match memory {
            Some(at) => at,
            None => self.remember(id, series, layout, define),
        };
        self.hold_help(id, at, spec.help);
        let was_given_up = memory.is_some_and(|at| self.is_given_up_gauge(id, at));
        let writer = &mut self.writers[id];
        if writer.with_pid == 0 && !define.pid.is_empty() && *writer.pid != *define.pid {
            writer.pid = define.pid.into();
        }
        writer.with_pid += u32::from(shows_pid && memory.is_none());
        if was_given_up && let Point::Scalar(base) = base_of(define) {
            writer.entries[at].last = base;
        }
        writer.entries[at].set_retired(false);
        if let Some(named) = &mut writer.run {
            named.set(at);
        }
        let now_ms = stamp.now_ms;
        match &define.point {
            Point::Buckets { sum, counts } => {
                let counts = counts.iter().copied().enumerate();
                self.write_buckets(id, at, *sum, counts, now_ms)?;
            }
            Point::Native(now) => self.write_native(id, at, now, now_ms)?,
            point => {
                let (value, time) = match point {
                    Point::Timed { value, time } => (*value, *time),
                    Point::Scalar(value) => (*value, 0.0),
                    Point::Buckets { .. } | Point::Native(_) => return Err(Reason::Value),
                };
                self.write_value(id, at, value, time, now_ms)?;
            }
        }
        // After the total has begun: it may have expired and begun anew.
        self.catalog.set_series_ttl(series, define.ttl_ms);
        Ok(at)
    }

    /// Returns the family that a definition means, if it exists, and the families that end with the
    /// definition because no live writer holds them any more.
    fn family_of_definition(
        &self,
        spec: &FamilySpec<'_>,
    ) -> Result<(Option<FamilyId>, Vec<FamilyId>), Reason> {
        match self.catalog.check_family(spec) {
            Ok(found) => Ok((found, Vec::new())),
            Err(error) => match self.superseded(spec) {
                Some(old) => Ok((None, old)),
                None => Err(Reason::of(&error)),
            },
        }
    }

    fn check_memory(
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
    fn check_growth(
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

    /// Whether what is remembered of a series means nothing: it is forgotten with the next full state,
    /// and what was sent of a gauge counts only while its value is there.
    fn is_given_up_gauge(&self, id: WriterId, at: usize) -> bool {
        let entry = self.writers[id].entries[at];
        entry.is_retired() && self.catalog.is_gauge(entry.series)
    }

    /// Begins the writer's memory of a series, at its base.
    fn remember(
        &mut self,
        id: WriterId,
        series: SeriesId,
        layout: Option<LayoutId>,
        define: &Define<'_>,
    ) -> usize {
        self.catalog.series[series].remember(id);
        let writer = &mut self.writers[id];
        let entry = match base_of(define) {
            Point::Scalar(value) => Memory::new(series, value),
            Point::Timed { .. } => Memory::new(series, 0.0),
            Point::Buckets { sum, counts } => {
                let layout = layout.unwrap_or(LayoutId::NONE);
                let mut entry = Memory::new(series, 0.0);
                entry.set_place(writer.remember_buckets(BucketMemory {
                    layout,
                    sum,
                    counts: counts.into(),
                }));
                entry
            }
            Point::Native(base) => {
                let mut entry = Memory::new(series, 0.0);
                entry.set_place(writer.remember_native(*base));
                entry
            }
        };
        writer.remember(entry)
    }
}

/// What of the value was counted already; zero where the definition does not say.
fn base_of(define: &Define<'_>) -> Point {
    define.base.clone().unwrap_or_else(|| define.point.zero())
}

/// Refuses a base above the value: the base is the part that was counted already.
fn check_base(is_counter: bool, point: &Point, base: Option<&Point>) -> Result<(), Reason> {
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

impl Reason {
    pub(super) fn of(error: &RegistryError) -> Self {
        match error {
            RegistryError::Name(_) => Self::Name,
            RegistryError::Labels(_) | RegistryError::Pid | RegistryError::State(_) => Self::Labels,
            RegistryError::SeriesLimit(_) | RegistryError::Remembered(_) => Self::SeriesLimit,
            RegistryError::LabelBytes { .. } => Self::LabelBytes,
            RegistryError::Type { .. }
            | RegistryError::Conflict { .. }
            | RegistryError::Owned { .. } => Self::Conflict,
            _ => Self::Value,
        }
    }
}

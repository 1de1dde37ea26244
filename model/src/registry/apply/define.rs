//! Defines series for a writer, and begins its memory of them.

use super::Declared;
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

/// What a definition means in this registry.
struct Meant {
    labels: Labels,
    /// The family, although it may have ended.
    family: Option<FamilyId>,
    /// The families that end with the definition.
    superseded: Vec<FamilyId>,
    known: Option<SeriesId>,
    /// The entry of the writer, if the registry remembers what it sent of the series.
    memory: Option<usize>,
    shows_pid: bool,
}

impl Registry {
    /// Defines a series of this writer, with its value; what the registry remembers of it wins over
    /// the base. Returns its entry.
    pub(super) fn define(
        &mut self,
        stamp: &Stamp,
        id: WriterId,
        define: &Define<'_>,
        declared: &Declared<'_>,
    ) -> Result<usize, Reason> {
        let spec = &declared.families[define.family];
        check_form(spec, define)?;
        let meant = self.check_definition(stamp, id, define, spec)?;
        let layout = self.check_layout(&meant, define, spec.family_type, &declared.layouts)?;
        self.check_against_memory(id, &meant, layout, define, spec.family_type)?;
        self.check_growth(id, meant.known, meant.memory, layout, define, stamp.now_ms)?;
        let (at, series) = self.begin_entry(stamp, id, define, spec, meant, layout)?;
        self.write_point(id, at, &define.point, stamp.now_ms)?;
        // After the total has begun: it may have expired and begun anew.
        self.catalog.set_series_ttl(series, define.ttl_ms);
        Ok(at)
    }

    /// Finds what a definition means, and checks that the registry may have it.
    fn check_definition(
        &mut self,
        stamp: &Stamp,
        id: WriterId,
        define: &Define<'_>,
        spec: &FamilySpec<'_>,
    ) -> Result<Meant, Reason> {
        let mode = spec.family_type.gauge_mode();
        let shows_pid = mode.is_some_and(GaugeMode::is_per_writer);
        if shows_pid && self.writers.has_other_pid(id, define.pid) {
            return Err(Reason::Conflict);
        }
        let labels = Labels::new(define.labels).map_err(|error| match error {
            LabelError::TooLarge(_) => Reason::LabelBytes,
            _ => Reason::Labels,
        })?;
        let (found, superseded) = self.family_of_definition(spec)?;
        let name = kept_name(spec).unwrap_or_default();
        let family = found.or_else(|| self.catalog.ended_family(name, spec.family_type));
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
        Ok(Meant {
            labels,
            family,
            superseded,
            known,
            memory,
            shows_pid,
        })
    }

    /// Returns the number of a definition's layout, if it has one; there is room for a new one.
    fn check_layout(
        &mut self,
        meant: &Meant,
        define: &Define<'_>,
        family_type: FamilyType,
        layouts: &[Layout],
    ) -> Result<Option<LayoutId>, Reason> {
        let known = &mut self.catalog.layouts;
        Ok(match (define.layout, family_type) {
            (Some(number), _) => {
                let layout = &layouts[number];
                if meant.memory.is_some() && known.find(layout).is_none() {
                    return Err(Reason::Conflict);
                }
                let room = known.check_room([layout].into_iter());
                room.map_err(|_| Reason::Size)?;
                Some(known.number_of(layout))
            }
            (None, FamilyType::Summary) => Some(known.number_of(&Layout::none())),
            (None, _) => None,
        })
    }

    /// Checks that the value continues what the writer has sent, or its base if that is nothing.
    fn check_against_memory(
        &self,
        id: WriterId,
        meant: &Meant,
        layout: Option<LayoutId>,
        define: &Define<'_>,
        family_type: FamilyType,
    ) -> Result<(), Reason> {
        if let Some(at) = meant.memory {
            return self.check_memory(id, at, layout, &define.point);
        }
        let floor = self.catalog.schema_floor(meant.family);
        if matches!(&define.point, Point::Native(now) if now.schema < floor) {
            return Err(Reason::Schema);
        }
        let is_counter = family_type == FamilyType::Counter;
        check_base(is_counter, &define.point, define.base.as_ref())
    }

    /// Makes a definition that was checked: its family, its series and the writer's entry. Returns
    /// the entry and the series.
    fn begin_entry(
        &mut self,
        stamp: &Stamp,
        id: WriterId,
        define: &Define<'_>,
        spec: &FamilySpec<'_>,
        meant: Meant,
        layout: Option<LayoutId>,
    ) -> Result<(usize, SeriesId), Reason> {
        for old in meant.superseded {
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
        let (labels, memory) = (meant.labels.as_str(), meant.memory);
        let series = match meant.known {
            Some(series) => series,
            None => self.catalog.create_series(family, labels, &self.limits),
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
        writer.with_pid += u32::from(meant.shows_pid && memory.is_none());
        if was_given_up && let Point::Scalar(base) = base_of(define) {
            writer.entries[at].last = base;
        }
        writer.entries[at].set_retired(false);
        if let Some(named) = &mut writer.run {
            named.set(at);
        }
        Ok((at, series))
    }

    fn write_point(
        &mut self,
        id: WriterId,
        at: usize,
        point: &Point,
        now_ms: u64,
    ) -> Result<(), Reason> {
        match point {
            Point::Buckets { sum, counts } => {
                let counts = counts.iter().copied().enumerate();
                self.write_buckets(id, at, *sum, counts, now_ms)
            }
            Point::Native(now) => self.write_native(id, at, now, now_ms),
            Point::Timed { value, time } => self.write_value(id, at, *value, *time, now_ms),
            Point::Scalar(value) => self.write_value(id, at, *value, 0.0, now_ms),
        }
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

/// Checks what a definition says, whatever the registry has.
fn check_form(spec: &FamilySpec<'_>, define: &Define<'_>) -> Result<(), Reason> {
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

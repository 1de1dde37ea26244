//! Defines series for a writer, and begins its memory of them.

use super::Declared;
use super::checks::{check_base, check_form};
use crate::ids::{FamilyId, LayoutId, SeriesId, WriterId};
use crate::name::kept_name;
use crate::registry::catalog::Catalog;
use crate::registry::writers::{BucketMemory, Entry as Memory};
use crate::registry::{Reason, Registry, RegistryError, Stamp};
use crate::{Define, FamilySpec, FamilyType, GaugeMode, LabelError, Labels, Layout, Point};

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
        if shows_pid && self.writers[id].has_other_pid(define.pid) {
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

    /// Whether what is remembered of a series means nothing: it is forgotten with the next full state,
    /// and what was sent of a gauge counts only while its value is there.
    pub(super) fn is_given_up_gauge(&self, id: WriterId, at: usize) -> bool {
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

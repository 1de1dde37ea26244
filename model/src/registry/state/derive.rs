//! Derives indexes, counts and queues from the decoded state, and checks that its parts agree.
//!
//! Each part rebuilds what follows from itself ([`Catalog::derive`], [`Writers::derive`]); what
//! follows from several parts is here.
//!
//! [`Catalog::derive`]: crate::registry::catalog::Catalog::derive
//! [`Writers::derive`]: crate::registry::writers::Writers::derive

use super::WITH_DEADLINES;
use crate::GaugeMode;
use crate::ids::SeriesId;
use crate::registry::Registry;
use crate::registry::catalog::series::Total;

impl Registry {
    /// Rebuilds what follows from the rest; the error names the part that does not agree.
    pub(super) fn derive(&mut self, version: u8) -> Result<(), &'static str> {
        self.catalog.derive()?;
        if version < WITH_DEADLINES {
            self.writers.make_tombstones(self.epoch);
        }
        self.writers.derive(&mut self.catalog, &mut self.healing)?;
        self.derive_members()?;
        self.derive_pids();
        if version < WITH_DEADLINES {
            self.catalog.derive_deadlines(self.last_stamp_ms);
        }
        Ok(())
    }

    fn derive_members(&mut self) -> Result<(), &'static str> {
        let mut remembered = 0_usize;
        for (id, writer) in self.writers.table.iter() {
            for entry in writer.entries.iter().filter(|entry| !entry.is_hole()) {
                let series = &mut self.catalog.series[entry.series];
                let mode = self.catalog.families[series.family]
                    .family_type
                    .gauge_mode();
                if let Total::Gauge(gauge) = &mut series.total
                    && gauge.is_member(entry.place(), id)
                {
                    remembered += 1;
                    let is_live = entry.is_owned() || writer.id.is_empty();
                    gauge.members[entry.place() as usize].is_live =
                        is_live || !mode.is_some_and(GaugeMode::is_live);
                }
            }
        }
        let mut shown = 0;
        for (_, series) in self.catalog.series.iter_mut() {
            if let Total::Gauge(gauge) = &mut series.total {
                shown += gauge.present().count();
                gauge.count_members();
            }
        }
        // A value must be one that its writer remembers, so that it ends with the writer.
        if shown == remembered {
            Ok(())
        } else {
            Err("writer of a value")
        }
    }

    /// Adds the series of the groups.
    pub(super) fn derive_groups(
        &mut self,
        groups: &[(&str, Vec<SeriesId>)],
    ) -> Result<(), &'static str> {
        if !groups.is_sorted_by(|one, other| one.0 < other.0) {
            return Err("order of the groups");
        }
        for (labels, series) in groups {
            if series.is_empty() || !series.is_sorted_by(|one, other| one < other) {
                return Err("series of a group");
            }
            for id in series {
                let known = self.catalog.series.get(*id);
                let is_free =
                    known.is_some_and(|series| series.created_no > 0 && series.owners == 0);
                if !is_free || self.groups.owner(*id).is_some() {
                    return Err("series of a group");
                }
                self.catalog.join_group(labels, *id, &mut self.groups);
            }
        }
        Ok(())
    }
}

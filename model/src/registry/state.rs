//! The registry as bytes: for RDB, DUMP, full synchronisation, and the exporter's snapshots.
//!
//! The bytes are the state itself, with the place of everything that has a number. So a copy goes
//! on exactly as the original would, and equal bytes mean equal state. What follows from the rest
//! (the number of owners, the indexes by name) is derived. The form is little-endian and versioned.
//! Every number is checked: foreign bytes give an error, never a registry that fails later.

mod derive;
mod fields;
mod parts;
mod writers;

use super::catalog::order::Order;
use super::catalog::series::Family;
use super::healing::Healing;
use super::{Reason, Registry};
use crate::bytes::{DecodeError, Reader, Write};
use crate::{Epoch, Limits};
use fields::{
    get_below, get_id, get_list, get_option, get_slab, put_list, put_option, put_schema, put_slab,
    put_slab_numbered,
};
use parts::{
    get_exemplars, get_family, get_group, get_layout, get_restart, get_series, put_exemplars,
    put_family_ttl, put_groups, put_layout, put_restart, put_series,
};
use writers::{get_tombstones, get_writer, put_tombstones, put_writer};

/// Version 2 has groups; version 3 tombstones, deadlines and a clock of leases; version 4 the
/// series that a writer's last batch has left out; version 5 TTLs of whole families; version 6 what
/// holds a family's declaration; version 7 what full states have not named; version 8 entries that were
/// forgotten.
const SNAPSHOT_VERSION: u8 = 8;
/// The first version with deadlines.
pub(super) const WITH_DEADLINES: u8 = 3;
/// The first version with the series that batches have left out.
pub(super) const WITH_LEFT_OUT: u8 = 4;
/// The first version with TTLs of whole families.
pub(super) const WITH_FAMILY_TTLS: u8 = 5;
/// The first version with the holders of a family's declaration.
pub(super) const WITH_HOLDERS: u8 = 6;
/// The first version with what full states have not named.
pub(super) const WITH_UNNAMED: u8 = 7;
/// The first version with entries that were forgotten.
pub(super) const WITH_HOLES: u8 = 8;
/// Upper bound of counts, of series or milliseconds too: nothing that is counted one by one reaches
/// it.
const MAX_COUNT: u64 = 1 << 62;

impl Registry {
    /// Encodes the whole state.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024 + self.catalog.series.len() * 160);
        out.put_u8(SNAPSHOT_VERSION);
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        for number in self.limits.to_numbers() {
            out.put_varint(number);
        }
        out.put_varint(self.last_stamp_ms);
        put_option(&mut out, self.healing.since_ms());
        out.put_varint(self.catalog.last_created_no);
        out.put_varint(self.catalog.expired);
        out.put_varint(self.writers.paused_ms);
        out.put_varint(self.writers.latest_end_ms);
        put_restart(&mut out, self.healing.restart());
        put_list(&mut out, self.rejected.numbers(), |out, count| {
            out.put_varint(*count)
        });
        put_list(&mut out, self.catalog.layouts.iter(), put_layout);
        put_slab(&mut out, self.catalog.families.slab(), Self::put_family);
        put_slab_numbered(&mut out, &self.catalog.series, |out, id, series| {
            let deadline_ms = self.catalog.deadlines.at_ms(series.deadline);
            put_series(out, series, deadline_ms, self.catalog.own_ttl_ms(id));
        });
        put_slab(&mut out, self.writers.table.slab(), |out, writer| {
            put_writer(out, writer, self.healing.is_up_to_date(writer));
        });
        put_list(&mut out, &self.writers.unsettled, |out, id| {
            out.put_varint((*id).into())
        });
        // In the order in which they will be removed.
        let deleted = self.catalog.deleted.iter();
        let deleted = deleted.flat_map(|order| order.ids().collect::<Vec<_>>().into_iter().rev());
        put_list(&mut out, &deleted.collect::<Vec<_>>(), |out, id| {
            out.put_varint((*id).into())
        });
        put_tombstones(&mut out, &self.writers.tombstones);
        put_list(&mut out, &self.writers.gone, |out, id| {
            out.put_varint((*id).into())
        });
        out.put_varint(self.catalog.exemplars.len() as u64);
        for (id, kept) in &self.catalog.exemplars {
            put_exemplars(&mut out, *id, kept);
        }
        put_groups(&mut out, &self.groups);
        put_list(&mut out, &self.catalog.ttls.walks, |out, id| {
            out.put_varint((*id).into())
        });
        put_list(&mut out, &self.catalog.sweeps, |out, (family, after_no)| {
            out.put_varint((*family).into());
            out.put_varint(*after_no);
        });
        out
    }

    /// Decodes the bytes of [`encode_snapshot`](Self::encode_snapshot).
    ///
    /// # Errors
    ///
    /// Returns what is wrong and where.
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let from = &mut reader;
        let version = from.u8()?;
        if !(1..=SNAPSHOT_VERSION).contains(&version) {
            let expected = SNAPSHOT_VERSION;
            return Err(DecodeError::Version {
                what: "snapshot",
                found: version,
                expected,
            });
        }
        let epoch = Epoch(u64::from_le_bytes(from.array()?));
        let mut limits = [0; 6];
        for number in &mut limits {
            *number = from.varint()?;
        }
        let last_stamp_ms = get_below(from, "time of the last write", MAX_COUNT)?;
        let mut registry = Self::new(epoch, Limits::from_numbers(limits), last_stamp_ms);
        let (since_ms, mut restart) = (get_option(from)?, None);
        registry.catalog.last_created_no = get_below(from, "series number", MAX_COUNT)?;
        registry.catalog.expired = get_below(from, "number of expired series", MAX_COUNT)?;
        if version >= WITH_DEADLINES {
            registry.writers.paused_ms = get_below(from, "pause of leases", last_stamp_ms + 1)?;
            registry.writers.latest_end_ms = from.varint()?;
            restart = get_restart(from)?;
        } else {
            // Older versions stored here where the search for expired series went on.
            from.text()?;
            from.varint()?;
        }
        registry.healing = Healing::decoded(since_ms, restart);
        for (place, count) in
            registry
                .rejected
                .numbers_mut()
                .iter_mut()
                .zip(get_list(from, 1, |from| {
                    get_below(from, "number of rejected entries", MAX_COUNT)
                })?)
        {
            *place = count;
        }
        registry.catalog.layouts = get_list(from, 1, get_layout)?.into_iter().collect();
        registry.catalog.families = get_slab(from, |from| get_family(from, version))?.into();
        let mut times = Vec::new();
        registry.catalog.series = get_slab(from, |from| get_series(from, version, &mut times))?;
        registry.writers.table = get_slab(from, |from| get_writer(from, version))?.into();
        registry.writers.unsettled = get_list(from, 1, get_id)?.into();
        let mut deleted = Order::default();
        for id in get_list(from, 1, get_id)?.into_iter().rev() {
            deleted.push(0, id);
        }
        registry
            .catalog
            .deleted
            .extend((!deleted.is_empty()).then_some(deleted));
        if version >= WITH_DEADLINES {
            registry.writers.tombstones = get_tombstones(from, version)?;
            registry.writers.gone = get_list(from, 1, get_id)?.into();
        }
        registry.catalog.exemplars = get_list(from, 2, get_exemplars)?.into_iter().collect();
        let groups = if version == 1 {
            Vec::new()
        } else {
            get_list(from, 2, get_group)?
        };
        if version >= WITH_FAMILY_TTLS {
            registry.catalog.ttls.walks = get_list(from, 1, get_id)?.into();
        }
        if version >= WITH_HOLDERS {
            registry.catalog.sweeps =
                get_list(from, 2, |from| Ok((get_id(from)?, from.varint()?)))?.into();
        }
        reader.end()?;
        let ids = registry.catalog.series.ids();
        for (id, times) in ids.into_iter().zip(times) {
            let ttl_no = registry.catalog.series[id].ttl_no;
            registry.catalog.put_own_ttl(id, times.ttl_ms, ttl_no);
            if let Some(at_ms) = times.deadline_ms {
                registry.catalog.put_deadline(id, at_ms);
            }
        }
        let derived = registry
            .derive(version)
            .and_then(|()| registry.derive_groups(&groups));
        derived.map_err(|what| DecodeError::Value {
            what,
            found: 0,
            expected: "parts that agree with each other",
            at: bytes.len(),
        })?;
        registry.measure();
        Ok(registry)
    }

    fn put_family(out: &mut Vec<u8>, family: &Family) {
        let (kind, mode) = family.family_type.to_numbers();
        out.put_u8(kind);
        out.put_u8(mode);
        out.put_text(&family.name);
        out.put_text(&family.help);
        out.put_text(&family.unit);
        put_option(out, family.ttl_ms);
        put_option(out, family.layout.map(u64::from));
        put_schema(out, family.schema);
        out.put_u8(family.is_declared.into());
        out.put_u8(family.is_ended.into());
        out.put_varint(family.deleted_up_to);
        put_family_ttl(out, &family.ttl);
        let holders = &family.holders;
        out.put_u8(holders.is_by_hand.into());
        out.put_u8(holders.help_side.into());
        out.put_u8(holders.next_help.is_some().into());
        out.put_text(holders.next_help.as_deref().unwrap_or_default());
        put_option(out, holders.newest_layout.map(u64::from));
        let order = family.order.ids().collect::<Vec<_>>();
        put_list(out, &order, |out, id| out.put_varint((*id).into()));
    }
}

// The number of reasons is part of the format: a new one goes to the end.
const _: () = assert!(Reason::EVERY.len() == 13);

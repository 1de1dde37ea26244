//! The parts of the state as bytes; encoding and decoding of each stand side by side.

use super::fields::{
    get_flag, get_id, get_list, get_number, get_observed_sum, get_option, get_schema, get_sum,
    put_list, put_observed_sum, put_option, put_sum,
};
use super::{
    WITH_DEADLINES, WITH_FAMILY_TTLS, WITH_HOLDERS, WITH_HOLES, WITH_LEFT_OUT, WITH_UNNAMED,
};
use crate::bits::Bits;
use crate::bytes::{DecodeError, Reader, Write};
use crate::ids::{DeadlineId, Id, LayoutId, SeriesId, WriterId};
use crate::registry::apply::Unnamed;
use crate::registry::catalog::declarations::Holders;
use crate::registry::catalog::exemplars::StoredExemplar;
use crate::registry::catalog::order::Order;
use crate::registry::catalog::series::{
    Buckets, Family, Gauge, LeftValue, Member, Native, Part, Series, Total,
};
use crate::registry::catalog::ttl::{FamilyTtl, MAX_CHANGES, TtlChange, TtlWalk};
use crate::registry::groups::Groups;
use crate::registry::healing::Restart;
use crate::registry::writers::tombstones::{Key, Tombstones};
use crate::registry::writers::{BucketMemory, Entry, Phase, Writer};
use crate::sum::{ExactSum, Sum};
use crate::{Exemplar, FamilyType, Labels, Layout, LeftOut, NativeHistogram};

pub(super) fn put_layout(out: &mut Vec<u8>, layout: &Layout) {
    put_list(out, &layout.texts().collect::<Vec<_>>(), |out, text| {
        out.put_text(text)
    });
}

pub(super) fn get_layout(from: &mut Reader<'_>) -> Result<Layout, DecodeError> {
    let at = from.at();
    let texts = get_list(from, 1, Reader::text)?;
    let count = texts.len();
    let layout = Layout::new(texts).map_err(|wrong| DecodeError::Bound { bound: wrong.0, at })?;
    if layout.len() == count {
        Ok(layout)
    } else {
        Reader::refuse("bounds", 0, "without +Inf", at)
    }
}

pub(super) fn get_family(from: &mut Reader<'_>, version: u8) -> Result<Family, DecodeError> {
    let at = from.at();
    let (kind, mode) = (from.u8()?, from.u8()?);
    let Some(family_type) = FamilyType::from_numbers(kind, mode) else {
        return Reader::refuse(
            "family type",
            kind.into(),
            "one that this version knows",
            at,
        );
    };
    let mut family = Family {
        family_type,
        name: from.text()?.into(),
        help: from.text()?.into(),
        unit: from.text()?.into(),
        ttl_ms: get_option(from)?,
        layout: get_layout_id(from)?,
        schema: get_schema(from)?,
        is_declared: get_flag(from)?,
        is_ended: get_flag(from)?,
        deleted_up_to: from.varint()?,
        ttl: if version >= WITH_FAMILY_TTLS {
            get_family_ttl(from)?
        } else {
            FamilyTtl::default()
        },
        order: Order::default(),
        identities: 0,
        holders: Holders::default(),
        odd_labels: 0,
        equal_labels: 0,
    };
    if version >= WITH_HOLDERS {
        let holders = &mut family.holders;
        holders.is_by_hand = get_flag(from)?;
        holders.help_side = get_flag(from)?;
        let (has_next, next) = (get_flag(from)?, from.text()?);
        holders.next_help = has_next.then(|| next.into());
        holders.newest_layout = get_layout_id(from)?;
    }
    for id in get_list(from, 1, get_id)? {
        // They get their numbers once the series are decoded.
        family.order.push(0, id);
    }
    Ok(family)
}

/// Decodes the number of a layout, if there is one.
fn get_layout_id(from: &mut Reader<'_>) -> Result<Option<LayoutId>, DecodeError> {
    let number = get_option(from)?;
    Ok(number.map(|number| u32::try_from(number).map_or(LayoutId::NONE, LayoutId::from_number)))
}

/// Encodes the changes, and the progress of the walk.
pub(super) fn put_family_ttl(out: &mut Vec<u8>, ttl: &FamilyTtl) {
    put_list(out, &ttl.changes, |out, change| {
        out.put_varint(change.no.into());
        out.put_varint(change.at_ms);
        out.put_varint(change.ttl_ms);
    });
    put_option(out, ttl.walk.map(|walk| walk.after_no));
    if let Some(walk) = ttl.walk {
        out.put_varint(walk.until_no);
        out.put_u8(walk.again.into());
    }
}

fn get_family_ttl(from: &mut Reader<'_>) -> Result<FamilyTtl, DecodeError> {
    let at = from.at();
    let changes = get_list(from, 3, |from| {
        Ok(TtlChange {
            no: get_number(from)?,
            at_ms: from.varint()?,
            ttl_ms: from.varint()?,
        })
    })?;
    let walk = match get_option(from)? {
        None => None,
        Some(after_no) => Some(TtlWalk {
            after_no,
            until_no: from.varint()?,
            again: get_flag(from)?,
        }),
    };
    let is_in_order = changes.is_sorted_by(|one, other| one.no < other.no);
    let most = if walk.is_some() { MAX_CHANGES } else { 1 };
    if is_in_order && changes.len() <= most && (walk.is_none() || !changes.is_empty()) {
        Ok(FamilyTtl { changes, walk })
    } else {
        let count = changes.len() as u64;
        Reader::refuse("changes of a TTL", count, "at most 8, in their order", at)
    }
}

/// Times of a series that are stored beside it.
pub(super) struct SeriesTimes {
    pub(super) deadline_ms: Option<u64>,
    pub(super) ttl_ms: u64,
}

pub(super) fn put_series(
    out: &mut Vec<u8>,
    series: &Series,
    deadline_ms: Option<u64>,
    ttl_ms: u64,
) {
    put_option(out, deadline_ms);
    out.put_varint(series.family.into());
    out.put_text(&series.labels);
    for number in [
        series.created_no,
        series.start_ms,
        series.idle_since_ms,
        ttl_ms,
        series.ttl_no.into(),
    ] {
        out.put_varint(number);
    }
    match &series.total {
        Total::Counter(sum) => {
            out.put_u8(0);
            put_sum(out, *sum);
        }
        Total::Gauge(gauge) => {
            out.put_u8(1);
            put_gauge(out, gauge);
        }
        Total::Buckets(buckets) => {
            out.put_u8(2);
            put_list(out, &buckets.parts, |out, part| {
                out.put_varint(part.layout.into());
                put_observed_sum(out, part.sum);
                put_list(out, &part.counts, |out, count| out.put_varint(*count));
            });
        }
        Total::Native(native) => {
            out.put_u8(3);
            native.histogram.put(out);
            put_observed_sum(out, native.sum);
        }
    }
}

pub(super) fn get_series(
    from: &mut Reader<'_>,
    version: u8,
    times: &mut Vec<SeriesTimes>,
) -> Result<Series, DecodeError> {
    let has_deadlines = version >= WITH_DEADLINES;
    let deadline_ms = if has_deadlines {
        get_option(from)?
    } else {
        None
    };
    let mut series = Series {
        family: get_id(from)?,
        labels: from.text()?.into(),
        hash: 0,
        created_no: from.varint()?,
        start_ms: from.varint()?,
        idle_since_ms: from.varint()?,
        ttl: 0,
        ttl_no: 0,
        memories: 0,
        writers: 0,
        owners: 0,
        deadline: DeadlineId::NONE,
        total: Total::Counter(Sum::default()),
    };
    let ttl_ms = from.varint()?;
    if version >= WITH_FAMILY_TTLS {
        series.ttl_no = get_number(from)?;
    }
    series.total = get_total(from)?;
    times.push(SeriesTimes {
        deadline_ms,
        ttl_ms,
    });
    Ok(series)
}

pub(super) fn get_total(from: &mut Reader<'_>) -> Result<Total, DecodeError> {
    let at = from.at();
    match from.u8()? {
        0 => Ok(Total::Counter(get_sum(from)?)),
        1 => Ok(Total::Gauge(Box::new(get_gauge(from)?))),
        2 => {
            let parts = get_list(from, 26, |from| {
                Ok(Part {
                    layout: get_id(from)?,
                    sum: get_observed_sum(from)?,
                    counts: get_list(from, 1, Reader::varint)?.into(),
                })
            })?;
            let counts = parts.iter().flat_map(|part: &Part| &part.counts);
            let count = counts.fold(0_u64, |sum, count| sum.saturating_add(*count));
            Ok(Total::Buckets(Box::new(Buckets { parts, count })))
        }
        3 => Ok(Total::Native(Box::new(Native {
            histogram: NativeHistogram::get_total(from)?,
            sum: get_observed_sum(from)?,
        }))),
        found => Reader::refuse("total", found.into(), "0 to 3", at),
    }
}

pub(super) fn put_gauge(out: &mut Vec<u8>, gauge: &Gauge) {
    put_list(out, &gauge.members, |out, member| {
        out.put_varint(member.writer.into());
        out.put_float(member.value);
        out.put_float(member.time);
    });
    put_list(out, &gauge.holes, |out, hole| {
        out.put_varint((*hole).into())
    });
    // The sum is derived from the members; its second half is left from a version that stored it.
    out.put_float(gauge.sum.value());
    out.put_float(0.0);
    out.put_u8(gauge.retired.is_some().into());
    out.put_float(gauge.retired.unwrap_or(0.0));
    put_list(out, &gauge.left_values, |out, left_value| {
        out.put_blob(&left_value.writer_id);
        out.put_text(&left_value.pid);
        out.put_float(left_value.value);
        out.put_float(left_value.time);
        out.put_varint(left_value.until_ms);
    });
}

pub(super) fn get_gauge(from: &mut Reader<'_>) -> Result<Gauge, DecodeError> {
    let at = from.at();
    let members = get_list(from, 17, |from| {
        Ok(Member {
            writer: get_id(from)?,
            // Derived from what the writer owns.
            is_live: true,
            value: from.float()?,
            time: from.float()?,
        })
    })?;
    let holes = get_list(from, 1, get_number)?;
    let mut is_hole = members
        .iter()
        .map(|member| member.writer == WriterId::NONE)
        .collect::<Vec<_>>();
    for hole in &holes {
        match is_hole.get_mut(*hole as usize) {
            Some(left) if *left => *left = false,
            _ => return Reader::refuse("hole", (*hole).into(), "a place without a writer", at),
        }
    }
    if is_hole.contains(&true) {
        return Reader::refuse(
            "holes",
            holes.len() as u64,
            "every place without a writer",
            at,
        );
    }
    let _of_members = get_sum(from)?;
    let (has_retired, retired) = (get_flag(from)?, from.float()?);
    let left_values = get_list(from, 19, |from| {
        Ok(LeftValue {
            writer_id: from.blob()?.into(),
            pid: from.text()?.into(),
            value: from.float()?,
            time: from.float()?,
            until_ms: from.varint()?,
        })
    })?;
    Ok(Gauge {
        members: members.into(),
        holes: holes.into(),
        sum: ExactSum::default(),
        live: 0,
        odd: 0,
        retired: has_retired.then_some(retired),
        left_values,
        by_pid: None,
    })
}

pub(super) fn put_writer(out: &mut Vec<u8>, writer: &Writer, is_healed: bool) {
    out.put_blob(&writer.id);
    out.put_text(&writer.pid);
    out.put_u8(match writer.phase {
        Phase::Live => 0,
        Phase::Ended => 1,
        Phase::Closed => 2,
        Phase::Forgotten => 3,
    });
    for number in [
        writer.seq,
        writer.lease_end_ms,
        writer.end_ms,
        writer.gone_ms,
        writer.retires_ms,
        writer.settle_from.into(),
        writer.back_ms,
        writer.owed_from.into(),
    ] {
        out.put_varint(number);
    }
    out.put_u8(is_healed.into());
    put_list(out, &writer.entries, |out, entry| {
        out.put_varint(entry.series.into());
        out.put_varint(entry.flags_and_place().into());
        out.put_float(entry.last);
    });
    out.put_varint(writer.first_hole.into());
    put_list(out, &writer.buckets, |out, memory| {
        out.put_varint(memory.layout.into());
        out.put_float(memory.sum);
        put_list(out, &memory.counts, |out, count| out.put_varint(*count));
    });
    put_list(out, &writer.natives, |out, native| native.put(out));
    put_list(out, &writer.index, |out, at| out.put_varint((*at).into()));
    put_option(out, writer.run.as_ref().map(|named| named.len() as u64));
    if let Some(named) = &writer.run {
        out.put_blob(&named.to_bytes());
    }
    put_option(out, writer.unnamed.as_ref().map(|unnamed| unnamed.at_ms));
    if let Some(unnamed) = &writer.unnamed {
        out.put_varint(unnamed.next.into());
        out.put_varint(unnamed.done.len() as u64);
        out.put_blob(&unnamed.done.to_bytes());
    }
    out.put_blob(writer.left_out.as_bytes());
}

pub(super) fn get_writer(from: &mut Reader<'_>, version: u8) -> Result<Writer, DecodeError> {
    let mut writer = Writer::new(from.blob()?);
    writer.pid = from.text()?.into();
    let at = from.at();
    writer.phase = match from.u8()? {
        0 => Phase::Live,
        1 => Phase::Ended,
        2 => Phase::Closed,
        3 => Phase::Forgotten,
        found => return Reader::refuse("phase", found.into(), "0 to 3", at),
    };
    writer.seq = from.varint()?;
    writer.lease_end_ms = from.varint()?;
    writer.end_ms = from.varint()?;
    writer.gone_ms = from.varint()?;
    writer.retires_ms = from.varint()?;
    writer.settle_from = get_number(from)?;
    if version >= WITH_DEADLINES {
        writer.back_ms = from.varint()?;
        writer.owed_from = get_number(from)?;
    }
    // In a decoded state the number of the last rollback is 0.
    writer.healed_in = if get_flag(from)? { 0 } else { NOT_HEALED };
    writer.entries = get_list(from, 10, |from| {
        let mut entry = Entry::from_parts(get_id(from)?, get_number(from)?, from.float()?);
        if version < WITH_HOLDERS {
            // The flag was encoded with the place; it is set only if there is no place.
            entry.set_help_side(false);
        }
        Ok(entry)
    })?
    .into();
    if version >= WITH_HOLES {
        writer.first_hole = get_number(from)?;
    }
    let buckets = get_list(from, 10, |from| {
        Ok(BucketMemory {
            layout: get_id(from)?,
            sum: from.float()?,
            counts: get_list(from, 1, Reader::varint)?.into(),
        })
    })?;
    for memory in buckets {
        writer.remember_buckets(memory);
    }
    for memory in get_list(from, 20, NativeHistogram::get)? {
        writer.remember_native(memory);
    }
    writer.index = get_list(from, 1, get_number)?.into();
    if version >= WITH_UNNAMED {
        if let Some(len) = get_option(from)? {
            writer.run = Some(get_bits(from, len)?);
        }
        if let Some(at_ms) = get_option(from)? {
            let (next, len) = (get_number(from)?, from.varint()?);
            let done = get_bits(from, len)?;
            writer.unnamed = Some(Box::new(Unnamed { done, at_ms, next }));
        }
    } else {
        let has_run = get_flag(from)?;
        let named = get_list(from, 1, get_flag)?;
        writer.run = has_run.then(|| named.into_iter().collect());
    }
    if version >= WITH_LEFT_OUT {
        writer.left_out = get_left_out(from)?;
    }
    Ok(writer)
}

pub(super) fn put_restart(out: &mut Vec<u8>, restart: Option<Restart>) {
    put_option(out, restart.map(|restart| restart.before_ms));
    let restart = restart.unwrap_or_default();
    out.put_varint(restart.writer.into());
    out.put_varint(restart.entry.into());
}

pub(super) fn get_restart(from: &mut Reader<'_>) -> Result<Option<Restart>, DecodeError> {
    let (before_ms, writer, entry) = (get_option(from)?, get_id(from)?, get_number(from)?);
    let restart = before_ms.map(|before_ms| Restart {
        before_ms,
        writer,
        entry,
    });
    Ok(restart)
}

/// Stands for an earlier rollback than the last as the one after which a writer was heard. No later
/// rollback gets this number.
const NOT_HEALED: u32 = u32::MAX;

pub(super) fn put_tombstones(out: &mut Vec<u8>, tombstones: &Tombstones) {
    put_list(out, &tombstones.list(), |out, (key, packed)| {
        for half in key.0 {
            out.extend_from_slice(&half.to_le_bytes());
        }
        for part in packed {
            out.extend_from_slice(&part.to_le_bytes());
        }
    });
    put_list(out, &tombstones.in_order(), |out, (prefix, time)| {
        out.extend_from_slice(&prefix.to_le_bytes());
        out.extend_from_slice(&time.to_le_bytes());
    });
    put_list(out, &tombstones.lists(), |out, (key, left_out)| {
        for half in key.0 {
            out.extend_from_slice(&half.to_le_bytes());
        }
        out.put_blob(left_out.as_bytes());
    });
}

fn get_bits(from: &mut Reader<'_>, len: u64) -> Result<Bits, DecodeError> {
    let at = from.at();
    let bytes = from.blob()?;
    let bits = usize::try_from(len).ok();
    match bits.and_then(|len| Bits::from_bytes(bytes, len)) {
        Some(bits) => Ok(bits),
        None => Reader::refuse("entries of a run", len, "a bit for each", at),
    }
}

fn get_left_out(from: &mut Reader<'_>) -> Result<LeftOut, DecodeError> {
    let at = from.at();
    match LeftOut::from_bytes(from.blob()?) {
        Some(left_out) => Ok(left_out),
        None => Reader::refuse("series left out", 0, "a bit for each series of a batch", at),
    }
}

fn get_key(from: &mut Reader<'_>) -> Result<Key, DecodeError> {
    let mut half = || Ok(u64::from_le_bytes(from.array()?));
    Ok(Key([half()?, half()?]))
}

pub(super) fn get_tombstones(
    from: &mut Reader<'_>,
    version: u8,
) -> Result<Tombstones, DecodeError> {
    let at = from.at();
    let word = |from: &mut Reader<'_>| Ok(u32::from_le_bytes(from.array()?));
    let tombstones = get_list(from, 28, |from| {
        Ok((get_key(from)?, [word(from)?, word(from)?, word(from)?]))
    })?;
    let in_order = get_list(from, 8, |from| Ok((word(from)?, word(from)?)))?;
    let count = tombstones.len() as u64;
    let Some(mut tombstones) = Tombstones::from_parts(tombstones, in_order) else {
        return Reader::refuse("tombstones", count, "each once, with its time", at);
    };
    if version >= WITH_LEFT_OUT {
        let lists = get_list(from, 17, |from| Ok((get_key(from)?, get_left_out(from)?)))?;
        for (key, left_out) in lists {
            tombstones.keep_left_out(key, left_out);
        }
    }
    Ok(tombstones)
}

pub(super) fn put_exemplars(out: &mut Vec<u8>, id: SeriesId, kept: &Vec<StoredExemplar>) {
    out.put_varint(id.into());
    put_list(out, kept, |out, kept| {
        out.put_varint(kept.slot);
        out.put_text(kept.exemplar.labels.as_str());
        out.put_float(kept.exemplar.value);
        out.put_float(kept.exemplar.time);
    });
}

pub(super) fn get_exemplars(
    from: &mut Reader<'_>,
) -> Result<(SeriesId, Vec<StoredExemplar>), DecodeError> {
    let (id, at) = (get_id(from)?, from.at());
    let kept = get_list(from, 18, |from| {
        Ok(StoredExemplar {
            slot: from.varint()?,
            exemplar: Exemplar {
                labels: Labels::from_text(from.text()?),
                value: from.float()?,
                time: from.float()?,
            },
        })
    })?;
    if kept.is_sorted_by(|a, b| a.slot < b.slot) {
        Ok((id, kept))
    } else {
        Reader::refuse(
            "exemplars",
            kept.len() as u64,
            "in the order of their buckets",
            at,
        )
    }
}

/// Encodes the labels of each group, and the numbers of its series.
pub(super) fn put_groups(out: &mut Vec<u8>, groups: &Groups) {
    out.put_varint(groups.len() as u64);
    for (labels, series) in groups.iter() {
        out.put_text(labels);
        out.put_varint(series.len() as u64);
        for id in series.iter() {
            out.put_varint(id.into());
        }
    }
}

pub(super) fn get_group<'a>(
    from: &mut Reader<'a>,
) -> Result<(&'a str, Vec<SeriesId>), DecodeError> {
    Ok((from.text()?, get_list(from, 1, get_id)?))
}

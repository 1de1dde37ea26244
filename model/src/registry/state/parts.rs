//! The parts of the state as bytes; encoding and decoding of each stand side by side.

use super::fields::{
    get_flag, get_id, get_list, get_number, get_observed_sum, get_option, get_schema, get_sum,
    put_list, put_observed_sum, put_option, put_sum,
};
use super::{WITH_DEADLINES, WITH_FAMILY_TTLS, WITH_HOLDERS};
use crate::bytes::{DecodeError, Reader, Write};
use crate::ids::{DeadlineId, Id, LayoutId, SeriesId, WriterId};
use crate::registry::catalog::declarations::Holders;
use crate::registry::catalog::exemplars::StoredExemplar;
use crate::registry::catalog::order::Order;
use crate::registry::catalog::series::{
    Buckets, Family, Gauge, LeftValue, Member, Native, Part, Series, Total,
};
use crate::registry::catalog::ttl::{FamilyTtl, MAX_CHANGES, TtlChange, TtlWalk};
use crate::registry::groups::Groups;
use crate::registry::healing::Restart;
use crate::sum::{ExactSum, Sum};
use crate::{Exemplar, FamilyType, Labels, Layout, NativeHistogram};

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

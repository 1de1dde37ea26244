//! The registry as bytes: RDB, DUMP, full synchronisation, and the exporter's snapshots.
//!
//! The bytes are the state itself, with the places of everything that is known by its number: so a
//! copy goes on exactly as the original would, and equal bytes mean equal state. What can be derived
//! (how many own a series, what is found by name) is derived. Little-endian, versioned, and every
//! number is checked: bytes from a stranger give an error, never a registry that breaks later.

use super::series::{Buckets, Family, Gauge, Ghost, Member, NONE, Part, Series, Total};
use super::writer::{BucketMemory, Entry, Phase, Writer};
use super::{Reason, Registry};
use crate::bytes::{DecodeError, Reader, Write};
use crate::slab::Slab;
use crate::sum::Sum;
use crate::{Epoch, FamilyType, Layout, Limits};

const SNAPSHOT_VERSION: u8 = 1;
/// Numbers of series are given one after the other: nobody gets this far.
const MAX_CREATED_NO: u64 = 1 << 62;

impl Registry {
    /// The whole state.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024 + self.series.len() * 160);
        out.put_u8(SNAPSHOT_VERSION);
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        for number in self.limits.to_numbers() {
            out.put_varint(number);
        }
        out.put_varint(self.last_stamp_ms);
        put_option(&mut out, self.healing_since_ms);
        out.put_varint(self.last_created_no);
        out.put_varint(self.expired);
        out.put_text(&self.purge_from.0);
        out.put_varint(self.purge_from.1);
        put_list(&mut out, &self.rejected, |out, count| {
            out.put_varint(*count)
        });
        put_list(&mut out, &self.layouts, put_layout);
        put_slab(&mut out, &self.families, |out, family| {
            self.put_family(out, family)
        });
        put_slab(&mut out, &self.series, put_series);
        put_slab(&mut out, &self.writers, put_writer);
        put_list(&mut out, &self.unsettled, |out, id| {
            out.put_varint((*id).into())
        });
        put_list(&mut out, &self.condemned, |out, id| {
            out.put_varint((*id).into())
        });
        out
    }

    /// The reverse of [`encode_snapshot`](Self::encode_snapshot).
    ///
    /// # Errors
    ///
    /// Says what is wrong and where.
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let from = &mut reader;
        let version = from.u8()?;
        if version != SNAPSHOT_VERSION {
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
        let mut registry = Self::new(epoch, Limits::from_numbers(limits), from.varint()?);
        registry.healing_since_ms = get_option(from)?;
        registry.last_created_no = get_below(from, "series number", MAX_CREATED_NO)?;
        registry.expired = from.varint()?;
        registry.purge_from = (from.text()?.into(), from.varint()?);
        for (place, count) in registry
            .rejected
            .iter_mut()
            .zip(get_list(from, 1, Reader::varint)?)
        {
            *place = count;
        }
        registry.layouts = get_list(from, 1, get_layout)?;
        registry.families = get_slab(from, get_family)?;
        registry.series = get_slab(from, get_series)?;
        registry.writers = get_slab(from, get_writer)?;
        registry.unsettled = get_list(from, 1, get_id)?.into();
        registry.condemned = get_list(from, 1, get_id)?.into();
        reader.end()?;
        registry.derive().map_err(|what| DecodeError::Value {
            what,
            found: 0,
            expected: "parts that agree with each other",
            at: bytes.len(),
        })?;
        Ok(registry)
    }

    fn put_family(&self, out: &mut Vec<u8>, family: &Family) {
        let (kind, mode) = family.family_type.to_numbers();
        out.put_u8(kind);
        out.put_u8(mode);
        out.put_text(&family.name);
        out.put_text(&family.help);
        out.put_text(&family.unit);
        put_option(out, family.ttl_ms);
        put_option(out, family.layout.map(u64::from));
        out.put_u8(family.is_declared.into());
        out.put_u8(family.is_ended.into());
        out.put_varint(family.deleted_up_to);
        let no_of = |id: u32| self.series[id].created_no;
        let order = family.order.after(0, no_of).collect::<Vec<_>>();
        put_list(out, &order, |out, id| out.put_varint((*id).into()));
        for id in order {
            out.put_varint(no_of(id));
        }
    }

    /// Rebuilds what follows from the rest; names what does not agree.
    fn derive(&mut self) -> Result<(), &'static str> {
        let ids = self.families.iter().map(|(id, _)| id).collect::<Vec<_>>();
        for id in ids {
            let family = &self.families[id];
            if family
                .layout
                .is_some_and(|layout| layout as usize >= self.layouts.len())
            {
                return Err("layout of a family");
            }
            if !family.is_ended {
                if self.by_name.contains_key(&family.name) {
                    return Err("name of a family");
                }
                self.begin_family(id);
            }
        }
        self.derive_series()?;
        self.derive_writers()?;
        self.derive_members()
    }

    fn derive_series(&mut self) -> Result<(), &'static str> {
        let ids = self.series.iter().map(|(id, _)| id).collect::<Vec<_>>();
        let mut with_total = 0;
        for id in ids {
            let series = &self.series[id];
            let family = self
                .families
                .get(series.family)
                .ok_or("family of a series")?;
            if series.created_no > self.last_created_no {
                return Err("number of a series");
            }
            let fits = match (&series.total, family.family_type) {
                (Total::Counter(_), FamilyType::Counter)
                | (Total::Gauge(_), FamilyType::Gauge(_)) => true,
                (Total::Buckets(buckets), FamilyType::Histogram | FamilyType::Summary) => buckets
                    .parts
                    .iter()
                    .all(|part| self.fits_layout(part.layout, part.counts.len())),
                _ => false,
            };
            if !fits {
                return Err("total of a series");
            }
            if self.find_series(series.family, &series.labels).is_some() {
                return Err("labels of a series");
            }
            let has_total = self.has_total(id);
            with_total += usize::from(has_total);
            let (of, is_mortal) = (series.family, has_total && series.ttl_ms > 0);
            self.series_heap_bytes += series.labels.len() + series.total.heap_bytes();
            self.families[of].identities += 1;
            self.families[of].mortals += u32::from(is_mortal);
            self.index_series(id);
        }
        let mut in_order = 0;
        for (family_id, family) in self.families.iter() {
            let mut above = family.deleted_up_to;
            for id in family
                .order
                .after(0, |id| self.series.get(id).map_or(0, |s| s.created_no))
            {
                let series = self.series.get(id).ok_or("order of a family")?;
                if series.family != family_id || series.created_no <= above {
                    return Err("order of a family");
                }
                above = series.created_no;
                in_order += 1;
            }
        }
        if in_order == with_total {
            Ok(())
        } else {
            Err("order of a family")
        }
    }

    fn derive_writers(&mut self) -> Result<(), &'static str> {
        for (id, writer) in self.writers.iter_mut() {
            if self.by_writer.insert(writer.id.clone(), id).is_some() {
                return Err("id of a writer");
            }
            if writer.phase == Phase::Live {
                self.leases.insert((writer.lease_end_ms, id));
            } else {
                self.retirements.insert((writer.retires_ms, id));
            }
            if writer
                .run
                .as_ref()
                .is_some_and(|named| named.len() != writer.entries.len())
                || writer
                    .index
                    .iter()
                    .any(|at| *at != NONE && *at as usize >= writer.entries.len())
            {
                return Err("index table of a writer");
            }
            for entry in &writer.entries {
                if self.series.get(entry.series).is_none() {
                    return Err("series of a writer");
                }
                let series = &mut self.series[entry.series];
                series.memories += 1;
                series.owners += u32::from(entry.is_owned());
                let has_buckets = (entry.place() as usize) < writer.buckets.len();
                if matches!(series.total, Total::Buckets(_)) && !has_buckets {
                    return Err("buckets of a writer");
                }
            }
            writer.index_entries();
        }
        for (_, writer) in self.writers.iter() {
            let fits = |memory: &BucketMemory| self.fits_layout(memory.layout, memory.counts.len());
            if !writer.buckets.iter().all(fits) {
                return Err("buckets of a writer");
            }
        }
        for id in &self.unsettled {
            if self.writers.get(*id).is_none() {
                return Err("writer that is not settled");
            }
            let writer = &mut self.writers[*id];
            if std::mem::replace(&mut writer.is_queued, true) {
                return Err("writer that is not settled");
            }
        }
        Ok(())
    }

    fn derive_members(&self) -> Result<(), &'static str> {
        for (_, series) in self.series.iter() {
            let Total::Gauge(gauge) = &series.total else {
                continue;
            };
            if gauge
                .present()
                .any(|member| self.writers.get(member.writer).is_none())
            {
                return Err("writer of a value");
            }
        }
        Ok(())
    }

    fn fits_layout(&self, layout: u32, buckets: usize) -> bool {
        self.layouts
            .get(layout as usize)
            .is_some_and(|layout| layout.len() + 1 == buckets)
    }
}

fn put_layout(out: &mut Vec<u8>, layout: &Layout) {
    put_list(out, &layout.texts().collect::<Vec<_>>(), |out, text| {
        out.put_text(text)
    });
}

fn get_layout(from: &mut Reader<'_>) -> Result<Layout, DecodeError> {
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

fn get_family(from: &mut Reader<'_>) -> Result<Family, DecodeError> {
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
        layout: get_option(from)?.map(|layout| u32::try_from(layout).unwrap_or(NONE)),
        is_declared: get_flag(from)?,
        is_ended: get_flag(from)?,
        deleted_up_to: from.varint()?,
        order: Default::default(),
        mortals: 0,
        identities: 0,
    };
    let ids = get_list(from, 1, get_id)?;
    for id in ids {
        family.order.push(from.varint()?, id);
    }
    Ok(family)
}

fn put_series(out: &mut Vec<u8>, series: &Series) {
    out.put_varint(series.family.into());
    out.put_text(&series.labels);
    for number in [
        series.created_no,
        series.start_ms,
        series.idle_since_ms,
        series.ttl_ms,
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
                put_sum(out, part.sum);
                out.put_float(part.odd_sum);
                put_list(out, &part.counts, |out, count| out.put_varint(*count));
            });
        }
    }
}

fn get_series(from: &mut Reader<'_>) -> Result<Series, DecodeError> {
    Ok(Series {
        family: get_id(from)?,
        labels: from.text()?.into(),
        created_no: from.varint()?,
        start_ms: from.varint()?,
        idle_since_ms: from.varint()?,
        ttl_ms: from.varint()?,
        memories: 0,
        owners: 0,
        total: get_total(from)?,
    })
}

fn get_total(from: &mut Reader<'_>) -> Result<Total, DecodeError> {
    let at = from.at();
    match from.u8()? {
        0 => Ok(Total::Counter(get_sum(from)?)),
        1 => Ok(Total::Gauge(Box::new(get_gauge(from)?))),
        2 => {
            let parts = get_list(from, 26, |from| {
                Ok(Part {
                    layout: get_id(from)?,
                    sum: get_sum(from)?,
                    odd_sum: from.float()?,
                    counts: get_list(from, 1, Reader::varint)?.into(),
                })
            })?;
            Ok(Total::Buckets(Box::new(Buckets { parts })))
        }
        found => Reader::refuse("total", found.into(), "0 to 2", at),
    }
}

fn put_gauge(out: &mut Vec<u8>, gauge: &Gauge) {
    put_list(out, &gauge.members, |out, member| {
        out.put_varint(member.writer.into());
        out.put_float(member.value);
        out.put_float(member.time);
    });
    put_list(out, &gauge.holes, |out, hole| {
        out.put_varint((*hole).into())
    });
    put_sum(out, gauge.sum);
    out.put_u8(gauge.retired.is_some().into());
    out.put_float(gauge.retired.unwrap_or(0.0));
    put_list(out, &gauge.ghosts, |out, ghost| {
        out.put_blob(&ghost.writer_id);
        out.put_text(&ghost.pid);
        out.put_float(ghost.value);
        out.put_float(ghost.time);
        out.put_varint(ghost.until_ms);
    });
}

fn get_gauge(from: &mut Reader<'_>) -> Result<Gauge, DecodeError> {
    let at = from.at();
    let members = get_list(from, 17, |from| {
        Ok(Member {
            writer: get_id(from)?,
            value: from.float()?,
            time: from.float()?,
        })
    })?;
    let holes = get_list(from, 1, get_id)?;
    let mut is_hole = members
        .iter()
        .map(|member| member.writer == NONE)
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
    let odd = members
        .iter()
        .filter(|m| m.writer != NONE && !m.value.is_finite())
        .count() as u32;
    let sum = get_sum(from)?;
    let (has_retired, retired) = (get_flag(from)?, from.float()?);
    let ghosts = get_list(from, 19, |from| {
        Ok(Ghost {
            writer_id: from.blob()?.into(),
            pid: from.text()?.into(),
            value: from.float()?,
            time: from.float()?,
            until_ms: from.varint()?,
        })
    })?;
    Ok(Gauge {
        members,
        holes,
        sum,
        odd,
        retired: has_retired.then_some(retired),
        ghosts,
    })
}

fn put_writer(out: &mut Vec<u8>, writer: &Writer) {
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
    ] {
        out.put_varint(number);
    }
    out.put_u8(writer.is_healed.into());
    put_list(out, &writer.entries, |out, entry| {
        out.put_varint(entry.series.into());
        out.put_varint(entry.flags_and_place().into());
        out.put_float(entry.last);
    });
    put_list(out, &writer.buckets, |out, memory| {
        out.put_varint(memory.layout.into());
        out.put_float(memory.sum);
        put_list(out, &memory.counts, |out, count| out.put_varint(*count));
    });
    put_list(out, &writer.index, |out, at| out.put_varint((*at).into()));
    out.put_u8(writer.run.is_some().into());
    put_list(
        out,
        writer.run.as_deref().unwrap_or_default(),
        |out, named| out.put_u8((*named).into()),
    );
}

fn get_writer(from: &mut Reader<'_>) -> Result<Writer, DecodeError> {
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
    writer.settle_from = get_id(from)?;
    writer.is_healed = get_flag(from)?;
    writer.entries = get_list(from, 10, |from| {
        Ok(Entry::from_parts(
            get_id(from)?,
            get_id(from)?,
            from.float()?,
        ))
    })?;
    writer.buckets = get_list(from, 10, |from| {
        Ok(BucketMemory {
            layout: get_id(from)?,
            sum: from.float()?,
            counts: get_list(from, 1, Reader::varint)?.into(),
        })
    })?;
    writer.index = get_list(from, 1, get_id)?;
    let has_run = get_flag(from)?;
    let named = get_list(from, 1, get_flag)?;
    writer.run = has_run.then_some(named);
    Ok(writer)
}

fn put_sum(out: &mut Vec<u8>, sum: Sum) {
    out.put_float(sum.high);
    out.put_float(sum.low);
}

fn get_sum(from: &mut Reader<'_>) -> Result<Sum, DecodeError> {
    Ok(Sum {
        high: from.float()?,
        low: from.float()?,
    })
}

fn put_option(out: &mut Vec<u8>, number: Option<u64>) {
    out.put_u8(number.is_some().into());
    out.put_varint(number.unwrap_or(0));
}

fn get_option(from: &mut Reader<'_>) -> Result<Option<u64>, DecodeError> {
    let (is_some, number) = (get_flag(from)?, from.varint()?);
    Ok(is_some.then_some(number))
}

fn get_flag(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let at = from.at();
    match from.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        found => Reader::refuse("flag", found.into(), "0 or 1", at),
    }
}

fn get_id(from: &mut Reader<'_>) -> Result<u32, DecodeError> {
    // Checked to be below 2^32, so nothing is cut off.
    Ok(get_below(from, "number", 1 << 32)? as u32)
}

fn get_below(from: &mut Reader<'_>, what: &'static str, end: u64) -> Result<u64, DecodeError> {
    let at = from.at();
    let found = from.varint()?;
    if found < end {
        Ok(found)
    } else {
        Reader::refuse(what, found, "a smaller one", at)
    }
}

fn put_list<'t, T: 't, L>(out: &mut Vec<u8>, list: L, mut put: impl FnMut(&mut Vec<u8>, &'t T))
where
    L: IntoIterator<Item = &'t T, IntoIter: ExactSizeIterator>,
{
    let list = list.into_iter();
    out.put_varint(list.len() as u64);
    for thing in list {
        put(out, thing);
    }
}

/// A list of things that take at least `each` bytes.
fn get_list<'a, T>(
    from: &mut Reader<'a>,
    each: usize,
    mut get: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = from.count(each)?;
    (0..count).map(|_| get(from)).collect()
}

fn put_slab<T>(out: &mut Vec<u8>, slab: &Slab<T>, mut put: impl FnMut(&mut Vec<u8>, &T)) {
    let (places, free) = slab.parts();
    put_list(out, places, |out, place| {
        out.put_u8(place.is_some().into());
        if let Some(thing) = place {
            put(out, thing);
        }
    });
    put_list(out, free, |out, id| out.put_varint((*id).into()));
}

fn get_slab<'a, T>(
    from: &mut Reader<'a>,
    mut get: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Slab<T>, DecodeError> {
    let at = from.at();
    let places = get_list(from, 1, |from| {
        let is_taken = get_flag(from)?;
        is_taken.then(|| get(from)).transpose()
    })?;
    let free = get_list(from, 1, get_id)?;
    match Slab::from_parts(places, free) {
        Some(slab) => Ok(slab),
        None => Reader::refuse("free places", 0, "exactly those that are free", at),
    }
}

// The number of reasons is part of the format: a new one goes to the end.
const _: () = assert!(Reason::EVERY.len() == 9);

//! Writers and what is left of them, as bytes.

use super::fields::{get_flag, get_id, get_list, get_number, get_option, put_list, put_option};
use super::{WITH_DEADLINES, WITH_HOLDERS, WITH_HOLES, WITH_LEFT_OUT, WITH_UNNAMED};
use crate::bits::Bits;
use crate::bytes::{DecodeError, Reader, Write};
use crate::registry::apply::Unnamed;
use crate::registry::writers::tombstones::{Key, Tombstones};
use crate::registry::writers::{BucketMemory, Entry, Phase, Writer};
use crate::{LeftOut, NativeHistogram};

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

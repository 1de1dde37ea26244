//! The building blocks of the state: options, sums, lists, and slabs with free places.

use crate::NATIVE_SCHEMAS;
use crate::bytes::{DecodeError, Reader, Write};
use crate::ids::Id;
use crate::registry::catalog::series::ObservedSum;
use crate::slab::Slab;
use crate::sum::Sum;

pub(super) fn put_observed_sum(out: &mut Vec<u8>, sum: ObservedSum) {
    put_sum(out, sum.finite);
    out.put_float(sum.odd);
}

pub(super) fn get_observed_sum(from: &mut Reader<'_>) -> Result<ObservedSum, DecodeError> {
    Ok(ObservedSum {
        finite: get_sum(from)?,
        odd: from.float()?,
    })
}

pub(super) fn put_schema(out: &mut Vec<u8>, schema: Option<i8>) {
    put_option(
        out,
        schema.map(|schema| u64::from(schema.abs_diff(*NATIVE_SCHEMAS.start()))),
    );
}

pub(super) fn get_schema(from: &mut Reader<'_>) -> Result<Option<i8>, DecodeError> {
    let at = from.at();
    match get_option(from)? {
        None => Ok(None),
        Some(above @ 0..=12) => Ok(Some(NATIVE_SCHEMAS.start() + above as i8)),
        Some(found) => Reader::refuse("schema", found, "0 to 12 above the lowest", at),
    }
}

pub(super) fn put_sum(out: &mut Vec<u8>, sum: Sum) {
    out.put_float(sum.high);
    out.put_float(sum.low);
}

pub(super) fn get_sum(from: &mut Reader<'_>) -> Result<Sum, DecodeError> {
    Ok(Sum {
        high: from.float()?,
        low: from.float()?,
    })
}

pub(super) fn put_option(out: &mut Vec<u8>, number: Option<u64>) {
    out.put_u8(number.is_some().into());
    out.put_varint(number.unwrap_or(0));
}

pub(super) fn get_option(from: &mut Reader<'_>) -> Result<Option<u64>, DecodeError> {
    let (is_some, number) = (get_flag(from)?, from.varint()?);
    Ok(is_some.then_some(number))
}

pub(super) fn get_flag(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
    let at = from.at();
    match from.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        found => Reader::refuse("flag", found.into(), "0 or 1", at),
    }
}

pub(super) fn get_id<I: Id>(from: &mut Reader<'_>) -> Result<I, DecodeError> {
    get_number(from).map(I::from_number)
}

pub(super) fn get_number(from: &mut Reader<'_>) -> Result<u32, DecodeError> {
    // It is below 2^32, so the cast loses nothing.
    Ok(get_below(from, "number", 1 << 32)? as u32)
}

pub(super) fn get_below(
    from: &mut Reader<'_>,
    what: &'static str,
    end: u64,
) -> Result<u64, DecodeError> {
    let at = from.at();
    let found = from.varint()?;
    if found < end {
        Ok(found)
    } else {
        Reader::refuse(what, found, "a smaller one", at)
    }
}

pub(super) fn put_list<'t, T: 't, L>(
    out: &mut Vec<u8>,
    list: L,
    mut put: impl FnMut(&mut Vec<u8>, &'t T),
) where
    L: IntoIterator<Item = &'t T, IntoIter: ExactSizeIterator>,
{
    let list = list.into_iter();
    out.put_varint(list.len() as u64);
    for thing in list {
        put(out, thing);
    }
}

/// Decodes a list of values of at least `each` bytes.
pub(super) fn get_list<'a, T>(
    from: &mut Reader<'a>,
    each: usize,
    mut get: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = from.count(each)?;
    (0..count).map(|_| get(from)).collect()
}

pub(super) fn put_slab<I: Id + Into<u64>, T>(
    out: &mut Vec<u8>,
    slab: &Slab<I, T>,
    mut put: impl FnMut(&mut Vec<u8>, &T),
) {
    put_slab_numbered(out, slab, |out, _, thing| put(out, thing));
}

/// The same, for values whose bytes depend on their place.
pub(super) fn put_slab_numbered<I: Id + Into<u64>, T>(
    out: &mut Vec<u8>,
    slab: &Slab<I, T>,
    mut put: impl FnMut(&mut Vec<u8>, I, &T),
) {
    out.put_varint(slab.place_count() as u64);
    for (id, place) in (0..).zip(slab.places_from(0)) {
        out.put_u8(place.is_some().into());
        if let Some(thing) = place {
            put(out, I::from_number(id), thing);
        }
    }
    put_list(out, slab.free_places(), |out, id| {
        out.put_varint((*id).into());
    });
}

pub(super) fn get_slab<'a, I: Id, T>(
    from: &mut Reader<'a>,
    mut get: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Slab<I, T>, DecodeError> {
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

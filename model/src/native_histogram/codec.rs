//! The byte form of a native histogram in batches and snapshots: see `redis-module/BATCH.md`.

use super::{
    MAX_BUCKET_NUMBER, MAX_NATIVE_BUCKETS, NATIVE_SCHEMAS, NativeHistogram, SparseBuckets,
};
use crate::bytes::{DecodeError, Reader, Write};

/// Maximum number of buckets of one side in a snapshot: a total may have those of many writers.
const MAX_TOTAL_BUCKETS: usize = 2 * MAX_BUCKET_NUMBER as usize + 1;

impl NativeHistogram {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_signed(self.schema.into());
        out.put_float(self.zero_threshold);
        out.put_varint(self.zero_count);
        out.put_float(self.sum);
        for side in [&self.positive, &self.negative] {
            out.put_varint(side.len() as u64);
            let mut before = 0;
            for (number, count) in side {
                out.put_signed(number - before);
                out.put_varint(*count);
                before = *number;
            }
        }
    }

    /// Decodes a writer's histogram, and refuses states that no histogram can have.
    pub(crate) fn get(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::get_limited(reader, MAX_NATIVE_BUCKETS)
    }

    /// Decodes a total.
    pub(crate) fn get_total(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::get_limited(reader, MAX_TOTAL_BUCKETS)
    }

    fn get_limited(reader: &mut Reader<'_>, most: usize) -> Result<Self, DecodeError> {
        let at = reader.at();
        let schema = reader.signed()?;
        let Some(schema) = i8::try_from(schema)
            .ok()
            .filter(|s| NATIVE_SCHEMAS.contains(s))
        else {
            let expected = "a schema from -4 to 8, in zigzag form";
            return Reader::refuse("schema", u64::from(schema.unsigned_abs()), expected, at);
        };
        let at = reader.at();
        let zero_threshold = reader.float()?;
        if !zero_threshold.is_finite() || zero_threshold < 0.0 {
            let expected = "a finite number that is not negative";
            return Reader::refuse("zero threshold", zero_threshold.to_bits(), expected, at);
        }
        Ok(Self {
            schema,
            zero_threshold,
            zero_count: reader.varint()?,
            sum: reader.float()?,
            positive: get_side(reader, most)?,
            negative: get_side(reader, most)?,
        })
    }
}

fn get_side(reader: &mut Reader<'_>, most: usize) -> Result<SparseBuckets, DecodeError> {
    let at = reader.at();
    let count = reader.count(2)?;
    if count > most {
        return Reader::refuse("number of buckets", count as u64, "at most 4096", at);
    }
    let mut side = SparseBuckets::with_capacity(count);
    let mut before = 0_i32;
    for _ in 0..count {
        let at = reader.at();
        let step = reader.signed()?;
        let number = before.saturating_add(step);
        if number.unsigned_abs() > MAX_BUCKET_NUMBER.cast_unsigned()
            || (step <= 0 && !side.is_empty())
        {
            let expected = "numbers of buckets that ascend and that a float can fall into";
            return Reader::refuse("bucket", u64::from(number.unsigned_abs()), expected, at);
        }
        let at = reader.at();
        let in_bucket = reader.varint()?;
        if in_bucket == 0 {
            return Reader::refuse(
                "count of a bucket",
                0,
                "more than 0: empty ones are left out",
                at,
            );
        }
        side.push((number, in_bucket));
        before = number;
    }
    Ok(side)
}

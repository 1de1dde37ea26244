//! Reads the buckets of native histograms.

use metrics_model::SparseBuckets;

use super::CUT_OFF;
use super::message::{Message, Value};

/// The buckets of one sign: runs of numbers, and the difference of each count to the one before.
#[derive(Default)]
pub(super) struct Side {
    pub(super) spans: Vec<(i64, u64)>,
    deltas: Vec<i64>,
}

impl Side {
    pub(super) fn add_deltas(&mut self, value: &Value<'_>) -> Result<(), String> {
        match value {
            Value::Varint(number) => self.deltas.push(zigzag(*number)),
            Value::Bytes(packed) => {
                let mut packed = Message(packed);
                while !packed.0.is_empty() {
                    self.deltas.push(zigzag(packed.varint().ok_or(CUT_OFF)?));
                }
            }
            Value::Fixed64(_) | Value::Fixed32 => return Err(CUT_OFF.to_owned()),
        }
        Ok(())
    }

    pub(super) fn buckets(&self) -> Result<SparseBuckets, String> {
        let wrong = || "spans and deltas that do not fit each other".to_owned();
        let mut buckets = SparseBuckets::new();
        let mut deltas = self.deltas.iter();
        let (mut number, mut count) = (0_i64, 0_i64);
        for &(offset, length) in &self.spans {
            number = number.checked_add(offset).ok_or_else(wrong)?;
            for _ in 0..length {
                let delta = deltas.next().ok_or_else(wrong)?;
                count = count.checked_add(*delta).ok_or_else(wrong)?;
                let bucket = i32::try_from(number).map_err(|_| wrong())?;
                let observations = u64::try_from(count).map_err(|_| wrong())?;
                if observations > 0 {
                    buckets.push((bucket, observations));
                }
                number += 1;
            }
        }
        if deltas.next().is_some() || buckets.len() > metrics_model::MAX_NATIVE_BUCKETS {
            return Err(wrong());
        }
        Ok(buckets)
    }
}

pub(super) fn span_of(message: Message<'_>) -> Result<(i64, u64), String> {
    let (mut offset, mut length) = (0, 0);
    for field in message {
        match field.ok_or(CUT_OFF)? {
            (1, Value::Varint(number)) => offset = zigzag(number),
            (2, Value::Varint(number)) => length = number,
            _ => {}
        }
    }
    Ok((offset, length))
}

pub(super) fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

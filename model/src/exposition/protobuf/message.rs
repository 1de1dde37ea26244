//! The encoding of protocol buffers, as far as pages need it.

use crate::Exemplar;
use crate::bytes::Write;
use crate::escaping::{Escaping, unescaped};
use crate::labels::parse;

pub(super) const VARINT: u64 = 0;
pub(super) const DOUBLE: u64 = 1;
pub(super) const LENGTH: u64 = 2;

pub(super) fn put_key(out: &mut Vec<u8>, number: u64, wire_type: u64) {
    out.put_varint(number << 3 | wire_type);
}

pub(super) fn put_count(out: &mut Vec<u8>, number: u64, value: u64) {
    put_key(out, number, VARINT);
    out.put_varint(value);
}

pub(super) fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_key(out, number, DOUBLE);
    out.put_float(value);
}

pub(super) fn put_message(out: &mut Vec<u8>, number: u64, message: &[u8]) {
    put_key(out, number, LENGTH);
    out.put_blob(message);
}

pub(super) fn put_text(out: &mut Vec<u8>, number: u64, text: &str) {
    put_message(out, number, text.as_bytes());
}

/// Writes the message of a number, as field `number` of a metric, of which `more` bytes follow.
#[inline]
pub(super) fn put_number(out: &mut Vec<u8>, number: u64, value: f64, more: u64) {
    let length = DOUBLE_BYTES + more;
    if length < 0x80 {
        let double = (1 << 3 | DOUBLE) as u8;
        out.extend_from_slice(&[(number << 3 | LENGTH) as u8, length as u8, double]);
        out.extend_from_slice(&value.to_le_bytes());
        return;
    }
    put_key(out, number, LENGTH);
    out.put_varint(length);
    put_double(out, 1, value);
}

/// Size of a double and its key, in bytes.
pub(super) const DOUBLE_BYTES: u64 = 9;

/// Returns the size of a varint, in bytes.
pub(super) fn varint_bytes(value: u64) -> u64 {
    u64::from((value | 1).ilog2() / 7) + 1
}

/// Returns the size of a message of that length, with a key of one byte and its length, in bytes.
pub(super) fn message_bytes(length: usize) -> u64 {
    let length = length as u64;
    1 + varint_bytes(length) + length
}

/// Label pairs, field 1 of a metric and of an exemplar.
pub(super) fn put_labels(out: &mut Vec<u8>, labels: &str) {
    // Most label texts have neither quoted names nor escapes: the next quote ends a value.
    let mut rest = labels.as_bytes();
    while let Some(equals) = find(rest, b'=', b'"')
        && let Some(length) = rest
            .get(equals + 2..)
            .and_then(|text| find(text, b'"', b'\\'))
    {
        let end = equals + 2 + length;
        if rest[equals] != b'=' || rest[end] != b'"' {
            break;
        }
        put_pair(out, &rest[..equals], &rest[equals + 2..end]);
        rest = rest.get(end + 2..).unwrap_or_default();
    }
    if rest.is_empty() {
        return;
    }
    let rest = labels.get(labels.len() - rest.len()..).unwrap_or_default();
    for (name, value) in parse(rest) {
        put_pair(out, unescaped(name).as_bytes(), unescaped(value).as_bytes());
    }
}

/// Returns the place of the first of two bytes, eight bytes at a time: names and values are short.
pub(super) fn find(text: &[u8], one: u8, other: u8) -> Option<usize> {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let (ones, others) = (LOW * u64::from(one), LOW * u64::from(other));
    // Marks the highest bit of each zero byte; marks above the first may be wrong.
    let zeros = |bytes: u64| bytes.wrapping_sub(LOW) & !bytes & HIGH;
    let (parts, rest) = text.as_chunks::<8>();
    for (at, part) in parts.iter().enumerate() {
        let part = u64::from_le_bytes(*part);
        let found = zeros(part ^ ones) | zeros(part ^ others);
        if found != 0 {
            return Some(8 * at + found.trailing_zeros() as usize / 8);
        }
    }
    let of_rest = rest.iter().position(|byte| *byte == one || *byte == other);
    of_rest.map(|at| 8 * parts.len() + at)
}

pub(super) fn put_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let length = name.len() + value.len() + 4;
    if length < 0x80 {
        // All lengths take one byte.
        out.extend_from_slice(&[KEY_1, length as u8, KEY_1, name.len() as u8]);
        out.extend_from_slice(name);
        out.extend_from_slice(&[KEY_2, value.len() as u8]);
        out.extend_from_slice(value);
        return;
    }
    put_key(out, 1, LENGTH);
    out.put_varint(message_bytes(name.len()) + message_bytes(value.len()));
    put_message(out, 1, name);
    put_message(out, 2, value);
}

/// Keys of fields 1 and 2 that have a length.
pub(super) const KEY_1: u8 = 1 << 3 | LENGTH as u8;
pub(super) const KEY_2: u8 = 2 << 3 | LENGTH as u8;

/// Encodes an exemplar, without its key and length.
pub(super) fn encoded(escaping: Escaping, exemplar: &Exemplar) -> Vec<u8> {
    let mut message = Vec::new();
    put_labels(
        &mut message,
        &escaping.exemplar_labels(exemplar.labels.as_str()),
    );
    put_double(&mut message, 2, exemplar.value);
    Time::of((exemplar.time * 1000.0).round() as u64).put(&mut message, 3);
    message
}

/// A `google.protobuf.Timestamp`.
pub(super) struct Time {
    seconds: u64,
    nanos: u64,
}

impl Time {
    /// `ms`: Unix time in milliseconds; 0 if unknown.
    pub(super) fn of(ms: u64) -> Self {
        Self {
            seconds: ms / 1000,
            nanos: ms % 1000 * 1_000_000,
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.seconds > 0 || self.nanos > 0
    }

    pub(super) fn bytes(&self) -> u64 {
        2 + varint_bytes(self.seconds) + varint_bytes(self.nanos)
    }

    /// Writes it as field `number`, if it is known.
    pub(super) fn put(&self, out: &mut Vec<u8>, number: u64) {
        if self.is_known() {
            put_key(out, number, LENGTH);
            out.put_varint(self.bytes());
            put_count(out, 1, self.seconds);
            put_count(out, 2, self.nanos);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Labels;

    proptest! {
        #[test]
        fn a_byte_is_found_where_it_is_first(text in prop::collection::vec(prop_oneof![Just(b'='), Just(b'"'), any::<u8>()], 0..40)) {
            let first = text.iter().position(|byte| matches!(byte, b'=' | b'"'));
            prop_assert_eq!(find(&text, b'=', b'"'), first);
        }

        #[test]
        fn labels_are_written_one_by_one(
            pairs in prop::collection::btree_map("[a-c.\"=]{1,9}", "[ab,=\"\\\\\n\u{e4}]{1,150}", 0..5),
        ) {
            let labels = Labels::new(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))).unwrap();
            let mut expected = Vec::new();
            for (name, value) in parse(labels.as_str()) {
                let mut pair = Vec::new();
                put_text(&mut pair, 1, &unescaped(name));
                put_text(&mut pair, 2, &unescaped(value));
                put_message(&mut expected, 1, &pair);
            }
            let mut found = Vec::new();
            put_labels(&mut found, labels.as_str());
            prop_assert_eq!(found, expected);
        }
    }
}

//! The protobuf format: finds the families of a page, and writes a page with other names.
//!
//! Source: `MetricFamily` of `client_model`'s `metrics.proto`: name 1, help 2, type 3, metrics 4,
//! unit 5.

use std::borrow::Cow;

use super::ChangedNames;
use super::wire::{Message, Value};

/// Returns the name of each message, and the word of the text formats for its type.
pub(super) fn families(page: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    messages(page).map(|message| {
        let word = match type_number(message) {
            0 => "counter",
            1 => "gauge",
            2 => "summary",
            4 => "histogram",
            _ => "untyped",
        };
        (Cow::Borrowed(name(message).unwrap_or_default()), word)
    })
}

/// Returns the page with the new names.
pub(super) fn renamed(page: &[u8], names: &ChangedNames) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + page.len() / 8);
    for message in messages(page) {
        let new = name(message).and_then(|name| names.get(name));
        let Some(new) = new else {
            put_bytes(&mut out, message);
            continue;
        };
        let Some(new) = new else { continue };
        let mut changed = Vec::with_capacity(message.len() + new.len());
        let mut fields = Message(message);
        loop {
            let before = fields.0;
            let Some(Some((number, _))) = fields.next() else {
                break;
            };
            match number {
                1 => {
                    changed.push(1 << 3 | 2);
                    put_bytes(&mut changed, new.as_bytes());
                }
                // A unit must be the ending of the name.
                5 => {}
                _ => changed.extend_from_slice(&before[..before.len() - fields.0.len()]),
            }
        }
        put_bytes(&mut out, &changed);
    }
    out
}

fn messages(page: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Message(page);
    std::iter::from_fn(move || rest.bytes())
}

fn name(message: &[u8]) -> Option<&str> {
    Message(message).flatten().find_map(|field| match field {
        (1, Value::Bytes(name)) => std::str::from_utf8(name).ok(),
        _ => None,
    })
}

fn type_number(message: &[u8]) -> u64 {
    let found = Message(message).flatten().find_map(|field| match field {
        (3, Value::Varint(number)) => Some(number),
        _ => None,
    });
    found.unwrap_or(0)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

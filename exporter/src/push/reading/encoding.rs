//! Detects the encoding of a file.

use super::{Place, ReadError};

/// Files that are not text, by their first bytes.
const MAGIC: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"BZh", "compressed with bzip2"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the text of a file in UTF-8, without a byte order mark.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, ReadError> {
    if let Some((_, what)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(ReadError::Encoding(what));
    }
    if let Some(wide) = wide_encoding(bytes) {
        return Err(ReadError::Encoding(wide));
    }
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let (before, wrong) = bytes.split_at(error.valid_up_to());
        let line = before.split(|byte| *byte == b'\n').count();
        let reason = format!(
            "byte 0x{:02x} is not UTF-8: the file is binary, or text in another encoding such as Latin-1",
            wrong.first().copied().unwrap_or_default()
        );
        ReadError::at(Place::Line(line), &reason)
    })
}

/// Returns which encoding of two or four bytes for a character it is: by its mark, or because most
/// bytes of ASCII are zero in it.
fn wide_encoding(bytes: &[u8]) -> Option<&'static str> {
    const ENOUGH: usize = 64;
    let are_zero = |from: usize, step: usize| {
        let mut some = bytes
            .iter()
            .skip(from)
            .step_by(step)
            .take(ENOUGH)
            .peekable();
        some.peek().is_some() && some.all(|byte| *byte == 0)
    };
    let are_all_zero = |places: [usize; 3]| places.into_iter().all(|from| are_zero(from, 4));
    let (utf16, utf32) = (Some("text in UTF-16"), Some("text in UTF-32"));
    match bytes {
        // The mark of UTF-32 begins with that of UTF-16.
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => utf32,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => utf16,
        [_, _, _, _, ..] if are_all_zero([0, 1, 2]) || are_all_zero([1, 2, 3]) => utf32,
        [_, _, _, ..] if are_zero(0, 2) || are_zero(1, 2) => utf16,
        _ => None,
    }
}

/// Returns whether it begins like a message with its length, which starts with the name of a
/// family. No text begins so: its first line would have one character, and its second would be
/// longer than a name may be.
pub(super) fn looks_like_messages(bytes: &[u8]) -> bool {
    const NAME_FIELD: u8 = 0x0a;
    let Some(end) = bytes.iter().take(10).position(|byte| *byte < 0x80) else {
        return false;
    };
    let length = bytes[..=end]
        .iter()
        .rev()
        .fold(0_u64, |length, byte| length << 7 | u64::from(byte & 0x7f));
    let [NAME_FIELD, name_length, rest @ ..] = &bytes[end + 1..] else {
        return false;
    };
    // The length of a name of more than 127 bytes takes two bytes.
    let (name_length, rest) = match rest {
        [high @ 0..0x80, rest @ ..] if *name_length >= 0x80 => (
            usize::from(name_length & 0x7f) | usize::from(*high) << 7,
            rest,
        ),
        _ => (usize::from(*name_length), rest),
    };
    let name = rest.get(..name_length).map(std::str::from_utf8);
    matches!(name, Some(Ok(name)) if !name.is_empty() && !name.contains(char::is_control))
        && name_length as u64 + 2 <= length
}

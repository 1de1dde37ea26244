//! Reads a file of metrics, in any text format or as protobuf messages, into families and series.
//!
//! This folder depends only on `metrics-model`'s types, not on Redis, settings or the command line.

mod family;
mod protobuf;
mod text;

use family::Parsed;
pub(super) use family::{Family, LabelPairs, Series};

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushFormat {
    /// Detected from the content.
    Auto,
    /// Any of the text formats.
    Text,
    /// Protobuf messages, each preceded by its length.
    Protobuf,
}

/// A sample, or a part of one, that was not pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The sample in the form of the file.
    pub sample: String,
    /// The reason.
    pub reason: String,
}

/// The reason why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ReadError {
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: String },
    #[error("{family}: {reason}")]
    Family { family: String, reason: String },
    #[error("message {message}: {reason}")]
    Message { message: usize, reason: String },
    #[error("the file is {0}, allowed is text in UTF-8 or protobuf messages")]
    Encoding(&'static str),
}

/// Reads a file.
pub(super) fn parse(bytes: &[u8], format: PushFormat) -> Result<Parsed, ReadError> {
    match format {
        PushFormat::Protobuf => protobuf::parse(bytes),
        PushFormat::Auto if looks_like_messages(bytes) => protobuf::parse(bytes),
        PushFormat::Text | PushFormat::Auto => text::parse(decode(bytes)?),
    }
}

/// Returns the text of a file in UTF-8, without a byte order mark.
fn decode(bytes: &[u8]) -> Result<&str, ReadError> {
    if bytes.starts_with(b"\x1f\x8b") {
        return Err(ReadError::Encoding("compressed with gzip"));
    }
    if is_utf16(bytes) {
        return Err(ReadError::Encoding("text in UTF-16"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let (before, wrong) = bytes.split_at(error.valid_up_to());
        ReadError::Line {
            line: before.split(|byte| *byte == b'\n').count(),
            reason: format!(
                "byte 0x{:02x} is not UTF-8: the file is binary, or text in another encoding such as Latin-1",
                wrong.first().copied().unwrap_or_default()
            ),
        }
    })
}

/// Returns whether it is UTF-16: by its mark, or because every other byte is zero.
fn is_utf16(bytes: &[u8]) -> bool {
    const ENOUGH: usize = 64;
    let every_other = |from: usize| {
        let mut some = bytes.iter().skip(from).step_by(2).take(ENOUGH).peekable();
        some.peek().is_some() && some.all(|byte| *byte == 0)
    };
    bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
        || (bytes.len() > 2 && (every_other(0) || every_other(1)))
}

/// Returns whether it begins like a message with its length, which starts with the name of a
/// family. No text begins so: its first line would have one character, and its second would be
/// longer than a name may be.
fn looks_like_messages(bytes: &[u8]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        parse(bytes, PushFormat::Auto).unwrap_err().to_string()
    }

    #[test]
    fn text_is_read_with_a_mark_and_with_control_characters() {
        for bytes in [
            &b"\xef\xbb\xbfx{a=\"1\"} 1\n"[..],
            b"x{a=\"\x1b[1m\"} 1\n",
            b"x{a=\"\x01\x02\"} 1\n",
            "x{a=\"\u{2028}\u{85}\r\"} 1\n".as_bytes(),
            b"#\n# a comment of some length that is a line of its own\nx 1\n",
            b"\n\nx 1\n",
        ] {
            let parsed = parse(bytes, PushFormat::Auto).unwrap();
            assert_eq!(parsed.families[0].name, "x");
        }
    }

    #[test]
    fn other_encodings_are_named() {
        let utf16: Vec<u8> = "x 1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let expected = "the file is text in UTF-16, allowed is text in UTF-8 or protobuf messages";
        assert_eq!(error(&utf16), expected);
        assert_eq!(error(&[b"\xff\xfe", &*utf16].concat()), expected);
        assert_eq!(
            error(b"x 1\ny{a=\"caf\xe9\"} 1\n"),
            "line 2: byte 0xe9 is not UTF-8: the file is binary, or text in another encoding such as Latin-1"
        );
        assert!(error(b"\x1f\x8b\x08\x00").contains("compressed with gzip"));
    }
}

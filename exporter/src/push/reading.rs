//! Reads a file of metrics, in any text format or as protobuf messages, into families and series.
//!
//! This folder depends only on `metrics-model`'s types, not on Redis, settings or the command line:
//! `tests/reading_alone.rs` compiles it without the rest of the exporter.

mod encoding;
mod family;
mod histogram;
mod protobuf;
mod text;

use std::collections::HashMap;
use std::fmt;

use metrics_model::{FamilySpec, kept_name, may_share, passed_name, sample_suffixes};

use encoding::{decode, looks_like_messages};
use family::FileContent;
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

/// A place in a file; counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Place {
    Line(usize),
    Message(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Message(number) => write!(f, "message {number}"),
        }
    }
}

/// The reason why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ReadError {
    #[error("{place}: {reason}")]
    At { place: Place, reason: String },
    #[error("the file is {0}, allowed is text in UTF-8 or protobuf messages")]
    Encoding(&'static str),
}

impl ReadError {
    /// Makes an error of one line, whatever characters the file has.
    pub(super) fn at(place: Place, reason: &str) -> Self {
        let mut line = String::with_capacity(reason.len());
        for character in reason.chars() {
            if character.is_control() {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
        Self::At {
            place,
            reason: line,
        }
    }
}

/// Reads a file.
pub(super) fn parse(bytes: &[u8], format: PushFormat) -> Result<FileContent, ReadError> {
    let parsed = match format {
        PushFormat::Protobuf => protobuf::parse(bytes),
        PushFormat::Auto if looks_like_messages(bytes) => protobuf::parse(bytes),
        PushFormat::Text | PushFormat::Auto => text::parse(decode(bytes)?),
    }?;
    check_names(&parsed.families)?;
    Ok(parsed)
}

/// Refuses names that no registry has, and two families with samples of one name.
fn check_names(families: &[Family]) -> Result<(), ReadError> {
    let mut samples: HashMap<String, &Family> = HashMap::new();
    for family in families {
        let name = passed_name(&family.name, family.family_type);
        kept_name(&FamilySpec::new(&name, family.family_type))
            .map_err(|error| ReadError::at(family.place, &error.to_string()))?;
        for suffix in sample_suffixes(family.family_type) {
            let sample = format!("{}{suffix}", family.name);
            let Some(other) = samples.insert(sample.clone(), family) else {
                continue;
            };
            let kinds = [other, family].map(|one| (one.name.as_str(), one.family_type));
            if !may_share(&sample, kinds[0], kinds[1]) {
                let reason = format!(
                    "{} and {} ({}) both have samples of the name {sample}, allowed is one family for a name",
                    family.name, other.name, other.place
                );
                return Err(ReadError::at(family.place, &reason));
            }
        }
    }
    Ok(())
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
        let expected = "the file is text in UTF-32, allowed is text in UTF-8 or protobuf messages";
        for bytes in [u32::to_le_bytes, u32::to_be_bytes] {
            let marked = "\u{feff}x 1\n".chars().map(u32::from).flat_map(bytes);
            let marked: Vec<u8> = marked.collect();
            assert_eq!(error(&marked), expected);
            assert_eq!(error(&marked[4..]), expected);
        }
        assert_eq!(
            error(b"x 1\ny{a=\"caf\xe9\"} 1\n"),
            "line 2: byte 0xe9 is not UTF-8: the file is binary, or text in another encoding such as Latin-1"
        );
        assert!(error(b"\x1f\x8b\x08\x00").contains("compressed with gzip"));
    }

    #[test]
    fn families_that_share_a_sample_are_named_with_their_lines() {
        assert_eq!(
            error(b"a_count 1\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\n"),
            "line 2: a and a_count (line 1) both have samples of the name a_count, allowed is one family for a name"
        );
        let long = format!("# TYPE {0} gauge\n{0} 1\n", "a".repeat(5000));
        assert!(error(long.as_bytes()).starts_with("line 1: a family name of 5000 bytes"));
    }
}

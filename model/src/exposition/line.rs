//! A line of the text formats: name, labels, value. Lines are most of a page, and what is copied into
//! them is short. So pieces are copied with fixed lengths where they can be, which takes no call, and
//! what is too much is cut off again.

use super::number::{format_number, push_number_line};
use crate::escaping::{is_legacy, push_quoted};

/// The beginning of a sample: its name and the opening of the labels.
#[derive(Default)]
pub(super) struct Head {
    with_labels: Piece,
    without: Vec<u8>,
}

impl Head {
    /// Sets it for a sample of a family: `name_suffix{`, or `{"name_suffix",` if the name needs
    /// quotes.
    pub(super) fn set(&mut self, family: &str, suffix: &str) {
        let mut with_labels = Vec::with_capacity(family.len() + suffix.len() + 4);
        self.without.clear();
        if is_legacy(family) {
            with_labels.extend_from_slice(family.as_bytes());
            with_labels.extend_from_slice(suffix.as_bytes());
            self.without.clone_from(&with_labels);
            with_labels.push(b'{');
        } else {
            with_labels.push(b'{');
            push_quoted(&mut with_labels, &format!("{family}{suffix}"));
            self.without.clone_from(&with_labels);
            with_labels.push(b',');
            self.without.push(b'}');
        }
        self.with_labels = Piece::new(with_labels);
    }

    /// Appends name and labels, and makes room for one more label.
    #[inline]
    pub(super) fn push_opened(&self, labels: &str, out: &mut Vec<u8>) {
        self.with_labels.push(out);
        if !labels.is_empty() {
            out.extend_from_slice(labels.as_bytes());
            out.push(b',');
        }
    }
}

/// Bytes that are appended again and again.
#[derive(Default)]
struct Piece {
    /// All of them, and zeros up to [`SHORT`] bytes.
    bytes: Vec<u8>,
    length: usize,
}

/// Number of bytes that are copied at once.
const SHORT: usize = 64;

impl Piece {
    fn new(mut bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        bytes.resize(length.max(SHORT), 0);
        Self { bytes, length }
    }

    #[inline]
    fn push(&self, out: &mut Vec<u8>) {
        match self.bytes.first_chunk::<SHORT>() {
            Some(short) if self.length <= SHORT => {
                let end = out.len() + self.length;
                out.extend_from_slice(short);
                out.truncate(end);
            }
            _ => out.extend_from_slice(&self.bytes[..self.length]),
        }
    }
}

/// Appends a whole line.
#[inline]
pub(super) fn push_line(
    out: &mut Vec<u8>,
    head: &Head,
    labels: &str,
    more_labels: &[u8],
    value: f64,
) {
    if labels.is_empty() && more_labels.is_empty() {
        push_name_and_labels(out, head, labels, more_labels);
        format_number(value, out);
        out.push(b'\n');
        return;
    }
    push_labels(out, head, labels, more_labels);
    push_number_line(*b"} ", value, out);
}

/// Appends a sample up to the space before its value.
#[inline]
pub(super) fn push_name_and_labels(
    out: &mut Vec<u8>,
    head: &Head,
    labels: &str,
    more_labels: &[u8],
) {
    if labels.is_empty() && more_labels.is_empty() {
        out.extend_from_slice(&head.without);
        out.push(b' ');
        return;
    }
    push_labels(out, head, labels, more_labels);
    out.extend_from_slice(b"} ");
}

/// Appends name and labels up to the closing brace.
#[inline]
fn push_labels(out: &mut Vec<u8>, head: &Head, labels: &str, more_labels: &[u8]) {
    head.with_labels.push(out);
    out.extend_from_slice(labels.as_bytes());
    if !more_labels.is_empty() {
        if !labels.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(more_labels);
    }
}

//! Label sets: checked, sorted, and escaped once.

use crate::name::is_legacy_label_name;
use crate::sizes::{MAX_LABEL_NAME_BYTES, MAX_LABEL_SET_BYTES, MAX_LABELS};

/// A label set in the form in which the registry identifies, stores and shows it.
///
/// The text is that of the exposition formats without the braces: `code="200",method="GET"`, values
/// escaped (`\\`, `\"`, `\n`, the same in text 0.0.4, text 1.0.0 and OpenMetrics), sorted by name.
/// Names outside `[a-zA-Z_][a-zA-Z0-9_]*` are quoted (text format 1.0.0) and come first, so that
/// the first byte shows whether there are any.
///
/// ```
/// use metrics_model::{LabelError, Labels};
///
/// let labels = Labels::new([("method", "GET"), ("code", "200"), ("absent", "")])?;
/// assert_eq!(labels.as_str(), "code=\"200\",method=\"GET\"");
///
/// // The registry sets `le` itself.
/// let reserved = Labels::new([("le", "0.5")]);
/// assert_eq!(reserved, Err(LabelError::Reserved("le".to_owned())));
/// # Ok::<(), LabelError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    text: String,
}

/// The reason why a label set is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum LabelError {
    #[error("a label name must not be empty")]
    EmptyName,
    #[error("label name '{0}' is reserved")]
    Reserved(String),
    #[error("label name '{0}' has a NUL, which no scraper reads")]
    Nul(String),
    #[error("label name '{0}' is given twice")]
    Twice(String),
    #[error("{0} labels, at most {MAX_LABELS} are allowed")]
    TooMany(usize),
    #[error("a label name of {0} bytes, at most {MAX_LABEL_NAME_BYTES} are allowed")]
    LongName(usize),
    #[error(
        "{0} bytes of labels, at most {MAX_LABEL_SET_BYTES} are allowed (metrics.max-label-bytes may allow less)"
    )]
    TooLarge(usize),
    #[error("names and values of labels must be UTF-8")]
    NotUtf8,
}

impl Labels {
    /// Returns the empty label set.
    pub fn none() -> Self {
        Self::default()
    }

    /// Checks, sorts and escapes. An empty value equals an absent label (Prometheus data model).
    ///
    /// # Errors
    ///
    /// An empty, repeated or reserved name (`le`, `quantile`, `__…`), one with a NUL (Prometheus
    /// takes it for the end of the page), or too many labels.
    pub fn new<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, LabelError> {
        let pairs = pairs.into_iter();
        Self::from_bytes(pairs.map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    /// Does the same with bytes, which may not be UTF-8.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), and bytes that are not UTF-8.
    pub fn from_bytes<'a>(
        pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, LabelError> {
        const NOTHING: &[u8] = b"";
        let (mut few, mut many) = ([(NOTHING, NOTHING); FEW], Vec::new());
        let pairs = gather(pairs.into_iter().fuse(), &mut few, &mut many);
        if pairs.len() > MAX_LABELS {
            return Err(LabelError::TooMany(pairs.len()));
        }
        let found = pairs.iter().map(|(name, value)| name.len() + value.len());
        let found = found.sum::<usize>();
        if found > MAX_LABEL_SET_BYTES {
            return Err(LabelError::TooLarge(found));
        }
        let (mut are_legacy, mut bytes) = (true, 0);
        for (name, value) in &*pairs {
            are_legacy &= is_legacy_label_name(name);
            bytes += name.len() + value.len() + 4;
            if name.len() > MAX_LABEL_NAME_BYTES {
                return Err(LabelError::LongName(name.len()));
            }
            if name.is_empty() {
                return Err(LabelError::EmptyName);
            }
            if value.is_empty() && std::str::from_utf8(name).is_err() {
                return Err(LabelError::NotUtf8);
            }
            if name.contains(&0) {
                return Err(LabelError::Nul(shown(name).escape_debug().to_string()));
            }
            if matches!(*name, b"le" | b"quantile") || name.starts_with(RESERVED) {
                return Err(LabelError::Reserved(shown(name)));
            }
        }
        if are_legacy {
            pairs.sort_unstable_by_key(|(name, _)| *name);
        } else {
            pairs.sort_unstable_by_key(|(name, _)| (is_legacy_label_name(name), *name));
        }
        if let Some(twice) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(LabelError::Twice(shown(twice[0].0)));
        }

        let mut text = Vec::with_capacity(bytes);
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            if !text.is_empty() {
                text.push(b',');
            }
            if are_legacy || is_legacy_label_name(name) {
                text.extend_from_slice(name);
            } else {
                text.push(b'"');
                push_escaped(&mut text, name);
                text.push(b'"');
            }
            text.extend_from_slice(b"=\"");
            push_escaped(&mut text, value);
            text.push(b'"');
        }
        // Checks all parts at once: the separators are ASCII, so the whole is UTF-8 exactly if the
        // parts are.
        match String::from_utf8(text) {
            Ok(text) => Ok(Self { text }),
            Err(_) => Err(LabelError::NotUtf8),
        }
    }

    /// Returns the escaped text, without braces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Makes a label set from a text of [`as_str`](Self::as_str).
    pub(crate) fn from_text(text: &str) -> Self {
        Self { text: text.into() }
    }

    /// Returns whether one of the labels has that name.
    pub fn has(&self, name: &str) -> bool {
        let mut escaped = Vec::new();
        push_escaped(&mut escaped, name.as_bytes());
        parse(&self.text).any(|(label, _)| label.as_bytes() == escaped)
    }
}

/// Prefix of label names that Prometheus reserves for itself: it stores the metric's name as
/// `__name__` (Prometheus, *Data model*).
const RESERVED: &[u8] = b"__";

/// Up to so many labels are sorted without an allocation.
const FEW: usize = 8;

/// Name and value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Collects the pairs: a few in an array, more in a vector. Each single command parses its labels
/// here.
fn gather<'p, 'a>(
    mut pairs: impl Iterator<Item = Pair<'a>>,
    few: &'p mut [Pair<'a>; FEW],
    many: &'p mut Vec<Pair<'a>>,
) -> &'p mut [Pair<'a>] {
    let mut count = 0;
    for (place, pair) in few.iter_mut().zip(&mut pairs) {
        *place = pair;
        count += 1;
    }
    match pairs.next() {
        None => &mut few[..count],
        Some(next) => {
            many.extend_from_slice(few);
            many.push(next);
            many.extend(pairs);
            many
        }
    }
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Appends a label value with `\`, `"` and line feeds escaped.
pub(crate) fn push_escaped(text: &mut Vec<u8>, value: &[u8]) {
    let is_special = |byte: &u8| matches!(byte, b'\\' | b'"' | b'\n');
    if !value.iter().any(is_special) {
        text.extend_from_slice(value);
        return;
    }
    for part in value.split_inclusive(is_special) {
        let (escape, plain) = match part {
            [plain @ .., b'\\'] => (&b"\\\\"[..], plain),
            [plain @ .., b'"'] => (&b"\\\""[..], plain),
            [plain @ .., b'\n'] => (&b"\\n"[..], plain),
            plain => (&b""[..], plain),
        };
        text.extend_from_slice(plain);
        text.extend_from_slice(escape);
    }
}

/// Iterates over a label text: name and value, both still escaped.
pub(crate) fn parse(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = closing_quote(quoted)?;
                (&quoted[..end], quoted[end + 1..].strip_prefix("=\"")?)
            }
            None => rest.split_once("=\"")?,
        };
        let end = closing_quote(after)?;
        rest = after[end + 1..].strip_prefix(',').unwrap_or("");
        Some((name, &after[..end]))
    })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_sorted_and_escaped_and_empty_ones_left_out() {
        let labels = Labels::new([("b", "x\"y\\z\n"), ("c", ""), ("a", "1")]).unwrap();
        assert_eq!(labels.as_str(), r#"a="1",b="x\"y\\z\n""#);
    }

    #[test]
    fn names_of_the_newer_formats_are_quoted_and_come_first() {
        let labels = Labels::new([("a", "1"), ("http.method", "GET")]).unwrap();
        assert_eq!(labels.as_str(), r#""http.method"="GET",a="1""#);
    }

    #[test]
    fn wrong_names_are_refused() {
        assert_eq!(Labels::new([("", "1")]), Err(LabelError::EmptyName));
        assert_eq!(
            Labels::new([("le", "1")]),
            Err(LabelError::Reserved("le".into()))
        );
        assert_eq!(
            Labels::new([("__a", "1")]),
            Err(LabelError::Reserved("__a".into()))
        );
        assert_eq!(
            Labels::new([("a\0b", "1")]),
            Err(LabelError::Nul("a\\0b".into()))
        );
        assert!(Labels::new([("a", "\0")]).is_ok());
        assert_eq!(
            Labels::new([("a", "1"), ("a", "2")]),
            Err(LabelError::Twice("a".into()))
        );
    }

    proptest! {
        #[test]
        fn different_sets_have_different_texts(
            one in prop::collection::btree_map("[a-c.\"]{1,3}", "[ab,=\"\\\\\n]{1,5}", 0..3),
            two in prop::collection::btree_map("[a-c.\"]{1,3}", "[ab,=\"\\\\\n]{1,5}", 0..3),
        ) {
            let text = |map: &std::collections::BTreeMap<String, String>| {
                Labels::new(map.iter().map(|(n, v)| (n.as_str(), v.as_str()))).unwrap()
            };
            prop_assert_eq!(one == two, text(&one) == text(&two));
            prop_assert_eq!(parse(text(&one).as_str()).count(), one.len());
        }
    }
}

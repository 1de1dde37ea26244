//! Label sets: checked, sorted, and escaped once.

use crate::batch::MAX_LABELS;
use crate::name::is_legacy_label_name;

/// A label set in the form in which it is identified, kept and shown.
///
/// The text is that of the exposition formats without the braces: `code="200",method="GET"`, values
/// escaped (`\\`, `\"`, `\n`, the same in text 0.0.4, text 1.0.0 and OpenMetrics), sorted by name.
/// Names outside `[a-zA-Z_][a-zA-Z0-9_]*` are quoted (text format 1.0.0) and come first, so that the
/// first byte tells whether there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    text: String,
}

/// Why a label set is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum LabelError {
    #[error("a label name must not be empty")]
    EmptyName,
    #[error("label name '{0}' is reserved")]
    Reserved(String),
    #[error("label name '{0}' is given twice")]
    Twice(String),
    #[error("{0} labels, at most {MAX_LABELS} are allowed")]
    TooMany(usize),
}

impl Labels {
    /// No labels.
    pub fn none() -> Self {
        Self::default()
    }

    /// Checks, sorts and escapes. An empty value equals an absent label (Prometheus data model).
    ///
    /// # Errors
    ///
    /// An empty, repeated or reserved name (`le`, `quantile`, `__name__`), or too many labels.
    pub fn new<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, LabelError> {
        let (mut few, mut many) = ([("", ""); FEW], Vec::new());
        let pairs = gather(pairs.into_iter().fuse(), &mut few, &mut many);
        if pairs.len() > MAX_LABELS {
            return Err(LabelError::TooMany(pairs.len()));
        }
        let mut are_legacy = true;
        for (name, _) in &*pairs {
            are_legacy &= is_legacy_label_name(name);
            if name.is_empty() {
                return Err(LabelError::EmptyName);
            }
            if matches!(*name, "le" | "quantile" | "__name__") {
                return Err(LabelError::Reserved((*name).to_owned()));
            }
        }
        if are_legacy {
            pairs.sort_unstable_by_key(|(name, _)| *name);
        } else {
            pairs.sort_unstable_by_key(|(name, _)| (is_legacy_label_name(name), *name));
        }
        if let Some(twice) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(LabelError::Twice(twice[0].0.to_owned()));
        }

        let mut text =
            String::with_capacity(pairs.iter().map(|(n, v)| n.len() + v.len() + 4).sum());
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            if !text.is_empty() {
                text.push(',');
            }
            push_label(&mut text, name, value);
        }
        Ok(Self { text })
    }

    /// The escaped text, without braces.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Takes a text as [`as_str`](Self::as_str) gave it.
    pub(crate) fn from_text(text: &str) -> Self {
        Self { text: text.into() }
    }

    /// Whether one of the labels has that name.
    pub fn has(&self, name: &str) -> bool {
        let mut escaped = String::new();
        push_escaped(&mut escaped, name);
        parse(&self.text).any(|(label, _)| label == escaped)
    }
}

/// As many labels are sorted without memory of their own.
const FEW: usize = 8;

/// All pairs, in one of two places: single commands have their labels read here each time.
fn gather<'p, 'a>(
    mut pairs: impl Iterator<Item = (&'a str, &'a str)>,
    few: &'p mut [(&'a str, &'a str); FEW],
    many: &'p mut Vec<(&'a str, &'a str)>,
) -> &'p mut [(&'a str, &'a str)] {
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

/// Appends one label.
pub(crate) fn push_label(text: &mut String, name: &str, value: &str) {
    if is_legacy_label_name(name) {
        text.push_str(name);
    } else {
        text.push('"');
        push_escaped(text, name);
        text.push('"');
    }
    text.push_str("=\"");
    push_escaped(text, value);
    text.push('"');
}

/// Appends a label value with `\`, `"` and line feeds escaped.
pub(crate) fn push_escaped(text: &mut String, value: &str) {
    if !value
        .bytes()
        .any(|byte| matches!(byte, b'\\' | b'"' | b'\n'))
    {
        text.push_str(value);
        return;
    }
    for part in value.split_inclusive(['\\', '"', '\n']) {
        match part.as_bytes().last() {
            Some(b'\\') => text.extend([&part[..part.len() - 1], "\\\\"]),
            Some(b'"') => text.extend([&part[..part.len() - 1], "\\\""]),
            Some(b'\n') => text.extend([&part[..part.len() - 1], "\\n"]),
            _ => text.push_str(part),
        }
    }
}

/// Walks a label text: (name, value), both still escaped.
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

//! Names in formats, or for readers, that know fewer characters than UTF-8 has.
//!
//! Source: "Escaping schemes" of Prometheus' *Content negotiation*, as its own libraries do it.

use std::borrow::Cow;
use std::fmt::Write;
use std::str::FromStr;

use crate::labels::{parse, push_escaped};

/// How names outside `[a-zA-Z_:][a-zA-Z0-9_:]*` are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// Each other character becomes `_`.
    #[default]
    Underscores,
    /// `.` becomes `_dot_`, `_` becomes `__`, and each other character `__`.
    Dots,
    /// Such a name begins with `U__`, `_` becomes `__`, and each other character its number in
    /// hexadecimal between underscores.
    Values,
    /// They are quoted; formats before text 1.0.0 do not know that.
    AllowUtf8,
}

/// An escaping scheme nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown escaping scheme '{0}', expected UNDERSCORES, DOTS, VALUES or ALLOWUTF8")]
pub struct UnknownEscaping(String);

impl FromStr for Escaping {
    type Err = UnknownEscaping;

    /// The word of the command, or that of a media type's parameter.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "underscores" => Ok(Self::Underscores),
            "dots" => Ok(Self::Dots),
            "values" => Ok(Self::Values),
            "allowutf8" | "allow-utf-8" => Ok(Self::AllowUtf8),
            _ => Err(UnknownEscaping(text.to_owned())),
        }
    }
}

impl Escaping {
    /// The word of the command `METRICS.EXPOSE`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Underscores => "UNDERSCORES",
            Self::Dots => "DOTS",
            Self::Values => "VALUES",
            Self::AllowUtf8 => "ALLOWUTF8",
        }
    }

    /// The parameter `escaping` of a media type.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
            Self::AllowUtf8 => "allow-utf-8",
        }
    }

    /// A name as it is written, without the quotes that it may need.
    pub(super) fn name(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::AllowUtf8 => Cow::Borrowed(name),
            Self::Underscores | Self::Values if is_legacy(name) => Cow::Borrowed(name),
            Self::Underscores => Cow::Owned(translated(name, "", |_, out| out.push('_'))),
            Self::Dots => Cow::Owned(translated(name, "", |character, out| {
                out.push_str(match character {
                    '.' => "_dot_",
                    _ => "__",
                });
            })),
            Self::Values => Cow::Owned(translated(name, "U__", |character, out| match character {
                '_' => out.push_str("__"),
                other => {
                    let _ = write!(out, "_{:x}_", u32::from(other));
                }
            })),
        }
    }

    /// Whether a label text is written as it is kept.
    #[inline]
    pub(super) fn keeps_labels(self, labels: &str) -> bool {
        match self {
            Self::AllowUtf8 => true,
            // Names that need quotes come first.
            Self::Underscores | Self::Values => labels.as_bytes().first() != Some(&b'"'),
            Self::Dots => labels.is_empty(),
        }
    }

    /// A label text as it is written: as it is kept, unless a name in it has to change.
    pub(super) fn labels(self, labels: &str) -> Cow<'_, str> {
        if self.keeps_labels(labels) {
            return Cow::Borrowed(labels);
        }
        let mut written = String::with_capacity(labels.len() + 16);
        for (name, value) in parse(labels) {
            if !written.is_empty() {
                written.push(',');
            }
            written.push_str(&self.name(&unescaped(name)).replace(':', "_"));
            written.push_str("=\"");
            written.push_str(value);
            written.push('"');
        }
        Cow::Owned(written)
    }
}

/// Whether a name needs quotes where they are known.
pub(super) fn is_legacy(name: &str) -> bool {
    name.chars()
        .enumerate()
        .all(|(at, character)| is_legacy_at(at, character))
}

fn is_legacy_at(at: usize, character: char) -> bool {
    character.is_ascii_alphabetic()
        || matches!(character, '_' | ':')
        || (at > 0 && character.is_ascii_digit())
}

/// The dots and the values scheme double underscores also in names that are fine.
fn translated(name: &str, prefix: &str, other: fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(prefix.len() + 2 * name.len());
    out.push_str(prefix);
    let mut doubled = String::new();
    other('_', &mut doubled);
    for (at, character) in name.chars().enumerate() {
        match character {
            '_' => out.push_str(&doubled),
            legacy if is_legacy_at(at, legacy) => out.push(legacy),
            character => other(character, &mut out),
        }
    }
    out
}

/// Appends a name in quotes.
pub(super) fn push_quoted(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    push_escaped(out, name.as_bytes());
    out.push(b'"');
}

/// A text without its backslashes.
pub(super) fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => break,
            },
            other => other,
        });
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_written_as_prometheus_writes_them() {
        let name = "no:escaping_required";
        for scheme in [Escaping::Underscores, Escaping::Values, Escaping::AllowUtf8] {
            assert_eq!(scheme.name(name), name);
        }
        assert_eq!(Escaping::Dots.name(name), "no:escaping__required");
        let name = "mysystem.prod.west.cpu.load";
        assert_eq!(
            Escaping::Underscores.name(name),
            "mysystem_prod_west_cpu_load"
        );
        assert_eq!(
            Escaping::Dots.name(name),
            "mysystem_dot_prod_dot_west_dot_cpu_dot_load"
        );
        assert_eq!(
            Escaping::Values.name(name),
            "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load"
        );
        let name = "http.status:sum_x 2";
        assert_eq!(Escaping::Dots.name(name), "http_dot_status:sum__x__2");
        assert_eq!(Escaping::Values.name(name), "U__http_2e_status:sum__x_20_2");
        assert_eq!(Escaping::Values.name("花火"), "U___82b1__706b_");
        assert_eq!(Escaping::Underscores.name("1st"), "_st");
    }

    #[test]
    fn labels_change_only_where_a_name_does() {
        let labels = r#""a.b"="x\"y",c_d="1""#;
        assert_eq!(Escaping::AllowUtf8.labels(labels), labels);
        assert_eq!(
            Escaping::Underscores.labels(labels),
            r#"a_b="x\"y",c_d="1""#
        );
        assert_eq!(Escaping::Dots.labels(labels), r#"a_dot_b="x\"y",c__d="1""#);
        assert_eq!(
            Escaping::Values.labels(labels),
            r#"U__a_2e_b="x\"y",c_d="1""#
        );
    }

    proptest! {
        #[test]
        fn what_is_escaped_reads_back(text in ".*") {
            let mut escaped = Vec::new();
            push_escaped(&mut escaped, text.as_bytes());
            let escaped = String::from_utf8(escaped).unwrap();
            prop_assert_eq!(unescaped(&escaped), text);
        }

        #[test]
        fn every_scheme_but_one_writes_legacy_names(name in ".{1,20}") {
            for scheme in [Escaping::Underscores, Escaping::Dots, Escaping::Values] {
                prop_assert!(is_legacy(&scheme.name(&name)), "{}", scheme.name(&name));
            }
        }
    }
}

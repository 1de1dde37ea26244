//! Names in formats, or for readers, that allow fewer characters than UTF-8 has.
//!
//! Source: "Escaping schemes" of Prometheus' *Content negotiation*, as its own libraries do it.
//!
//! # Names that a scheme makes equal
//!
//! The scheme `underscores` writes both `a.b` and `a-b` as `a_b`. The registry finds such names
//! (`registry/escaped.rs`, `exposition/written.rs`). This module writes them, in the *unique form*,
//! from which every character can be read back: that of the scheme `values`, `U__a_2e_b`. If a
//! legal name already looks like that, one more `U` stands in front.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;
use std::str::FromStr;

use crate::labels::{parse, push_escaped};
use crate::name::is_legacy_label_name;
use crate::{FamilySpec, FamilyType};

/// How names outside `[a-zA-Z_:][a-zA-Z0-9_:]*` are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// Each other character becomes `_`.
    #[default]
    Underscores,
    /// `.` becomes `_dot_`, `_` becomes `__`, and each other character `__`.
    Dots,
    /// A name with other characters begins with `U__`; in it `_` becomes `__`, and each other
    /// character becomes its number in hexadecimal between underscores.
    Values,
    /// Such names are quoted. Formats before text 1.0.0 have no quoted names.
    AllowUtf8,
}

/// An unknown escaping scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown escaping scheme '{0}', expected UNDERSCORES, DOTS, VALUES or ALLOWUTF8")]
pub struct UnknownEscaping(String);

impl FromStr for Escaping {
    type Err = UnknownEscaping;

    /// Parses the word of the command, or the parameter of a media type.
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
    /// Returns the word of the command `METRICS.EXPOSE`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Underscores => "UNDERSCORES",
            Self::Dots => "DOTS",
            Self::Values => "VALUES",
            Self::AllowUtf8 => "ALLOWUTF8",
        }
    }

    /// Returns the parameter `escaping` of a media type.
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
            Self::AllowUtf8 => "allow-utf-8",
        }
    }

    /// Returns a sample's name as the scheme writes it, without the quotes that it may need.
    pub fn name(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::AllowUtf8 => Cow::Borrowed(name),
            Self::Underscores | Self::Values if is_legacy(name) => Cow::Borrowed(name),
            _ => {
                let mut written = String::with_capacity(2 * name.len());
                self.push(name, true, &mut written);
                Cow::Owned(written)
            }
        }
    }

    /// Returns a name that the scheme writes like this; `None` if it writes no name so. Where it loses
    /// characters, they are underscores in the name.
    pub fn read(self, written: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Dots => read_dots(written).map(Cow::Owned),
            Self::Values if is_unique_form(written) => read_unique(written).map(Cow::Owned),
            Self::Underscores | Self::Values | Self::AllowUtf8 => Some(Cow::Borrowed(written)),
        }
    }

    /// Returns a family's name as the scheme writes it, without the suffix of its samples. With a
    /// `depth` it is in the unique form with so many `U`. The suffix is escaped along with the
    /// name, as in Prometheus' own libraries, because there it belongs to the name.
    pub(crate) fn family_name(self, spec: &FamilySpec<'_>, depth: usize) -> String {
        let suffix = match spec.family_type {
            FamilyType::Counter => "_total",
            FamilyType::Info => "_info",
            _ => "",
        };
        let whole = format!("{}{suffix}", spec.name);
        let mut name = if depth == 0 {
            self.name(&whole).into_owned()
        } else {
            unique_name(&whole, depth)
        };
        if name.ends_with(suffix) {
            name.truncate(name.len() - suffix.len());
        }
        name
    }

    /// Returns whether the scheme leaves a label text as it is.
    #[inline]
    pub(crate) fn keeps_labels(self, labels: &str) -> bool {
        match self {
            Self::AllowUtf8 => true,
            // Names that need quotes come first.
            Self::Underscores | Self::Values => labels.as_bytes().first() != Some(&b'"'),
            Self::Dots => labels.is_empty(),
        }
    }

    /// Returns an exemplar's labels as the scheme writes them, with no two names alike.
    pub(crate) fn exemplar_labels(self, labels: &str) -> Cow<'_, str> {
        if self.keeps_labels(labels) {
            return Cow::Borrowed(labels);
        }
        let names = LabelNames::of(self);
        let mut written = names.write(labels, names.first_depth());
        if written.is_ambiguous {
            written = names.write(labels, 1);
        }
        Cow::Owned(written.text())
    }

    fn push(self, name: &str, has_colons: bool, out: &mut String) {
        match self {
            Self::AllowUtf8 => out.push_str(name),
            Self::Underscores => translate(name, has_colons, out, |_, out| out.push('_')),
            Self::Dots => translate(name, has_colons, out, |character, out| {
                out.push_str(if character == '.' { "_dot_" } else { "__" });
            }),
            Self::Values => push_unique(name, has_colons, 1, out),
        }
    }
}

/// Returns a key that is equal for all names that a scheme makes equal, and only for those: each
/// character that the scheme does not distinguish from `_` becomes `_`.
pub(crate) fn folded(name: &str, keeps_dots: bool) -> String {
    let mut folded = String::with_capacity(name.len());
    translate(name, true, &mut folded, |character, out| {
        out.push(if character == '.' && keeps_dots {
            '.'
        } else {
            '_'
        });
    });
    folded
}

/// How the label names of one family are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelNames<'a> {
    pub(crate) escaping: Escaping,
    /// For a state set: the label that holds the state, and its name as written. It is written as
    /// the family's name is.
    pub(crate) state: Option<(&'a str, &'a str)>,
}

/// Labels, and their names as written.
#[derive(Debug)]
pub(crate) struct WrittenLabels<'a> {
    names: String,
    /// The place of each name in `names`, and the value.
    pairs: Vec<(Range<usize>, &'a str)>,
    /// Whether two names are equal, or a name looks like a unique form or one of Prometheus' own
    /// names without being it.
    pub(crate) is_ambiguous: bool,
}

impl WrittenLabels<'_> {
    /// Returns the label text, in the stored order of the labels.
    pub(crate) fn text(&self) -> String {
        self.joined(self.pairs.iter())
    }

    /// Returns the label text sorted by name, as for a series whose names are legal.
    pub(crate) fn sorted(&self) -> String {
        let mut pairs = self.pairs.iter().collect::<Vec<_>>();
        pairs.sort_unstable_by_key(|(name, value)| (&self.names[name.clone()], *value));
        self.joined(pairs.into_iter())
    }

    fn joined<'p>(&self, pairs: impl Iterator<Item = &'p (Range<usize>, &'p str)>) -> String {
        let values = self.pairs.iter().map(|(_, value)| value.len() + 4);
        let mut text = String::with_capacity(self.names.len() + values.sum::<usize>());
        for (name, value) in pairs {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&self.names[name.clone()]);
            text.push_str("=\"");
            text.push_str(value);
            text.push('"');
        }
        text
    }

    /// Returns whether the last name equals an earlier one.
    fn repeats(&self) -> bool {
        let name = |at: usize| &self.names[self.pairs[at].0.clone()];
        let last = self.pairs.len() - 1;
        (0..last).any(|at| name(at) == name(last))
    }
}

impl LabelNames<'_> {
    /// Returns the names for a family that is no state set.
    pub(crate) fn of(escaping: Escaping) -> Self {
        let state = None;
        Self { escaping, state }
    }

    /// Returns the first depth to try. The scheme `values` has only unique forms.
    pub(crate) fn first_depth(&self) -> usize {
        usize::from(self.escaping == Escaping::Values)
    }

    /// Writes labels as the scheme has them or, with a depth, with names in the unique form with so
    /// many `U`.
    pub(crate) fn write<'l>(&self, labels: &'l str, depth: usize) -> WrittenLabels<'l> {
        let mut written = WrittenLabels {
            names: String::with_capacity(labels.len()),
            pairs: Vec::with_capacity(8),
            is_ambiguous: false,
        };
        for (name, value) in parse(labels) {
            let begin = written.names.len();
            let name = &*unescaped(name);
            match self.state {
                Some((state, shown)) if name == state => written.names.push_str(shown),
                _ => {
                    self.push(name, depth, &mut written.names);
                    written.is_ambiguous |= depth == 0 && self.is_reserved(&written.names[begin..]);
                }
            }
            written.pairs.push((begin..written.names.len(), value));
            written.is_ambiguous |= written.repeats();
        }
        written
    }

    fn push(&self, name: &str, depth: usize, out: &mut String) {
        let is_legal = is_legacy_label_name(name.as_bytes());
        let begin = out.len();
        if is_legal && self.escaping != Escaping::Dots {
            out.push_str(name);
        } else if depth == 0 || is_legal {
            self.escaping.push(name, false, out);
        } else {
            return push_unique(name, false, depth, out);
        }
        let is_taken = |written: &str| {
            self.is_reserved(written) || self.state.is_some_and(|(_, state)| state == written)
        };
        if depth > 0 && is_taken(&out[begin..]) {
            out.truncate(begin);
            push_unique(name, false, depth, out);
        }
    }

    /// Returns whether the written name has the form of Prometheus' own names or of a unique form.
    /// In the scheme `dots` no other name has it: there underscores come in pairs or around a
    /// `dot`.
    fn is_reserved(&self, written: &str) -> bool {
        written.starts_with("__") || (self.escaping != Escaping::Dots && is_unique_form(written))
    }
}

/// Returns whether a name begins as unique forms do.
pub(crate) fn is_unique_form(name: &str) -> bool {
    name.starts_with('U') && name.trim_start_matches('U').starts_with("__")
}

/// Appends the unique form of a name, with so many `U`. Different names have different unique
/// forms: the form of a legal name has its underscores in hexadecimal.
fn push_unique(name: &str, has_colons: bool, depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n('U', depth));
    out.push_str("__");
    let is_legal = !has_colons && is_legacy_label_name(name.as_bytes());
    translate(name, has_colons, out, |character, out| {
        if character == '_' && !is_legal {
            out.push_str("__");
        } else {
            let _ = write!(out, "_{:x}_", u32::from(character));
        }
    });
}

/// Returns the unique form of a sample's name, with so many `U`: a legal name in every format, from
/// which the name can be read back.
///
/// ```
/// assert_eq!(metrics_model::unique_name("a.b_total", 1), "U__a_2e_b__total");
/// ```
pub fn unique_name(name: &str, depth: usize) -> String {
    let mut unique = String::with_capacity(2 * name.len());
    push_unique(name, true, depth, &mut unique);
    unique
}

/// Returns the name of a unique form.
pub(crate) fn read_unique(written: &str) -> Option<String> {
    let body = is_unique_form(written).then(|| written.trim_start_matches('U'))?;
    let mut rest = body.strip_prefix("__")?;
    let mut name = String::with_capacity(rest.len());
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        let (code, after) = rest[at + 1..].split_once('_')?;
        name.push(match code {
            "" => '_',
            code => char::from_u32(u32::from_str_radix(code, 16).ok()?)?,
        });
        rest = after;
    }
    name.push_str(rest);
    Some(name)
}

/// Returns the name of one written in the scheme `dots`, with its dots and underscores; that scheme
/// loses all other characters.
pub(crate) fn read_dots(written: &str) -> Option<String> {
    let mut rest = written;
    let mut name = String::with_capacity(rest.len());
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        let code = &rest[at..];
        let (character, length) = match code.strip_prefix("_dot_") {
            Some(_) => ('.', 5),
            None => code.starts_with("__").then_some(('_', 2))?,
        };
        name.push(character);
        rest = &code[length..];
    }
    name.push_str(rest);
    Some(name)
}

/// Returns whether a name needs no quotes in any format.
pub(crate) fn is_legacy(name: &str) -> bool {
    let mut bytes = name.bytes().enumerate();
    bytes.all(|(at, byte)| {
        byte.is_ascii_alphabetic()
            || matches!(byte, b'_' | b':')
            || (at > 0 && byte.is_ascii_digit())
    })
}

/// Appends a name. `other` writes every character except letters, digits after the first character,
/// and colons where they are allowed.
fn translate(
    name: &str,
    has_colons: bool,
    out: &mut String,
    mut other: impl FnMut(char, &mut String),
) {
    for (at, character) in name.char_indices() {
        if character.is_ascii_alphabetic()
            || (at > 0 && character.is_ascii_digit())
            || (has_colons && character == ':')
        {
            out.push(character);
        } else {
            other(character, out);
        }
    }
}

/// Appends a name in quotes.
pub(crate) fn push_quoted(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    push_escaped(out, name.as_bytes());
    out.push(b'"');
}

/// Returns a text without the escapes of a label value, a quoted name or a help text: `\\`, `\"` and `\n`. Any other backslash
/// stands for itself ([text format][format]).
///
/// [format]: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
///
/// ```
/// assert_eq!(metrics_model::unescaped(r#"C:\\new \"x\"\n"#), "C:\\new \"x\"\n");
/// assert_eq!(metrics_model::unescaped(r"\d+\"), r"\d+\");
/// ```
pub fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => plain.push('\n'),
            Some(escaped @ ('\\' | '"')) => plain.push(escaped),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::Labels;

    const LEGACY: [Escaping; 3] = [Escaping::Underscores, Escaping::Dots, Escaping::Values];

    fn written(escaping: Escaping, labels: &str) -> String {
        let names = LabelNames::of(escaping);
        names.write(labels, names.first_depth()).text()
    }

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
        assert!(Escaping::AllowUtf8.keeps_labels(labels));
        let by_scheme = LEGACY.map(|scheme| written(scheme, labels));
        assert_eq!(
            by_scheme,
            [
                r#"a_b="x\"y",c_d="1""#,
                r#"a_dot_b="x\"y",c__d="1""#,
                r#"U__a_2e_b="x\"y",c_d="1""#
            ]
        );
        // Label names may not contain colons, metric names may.
        let by_scheme = LEGACY.map(|scheme| written(scheme, r#""a:b"="1""#));
        assert_eq!(by_scheme, [r#"a_b="1""#, r#"a__b="1""#, r#"U__a_3a_b="1""#]);
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
            for scheme in LEGACY {
                prop_assert!(is_legacy(&scheme.name(&name)), "{}", scheme.name(&name));
            }
        }

        #[test]
        fn a_unique_form_reads_back(name in ".{1,20}", depth in 1_usize..4, has_colons: bool) {
            let mut written = String::new();
            push_unique(&name, has_colons, depth, &mut written);
            prop_assert!(is_legacy(&written) && is_unique_form(&written));
            prop_assert_eq!(read_unique(&written), Some(name));
        }

        #[test]
        fn dots_read_back(name in "[a-z_.]{1,20}") {
            prop_assert_eq!(read_dots(&Escaping::Dots.name(&name)), Some(name));
        }

        #[test]
        fn unique_forms_of_different_label_sets_differ(
            one in prop::collection::btree_map(names(), "[xy]", 1..4),
            two in prop::collection::btree_map(names(), "[xy]", 1..4),
            escaping in prop::sample::select(&LEGACY[..]),
        ) {
            let write = |set: &BTreeMap<String, String>| {
                let labels = Labels::new(set.iter().map(|(n, v)| (n.as_str(), v.as_str()))).unwrap();
                let written = LabelNames::of(escaping).write(labels.as_str(), 1);
                assert!(!written.is_ambiguous, "{written:?}");
                written.sorted()
            };
            prop_assert_eq!(one == two, write(&one) == write(&two));
        }
    }

    /// Names that some scheme makes equal.
    fn names() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a.:-][a.:_-]{0,2}",
            Just("..name__".to_owned()),
            Just("_name_".to_owned()),
            "U{1,2}__a_2[de]_",
            "U{1,2}[_.]{2}a_5f_",
        ]
    }
}

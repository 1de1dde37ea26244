//! Parses YAML into a tree of texts with line numbers; no other file depends on YAML.
//!
//! Scalars stay text, exactly as in the file: a password `0123` is not the number 123. The key
//! decides what `yes` means, with the same words as in the environment.

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_saphyr::{NonFiniteFloatPolicy, Spanned};

/// A value of the file, and its line.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) line: u64,
}

/// The value of a node.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing, `~` or `null`: as if the key were absent.
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) node: Node,
}

/// The text is not YAML: the error in one line, and its line number (0: unknown).
#[derive(Debug)]
pub(super) struct NotYaml {
    pub(super) line: u64,
    pub(super) message: String,
}

impl Node {
    /// Returns the value under `key`, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }
}

/// Parses a document. An empty one is [`Value::Null`].
pub(super) fn parse(text: &str) -> Result<Node, NotYaml> {
    let options = serde_saphyr::options! {
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
    };
    let parsed: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| NotYaml {
            line: error.location().map_or(0, |location| location.line()),
            message: one_line(&error.without_snippet().to_string()),
        })?;
    Ok(node(parsed, text))
}

fn node(raw: Spanned<Raw>, source: &str) -> Node {
    let line = raw.referenced.line();
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Text(text) => Value::Text(text),
        Raw::Literal(text) => Value::Text(
            as_written(raw.defined, source).map_or(text, |written| written.trim().to_owned()),
        ),
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(item, source)).collect()),
        Raw::Map(pairs) => Value::Map(
            pairs
                .into_iter()
                .map(|(key, value)| Entry {
                    line: key.referenced.line(),
                    key: key.value,
                    node: node(value, source),
                })
                .collect(),
        ),
    };
    Node { value, line }
}

/// Returns the source text of a number or a boolean.
fn as_written(at: serde_saphyr::Location, source: &str) -> Option<&str> {
    let start = usize::try_from(at.span().byte_offset()?).ok()?;
    let length = usize::try_from(at.span().byte_len()?).ok()?;
    source.get(start..start.checked_add(length)?)
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A value from serde, before numbers and booleans are turned back into their text.
enum Raw {
    Null,
    Text(String),
    Literal(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Literal(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<'n>(node: &'n Node, path: &[&str]) -> (&'n str, u64) {
        let found = path.iter().fold(node, |node, key| node.get(key).unwrap());
        let Value::Text(text) = &found.value else {
            panic!("{path:?} is {:?}", found.value)
        };
        (text, found.line)
    }

    #[test]
    fn scalars_keep_the_text_that_was_written() {
        let node = parse(
            "a:\n  number: 0123\n  float: 1.50\n  flag: Yes\n  truth: true\n  quoted: \"0x10\" # why\n  big: 123456789012345678901234567890\n  nan: .nan\n",
        )
        .unwrap();
        assert_eq!(text(&node, &["a", "number"]), ("0123", 2));
        assert_eq!(text(&node, &["a", "float"]), ("1.50", 3));
        assert_eq!(text(&node, &["a", "flag"]), ("Yes", 4));
        assert_eq!(text(&node, &["a", "truth"]), ("true", 5));
        assert_eq!(text(&node, &["a", "quoted"]), ("0x10", 6));
        assert_eq!(
            text(&node, &["a", "big"]),
            ("123456789012345678901234567890", 7)
        );
        assert_eq!(text(&node, &["a", "nan"]), (".nan", 8));
    }

    #[test]
    fn an_alias_has_the_text_of_its_anchor() {
        let node = parse("a: &port 0091\nb:\n  c: *port\n").unwrap();
        assert_eq!(text(&node, &["b", "c"]), ("0091", 3));
    }

    #[test]
    fn nothing_is_null() {
        assert!(matches!(parse("").unwrap().value, Value::Null));
        assert!(matches!(
            parse("a:\n").unwrap().get("a").unwrap().value,
            Value::Null
        ));
    }

    #[test]
    fn an_error_is_one_line_with_its_place() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(error.line >= 2, "{error:?}");
        assert!(!error.message.contains('\n'), "{error:?}");
        assert_eq!(parse("a: 1\na: 2\n").unwrap_err().line, 2);
    }
}

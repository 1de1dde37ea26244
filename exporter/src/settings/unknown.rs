//! Keys that nobody reads, and what was probably meant.

use super::yaml::{Node, Value};

/// Each key under `root` that is neither known nor above a known one, as `line: words`.
pub(super) fn keys(root: &Node, known: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    collect(root, "", known, &mut found);
    found
}

fn collect(node: &Node, parent: &str, known: &[String], found: &mut Vec<String>) {
    let Value::Map(entries) = &node.value else {
        return;
    };
    for entry in entries {
        let key = if parent.is_empty() {
            entry.key.clone()
        } else {
            format!("{parent}.{}", entry.key)
        };
        if known.contains(&key) {
            collect(&entry.node, &key, known, found);
        } else {
            found.push(match nearest(&key, known) {
                Some(near) => {
                    format!(
                        "{}: unknown key {key}, the nearest known is {near}",
                        entry.line
                    )
                }
                None => format!("{}: unknown key {key}", entry.line),
            });
        }
    }
}

/// The known key whose own name is most like this one's; of equals, one of the same section.
fn nearest<'k>(key: &str, known: &'k [String]) -> Option<&'k str> {
    let (section, name) = split(key);
    known
        .iter()
        .min_by_key(|candidate| {
            let (other_section, other_name) = split(candidate);
            2 * distance(name, other_name) + usize::from(section != other_section)
        })
        .map(String::as_str)
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// Levenshtein's distance: how many characters to insert, remove or replace.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("port", "port"), 0);
        assert_eq!(distance("prot", "port"), 2);
        assert_eq!(distance("", "port"), 4);
        assert_eq!(distance("key_prefx", "key_prefix"), 1);
    }

    #[test]
    fn a_key_in_the_wrong_section_is_recognised() {
        let known = ["exporter", "exporter.redis", "exporter.redis.port"].map(str::to_owned);
        assert_eq!(nearest("redis", &known), Some("exporter.redis"));
        assert_eq!(
            nearest("exporter.port", &known),
            Some("exporter.redis.port")
        );
    }
}

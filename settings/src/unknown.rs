//! Finds unknown keys and variables, and the names that were probably meant.

use strsim::levenshtein as distance;

use crate::yaml::{Node, Value};

const OURS: &str = "GUNICORN_EXPORTER_";
const PREFIXES: [&str; 6] = [
    OURS,
    "PROMETHEUS_",
    "REDIS_",
    "GUNICORN_",
    "CLEANUP_",
    "SIDECAR_",
];
/// Names that resemble a setting's and have another meaning, for `prometheus_client` or Gunicorn.
const NOT_SETTINGS: [&str; 2] = ["GUNICORN_CMD_ARGS", "GUNICORN_BIND"];
/// Maximum number of wrong characters in a misspelled name.
const MISTYPED: usize = 2;

/// Returns each key under `root` that is neither known nor a section of a known one, as `line:
/// words`.
pub(super) fn keys(root: &Node, known: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    collect(root, "", known, &mut found);
    found
}

/// Returns each unknown variable that is probably a misspelled setting: all that begin with
/// `GUNICORN_EXPORTER_`, and of the other prefixes, which other programs use too, those that are
/// close to a known name.
pub(super) fn variables<'n>(names: impl Iterator<Item = &'n str>, known: &[String]) -> Vec<String> {
    let mut found: Vec<_> = names
        .filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .filter(|name| !known.iter().any(|known| known == name))
        .filter(|name| !NOT_SETTINGS.contains(name))
        .filter_map(|name| {
            let near = known.iter().min_by_key(|known| distance(name, known))?;
            (name.starts_with(OURS) || distance(name, near) <= MISTYPED)
                .then(|| format!("unknown variable {name}, the nearest known is {near}"))
        })
        .collect();
    found.sort_unstable();
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

/// Returns the known key whose own name is closest; of equals, one of the same section.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_close_to_a_setting_gets_a_warning_and_others_do_not() {
        let known = ["REDIS_PORT", "GUNICORN_EXPORTER_INSTANCE"].map(str::to_owned);
        let names = [
            "REDIS_PROT",
            "REDIS_URL",
            "REDIS_PORT",
            "GUNICORN_EXPORTER_X",
            "HOME",
        ];
        assert_eq!(
            variables(names.into_iter(), &known),
            [
                "unknown variable GUNICORN_EXPORTER_X, the nearest known is GUNICORN_EXPORTER_INSTANCE",
                "unknown variable REDIS_PROT, the nearest known is REDIS_PORT",
            ]
        );
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

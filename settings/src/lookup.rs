//! Finds the text of a key and its place: first in the flags, then in the environment, then in the file.
//!
//! A secret may stand in a file of its own: its variable followed by `_FILE`, or its key followed by
//! `_file`, names that file. Texts of the YAML file may contain `${VARIABLE}` and
//! `${VARIABLE:-default}`.

use std::fs::File;
use std::io::Read;

use crate::keys::{is_secret, variable_of};
use crate::reader::Reader;
use crate::yaml::{Node, Value};
use crate::{Origin, SettingsError};

/// Maximum size of a file with a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 65_536;

/// A value as text, or as the texts of a list.
pub(super) struct Input {
    pub(super) texts: Vec<String>,
    pub(super) is_list: bool,
    pub(super) origin: Origin,
}

impl Input {
    fn one(text: String, origin: Origin) -> Self {
        Self {
            texts: vec![text],
            is_list: false,
            origin,
        }
    }

    pub(super) fn refused(&self, value: &str, allowed: &str) -> SettingsError {
        refused(&self.origin, value, allowed)
    }
}

fn refused(origin: &Origin, value: &str, allowed: &str) -> SettingsError {
    SettingsError::Value {
        origin: origin.clone(),
        value: value.to_owned(),
        allowed: allowed.to_owned(),
    }
}

impl Reader<'_> {
    /// Returns the value and its place. An empty text counts as absent: `certfile: ""` appears in
    /// the documented examples, and `REDIS_PASSWORD=` in many compose files.
    pub(super) fn find(&mut self, key: &str) -> Result<Option<Input>, SettingsError> {
        self.asked.push(key.to_owned());
        let found = self.find_anywhere(key)?;
        if let Some(found) = &found {
            self.sources.insert(key.to_owned(), found.origin.clone());
        }
        Ok(found)
    }

    fn find_anywhere(&mut self, key: &str) -> Result<Option<Input>, SettingsError> {
        if let Some(found) = self.find_outside_the_file(key)? {
            return Ok(Some(found));
        }
        if let Some(found) = self.find_in_file(key)? {
            return Ok(Some(found));
        }
        // `exporter.ssl` is the place of that section in the documentation's own example.
        match key.strip_prefix("prometheus.ssl.") {
            Some(rest) => {
                let key = format!("ssl.{rest}");
                let found = self.find_in_file(&key);
                self.asked.push(key);
                found
            }
            None => Ok(None),
        }
    }

    /// A flag hides its variables, even with an empty text.
    fn find_outside_the_file(&self, key: &str) -> Result<Option<Input>, SettingsError> {
        let flag = self.flags.iter().find(|flag| flag.key == key);
        if let Some((flag, text)) = flag.and_then(|flag| Some((flag, flag.value.as_ref()?))) {
            let is_set = !text.trim().is_empty();
            return Ok(is_set.then(|| Input::one(text.clone(), Origin::Flag(flag.name))));
        }
        let variable = variable_of(key);
        let value = (self.env)(&variable)
            .filter(|text| !text.trim().is_empty() && !is_service_link(&variable, text));
        let found = value.map(|text| Input::one(text, Origin::Variable(variable.clone())));
        if !is_secret(key) {
            return Ok(found);
        }
        let of_file = format!("{variable}_FILE");
        let Some(path) = (self.env)(&of_file).filter(|path| !path.trim().is_empty()) else {
            return Ok(found);
        };
        if found.is_some() {
            return Err(both_are_set(&variable, &of_file));
        }
        read_secret(&path, Origin::Variable(of_file)).map(Some)
    }

    fn find_in_file(&self, key: &str) -> Result<Option<Input>, SettingsError> {
        let found = self.find_text(key)?;
        if !is_secret(key) {
            return Ok(found);
        }
        let of_file = format!("{key}_file");
        let Some(named) = self.find_text(&of_file)? else {
            return Ok(found);
        };
        if found.is_some() {
            let names = [key, &of_file].map(|key| format!("exporter.{key}"));
            return Err(both_are_set(&names[0], &names[1]));
        }
        if named.is_list {
            return Err(named.refused("a list", "the path of a file"));
        }
        read_secret(&named.texts[0], named.origin).map(Some)
    }

    /// Returns the texts under `key` in the YAML file, with the values of their variables.
    fn find_text(&self, key: &str) -> Result<Option<Input>, SettingsError> {
        let Some(exporter) = self.root.as_ref().and_then(|root| root.get("exporter")) else {
            return Ok(None);
        };
        let Some(node) = find(exporter, key) else {
            return Ok(None);
        };
        let origin = Origin::File {
            path: self.path.clone(),
            line: node.line,
            key: format!("exporter.{key}"),
        };
        let not_one = |value: &str| refused(&origin, value, "a single value");
        match &node.value {
            Value::Null => Ok(None),
            Value::Text(text) => {
                let text = self.expanded(key, text, &origin)?;
                Ok((!text.is_empty()).then(|| Input::one(text, origin)))
            }
            Value::List(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    let Value::Text(text) = &item.value else {
                        return Err(not_one("a list of something else than texts"));
                    };
                    texts.push(self.expanded(key, text, &origin)?);
                }
                Ok(Some(Input {
                    texts,
                    is_list: true,
                    origin,
                }))
            }
            Value::Map(_) => Err(not_one("a dictionary")),
        }
    }

    fn expanded(&self, key: &str, text: &str, origin: &Origin) -> Result<String, SettingsError> {
        expand(text, self.env).map_err(|allowed| {
            let value = if is_secret(key) {
                "(not shown)".to_owned()
            } else {
                format!("{text:?}")
            };
            refused(origin, &value, &allowed)
        })
    }
}

/// Returns the node under a key with dots.
pub(super) fn find<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    key.split('.').try_fold(node, |node, part| node.get(part))
}

/// Replaces `${VARIABLE}` by its value, `${VARIABLE:-default}` by its value or, if that is absent or
/// empty, the default, and `$${` by `${`. An error describes what is allowed.
fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            expanded.push_str(escaped);
            expanded.push_str("${");
            rest = &reference[2..];
            continue;
        }
        expanded.push_str(before);
        let (inside, after) = reference[2..].split_once('}').ok_or(SPELLING)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable_name(name) {
            return Err(SPELLING.to_owned());
        }
        let value = env(name);
        match (value, default) {
            (Some(value), None) => expanded.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => expanded.push_str(&value),
            (_, Some(default)) => expanded.push_str(default),
            (None, None) => {
                return Err(format!(
                    "a variable that is set, and {name} is not; ${{{name}:-default}} gives it a default"
                ));
            }
        }
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

const SPELLING: &str =
    "${VARIABLE} or ${VARIABLE:-default} of letters, digits and _; $${ stands for ${ itself";

fn is_variable_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_part)
        && name
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit())
}

/// Reads a secret from its file, without the end of its line.
fn read_secret(path: &str, origin: Origin) -> Result<Input, SettingsError> {
    let wrong = |reason: &str| {
        let allowed = format!("a file that contains the secret ({reason})");
        refused(&origin, &format!("{path:?}"), &allowed)
    };
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text));
    let length = read.map_err(|error| wrong(&error.to_string()))?;
    if length as u64 > MAX_SECRET_BYTES {
        return Err(wrong("this one has more than 65536 bytes"));
    }
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err(wrong("this one is empty"));
    }
    Ok(Input::one(text.to_owned(), origin))
}

fn both_are_set(value: &str, file: &str) -> SettingsError {
    SettingsError::Conflict(format!("{value} and {file} are both set: set one of them"))
}

/// Returns whether Kubernetes has set the variable. In a namespace with a Service called `redis`,
/// every container gets `REDIS_PORT=tcp://10.0.0.1:6379`, which is not meant as a setting.
fn is_service_link(variable: &str, text: &str) -> bool {
    let links = ["tcp://", "udp://", "sctp://"];
    variable.ends_with("_PORT") && links.iter().any(|link| text.trim_start().starts_with(link))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, String> {
        expand(text, &|name| match name {
            "HOST" => Some("cache".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_and_their_defaults_are_replaced() {
        for (text, expanded) in [
            ("plain $HOST $1 {HOST}", "plain $HOST $1 {HOST}"),
            ("${HOST}:${PORT:-6379}/", "cache:6379/"),
            ("a${EMPTY}b", "ab"),
            ("${EMPTY:-x}${HOST:-x}${NONE:-}", "xcache"),
            ("$${HOST} and $$${HOST}", "${HOST} and $${HOST}"),
            ("${NONE:-a:-b}", "a:-b"),
            ("$2b$10$abc", "$2b$10$abc"),
        ] {
            assert_eq!(with(text).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn a_missing_variable_and_a_wrong_spelling_are_refused() {
        assert!(with("${NONE}").unwrap_err().contains("NONE is not"));
        for text in [
            "${",
            "${HOST",
            "${}",
            "${HO ST}",
            "${1}",
            "${HOST-x}",
            "${é}",
        ] {
            assert_eq!(with(text), Err(SPELLING.to_owned()), "{text}");
        }
    }
}

//! Finds a setting, first in the flags, then in the environment, then in the file, and parses it.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::keys::{SECTIONS, is_secret, variable_of};
use crate::yaml::{self, Node, Value};
use crate::{Origin, Secret, SettingsError, unknown};

/// An option of the command line that sets a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The name with its dashes, such as `--port`.
    pub name: &'static str,
    /// The key without its leading `exporter.`, such as `prometheus.metrics_port`.
    pub key: &'static str,
    /// The value, if the flag was given.
    pub value: Option<String>,
}

/// The flags, the environment and the `exporter` section of one file.
pub(super) struct Reader<'a> {
    flags: &'a [Flag],
    env: &'a dyn Fn(&str) -> Option<String>,
    path: PathBuf,
    root: Option<Node>,
    asked: Vec<String>,
}

/// A value as text, or as the texts of a list.
struct Input {
    texts: Vec<String>,
    is_list: bool,
    origin: Origin,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        yaml: Option<(&Path, &str)>,
        env: &'a dyn Fn(&str) -> Option<String>,
        flags: &'a [Flag],
    ) -> Result<Self, SettingsError> {
        let mut reader = Self {
            flags,
            env,
            path: PathBuf::new(),
            root: None,
            asked: Vec::new(),
        };
        if let Some((path, text)) = yaml {
            path.clone_into(&mut reader.path);
            reader.root = Some(reader.checked(text)?);
        }
        Ok(reader)
    }

    /// Parses the document, and checks that its sections are dictionaries.
    fn checked(&self, text: &str) -> Result<Node, SettingsError> {
        let path = || self.path.clone();
        let root = yaml::parse(text).map_err(|error| SettingsError::InvalidYaml {
            path: path(),
            line: error.line,
            message: error.message,
        })?;
        if !matches!(root.value, Value::Map(_)) {
            return Err(SettingsError::RootNotADictionary(path()));
        }
        let Some(exporter) = root.get("exporter") else {
            return Err(SettingsError::NoExporterSection(path()));
        };
        if !matches!(exporter.value, Value::Map(_)) {
            return Err(SettingsError::ExporterNotADictionary {
                path: path(),
                line: exporter.line,
            });
        }
        for section in SECTIONS {
            if let Some(node) = find(exporter, section)
                && !matches!(node.value, Value::Map(_) | Value::Null)
            {
                return Err(SettingsError::NotADictionary {
                    key: format!("exporter.{section}"),
                    path: path(),
                    line: node.line,
                });
            }
        }
        Ok(root)
    }

    /// Returns the environment variables of the keys that were looked up.
    pub(super) fn variables(&self) -> Vec<String> {
        let of_keys = self.asked.iter().map(|key| variable_of(key));
        let others = ["SIDECAR_MODE", "YAML_CONFIG_PATH"].map(str::to_owned);
        of_keys.chain(others).collect()
    }

    /// Returns a warning for each key of the file that was not looked up.
    pub(super) fn unknown_keys(&self) -> Vec<String> {
        let Some(root) = &self.root else {
            return Vec::new();
        };
        let known: Vec<String> = SECTIONS
            .iter()
            .map(|section| format!("exporter.{section}"))
            .chain(self.asked.iter().map(|key| format!("exporter.{key}")))
            .chain(["exporter".to_owned()])
            .collect();
        unknown::keys(root, &known)
            .into_iter()
            .map(|unknown| format!("{}:{unknown}", self.path.display()))
            .collect()
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, SettingsError> {
        self.parsed(key, "text", |text| Some(text.to_owned()))
    }

    pub(super) fn path(&mut self, key: &str) -> Result<Option<PathBuf>, SettingsError> {
        Ok(self.text(key)?.map(PathBuf::from))
    }

    pub(super) fn secret(&mut self, key: &str) -> Result<Option<Secret>, SettingsError> {
        Ok(self.text(key)?.map(Secret::new))
    }

    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, SettingsError> {
        self.parsed(key, BOOLEANS, boolean)
    }

    /// Reads a variable that has no key in the file.
    pub(super) fn variable(&self, name: &str) -> Result<Option<bool>, SettingsError> {
        let Some(text) = (self.env)(name).filter(|text| !text.trim().is_empty()) else {
            return Ok(None);
        };
        boolean(text.trim())
            .map(Some)
            .ok_or_else(|| SettingsError::Value {
                origin: Origin::Variable(name.to_owned()),
                value: format!("{text:?}"),
                allowed: BOOLEANS.to_owned(),
            })
    }

    pub(super) fn integer(
        &mut self,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, SettingsError> {
        let (low, high) = (range.start(), range.end());
        let allowed = format!("a whole number from {low} to {high}");
        self.parsed(key, &allowed, |text| {
            text.parse().ok().filter(|number| range.contains(number))
        })
    }

    /// Parses a time in seconds; returns milliseconds.
    pub(super) fn seconds(
        &mut self,
        key: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<u64>, SettingsError> {
        let allowed = format!(
            "a number of seconds from {} to {}",
            range.start(),
            range.end()
        );
        self.parsed(key, &allowed, |text| {
            let seconds: f64 = text.parse().ok()?;
            range
                .contains(&seconds)
                .then_some((seconds * 1_000.0).round() as u64)
        })
    }

    /// Returns a text unchanged, including blanks at its ends.
    pub(super) fn verbatim(
        &mut self,
        key: &str,
        allowed: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, SettingsError> {
        let Some(found) = self.find(key)? else {
            return Ok(None);
        };
        if found.is_list {
            return Err(found.refused("a list", allowed));
        }
        let text = &found.texts[0];
        if fits(text) {
            Ok(Some(text.clone()))
        } else {
            Err(found.refused(&format!("{text:?}"), allowed))
        }
    }

    /// Parses a value with `read`, which returns `None` for a value that is not `allowed`.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        let Some(found) = self.find(key)? else {
            return Ok(None);
        };
        if found.is_list {
            return Err(found.refused("a list", allowed));
        }
        let text = found.texts[0].trim();
        match read(text) {
            Some(value) => Ok(Some(value)),
            None if is_secret(key) => Err(found.refused("(not shown)", allowed)),
            None => Err(found.refused(&format!("{text:?}"), allowed)),
        }
    }

    /// Parses a list, each item with `read`; in the environment, commas separate the items.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<Vec<T>>, SettingsError> {
        let Some(found) = self.find(key)? else {
            return Ok(None);
        };
        let texts: Vec<&str> = found
            .texts
            .iter()
            .flat_map(|text| {
                text.split(',')
                    .take(if found.is_list { 1 } else { usize::MAX })
            })
            .map(str::trim)
            .collect();
        let mut items = Vec::with_capacity(texts.len());
        for text in texts {
            let Some(item) = read(text) else {
                return Err(found.refused(&format!("{text:?}"), allowed));
            };
            items.push(item);
        }
        Ok(Some(items))
    }

    /// Parses bucket bounds: finite, ascending, at least one.
    pub(super) fn bounds(&mut self, key: &str) -> Result<Option<Vec<f64>>, SettingsError> {
        const ALLOWED: &str = "a list of ascending finite numbers";
        let bounds = self.list(key, ALLOWED, |text| {
            text.parse::<f64>().ok().filter(|bound| bound.is_finite())
        })?;
        let Some(bounds) = bounds else {
            return Ok(None);
        };
        if bounds.is_empty() || bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
            let found = self.find(key)?;
            return Err(found.map_or_else(
                || SettingsError::Conflict(format!("exporter.{key} is not {ALLOWED}")),
                |found| found.refused(&format!("{bounds:?}"), ALLOWED),
            ));
        }
        Ok(Some(bounds))
    }

    /// Returns the value and its place. An empty text counts as absent: `certfile: ""` appears in
    /// the documented examples, and `REDIS_PASSWORD=` in many compose files.
    fn find(&mut self, key: &str) -> Result<Option<Input>, SettingsError> {
        self.asked.push(key.to_owned());
        if let Some((text, origin)) = self.find_outside_the_file(key) {
            return Ok(Some(Input {
                texts: vec![text],
                is_list: false,
                origin,
            }));
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

    /// A flag hides its variable, even with an empty text.
    fn find_outside_the_file(&self, key: &str) -> Option<(String, Origin)> {
        let variable = variable_of(key);
        let typed = self.flags.iter().find_map(|flag| {
            let value = flag.value.as_ref().filter(|_| flag.key == key)?;
            Some((value.clone(), Origin::Flag(flag.name)))
        });
        let is_link = |text: &str| is_service_link(&variable, text);
        typed
            .or_else(|| Some(((self.env)(&variable)?, Origin::Variable(variable.clone()))))
            .filter(|(text, _)| !text.trim().is_empty() && !is_link(text))
    }

    fn find_in_file(&self, key: &str) -> Result<Option<Input>, SettingsError> {
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
        let refused = |value: &str| SettingsError::Value {
            origin: origin.clone(),
            value: value.to_owned(),
            allowed: "a single value".to_owned(),
        };
        match &node.value {
            Value::Null => Ok(None),
            Value::Text(text) if text.is_empty() => Ok(None),
            Value::Text(text) => Ok(Some(Input {
                texts: vec![text.clone()],
                is_list: false,
                origin,
            })),
            Value::List(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    let Value::Text(text) = &item.value else {
                        return Err(refused("a list of something else than texts"));
                    };
                    texts.push(text.clone());
                }
                Ok(Some(Input {
                    texts,
                    is_list: true,
                    origin,
                }))
            }
            Value::Map(_) => Err(refused("a dictionary")),
        }
    }
}

impl Input {
    fn refused(&self, value: &str, allowed: &str) -> SettingsError {
        SettingsError::Value {
            origin: self.origin.clone(),
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        }
    }
}

/// Returns whether Kubernetes has set the variable. In a namespace with a Service called `redis`,
/// every container gets `REDIS_PORT=tcp://10.0.0.1:6379`, which is not meant as a setting.
fn is_service_link(variable: &str, text: &str) -> bool {
    let links = ["tcp://", "udp://", "sctp://"];
    variable.ends_with("_PORT") && links.iter().any(|link| text.trim_start().starts_with(link))
}

fn find<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    key.split('.').try_fold(node, |node, part| node.get(part))
}

const BOOLEANS: &str = "true, false, yes, no, on, off, 1 or 0";

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

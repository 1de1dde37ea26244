//! Parses the settings: each key by its type, which the schema for editors describes too.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::keys::{SECTIONS, is_secret, variable_of};
use crate::lookup::find;
use crate::schema::{Described, Kind};
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
    pub(super) flags: &'a [Flag],
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) path: PathBuf,
    pub(super) root: Option<Node>,
    pub(super) asked: Vec<String>,
    /// The place of each value that is not a default.
    pub(super) sources: BTreeMap<String, Origin>,
    /// The type of each key.
    pub(super) described: Vec<Described>,
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
            sources: BTreeMap::new(),
            described: Vec::new(),
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
        let secrets = self.asked.iter().filter(|key| is_secret(key));
        let of_files = secrets.map(|key| format!("{}_FILE", variable_of(key)));
        let others = ["SIDECAR_MODE", "YAML_CONFIG_PATH"].map(str::to_owned);
        of_keys.chain(of_files).chain(others).collect()
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
            .chain(
                self.asked
                    .iter()
                    .filter(|key| is_secret(key))
                    .map(|key| format!("exporter.{key}_file")),
            )
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
        self.parsed_as(Kind::Boolean, key, BOOLEANS, boolean)
    }

    /// Parses one of these words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        words: &[(&'static str, T)],
    ) -> Result<Option<T>, SettingsError> {
        let names: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
        let allowed = names.join(" or ");
        self.parsed_as(Kind::Choice(names), key, &allowed, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value)
        })
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
        self.parsed_as(Kind::Integer(*low, *high), key, &allowed, |text| {
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
        let kind = Kind::Number(*range.start(), *range.end());
        self.parsed_as(kind, key, &allowed, |text| {
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
        self.describe(key, Kind::Text, allowed);
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
        self.parsed_as(Kind::Text, key, allowed, read)
    }

    /// Does the same for a value that the schema describes as `kind`.
    pub(super) fn parsed_as<T>(
        &mut self,
        kind: Kind,
        key: &str,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        self.describe(key, kind, allowed);
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
        self.describe(key, Kind::List, allowed);
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
        self.describe(key, Kind::Numbers, ALLOWED);
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

    /// Notes the type of a key, as it was first described.
    fn describe(&mut self, key: &str, kind: Kind, allowed: &str) {
        if self.described.iter().all(|known| known.key != key) {
            self.described.push(Described {
                key: key.to_owned(),
                kind,
                allowed: allowed.to_owned(),
            });
        }
    }
}

const BOOLEANS: &str = "true, false, yes, no, on, off, 1 or 0";

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

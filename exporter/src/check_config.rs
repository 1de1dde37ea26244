//! `check-config`: prints the settings in force, each with its place, in the form of a file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use metrics_settings::{LoadResult, Settings};
use serde_json::{Map, Value, json};

use crate::cli::Failure;

/// The words of `check-config`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckWords {
    /// An unknown key, or a variable that is probably misspelled, is an error
    #[arg(long)]
    pub(crate) strict: bool,

    /// Print the JSON Schema of the file instead, for editors
    #[arg(long)]
    schema: bool,
}

impl CheckWords {
    /// Prints the settings or the schema.
    pub(crate) fn run(&self, loaded: &LoadResult) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Print(error.to_string());
        if self.schema {
            let schema = Settings::schema()?;
            let text = serde_json::to_string_pretty(&schema).map_err(|error| failed(&error))?;
            return Ok(writeln!(std::io::stdout().lock(), "{text}")?);
        }
        if self.strict && !loaded.warnings.is_empty() {
            return Err(Failure::Unknown(loaded.warnings.join("; ")));
        }
        let used = spelled_as_in_a_file(&loaded.settings.redacted(), &json!(loaded.gunicorn));
        let used = used.map_err(|error| failed(&error))?;
        let default = spelled_as_in_a_file(&Settings::default(), &json!({}));
        let default = default.map_err(|error| failed(&error))?;
        let mut text =
            "# Above each value that is not a default: its place.\nexporter:\n".to_owned();
        let lines = Lines {
            loaded,
            default: &default.into(),
        };
        lines.write(&mut text, &used, "");
        Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
    }
}

/// Returns the section `exporter`.
fn spelled_as_in_a_file(
    settings: &Settings,
    gunicorn: &Value,
) -> Result<Map<String, Value>, serde_json::Error> {
    let mut exporter = match serde_json::to_value(settings)? {
        Value::Object(keys) => keys,
        _ => Map::new(),
    };
    for spelled_otherwise in ["flush_interval_ms", "cleanup_db_files", "sidecar_mode"] {
        exporter.remove(spelled_otherwise);
    }
    let seconds = Duration::from_millis(settings.flush_interval_ms).as_secs_f64();
    exporter.insert("flush_interval".to_owned(), seconds.into());
    let cleanup = json!({ "db_files": settings.cleanup_db_files });
    exporter.insert("cleanup".to_owned(), cleanup);
    exporter.insert("gunicorn".to_owned(), gunicorn.clone());
    Ok(exporter)
}

struct Lines<'a> {
    loaded: &'a LoadResult,
    default: &'a Value,
}

impl Lines<'_> {
    /// Writes the keys of a section, a line each. JSON's scalars and lists are YAML's as well.
    fn write(&self, text: &mut String, section: &Map<String, Value>, parent: &str) {
        for (name, value) in section {
            let key = format!("{parent}{name}");
            let indent = "  ".repeat(1 + key.matches('.').count());
            // Writing to a string cannot fail.
            if let Value::Object(below) = value {
                let _ = writeln!(text, "{indent}{name}:");
                self.write(text, below, &format!("{key}."));
                continue;
            }
            if let Some(place) = self.place(&key, value) {
                let _ = writeln!(text, "{indent}# {place}");
            }
            let _ = writeln!(text, "{indent}{name}: {value}");
        }
    }

    /// Returns the place of a value; `None` for a default.
    fn place(&self, key: &str, value: &Value) -> Option<String> {
        if let Some(origin) = self.loaded.source(key) {
            // A path may contain anything.
            return Some(origin.to_string().replace(char::is_control, "?"));
        }
        let default = self.default.pointer(&format!("/{}", key.replace('.', "/")));
        let is_other = default.is_some_and(|default| default != value);
        is_other.then(|| "follows from other settings".to_owned())
    }
}

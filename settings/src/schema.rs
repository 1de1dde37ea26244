//! The JSON Schema of the YAML file, made from the types with which the keys are read.

use serde_json::{Map, Value, json};

use crate::Settings;
use crate::keys::{SECTIONS, is_secret, variable_of};

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Text,
    Boolean,
    /// Lowest and highest.
    Integer(i64, i64),
    /// Lowest and highest.
    Number(f64, f64),
    /// The words.
    Choice(Vec<&'static str>),
    List,
    Numbers,
}

/// A key, its type, and the words for what is allowed.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) key: String,
    pub(super) kind: Kind,
    pub(super) allowed: String,
}

/// Returns the schema. Every value may also be absent, empty, or a text with `${VARIABLE}`.
pub(super) fn schema(described: &[Described]) -> Value {
    let defaults = defaults();
    let mut exporter = section("All settings");
    for name in SECTIONS {
        put(&mut exporter, name, section(""));
    }
    for one in described {
        let variable = variable_of(&one.key);
        let of_key = json!({
            "description": format!("Allowed: {}. Variable: {variable}", one.allowed),
            "anyOf": values(&one.kind),
        });
        let mut of_key = into_map(of_key);
        if let Some(default) = defaults.pointer(&format!("/{}", one.key.replace('.', "/")))
            && !default.is_null()
        {
            of_key.insert("default".to_owned(), default.clone());
        }
        if let Some(rest) = one.key.strip_prefix("prometheus.ssl.") {
            put(&mut exporter, &format!("ssl.{rest}"), of_key.clone());
        }
        put(&mut exporter, &one.key, of_key);
        if is_secret(&one.key) {
            let of_file = json!({
                "description": format!("Allowed: the path of a file that contains it. Variable: {variable}_FILE"),
                "type": ["string", "null"],
            });
            put(
                &mut exporter,
                &format!("{}_file", one.key),
                into_map(of_file),
            );
        }
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "gunicorn-prometheus-exporter",
        "type": "object",
        "required": ["exporter"],
        "additionalProperties": false,
        "properties": { "exporter": exporter },
    })
}

fn values(kind: &Kind) -> Value {
    let reference = json!({ "type": "string", "pattern": "\\$\\{" });
    let absent = json!({ "type": "null" });
    let own = match kind {
        // A password may look like a number.
        Kind::Text => return json!([{ "type": ["string", "number", "boolean", "null"] }]),
        Kind::Boolean => {
            let words = ["true", "false", "yes", "no", "on", "off", "1", "0"];
            return json!([{ "type": "boolean" }, { "enum": words }, { "enum": [0, 1] }, absent, reference]);
        }
        Kind::Integer(low, high) if *low == i64::MIN => {
            json!({ "type": "integer", "maximum": high })
        }
        Kind::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        Kind::Choice(words) => json!({ "enum": words }),
        // A text is a list with commas.
        Kind::List => {
            return json!([{ "type": "array", "items": { "type": "string" } }, { "type": ["string", "null"] }]);
        }
        Kind::Numbers => {
            let items = json!({ "anyOf": [{ "type": "number" }, reference] });
            return json!([{ "type": "array", "minItems": 1, "items": items }, { "type": ["string", "null"] }]);
        }
    };
    json!([own, absent, reference])
}

fn section(description: &str) -> Map<String, Value> {
    let mut section = Map::new();
    if !description.is_empty() {
        section.insert("description".to_owned(), description.into());
    }
    section.insert("type".to_owned(), json!(["object", "null"]));
    section.insert("additionalProperties".to_owned(), false.into());
    section.insert("properties".to_owned(), json!({}));
    section
}

/// Puts a schema below a section, which has been put before.
fn put(root: &mut Map<String, Value>, key: &str, schema: Map<String, Value>) {
    let mut at = root;
    let (sections, name) = key.rsplit_once('.').unwrap_or(("", key));
    for part in sections.split('.').filter(|part| !part.is_empty()) {
        let below = at
            .get_mut("properties")
            .and_then(|below| below.get_mut(part));
        let Some(below) = below.and_then(Value::as_object_mut) else {
            return;
        };
        at = below;
    }
    if let Some(properties) = at.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(name.to_owned(), schema.into());
    }
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Returns the defaults as the file spells them.
fn defaults() -> Value {
    let settings = Settings::default();
    let mut defaults = serde_json::to_value(&settings).unwrap_or_default();
    if let Some(keys) = defaults.as_object_mut() {
        let seconds = std::time::Duration::from_millis(settings.flush_interval_ms).as_secs_f64();
        keys.insert("flush_interval".to_owned(), seconds.into());
        let cleanup = json!({ "db_files": settings.cleanup_db_files });
        keys.insert("cleanup".to_owned(), cleanup);
    }
    defaults
}

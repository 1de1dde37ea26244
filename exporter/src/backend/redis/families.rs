//! Asks the shared registry about single families.

use metrics_model::{FamilyType, GaugeMode};
use redis::Value;

use super::RedisBackend;
use super::reply::{pairs, text};
use crate::backend::BackendError;
use metrics_agent::KnownFamily;

impl RedisBackend {
    /// Returns those of these families that a shard has, with the bucket layouts of live writers.
    pub(crate) async fn families(
        &self,
        shard: usize,
        names: &[&str],
    ) -> Result<Vec<KnownFamily>, BackendError> {
        let mut command = redis::cmd("METRICS.FAMILIES");
        command
            .arg(&self.shared.keys[shard])
            .arg("NAMES")
            .arg(names.len())
            .arg(names);
        let about = self.about("METRICS.FAMILIES", shard);
        let reply = self.send(shard, &about, &command).await?;
        let Value::Array(families) = reply else {
            return Err(about.unexpected("an array of families"));
        };
        let families = families.into_iter().map(family);
        let families = families.collect::<Option<Vec<_>>>();
        families.ok_or_else(|| about.unexpected("families with name and type"))
    }
}

fn family(reply: Value) -> Option<KnownFamily> {
    let (mut name, mut kind, mut mode, mut help) = Default::default();
    let mut held_buckets = Vec::new();
    for (field, value) in pairs(reply) {
        match (&*text(field)?, value) {
            ("name", value) => name = Some(text(value)?),
            ("type", value) => kind = Some(text(value)?),
            ("mode", value) => mode = Some(text(value)?),
            ("help", value) => help = text(value)?,
            ("held_buckets", Value::Array(layouts)) => {
                let layouts = layouts.into_iter().map(texts);
                held_buckets = layouts.collect::<Option<_>>()?;
            }
            _ => {}
        }
    }
    let family_type = match (kind?.parse().ok()?, mode) {
        (FamilyType::Gauge(_), Some(mode)) => FamilyType::Gauge(mode.parse::<GaugeMode>().ok()?),
        (family_type, _) => family_type,
    };
    Some(KnownFamily {
        name: name?,
        family_type,
        help,
        held_buckets,
    })
}

fn texts(reply: Value) -> Option<Vec<String>> {
    match reply {
        Value::Array(items) => items.into_iter().map(text).collect(),
        _ => None,
    }
}

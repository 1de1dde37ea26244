//! Finds the families of a shard's page that have moved to another shard.
//!
//! # How it works
//!
//! The number of shards decides which shard a family belongs to. When the number changes, most
//! families move: the instances write them to other keys, and the old keys keep what they had. So
//! for each family on a page of a shard, the exporter computes the family's own shard. If that is
//! another one, and has the family too, the family has moved: what the old key has of it is left
//! out of the page, and logged. If its own shard does not have it, no instance with this number of
//! shards writes it, and the page shows what there is.
//!
//! Nothing is added up: a counter that has moved begins again, as after a restart, which `rate()`
//! understands.
//!
//! # What it costs
//!
//! A checksum for each family of each page. Only a family outside its own shard, or an info in a
//! format that shows it as a gauge, is looked up in Redis. What is found is remembered for a while.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics_agent::shard_of;
use metrics_model::{Escaping, ExposeRequest, FamilySpec, FamilyType, Format, GaugeMode};

use super::parts::families;
use crate::backend::{BackendError, RedisBackend};

/// Time for which the type of a family in a shard is remembered.
const REMEMBERED: Duration = Duration::from_mins(1);
/// Maximum number of families that are remembered.
const MAX_REMEMBERED: usize = 10_000;
/// Series of a page of a lookup after the first, which has one.
const LOOKUP_SERIES: usize = 1000;

/// The families of a page that have moved, by their names on the page.
#[derive(Debug, Default)]
pub(super) struct Moved(HashMap<String, Move>);

impl Moved {
    /// Returns how a family has moved; `None`: it has not.
    pub(super) fn of(&self, family: &str) -> Option<Move> {
        self.0.get(family).copied()
    }
}

/// What becomes of a family on the page of a shard that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// Its own shard has it: the page shows that.
    LeftOut,
    /// Its own shard has another family of that name, which keeps it.
    Renamed,
}

/// What is known of the shards in which families are. Scrapes share it.
#[derive(Debug, Default)]
pub(super) struct Homes {
    types: Mutex<HashMap<Lookup, (String, Instant)>>,
    /// Shards with moved families that are logged.
    logged: Mutex<HashSet<usize>>,
}

/// A question: which type a shard shows a family with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lookup {
    shard: usize,
    /// The name on the page.
    family: String,
    format: Format,
    escaping: Escaping,
}

impl Homes {
    /// Returns the families that have moved from a page of a shard.
    pub(super) async fn moved(
        &self,
        redis: &RedisBackend,
        shard: usize,
        page: &[u8],
        request: &ExposeRequest,
    ) -> Result<Moved, BackendError> {
        let (format, escaping) = (request.format, request.escaping);
        let own_shard =
            |family: &str, word: &str| OwnShard::of(family, word, format, escaping, redis.shards());
        let suspects = families(page, format)
            .map(|(family, word)| (own_shard(&family, word), family.into_owned(), word))
            .filter(|(own, ..)| !own.is_surely(shard))
            .collect::<Vec<_>>();
        let mut moved = Vec::new();
        for (own, family, word) in suspects {
            let own = match own.if_info {
                Some(info) if self.is_info(redis, shard, &family, request).await? => info,
                _ => own.shard,
            };
            if own == shard {
                continue;
            }
            match self.word(redis, own, &family, request).await? {
                None => {}
                Some(there) if there == word => moved.push((family, own, Move::LeftOut)),
                Some(_) => moved.push((family, own, Move::Renamed)),
            }
        }
        self.log(redis, shard, &moved);
        let by_name = moved.into_iter().map(|(family, _, moved)| (family, moved));
        Ok(Moved(by_name.collect()))
    }

    /// Returns whether a gauge whose name ends with `_info` is an info, which only OpenMetrics shows.
    async fn is_info(
        &self,
        redis: &RedisBackend,
        shard: usize,
        family: &str,
        request: &ExposeRequest,
    ) -> Result<bool, BackendError> {
        let stem = family.strip_suffix("_info").unwrap_or(family);
        let in_openmetrics = ExposeRequest {
            format: Format::OpenMetrics,
            ..request.clone()
        };
        let word = self.word(redis, shard, stem, &in_openmetrics).await?;
        Ok(word.is_some_and(|word| word == "info"))
    }

    /// Returns the word for the type of the family that a shard shows with that name.
    async fn word(
        &self,
        redis: &RedisBackend,
        shard: usize,
        family: &str,
        request: &ExposeRequest,
    ) -> Result<Option<String>, BackendError> {
        let lookup = Lookup {
            shard,
            family: family.to_owned(),
            format: request.format,
            escaping: request.escaping,
        };
        if let Some(word) = self.remembered(&lookup) {
            return Ok(Some(word));
        }
        let word = ask(redis, &lookup).await?;
        if let Some(word) = &word {
            self.remember(lookup, word.clone());
        }
        Ok(word)
    }

    fn remembered(&self, lookup: &Lookup) -> Option<String> {
        let types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        let (word, at) = types.get(lookup)?;
        (at.elapsed() < REMEMBERED).then(|| word.clone())
    }

    fn remember(&self, lookup: Lookup, word: String) {
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        if types.len() >= MAX_REMEMBERED {
            types.clear();
        }
        types.insert(lookup, (word, Instant::now()));
    }

    /// Logs, once for each shard, that the pages leave something out.
    fn log(&self, redis: &RedisBackend, shard: usize, moved: &[(String, usize, Move)]) {
        let Some((family, own, _)) = moved.iter().find(|(_, _, of)| *of == Move::LeftOut) else {
            return;
        };
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.insert(shard) {
            let (old, new) = (&redis.keys()[shard], &redis.keys()[*own]);
            tracing::warn!(
                "the page leaves out families that '{old}' has from another number of shards: with {} shards, \
                 '{family}' (and perhaps others) belongs to '{new}', which has it; METRICS.GET shows the old \
                 numbers, METRICS.DEL removes them",
                redis.shards(),
            );
        }
    }
}

/// Asks a shard for the families with that name.
async fn ask(redis: &RedisBackend, lookup: &Lookup) -> Result<Option<String>, BackendError> {
    const ENDINGS: [&str; 5] = ["", "_total", "_info", "_count", "_bucket"];
    let mut request = ExposeRequest {
        format: lookup.format,
        escaping: lookup.escaping,
        names: ENDINGS.map(|ending| lookup.family.clone() + ending).into(),
        count: Some(1),
        ..ExposeRequest::default()
    };
    let mut cursor = "0".to_owned();
    loop {
        let page = redis.shard_page(lookup.shard, cursor.as_bytes(), &request);
        let page = page.await?;
        let mut found = families(&page.body, lookup.format);
        if let Some((_, word)) = found.find(|(name, _)| *name == lookup.family) {
            return Ok(Some(word.to_owned()));
        }
        let Some(next) = page.next else {
            return Ok(None);
        };
        cursor = next;
        request.count = Some(LOOKUP_SERIES);
    }
}

/// The shard that a family belongs to, by its name and type on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OwnShard {
    shard: usize,
    /// The shard that it belongs to if it is an info, where the page does not tell.
    if_info: Option<usize>,
}

impl OwnShard {
    fn of(family: &str, word: &str, format: Format, escaping: Escaping, shards: usize) -> Self {
        let ending = match word {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        // The ending of a sample is escaped along with the name.
        let has_ending = format != Format::OpenMetrics;
        let sample = format!("{family}{}", if has_ending { "" } else { ending });
        let name = escaping.read(&sample).unwrap_or_default();
        let name = Escaping::Underscores.name(&name);
        let shard_of = |name| {
            let spec = FamilySpec::new(name, FamilyType::Gauge(GaugeMode::Sum));
            shard_of(&spec, shards)
        };
        let without = |ending| name.strip_suffix(ending);
        Self {
            shard: shard_of(without(ending).unwrap_or(&name)),
            if_info: match (word, has_ending) {
                ("gauge", true) => without("_info").map(shard_of),
                _ => None,
            },
        }
    }

    fn is_surely(self, shard: usize) -> bool {
        self.shard == shard && self.if_info.is_none_or(|if_info| if_info == shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARDS: usize = 64;

    #[test]
    fn a_family_has_the_shard_that_its_writers_compute_on_pages_of_every_form() {
        let gauge = FamilyType::Gauge(GaugeMode::Sum);
        for name in ["x", "x_y", "a.b", "a.b_c", "é", "1a"] {
            for (family_type, word, ending) in [
                (gauge, "gauge", ""),
                (FamilyType::Histogram, "histogram", ""),
                (FamilyType::Counter, "counter", "_total"),
            ] {
                let expected = shard_of(&FamilySpec::new(name, family_type), SHARDS);
                for escaping in [
                    Escaping::Underscores,
                    Escaping::Dots,
                    Escaping::Values,
                    Escaping::AllowUtf8,
                ] {
                    let sample = escaping.name(&format!("{name}{ending}")).into_owned();
                    let found = OwnShard::of(&sample, word, Format::Text, escaping, SHARDS);
                    assert!(found.is_surely(expected), "{sample} {word} {escaping:?}");
                    let family = sample.strip_suffix(ending).unwrap();
                    let found = OwnShard::of(family, word, Format::OpenMetrics, escaping, SHARDS);
                    assert!(found.is_surely(expected), "{family} {word} {escaping:?}");
                }
            }
        }
    }

    #[test]
    fn only_openmetrics_tells_an_info_from_a_gauge() {
        let info = shard_of(&FamilySpec::new("x", FamilyType::Info), SHARDS);
        let of = |family, word, format| {
            OwnShard::of(family, word, format, Escaping::Underscores, SHARDS)
        };
        assert_eq!(of("x_info", "gauge", Format::Text).if_info, Some(info));
        assert!(of("x", "info", Format::OpenMetrics).is_surely(info));
        assert!(of("x_info", "info", Format::OpenMetrics2).is_surely(info));
    }
}

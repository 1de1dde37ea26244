//! What was pushed for a group before.

use std::collections::HashSet;

use metrics_model::FamilyType;

use super::family::Family;
use super::{ExposeRequest, FamilySpec, Format, GAUGE, LabelPairs, PushError, text};
use crate::backend::RedisBackend;

/// The labels that a group's series carry.
pub(super) struct Group<'a> {
    labels: &'a [(String, String)],
}

/// Series of a group that are in the registry.
#[derive(Debug, Default)]
pub(super) struct Known {
    series: HashSet<(FamilyName, LabelPairs)>,
}

/// What a family is called in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FamilyName {
    pub(super) name: String,
}

impl FamilyName {
    /// Enough of it to find its shard: the name is one without an ending.
    pub(super) fn spec(&self) -> FamilySpec<'_> {
        FamilySpec {
            name: &self.name,
            family_type: GAUGE,
            help: "",
            unit: "",
        }
    }
}

impl<'a> Group<'a> {
    pub(super) fn new(labels: &'a [(String, String)]) -> Self {
        Self { labels }
    }

    /// Reads the registry, or the given families of it, and picks the group's series out.
    pub(super) async fn find(
        &self,
        redis: &RedisBackend,
        families: Option<Vec<String>>,
    ) -> Result<Known, PushError> {
        let mut known = Known::default();
        if families.as_ref().is_some_and(Vec::is_empty) {
            return Ok(known);
        }
        let mut request = ExposeRequest {
            format: Format::Text,
            names: families.unwrap_or_default(),
            cursor: Some(b"0".to_vec()),
            ..ExposeRequest::default()
        };
        let mut family = None;
        while request.cursor.is_some() {
            let page = redis.page(&request).await?;
            for line in String::from_utf8_lossy(&page.body).lines() {
                self.pick(line, &mut family, &mut known)?;
            }
            request.cursor = page.next.map(String::into_bytes);
        }
        Ok(known)
    }

    fn pick(
        &self,
        line: &str,
        family: &mut Option<(String, FamilyType)>,
        known: &mut Known,
    ) -> Result<(), PushError> {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            *family = declared.rsplit_once(' ').map(|(name, kind)| {
                let kind = match kind {
                    "counter" => FamilyType::Counter,
                    "histogram" => FamilyType::Histogram,
                    "summary" => FamilyType::Summary,
                    _ => GAUGE,
                };
                (name.to_owned(), kind)
            });
            return Ok(());
        }
        // Most lines of a registry are others': these are sorted out without reading them.
        let might_be = |(_, value): &(String, String)| line.contains(value.as_str());
        let is_simple = |(_, value): &&(String, String)| !value.contains(['\\', '"', '\n']);
        if line.starts_with('#') || !self.labels.iter().filter(is_simple).all(might_be) {
            return Ok(());
        }
        let Some((declared, kind)) = family else {
            return Ok(());
        };
        let (sample, mut labels, _) = text::identity(line).map_err(|reason| PushError::Family {
            family: declared.clone(),
            reason,
        })?;
        // One sample of each series is enough to know it.
        let is_one = match kind {
            FamilyType::Histogram | FamilyType::Summary => sample.ends_with("_count"),
            _ => true,
        };
        labels.sort_unstable();
        let is_mine = self.labels.iter().all(|own| labels.contains(own));
        if is_one && is_mine {
            let name = match kind {
                FamilyType::Counter => declared.strip_suffix("_total").unwrap_or(declared),
                _ => declared,
            };
            let name = name.to_owned();
            known.series.insert((FamilyName { name }, labels));
        }
        Ok(())
    }
}

impl Known {
    /// Whether this series is there; it will not be any more.
    pub(super) fn take(&mut self, family: &Family, labels: &LabelPairs) -> bool {
        let name = FamilyName {
            name: family.name.clone(),
        };
        self.series.remove(&(name, labels.clone()))
    }

    /// What nobody has taken.
    pub(super) fn into_series(self) -> impl Iterator<Item = (FamilyName, LabelPairs)> {
        self.series.into_iter()
    }
}

//! Joins the pages of several registries into one page that has no name twice.
//!
//! # How it works
//!
//! A page consists of *parts*: the exporter's own samples, and then each registry (one for each
//! shard). A registry shows no name twice, but it knows nothing of the other parts. A counter `a`
//! of one shard and a gauge `a_total` of another would both be `a_total`, and readers refuse the
//! whole page. So the exporter notes the names of all samples that a family of a part may have. A
//! family of a later part that has one of these names is written in the unique form, as registries
//! write names that an escaping scheme makes equal: `U__a__total`. No value is left out, and the
//! names do not depend on the order in which the families arrived.
//!
//! A family that has moved to another shard, because the number of shards has changed, is left out
//! of the page of the old one (see [`moved`](super::moved)).
//!
//! # What it costs
//!
//! A search for `# TYPE` in each page, and some bytes for each name of a sample until the last page
//! is read. Only the pages of a part with changed names are written anew.

mod protobuf;
mod text;
mod wire;

use std::borrow::Cow;
use std::collections::{HashMap, hash_map::RandomState};
use std::hash::BuildHasher;

use metrics_model::{Format, unique_name};

use super::moved::{Move, Moved};

/// The names of the parts of one page.
#[derive(Debug)]
pub(super) struct Parts {
    format: Format,
    last: usize,
    hasher: RandomState,
    /// The part that has a sample, by the hash of the sample's name.
    owners: HashMap<u64, usize>,
    /// By part: the names that are changed, each with its new name.
    changed: HashMap<usize, ChangedNames>,
}

/// Names of families and of their samples, each with its new name; `None`: it is left out.
type ChangedNames = HashMap<String, Option<String>>;

/// Marks a name that the exporter has made: it belongs to no part.
const MADE: usize = usize::MAX;
/// The part with the exporter's own samples. Shard `n` is part `n + 1`.
pub(super) const OWN: usize = 0;

impl Parts {
    /// Returns the parts of a page of so many registries.
    pub(super) fn new(format: Format, registries: usize) -> Self {
        Self {
            format,
            last: registries,
            hasher: RandomState::new(),
            owners: HashMap::new(),
            changed: HashMap::new(),
        }
    }

    /// Returns a page of a part, with names that no other part has. The pages of a part come in
    /// their order, and after those of the part before; a page may come again.
    pub(super) fn join(&mut self, part: usize, page: Vec<u8>, moved: &Moved) -> Vec<u8> {
        for (name, word) in families(&page, self.format) {
            self.claim(part, &name, self.kind(word), moved.of(&name));
        }
        let is_protobuf = self.format == Format::Protobuf;
        match self.changed.get(&part) {
            None => page,
            Some(names) if is_protobuf => protobuf::renamed(&page, names),
            Some(names) => text::renamed(page, names),
        }
    }

    fn kind(&self, word: &str) -> Kind {
        match word {
            "histogram" => Kind::Histogram,
            "summary" => Kind::Summary,
            "counter" if self.format == Format::OpenMetrics => Kind::Counter,
            "info" if self.format == Format::OpenMetrics => Kind::Info,
            _ => Kind::Other,
        }
    }

    /// Notes the samples of a family, or gives them new names if another part has one of theirs.
    fn claim(&mut self, part: usize, family: &str, kind: Kind, moved: Option<Move>) {
        let changed = self.changed.get(&part);
        if changed.is_some_and(|names| names.contains_key(family)) {
            return;
        }
        let old = kind.samples(family);
        if moved == Some(Move::LeftOut) {
            let names = self.changed.entry(part).or_default();
            names.extend(old.into_iter().map(|name| (name, None)));
            return;
        }
        let is_of_another = |sample: &String| {
            let owner = self.owner(sample);
            owner.is_some_and(|owner| owner != part)
        };
        if moved.is_none() && !old.iter().any(is_of_another) {
            // After the last part come no others, but names that the exporter makes begin with `U`.
            if part < self.last || family.starts_with('U') {
                self.own(&old, part);
            }
            return;
        }
        let forms = (1..).map(|depth| kind.unique(family, depth));
        let is_free = |samples: &Vec<String>| samples.iter().all(|s| self.owner(s).is_none());
        let mut free = forms.map(|name| kind.samples(&name)).filter(is_free);
        let Some(new) = free.next() else { return };
        drop(free);
        self.own(&new, MADE);
        self.changed
            .entry(part)
            .or_default()
            .extend(old.into_iter().zip(new.into_iter().map(Some)));
    }

    fn owner(&self, sample: &str) -> Option<usize> {
        self.owners.get(&self.hasher.hash_one(sample)).copied()
    }

    fn own(&mut self, samples: &[String], part: usize) {
        for sample in samples {
            self.owners.insert(self.hasher.hash_one(sample), part);
        }
    }
}

/// What a page says of a family's type, as far as names depend on it.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A counter of OpenMetrics 1.0.0. In the other formats its family has the name of the sample.
    Counter,
    /// The same of an info.
    Info,
    Histogram,
    Summary,
    Other,
}

/// Returns the families that a page declares, each with the word for its type.
pub(super) fn families(
    page: &[u8],
    format: Format,
) -> Box<dyn Iterator<Item = (Cow<'_, str>, &str)> + '_> {
    match format {
        Format::Protobuf => Box::new(protobuf::families(page)),
        _ => Box::new(text::families(page)),
    }
}

impl Kind {
    /// Returns the names that a family's samples may have; the first is that of the family.
    fn samples(self, family: &str) -> Vec<String> {
        let endings: &[&str] = match self {
            Self::Counter => &["", "_total", "_created"],
            Self::Info => &["", "_info"],
            Self::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
            Self::Summary => &["", "_count", "_sum", "_created"],
            Self::Other => &[""],
        };
        let sample = |ending| format!("{family}{ending}");
        endings.iter().map(sample).collect()
    }

    /// Returns the unique form of a family's name.
    fn unique(self, family: &str, depth: usize) -> String {
        // The same in all formats: that of the sample's name.
        let ending = match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            _ => "",
        };
        let mut name = unique_name(&format!("{family}{ending}"), depth);
        name.truncate(name.len() - ending.len());
        name
    }
}

#[cfg(test)]
mod tests;

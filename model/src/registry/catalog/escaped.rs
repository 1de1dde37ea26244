//! An index of names and label sets that an escaping scheme makes equal.
//!
//! # How it works
//!
//! Every scheme leaves legal names (`[a-zA-Z_][a-zA-Z0-9_]*`) as they are, and they are in no index
//! here. Each family with another name is counted under its *folded* name, which is equal for all
//! names that a scheme makes equal. Each series with another label name is found by its labels in
//! the scheme `underscores`, which makes equal everything that any scheme does. So a registry
//! without such names pays one comparison for a new series, and pages look up only families and
//! series with such names.
//!
//! The answer depends on what the registry has at that moment, not on the order of arrival: it is
//! the same in every copy and after each restart.

use std::collections::{BTreeMap, BTreeSet};

use crate::escaping::{Escaping, LabelNames, folded, is_legacy, read_dots, read_unique};
use crate::footprint::allocated;
use crate::id_table::IdTable;
use crate::ids::{FamilyId, Id, SeriesId};
use crate::name::{REJECTED, SAMPLE_SUFFIXES, START_TIMES, may_share, sample_suffixes};
use crate::registry::catalog::Catalog;
use crate::{FamilySpec, FamilyType};

/// Families and series whose names are not legal; see the [module](self).
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct Escaped {
    /// Families by folded name, with dots folded too.
    underscores: BTreeMap<Box<str>, Claims>,
    /// Families by folded name, with dots kept.
    dots: BTreeMap<Box<str>, Claims>,
    /// One series of each group that `underscores` makes equal.
    first: IdTable<SeriesId>,
    /// The hash of the written labels of those series: writing them takes some thousand instructions.
    hashes: BTreeMap<SeriesId, u32>,
    /// The other series of such groups, by that one.
    others: BTreeMap<SeriesId, BTreeSet<SeriesId>>,
}

/// The families with one folded name.
#[derive(Debug, Clone, Default)]
struct Claims {
    families: u32,
    /// Their numbers, combined by XOR: for a single family, its number.
    id: u32,
    /// How many of them have samples with each of [`SAMPLE_SUFFIXES`].
    with_suffix: [u32; SAMPLE_SUFFIXES.len()],
}

impl Escaped {
    /// Returns the approximate bytes of memory.
    pub(in crate::registry) fn heap_bytes(&self) -> usize {
        let names = 2 * self.underscores.len() * (size_of::<Claims>() + 64);
        let first = self.first.heap_bytes() + self.hashes.len() * 12;
        names + first + self.others.len() * allocated(64)
    }

    fn by_name(&self, keeps_dots: bool) -> &BTreeMap<Box<str>, Claims> {
        if keeps_dots {
            &self.dots
        } else {
            &self.underscores
        }
    }

    /// Counts a family that begins or ends.
    pub(in crate::registry) fn count_family(
        &mut self,
        id: FamilyId,
        name: &str,
        family_type: FamilyType,
        begins: bool,
    ) {
        if is_legacy(name) {
            return;
        }
        for (keeps_dots, index) in [(false, &mut self.underscores), (true, &mut self.dots)] {
            let key = folded(name, keeps_dots).into_boxed_str();
            let claims = index.entry(key.clone()).or_default();
            claims.id ^= id.number();
            let step =
                |count: &mut u32| *count = count.wrapping_add_signed(if begins { 1 } else { -1 });
            step(&mut claims.families);
            for (suffix, count) in SAMPLE_SUFFIXES.iter().zip(&mut claims.with_suffix) {
                if sample_suffixes(family_type).contains(suffix) {
                    step(count);
                }
            }
            if claims.families == 0 {
                index.remove(&key);
            }
        }
    }
}

impl Catalog {
    /// Returns whether a scheme gives a sample of this family, whose name is not legal, the name of
    /// another family's sample.
    pub(crate) fn is_name_shared(&self, spec: &FamilySpec<'_>, keeps_dots: bool) -> bool {
        let own = folded(spec.name, keeps_dots);
        let suffixes = sample_suffixes(spec.family_type);
        suffixes.iter().any(|suffix| {
            let sample = format!("{own}{suffix}");
            let own_claims = u32::from(self.shares_start_times(spec, suffix)) + 1;
            self.has_legal_sample(&sample) || self.folded_claims(&sample, keeps_dots) > own_claims
        })
    }

    /// Returns how many families with names that are not legal have a sample with that folded name.
    fn folded_claims(&self, sample: &str, keeps_dots: bool) -> u32 {
        let index = self.escaped.by_name(keeps_dots);
        let claims = SAMPLE_SUFFIXES
            .iter()
            .enumerate()
            .filter_map(|(at, suffix)| {
                let claims = index.get(sample.strip_suffix(suffix)?)?;
                Some(claims.with_suffix[at])
            });
        claims.sum()
    }

    /// Returns whether a family with a legal name, or the registry itself, has that sample.
    pub(crate) fn has_legal_sample(&self, sample: &str) -> bool {
        let is_own = |suffix: &str| sample_suffixes(FamilyType::Counter).contains(&suffix);
        is_legacy(sample)
            && (self.claimant(sample).is_some()
                || sample.strip_prefix(REJECTED).is_some_and(is_own))
    }

    /// Returns whether only start times collide: a counter's start times and a gauge may have the
    /// same written name.
    fn shares_start_times(&self, spec: &FamilySpec<'_>, suffix: &str) -> bool {
        let sample = format!("{}{suffix}", spec.name);
        let other = match spec.family_type {
            FamilyType::Counter => Some(&*sample),
            _ => sample.strip_suffix(START_TIMES),
        };
        let is_shared = |other: &str| {
            let id = self.by_name.get(other)?;
            let other = (other, self.families[*id].family_type);
            may_share(&sample, (spec.name, spec.family_type), other).then_some(())
        };
        other.and_then(is_shared).is_some()
    }

    /// Returns the families that may have that sample on a page in one of the schemes, except those
    /// that have it as stored. They are candidates: some may be written otherwise.
    pub(crate) fn families_written_as(&self, sample: &str) -> Vec<FamilyId> {
        let mut found = Vec::new();
        let dotted = read_dots(sample);
        let keys = [(Some(sample), false), (dotted.as_deref(), true)];
        for (key, keeps_dots) in keys {
            let index = self.escaped.by_name(keeps_dots);
            found.extend(SAMPLE_SUFFIXES.iter().filter_map(|suffix| {
                let claims = index.get(key?.strip_suffix(suffix)?)?;
                (claims.families == 1).then_some(FamilyId::from_number(claims.id))
            }));
        }
        // Some suffixes are escaped with the name, others are not.
        let unescaped = SAMPLE_SUFFIXES.iter().filter_map(|suffix| {
            let name = sample.strip_suffix(suffix)?;
            let name = name
                .strip_suffix('_')
                .filter(|_| suffix.is_empty())
                .unwrap_or(name);
            [read_unique(name), read_dots(name)]
                .into_iter()
                .flatten()
                .next()
        });
        let whole = [read_unique(sample), dotted.clone()].into_iter().flatten();
        for name in unescaped.chain(whole).collect::<Vec<_>>() {
            let ids = SAMPLE_SUFFIXES
                .iter()
                .filter_map(|suffix| self.by_name.get(name.strip_suffix(suffix)?).copied());
            found.extend(ids);
        }
        found
    }

    /// Returns whether schemes make series of that family equal.
    #[inline]
    pub(crate) fn has_equal_labels(&self, family: FamilyId) -> bool {
        self.families[family].equal_labels > 0
    }

    /// Returns the labels of the other series of a family that `underscores` makes equal to this
    /// one, whose labels are not legal.
    pub(crate) fn equal_labels(
        &self,
        family: FamilyId,
        id: SeriesId,
    ) -> impl Iterator<Item = &str> {
        let text = underscored(&self.series[id].labels);
        let first = self.first_equal(family, &text);
        let others = first.and_then(|first| self.escaped.others.get(&first));
        let all = first
            .into_iter()
            .chain(others.into_iter().flatten().copied());
        let legal = self.find_series(family, &text);
        let equal = legal
            .into_iter()
            .chain(all.filter(move |other| *other != id));
        equal.map(|other| &*self.series[other].labels)
    }

    fn first_equal(&self, family: FamilyId, text: &str) -> Option<SeriesId> {
        let hash = self.hash_of(family, text);
        // Only equal labels are compared: those with the same hash.
        let is_it = |id: &SeriesId| {
            let series = &self.series[*id];
            self.escaped.hashes.get(id) == Some(&hash)
                && series.family == family
                && underscored(&series.labels) == text
        };
        self.escaped.first.find(hash, is_it)
    }

    /// Adds a new series to the index.
    pub(in crate::registry) fn note_labels(&mut self, id: SeriesId) {
        let family = self.series[id].family;
        if is_legal(&self.series[id].labels) {
            if self.families[family].odd_labels > 0
                && self.first_equal(family, &self.series[id].labels).is_some()
            {
                self.families[family].equal_labels += 1;
            }
            return;
        }
        self.families[family].odd_labels += 1;
        let text = underscored(&self.series[id].labels);
        let is_equal = if let Some(first) = self.first_equal(family, &text) {
            self.escaped.others.entry(first).or_default().insert(id)
        } else {
            self.insert_first(id, &text);
            self.find_series(family, &text).is_some()
        };
        self.families[family].equal_labels += u32::from(is_equal);
    }

    /// Removes a series from the index.
    pub(in crate::registry) fn forget_labels(&mut self, id: SeriesId) {
        let family = self.series[id].family;
        if self.families[family].odd_labels == 0 {
            return;
        }
        if is_legal(&self.series[id].labels) {
            let is_equal = self.first_equal(family, &self.series[id].labels).is_some();
            self.families[family].equal_labels -= u32::from(is_equal);
            return;
        }
        self.families[family].odd_labels -= 1;
        let text = underscored(&self.series[id].labels);
        let first = self.first_equal(family, &text);
        let mut others = first
            .and_then(|first| self.escaped.others.remove(&first))
            .unwrap_or_default();
        let was_alone = others.is_empty();
        if first == Some(id) {
            self.escaped.first.remove(self.hash_of(family, &text), id);
            self.escaped.hashes.remove(&id);
            if let Some(next) = others.pop_first() {
                self.insert_first(next, &text);
                self.keep_others(next, others);
            }
        } else if let Some(first) = first {
            others.remove(&id);
            self.keep_others(first, others);
        }
        let is_equal = !was_alone || self.find_series(family, &text).is_some();
        self.families[family].equal_labels -= u32::from(is_equal);
    }

    fn keep_others(&mut self, first: SeriesId, others: BTreeSet<SeriesId>) {
        if !others.is_empty() {
            self.escaped.others.insert(first, others);
        }
    }

    fn insert_first(&mut self, id: SeriesId, text: &str) {
        let hash = self.hash_of(self.series[id].family, text);
        let Escaped { first, hashes, .. } = &mut self.escaped;
        hashes.insert(id, hash);
        first.insert(hash, id, |id| hashes.get(&id).copied().unwrap_or(0));
    }
}

/// Returns whether the scheme `underscores` leaves a label text as it is.
fn is_legal(labels: &str) -> bool {
    Escaping::Underscores.keeps_labels(labels)
}

fn underscored(labels: &str) -> String {
    LabelNames::of(Escaping::Underscores)
        .write(labels, 0)
        .sorted()
}

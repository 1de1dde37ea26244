//! Declarations of this instance that a registry does not show, because live writers hold others.
//!
//! A registry adopts a changed declaration once no live writer holds the old one. Until then it
//! leaves out series with another type or mode, and shows the old help text or the bounds that both
//! have. Its reply does not tell this. So the exporter compares each family that is new in a store,
//! and each family of which series were left out.
//!
//! During a reload old and new workers overlap, and most end within a second. So a difference is
//! reported only if it is still there [`OVERLAP`] later, and a live writer still declares the family
//! in that way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use metrics_model::{FamilyEntry, FamilyType, Layout, RegistryError};
use metrics_store::{FamilyDef, StoreReader};

/// Time that two declarations of a family may differ before that is reported.
pub(crate) const OVERLAP: Duration = Duration::from_secs(5);
/// Longest text of a declaration in a log line, in characters.
const MAX_SHOWN: usize = 200;

/// A family in the form that a registry returns.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownFamily {
    /// The name, as the registry has it.
    pub name: String,
    /// The type; of a gauge, with its mode.
    pub family_type: FamilyType,
    /// The help text.
    pub help: String,
    /// The bounds of each bucket layout that live writers have.
    pub held_buckets: Vec<Vec<String>>,
}

/// Two declarations of one family, of which the registry shows the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangedDeclaration {
    family: String,
    shown: String,
    declared: String,
    age: Age,
}

/// The age of a declaration within this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Age {
    /// The newest process with that family declares it so.
    Newest,
    /// A newer process declares it in another way.
    Older,
}

/// Families to be compared, by name, each with the time since when it waits.
#[derive(Debug, Default)]
pub(crate) struct WaitingFamilies {
    families: BTreeMap<Box<str>, Vec<(Instant, FamilyDef)>>,
}

impl WaitingFamilies {
    /// Adds families; one that waits already keeps its time.
    pub(crate) fn add(&mut self, families: Vec<FamilyDef>, now: Instant) {
        for family in families {
            let of_name = self.families.entry(family.name.clone()).or_default();
            if !of_name.iter().any(|(_, known)| *known == family) {
                of_name.push((now, family));
            }
        }
    }

    /// Takes at most `limit` families that have waited so long.
    pub(crate) fn take_due(
        &mut self,
        wait: Duration,
        limit: usize,
        now: Instant,
    ) -> Vec<FamilyDef> {
        let mut due = Vec::new();
        self.families.retain(|_, of_name| {
            let is_due = |since: &Instant| now.saturating_duration_since(*since) >= wait;
            of_name.retain(|(since, family)| {
                let is_taken = due.len() < limit && is_due(since);
                if is_taken {
                    due.push(family.clone());
                }
                !is_taken
            });
            !of_name.is_empty()
        });
        due
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.families.clear();
    }
}

/// The families of one store to compare with those of one registry.
#[derive(Debug, Default)]
pub(crate) struct FamiliesToCompare {
    /// Number of families of the store that were compared.
    seen: usize,
    /// Of those, the ones with series left out since then.
    left_out: BTreeSet<Box<str>>,
}

impl FamiliesToCompare {
    /// Notes that the registry has left out a series of that family.
    pub(crate) fn add(&mut self, family: &FamilyDef) {
        if !self.left_out.contains(&family.name) {
            self.left_out.insert(family.name.clone());
        }
    }

    /// Returns the new suspects since the last call. The registry must have, or must have left out,
    /// everything that was in the store at that call.
    pub(crate) fn take(&mut self, reader: &StoreReader) -> Vec<FamilyDef> {
        let families = reader.families();
        let new = families.iter().enumerate();
        let is_due = |at: usize, family: &FamilyDef| {
            !family.is_hidden() && (at >= self.seen || self.left_out.contains(&family.name))
        };
        let due = new.filter(|(at, family)| is_due(*at, family));
        let due = due.map(|(_, family)| family.clone()).collect();
        (self.seen, self.left_out) = (families.len(), BTreeSet::new());
        due
    }
}

impl KnownFamily {
    pub(crate) fn new(family: &FamilyEntry<'_>) -> Self {
        let texts = |bounds: &Vec<&str>| bounds.iter().map(|text| (*text).to_owned()).collect();
        Self {
            name: family.name.to_owned(),
            family_type: family.family_type,
            help: family.help.to_owned(),
            held_buckets: family.held_buckets.iter().map(texts).collect(),
        }
    }

    /// Returns how it differs from a process' declaration.
    pub(crate) fn difference(&self, declared: &FamilyDef, age: Age) -> Option<ChangedDeclaration> {
        let changed = |shown: String, declared: String| ChangedDeclaration {
            family: self.name.clone(),
            shown: cut(&shown),
            declared: cut(&declared),
            age,
        };
        if self.family_type != declared.family_type {
            return Some(changed(
                self.family_type.describe(),
                declared.family_type.describe(),
            ));
        }
        // Live writers hold all layouts alike, so this is reported of the newest alone.
        if let Some(layout) = &declared.layout
            && age == Age::Newest
            && declared.family_type == FamilyType::Histogram
            && let Some(other) = self.held_buckets.iter().find(|held| !is_same(layout, held))
        {
            let own = layout.texts().collect::<Vec<_>>().join(" ");
            return Some(changed(
                format!("buckets {}", other.join(" ")),
                format!("buckets {own}"),
            ));
        }
        let (shown, own) = (&*self.help, &*declared.help);
        (!own.is_empty() && shown != own)
            .then(|| changed(format!("help text {shown:?}"), format!("help text {own:?}")))
    }
}

impl ChangedDeclaration {
    /// Returns a declaration that cannot take effect because another family has one of its sample
    /// names.
    pub(crate) fn of_conflict(
        declared: &FamilyDef,
        age: Age,
        error: &RegistryError,
    ) -> Option<Self> {
        let RegistryError::Conflict {
            family,
            sample,
            other,
        } = error
        else {
            return None;
        };
        Some(Self {
            family: family.clone(),
            shown: format!("the sample name {sample} of family '{other}'"),
            declared: declared.family_type.describe(),
            age,
        })
    }
}

impl std::fmt::Display for ChangedDeclaration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            family,
            shown,
            declared,
            age,
        } = self;
        match age {
            Age::Newest => write!(
                f,
                "family '{family}' is declared as {declared}, and its live writers still hold {shown}: the new \
                 declaration takes effect when the last of these has ended. "
            )?,
            Age::Older => write!(
                f,
                "family '{family}' is declared as {shown}, and older processes still declare {declared}: their \
                 declaration has no effect. "
            )?,
        }
        f.write_str(
            "Restart the processes that run the old code, give one of the two another name, or, where it was \
             written by hand, remove it with METRICS.DEL",
        )
    }
}

/// Returns whether a layout has these bounds, in any spelling.
fn is_same(layout: &Layout, bounds: &[String]) -> bool {
    let texts = bounds.iter().map(String::as_str);
    Layout::new(texts).is_ok_and(|other| other.values().eq(layout.values()))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use metrics_model::GaugeMode;

    use super::*;

    fn declared(family_type: FamilyType, help: &str, bounds: Option<&[&str]>) -> FamilyDef {
        FamilyDef {
            name: "jobs".into(),
            family_type,
            help: help.into(),
            unit: "".into(),
            layout: bounds.map(|bounds| Layout::new(bounds.iter().copied()).unwrap()),
        }
    }

    fn known(family_type: FamilyType, help: &str, held: &[&[&str]]) -> KnownFamily {
        let bounds = |bounds: &&[&str]| bounds.iter().map(|bound| (*bound).to_owned()).collect();
        KnownFamily {
            name: "jobs".to_owned(),
            family_type,
            help: help.to_owned(),
            held_buckets: held.iter().map(bounds).collect(),
        }
    }

    #[test]
    fn a_difference_names_both_declarations() {
        let [sum, max] = [GaugeMode::Sum, GaugeMode::Max].map(FamilyType::Gauge);
        let line = known(sum, "", &[]).difference(&declared(max, "", None), Age::Newest);
        assert_eq!(
            line.unwrap().to_string(),
            "family 'jobs' is declared as gauge in mode max, and its live writers still hold gauge in mode sum: \
             the new declaration takes effect when the last of these has ended. Restart the processes that run \
             the old code, give one of the two another name, or, where it was written by hand, remove it with \
             METRICS.DEL"
        );
    }

    #[test]
    fn an_older_declaration_is_named_as_the_older_one() {
        let [sum, max] = [GaugeMode::Sum, GaugeMode::Max].map(FamilyType::Gauge);
        let line = known(max, "", &[]).difference(&declared(sum, "", None), Age::Older);
        let line = line.unwrap().to_string();
        let wanted = "family 'jobs' is declared as gauge in mode max, and older processes still declare \
                      gauge in mode sum: their declaration has no effect. Restart the processes";
        assert!(line.starts_with(wanted), "{line}");
    }

    #[test]
    fn a_family_that_waits_is_due_once() {
        let begin = Instant::now();
        let [sum, max] = [GaugeMode::Sum, GaugeMode::Max].map(FamilyType::Gauge);
        let [sum, max] = [sum, max].map(|family_type| declared(family_type, "", None));
        let mut waiting = WaitingFamilies::default();
        waiting.add(vec![sum.clone()], begin);
        waiting.add(vec![sum.clone(), max.clone()], begin + OVERLAP / 2);
        assert_eq!(waiting.take_due(OVERLAP, 9, begin + OVERLAP / 2), []);
        assert_eq!(waiting.take_due(OVERLAP, 9, begin + OVERLAP), [sum]);
        assert_eq!(waiting.take_due(OVERLAP, 0, begin + OVERLAP * 2), []);
        assert_eq!(waiting.take_due(OVERLAP, 9, begin + OVERLAP * 2), [max]);
        assert_eq!(waiting.take_due(OVERLAP, 9, begin + OVERLAP * 2), []);
    }

    #[test]
    fn bounds_are_compared_by_value_and_help_as_it_is() {
        let histogram = FamilyType::Histogram;
        let shown = known(histogram, "Words", &[&["1", "2"]]);
        let same = declared(histogram, "Words", Some(&["1.0", "2.0"]));
        assert_eq!(shown.difference(&same, Age::Newest), None);
        let bounds = shown.difference(
            &declared(histogram, "Words", Some(&["1", "5"])),
            Age::Newest,
        );
        let bounds = bounds.unwrap();
        assert_eq!(
            (&*bounds.shown, &*bounds.declared),
            ("buckets 1 2", "buckets 1 5")
        );
        let help = shown.difference(
            &declared(histogram, "Other", Some(&["1", "2"])),
            Age::Newest,
        );
        let help = help.unwrap();
        assert_eq!(
            (&*help.shown, &*help.declared),
            ("help text \"Words\"", "help text \"Other\"")
        );
        assert_eq!(
            shown.difference(&declared(histogram, "", Some(&["1", "2"])), Age::Newest),
            None
        );
    }
}

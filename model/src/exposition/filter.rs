//! Which families a page is about.

use std::collections::BTreeMap;

use crate::name::{SAMPLE_SUFFIXES, sample_suffixes};
use crate::registry::FamilyView;
use crate::{FamilyType, Registry};

impl Registry {
    /// The families from a name on that have one of these samples, by name; all, where no sample is
    /// named. Names are looked up: families that nobody asks for cost nothing.
    pub(super) fn families_of(
        &self,
        samples: &[String],
        from: &str,
    ) -> Box<dyn Iterator<Item = FamilyView<'_>> + '_> {
        if samples.is_empty() {
            return Box::new(self.families_from(from));
        }
        let mut found = BTreeMap::new();
        // No ending comes before the name that it ends: what sorts before `from` cannot be meant.
        for sample in samples.iter().filter(|sample| sample.as_str() >= from) {
            for suffix in SAMPLE_SUFFIXES {
                let Some(family) = sample.strip_suffix(suffix).filter(|name| *name >= from) else {
                    continue;
                };
                if let Some(view) = self.family_called(family)
                    && sample_suffixes(view.spec.family_type).contains(&suffix)
                {
                    found.insert(view.spec.name, view);
                }
            }
        }
        Box::new(found.into_values())
    }
}

/// Whether a family has one of these samples, or no sample is named.
pub(super) fn is_asked_for(samples: &[String], family: &str, family_type: FamilyType) -> bool {
    let has = |sample: &String| {
        let suffix = sample.strip_prefix(family);
        suffix.is_some_and(|suffix| sample_suffixes(family_type).contains(&suffix))
    };
    samples.is_empty() || samples.iter().any(has)
}

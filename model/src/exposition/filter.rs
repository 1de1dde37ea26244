//! Selects the families of a page.

use std::collections::BTreeMap;

use super::Escaping;
use crate::escaping::read_unique;
use crate::name::{SAMPLE_SUFFIXES, sample_suffixes};
use crate::registry::FamilyView;
use crate::{FamilyType, Registry};

impl Registry {
    /// Returns the families from a name on that have one of these samples, in the order of their
    /// names; without sample names, all of them. A sample may be named as stored or as a page shows
    /// it: in the scheme of the request, or in one that most pages use. Names are looked up, so
    /// families that the request does not name cost nothing.
    pub(super) fn families_of(
        &self,
        samples: &[String],
        escaping: Escaping,
        from: &str,
    ) -> Box<dyn Iterator<Item = FamilyView<'_>> + '_> {
        if samples.is_empty() {
            return Box::new(self.catalog().families_from(from));
        }
        let mut found = BTreeMap::new();
        for sample in samples {
            for suffix in SAMPLE_SUFFIXES {
                if let Some(family) = sample.strip_suffix(suffix)
                    && let Some(view) = self.catalog().family_called(family)
                    && sample_suffixes(view.spec.family_type).contains(&suffix)
                {
                    found.insert(view.spec.name, view);
                }
            }
            for id in self.catalog().families_written_as(sample) {
                let view = self.catalog().family_view(id);
                let schemes = [Escaping::Underscores, Escaping::Values, escaping];
                let is_it = |scheme| self.is_written_as(&view, sample, scheme);
                let is_shown =
                    schemes.into_iter().any(is_it) || Self::is_unique_form_of(&view, sample);
                if !found.contains_key(view.spec.name) && is_shown {
                    found.insert(view.spec.name, view);
                }
            }
        }
        found.retain(|name, _| *name >= from);
        Box::new(found.into_values())
    }

    fn is_written_as(&self, family: &FamilyView<'_>, sample: &str, escaping: Escaping) -> bool {
        let name = self.written_name(&family.spec, escaping);
        is_sample_of(sample, &name, family.spec.family_type)
    }

    /// Returns whether a sample's name is the unique form of a legal name, as a page has it that is
    /// joined from several registries.
    fn is_unique_form_of(family: &FamilyView<'_>, sample: &str) -> bool {
        let name = read_unique(sample);
        name.is_some_and(|name| is_sample_of(&name, family.spec.name, family.spec.family_type))
    }
}

/// Returns whether a family has one of these samples, or the request names none.
pub(super) fn is_asked_for(samples: &[String], family: &str, family_type: FamilyType) -> bool {
    let has = |sample: &String| is_sample_of(sample, family, family_type);
    samples.is_empty() || samples.iter().any(has)
}

fn is_sample_of(sample: &str, family: &str, family_type: FamilyType) -> bool {
    let suffix = sample.strip_prefix(family);
    suffix.is_some_and(|suffix| sample_suffixes(family_type).contains(&suffix))
}

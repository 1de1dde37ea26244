//! How names are written on a page: as the escaping scheme has it, unless that makes two names equal.
//!
//! A family whose name is legal as it is keeps it. One that a scheme would call as another family, or
//! one of its samples, is in the unique form (`escaping.rs`) in that scheme; so are the label names of
//! a series that would have the labels of another one, or two of one name. What that is follows from the
//! names that there are at that moment, not from the order in which they came.

use super::text::names_state;
use crate::escaping::{Escaping, LabelNames, WrittenLabels, is_legacy, is_unique_form};
use crate::name::sample_suffixes;
use crate::registry::{FamilyView, Listed};
use crate::{FamilySpec, FamilyType, Registry};

/// A family as a page has it.
pub(super) struct Written<'a> {
    pub(super) family: FamilyView<'a>,
    pub(super) escaping: Escaping,
    /// Its name, without the suffix of its samples.
    pub(super) name: String,
}

impl<'a> Written<'a> {
    pub(super) fn new(registry: &Registry, family: FamilyView<'a>, escaping: Escaping) -> Self {
        let name = registry.written_name(&family.spec, escaping);
        Self {
            family,
            escaping,
            name,
        }
    }

    fn label_names(&self) -> LabelNames<'_> {
        let spec = &self.family.spec;
        let is_state =
            spec.family_type == FamilyType::StateSet && names_state(self.escaping, &self.name);
        LabelNames {
            escaping: self.escaping,
            state: is_state.then_some((spec.name, &*self.name)),
        }
    }

    /// The labels of one of its series, where the scheme does not keep them.
    #[cold]
    #[inline(never)]
    pub(super) fn labels(&self, registry: &Registry, series: Listed<'_>) -> String {
        let names = self.label_names();
        let mut depth = names.first_depth();
        loop {
            let written = names.write(series.labels(), depth);
            let is_taken = if depth == 0 {
                written.is_ambiguous || self.has_equal(registry, series, &written)
            } else {
                self.has_legal(registry, &written)
            };
            if !is_taken {
                return written.text();
            }
            depth += 1;
        }
    }

    /// Whether the scheme writes the labels of another series like these, which are not legal.
    fn has_equal(
        &self,
        registry: &Registry,
        series: Listed<'_>,
        written: &WrittenLabels<'_>,
    ) -> bool {
        /// Of more series than these it is not asked whether the scheme tells them apart.
        const COMPARED: usize = 16;
        if !registry.has_equal_labels(self.family.id)
            || Escaping::Underscores.keeps_labels(series.labels())
        {
            return false;
        }
        let mut equal = registry.equal_labels(self.family.id, series.id);
        if self.escaping == Escaping::Underscores {
            return equal.next().is_some();
        }
        let (names, sorted) = (self.label_names(), written.sorted());
        let mut compared = equal.by_ref().take(COMPARED);
        compared.any(|other| names.write(other, 0).sorted() == sorted) || equal.next().is_some()
    }

    /// Whether a series has these labels and keeps them, because they are legal. In the scheme `dots`
    /// no legal name is written like a unique form.
    fn has_legal(&self, registry: &Registry, written: &WrittenLabels<'_>) -> bool {
        self.escaping != Escaping::Dots && registry.has_series(self.family.id, &written.sorted())
    }
}

impl Registry {
    /// A family's name on a page, without the suffix of its samples.
    pub(super) fn written_name(&self, spec: &FamilySpec<'_>, escaping: Escaping) -> String {
        let mut depth = usize::from(escaping == Escaping::Values);
        if escaping == Escaping::AllowUtf8 || is_legacy(spec.name) {
            return escaping.family_name(spec, 0);
        }
        if depth == 0 {
            let name = escaping.family_name(spec, 0);
            // No name that the scheme `dots` writes is a unique form: underscores come in pairs there.
            let keeps_dots = escaping == Escaping::Dots;
            if (keeps_dots || !is_unique_form(&name)) && !self.is_name_shared(spec, keeps_dots) {
                return name;
            }
            depth = 1;
        }
        loop {
            let name = escaping.family_name(spec, depth);
            let mut suffixes = sample_suffixes(spec.family_type).iter();
            if escaping == Escaping::Dots
                || !suffixes.any(|suffix| self.has_legal_sample(&format!("{name}{suffix}")))
            {
                return name;
            }
            depth += 1;
        }
    }
}

//! How names are written on a page: as the escaping scheme writes them, unless that makes two names
//! equal.
//!
//! A family with a legal name keeps it. A family whose written name equals that of another family,
//! or of a sample of one, is written in the unique form (`escaping.rs`) in that scheme. The same
//! goes for the label names of a series whose written labels equal those of another series, or
//! contain one name twice. The result depends on the names that exist at that moment, not on the
//! order in which they arrived.

use super::parts::names_state;
use crate::escaping::{Escaping, LabelNames, WrittenLabels, is_legacy, is_unique_form};
use crate::name::sample_suffixes;
use crate::registry::{FamilyView, SeriesEntry};
use crate::{FamilySpec, FamilyType, Registry};

/// A family, and its name as a page writes it.
pub(super) struct Written<'a> {
    pub(super) family: FamilyView<'a>,
    pub(super) escaping: Escaping,
    /// Its name as written, without the suffix of its samples.
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
    pub(super) fn labels(&self, registry: &Registry, series: SeriesEntry<'_>) -> String {
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

    /// Returns whether the scheme writes the labels of another series, which are not legal, as
    /// these.
    fn has_equal(
        &self,
        registry: &Registry,
        series: SeriesEntry<'_>,
        written: &WrittenLabels<'_>,
    ) -> bool {
        /// Maximum number of series that are compared; among more, all get the unique form.
        const COMPARED: usize = 16;
        if !registry.catalog().has_equal_labels(self.family.id)
            || Escaping::Underscores.keeps_labels(series.labels())
        {
            return false;
        }
        let mut equal = registry.catalog().equal_labels(self.family.id, series.id);
        if self.escaping == Escaping::Underscores {
            return equal.next().is_some();
        }
        let (names, sorted) = (self.label_names(), written.sorted());
        let mut compared = equal.by_ref().take(COMPARED);
        compared.any(|other| names.write(other, 0).sorted() == sorted) || equal.next().is_some()
    }

    /// Returns whether a series has legal labels that equal these as written. In the scheme `dots`
    /// no legal name looks like a unique form.
    fn has_legal(&self, registry: &Registry, written: &WrittenLabels<'_>) -> bool {
        self.escaping != Escaping::Dots
            && registry
                .catalog()
                .has_series(self.family.id, &written.sorted())
    }
}

impl Registry {
    /// Returns a family's name on a page, without the suffix of its samples.
    pub(super) fn written_name(&self, spec: &FamilySpec<'_>, escaping: Escaping) -> String {
        let mut depth = usize::from(escaping == Escaping::Values);
        if escaping == Escaping::AllowUtf8 || is_legacy(spec.name) {
            return escaping.family_name(spec, 0);
        }
        if depth == 0 {
            let name = escaping.family_name(spec, 0);
            // The scheme `dots` writes no name like a unique form: its underscores come in pairs.
            let keeps_dots = escaping == Escaping::Dots;
            if (keeps_dots || !is_unique_form(&name))
                && !self.catalog().is_name_shared(spec, keeps_dots)
            {
                return name;
            }
            depth = 1;
        }
        loop {
            let name = escaping.family_name(spec, depth);
            let mut suffixes = sample_suffixes(spec.family_type).iter();
            if escaping == Escaping::Dots
                || !suffixes
                    .any(|suffix| self.catalog().has_legal_sample(&format!("{name}{suffix}")))
            {
                return name;
            }
            depth += 1;
        }
    }
}

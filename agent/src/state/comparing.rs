//! Declarations of this instance that a registry does not show, because live writers hold others:
//! counted, and each logged once.

use std::collections::BTreeSet;
use std::time::Instant;

use metrics_store::FamilyDef;

use super::{Inner, Life, State};
use crate::stores::{Age, ChangedDeclaration, KnownFamily, OVERLAP, WaitingFamilies};

/// Label value under which such a declaration is counted.
const DECLARATION: &str = "declaration";
/// Maximum number of declarations that are logged; further ones are only counted.
const MAX_LOGGED: usize = 100;

/// The declarations that differ from those of this instance's registry, and those that were logged.
#[derive(Default)]
pub(super) struct DeclarationCheck {
    /// Found different, to be compared again.
    differing: WaitingFamilies,
    logged: BTreeSet<ChangedDeclaration>,
}

impl Inner {
    /// Returns the age of a declaration, if a live writer still has it.
    fn age_of(&self, declared: &FamilyDef) -> Option<Age> {
        let (mut declares, mut differs) = (None, None);
        for entry in self.writers.values() {
            if entry.life != Life::Live {
                continue;
            }
            let mut of_name = entry.writer.declarations_of(&declared.name).peekable();
            if of_name.peek().is_none() {
                continue;
            }
            let started = entry.writer.process().map(|process| process.start_time);
            let is_declared = of_name.any(|family| family == declared);
            let newest = if is_declared {
                &mut declares
            } else {
                &mut differs
            };
            *newest = Some(started).max(*newest);
        }
        let declares = declares?;
        Some(match differs {
            Some(other) if other > declares => Age::Older,
            _ => Age::Newest,
        })
    }
}

impl State {
    /// Compares declarations with those that this instance's registry shows.
    pub(super) fn compare_local(&self, inner: &mut Inner) {
        let live = inner.writers.values_mut();
        let live = live.filter(|entry| entry.life == Life::Live);
        let new = live.flat_map(|entry| entry.writer.take_local_suspects());
        let differs = |declared: &FamilyDef| self.local_difference(declared, Age::Newest).is_some();
        let differing = new.filter(differs).collect::<Vec<_>>();
        let now = Instant::now();
        let comparing = &mut inner.comparing;
        comparing.differing.add(differing, now);
        for declared in comparing.differing.take_due(OVERLAP, usize::MAX, now) {
            let changed = inner
                .age_of(&declared)
                .and_then(|age| self.local_difference(&declared, age));
            if let Some(changed) = changed {
                self.declaration_waits(inner, changed);
            }
        }
    }

    fn local_difference(&self, declared: &FamilyDef, age: Age) -> Option<ChangedDeclaration> {
        let spec = declared.spec();
        let registry = self.registry.lock();
        match registry.family(spec.kept_name()?) {
            Some(known) => KnownFamily::new(&known).difference(declared, age),
            None => ChangedDeclaration::of_conflict(declared, age, &registry.conflict(&spec)?),
        }
    }

    /// Returns the families to compare with those of a shard.
    pub(crate) fn take_suspects(&self, shard: usize) -> Vec<FamilyDef> {
        let mut inner = self.inner.borrow_mut();
        let live = inner.writers.values_mut();
        let live = live.filter(|entry| entry.life == Life::Live);
        live.flat_map(|entry| entry.writer.take_suspects(shard))
            .collect()
    }

    /// Reports a declaration if it differs from the one that the shared registry shows, and has for a
    /// while.
    pub(crate) fn compare_shared(&self, shown: &KnownFamily, declared: &FamilyDef) {
        let inner = &mut *self.inner.borrow_mut();
        let age = inner.age_of(declared);
        if let Some(changed) = age.and_then(|age| shown.difference(declared, age)) {
            self.declaration_waits(inner, changed);
        }
    }

    /// A declaration waits for the end of writers of another one: counted, and logged once.
    fn declaration_waits(&self, inner: &mut Inner, declaration: ChangedDeclaration) {
        self.own.failed(DECLARATION);
        if let Some((number, figures)) = &inner.figures
            && let Err(error) = figures.count_error(DECLARATION)
        {
            self.report("figures", *number, &error);
        }
        let logged = &mut inner.comparing.logged;
        if logged.len() < MAX_LOGGED && !logged.contains(&declaration) {
            tracing::warn!("{declaration} (logged once)");
            logged.insert(declaration);
        }
    }
}

//! Compares the declarations of this instance with those that the shared registry shows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use metrics_model::MAX_NAMES;
use metrics_store::FamilyDef;

use crate::shared_registry::{SharedError, SharedFailure, SharedRegistry};
use crate::state::State;
use crate::stores::{Age, OVERLAP, WaitingFamilies};

/// Minimum time between two questions, because series that a limit leaves out for hours would cause
/// many.
const PAUSE: Duration = Duration::from_millis(500);

/// The families of one shard to compare with those of the shared registry.
#[derive(Default)]
struct DeclarationQueue {
    /// Never compared.
    new: WaitingFamilies,
    /// Found different, to be compared again.
    differing: WaitingFamilies,
}

/// The families to compare with those of the shared registry.
#[derive(Default)]
pub(super) struct Declarations {
    /// By shard.
    waiting: Vec<DeclarationQueue>,
    asked_at: Option<Instant>,
    /// Whether the registry refuses the question, which was logged.
    is_refused: bool,
}

impl Declarations {
    /// Asks about new families, and again about those that differed a while ago, which it reports.
    /// Repeats later what cannot be asked now.
    pub(super) async fn compare<R: SharedRegistry>(&mut self, state: &State, shared: &R) {
        let now = Instant::now();
        self.waiting
            .resize_with(shared.shards(), DeclarationQueue::default);
        for (shard, waiting) in self.waiting.iter_mut().enumerate() {
            waiting.new.add(state.take_suspects(shard), now);
            if self.is_refused {
                waiting.new.clear();
            }
        }
        let is_early = |at: Instant| now.saturating_duration_since(at) < PAUSE;
        if self.is_refused || self.asked_at.is_some_and(is_early) {
            return;
        }
        for shard in 0..shared.shards() {
            if let Err(error) = self.compare_shard(state, shared, shard).await {
                if is_refusal(error.failure()) {
                    self.is_refused = true;
                    tracing::warn!(
                        "declarations that differ from those in the shared registry are not reported: {error}"
                    );
                }
                return;
            }
        }
    }

    async fn compare_shard<R: SharedRegistry>(
        &mut self,
        state: &State,
        shared: &R,
        shard: usize,
    ) -> Result<(), R::Error> {
        let waiting = &mut self.waiting[shard];
        loop {
            let now = Instant::now();
            let new = waiting.new.take_due(Duration::ZERO, MAX_NAMES, now);
            let room = MAX_NAMES - new.len();
            let again = waiting.differing.take_due(OVERLAP, room, now);
            if new.is_empty() && again.is_empty() {
                return Ok(());
            }
            self.asked_at = Some(now);
            let names = new.iter().chain(&again);
            let names = names.filter_map(|family| family.spec().kept_name());
            let names = names.collect::<BTreeSet<_>>().into_iter();
            let known = match shared.families(shard, &names.collect::<Vec<_>>()).await {
                Ok(known) => known,
                Err(error) => {
                    waiting.new.add(new, now);
                    waiting.differing.add(again, now);
                    return Err(error);
                }
            };
            let shown = |family: &FamilyDef| {
                let name = family.spec().kept_name();
                known.iter().find(|known| Some(&*known.name) == name)
            };
            for family in &again {
                if let Some(shown) = shown(family) {
                    state.compare_shared(shown, family);
                }
            }
            let differs = |family: &FamilyDef| {
                shown(family).is_some_and(|shown| shown.difference(family, Age::Newest).is_some())
            };
            let differing = new.into_iter().filter(differs);
            waiting.differing.add(differing.collect(), now);
        }
    }
}

fn is_refusal(failure: SharedFailure) -> bool {
    match failure {
        SharedFailure::Refused | SharedFailure::UnknownQuestion | SharedFailure::Forbidden => true,
        SharedFailure::Malformed | SharedFailure::Unavailable => false,
    }
}

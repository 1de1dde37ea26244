//! Compares the declarations of this instance with those that the shared registry shows.

use metrics_model::MAX_NAMES;
use metrics_store::FamilyDef;
use tokio::time::{Duration, Instant};

use super::state::State;
use crate::RedisBackend;
use crate::backend::BackendError;

/// Minimum time between two questions, because series that a limit leaves out for hours would cause
/// many.
const PAUSE: Duration = Duration::from_millis(500);

/// The families to compare with those of the shared registry, with their shards.
#[derive(Default)]
pub(super) struct Declarations {
    waiting: Vec<(usize, FamilyDef)>,
    asked_at: Option<Instant>,
    /// Whether the registry refuses the question, which was logged.
    is_refused: bool,
}

impl Declarations {
    /// Asks about new families, and reports declarations that wait. Repeats later what cannot be
    /// asked now.
    pub(super) async fn compare(&mut self, state: &State, redis: &RedisBackend) {
        for shard in 0..redis.shards() {
            for family in state.take_suspects(shard) {
                if !self.waiting.iter().any(|(_, known)| *known == family) {
                    self.waiting.push((shard, family));
                }
            }
        }
        let is_early = self.asked_at.is_some_and(|at| at.elapsed() < PAUSE);
        if self.is_refused {
            self.waiting.clear();
        }
        if self.waiting.is_empty() || is_early {
            return;
        }
        self.asked_at = Some(Instant::now());
        for shard in 0..redis.shards() {
            if let Err(error) = self.compare_shard(state, redis, shard).await {
                if matches!(
                    error,
                    BackendError::Refused { .. } | BackendError::NoPermission { .. }
                ) {
                    self.is_refused = true;
                    tracing::warn!(
                        "declarations that differ from those in the shared registry are not reported: {error}"
                    );
                }
                return;
            }
        }
    }

    async fn compare_shard(
        &mut self,
        state: &State,
        redis: &RedisBackend,
        shard: usize,
    ) -> Result<(), BackendError> {
        loop {
            let of_shard = self.waiting.iter().filter(|(of, _)| *of == shard);
            let asked = of_shard.take(MAX_NAMES).cloned().collect::<Vec<_>>();
            if asked.is_empty() {
                return Ok(());
            }
            let names = asked.iter().map(|(_, family)| family.spec().kept_name());
            let names = names.flatten().collect::<Vec<_>>();
            let known = redis.families(shard, &names).await?;
            self.waiting.retain(|waiting| !asked.contains(waiting));
            for (_, family) in &asked {
                let name = family.spec().kept_name();
                let shown = known.iter().find(|known| Some(&*known.name) == name);
                if let Some(changed) = shown.and_then(|known| known.difference(family)) {
                    state.shared_declaration_waits(changed);
                }
            }
        }
    }
}

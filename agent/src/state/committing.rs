//! Commits this instance's registry, so that the next exporter can continue it.

use std::time::{Duration, Instant};

use metrics_model::{Epoch, Limits, Registry};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{Entry, Inner, Life, State};
use crate::clock::now_ms;
use crate::error::StartError;
use crate::own_metrics::OwnMetrics;

/// Time between commits if only series are new: the next exporter would find them in the stores,
/// but without their start times.
const COMMIT_INTERVAL: Duration = Duration::from_secs(10);

impl State {
    pub(super) fn commit(&self, inner: &mut Inner) {
        let is_folded = |entry: &Entry| entry.life == Life::Folded;
        let is_due = inner
            .committed_at
            .is_none_or(|at| at.elapsed() >= COMMIT_INTERVAL);
        let has_ended = inner.writers.values().any(is_folded);
        let has_news = has_ended || inner.has_new_series && is_due;
        if !has_news {
            return;
        }
        let snapshot = self.registry.lock().encode_snapshot();
        if let Err(error) = self.write_snapshot(&snapshot) {
            if !inner.is_commit_refused {
                tracing::error!("this instance's totals are not committed: {error}");
            }
            inner.is_commit_refused = true;
            self.own.failed("snapshot");
            return;
        }
        inner.is_commit_refused = false;
        inner.committed_at = Some(Instant::now());
        inner.has_new_series = false;
        for entry in inner.writers.values_mut().filter(|entry| is_folded(entry)) {
            entry.life = Life::Committed;
        }
    }

    /// Commits this instance's registry now, because its process is about to end.
    pub fn commit_now(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.commit_soon();
        self.commit(&mut inner);
    }

    fn write_snapshot(&self, snapshot: &[u8]) -> Result<(), String> {
        if let Some(files) = &self.files {
            let mut files = files.borrow_mut();
            if files.is_reader() {
                let written = files.write_snapshot(snapshot);
                return written.map_err(|error| error.to_string());
            }
        }
        self.snapshots
            .write(snapshot)
            .map_err(|error| error.to_string())
    }
}

/// Returns the committed registry, or an empty one.
pub(super) fn open_registry(
    snapshot: Option<&[u8]>,
    own: &OwnMetrics,
) -> Result<Registry, StartError> {
    if let Some(snapshot) = snapshot {
        match Registry::decode_snapshot(snapshot) {
            Ok(registry) => return Ok(registry),
            Err(error) => {
                tracing::error!("the totals of workers that have ended are lost: {error}");
                own.failed("snapshot");
            }
        }
    }
    let mut epoch = [0; 8];
    getrandom(&mut epoch, GetRandomFlags::empty())
        .map_err(|error| StartError::system("draw an epoch")(error.into()))?;
    let epoch = Epoch(u64::from_ne_bytes(epoch));
    Ok(Registry::new(epoch, Limits::default(), now_ms()))
}

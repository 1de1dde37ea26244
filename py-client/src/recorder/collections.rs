//! Garbage collections of a worker: their number, their effect, and the time that requests stood
//! still.

use std::sync::Mutex;
use std::time::Instant;

use metrics_store::catalogue::{WORKER_GC_COLLECTIONS, WORKER_GC_OBJECTS, WORKER_GC_SECONDS};
use metrics_store::{Series, StoreError, WorkerStore};

use crate::process::lock;

const GENERATIONS: [&str; 3] = ["0", "1", "2"];

/// The data of `gc.callbacks`.
#[derive(Debug)]
pub(super) struct Collections {
    began: Mutex<Option<Instant>>,
    runs: [Series; 3],
    objects: [Series; 3],
    seconds: Series,
}

impl Collections {
    pub(super) fn new(store: &WorkerStore, worker_id: &str) -> Result<Self, StoreError> {
        let runs = store.family(&WORKER_GC_COLLECTIONS.spec(), None)?;
        let objects = store.family(&WORKER_GC_OBJECTS.spec(), None)?;
        let seconds = store.family(&WORKER_GC_SECONDS.spec(), None)?;
        let by_generation = |family| -> Result<[Series; 3], StoreError> {
            let of = |generation| {
                store.series(
                    family,
                    &[("worker_id", worker_id), ("generation", generation)],
                )
            };
            let [first, second, third] = GENERATIONS.map(of);
            Ok([first?, second?, third?])
        };
        Ok(Self {
            began: Mutex::new(None),
            runs: by_generation(&runs)?,
            objects: by_generation(&objects)?,
            seconds: store.series(&seconds, &[("worker_id", worker_id)])?,
        })
    }

    pub(super) fn begin(&self) {
        *lock(&self.began) = Some(Instant::now());
    }

    pub(super) fn end(&self, generation: usize, objects: f64) {
        if let Some(began) = lock(&self.began).take() {
            self.seconds.add(0, began.elapsed().as_secs_f64());
        }
        // A generation that a future Python adds counts as the oldest.
        let generation = generation.min(GENERATIONS.len() - 1);
        self.runs[generation].add(0, 1.0);
        self.objects[generation].add(0, objects);
    }
}

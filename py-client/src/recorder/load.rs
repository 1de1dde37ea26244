//! The load of a worker: requests in progress, and the time and threads that they take.

use std::time::Instant;

use metrics_model::{FamilySpec, FamilyType};
use metrics_store::catalogue::{HTTP_REQUESTS_IN_PROGRESS, WORKER_BUSY, WORKER_THREADS};
use metrics_store::hidden::{REQUESTS_FINISHED, REQUESTS_STARTED};
use metrics_store::{Method, Series, StoreError, WorkerStore};

/// The requests in progress of one worker.
#[derive(Debug)]
pub(super) struct Load {
    open: u32,
    /// When `busy` was last updated.
    since: Instant,
    busy: Series,
    threads: Option<Threads>,
    methods: [Option<MethodSeries>; Method::COUNT],
}

#[derive(Debug)]
struct Threads {
    total: u32,
    busy: Series,
    idle: Series,
}

/// The cells of one method.
#[derive(Debug, Clone, Copy)]
struct MethodSeries {
    /// Hidden (`metrics_store::hidden`): what the exporter needs to know of a
    /// worker that was killed in the middle of a request.
    started: Series,
    finished: Series,
    in_progress: Series,
}

impl Load {
    /// `threads`: number of the worker's threads for requests, if it has a pool of them.
    pub(super) fn new(
        store: &WorkerStore,
        worker_id: &str,
        threads: Option<u32>,
    ) -> Result<Self, StoreError> {
        let busy = store.family(&WORKER_BUSY.spec(), None)?;
        let threads = threads.map(|total| Threads::new(store, worker_id, total));
        Ok(Self {
            open: 0,
            since: Instant::now(),
            busy: store.series(&busy, &[("worker_id", worker_id)])?,
            threads: threads.transpose()?,
            methods: [None; Method::COUNT],
        })
    }

    /// Begins a request.
    #[inline]
    pub(super) fn begin(
        &mut self,
        store: &WorkerStore,
        method: Method,
        now: Instant,
    ) -> Result<(), StoreError> {
        let series = match self.methods[method.place()] {
            Some(series) => series,
            None => *self.methods[method.place()].insert(MethodSeries::new(store, method)?),
        };
        series.started.add(0, 1.0);
        series.in_progress.add(0, 1.0);
        self.pass(now);
        self.open += 1;
        self.show_threads();
        Ok(())
    }

    /// Ends a request.
    #[inline]
    pub(super) fn end(&mut self, method: Method, now: Instant) {
        if let Some(series) = self.methods[method.place()] {
            series.finished.add(0, 1.0);
            series.in_progress.add(0, -1.0);
        }
        self.pass(now);
        self.open = self.open.saturating_sub(1);
        self.show_threads();
    }

    #[inline]
    fn pass(&mut self, now: Instant) {
        if self.open > 0 {
            // With two threads, the one that comes second may have read the clock first.
            let passed = now.saturating_duration_since(self.since);
            self.busy.add(0, passed.as_secs_f64());
        }
        self.since = self.since.max(now);
    }

    #[inline]
    fn show_threads(&self) {
        if let Some(threads) = &self.threads {
            let busy = self.open.min(threads.total);
            threads.busy.set(0, busy.into());
            threads.idle.set(0, (threads.total - busy).into());
        }
    }
}

impl Threads {
    fn new(store: &WorkerStore, worker_id: &str, total: u32) -> Result<Self, StoreError> {
        let family = store.family(&WORKER_THREADS.spec(), None)?;
        let of = |state| store.series(&family, &[("worker_id", worker_id), ("state", state)]);
        let (busy, idle) = (of("busy")?, of("idle")?);
        idle.set(0, total.into());
        Ok(Self { total, busy, idle })
    }
}

impl MethodSeries {
    #[cold]
    fn new(store: &WorkerStore, method: Method) -> Result<Self, StoreError> {
        let labels = [("method", method.label())];
        let series = |spec| store.series(&store.family(&spec, None)?, &labels);
        let hidden = |name| series(FamilySpec::new(name, FamilyType::Counter));
        Ok(Self {
            started: hidden(REQUESTS_STARTED)?,
            finished: hidden(REQUESTS_FINISHED)?,
            in_progress: series(HTTP_REQUESTS_IN_PROGRESS.spec())?,
        })
    }
}

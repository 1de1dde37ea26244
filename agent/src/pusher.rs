//! The task that talks to the shared registry.

mod declarations;

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use crate::refresh::RefreshRequest;
use crate::shared_registry::{SharedError, SharedFailure, SharedRegistry};
use crate::state::{FinalLeave, State};
use crate::stores::{PushScope, SharedPush};
use declarations::Declarations;

/// Lease of a writer in milliseconds: how long its live values are shown after its exporter's last
/// message.
const LEASE_MS: u64 = 15_000;
/// Maximum number of batches of one writer in one round. A full state of millions of series takes
/// several rounds, so that the other writers get their turn.
const BATCHES_IN_A_ROUND: usize = 256;
/// Maximum time between two rounds of what cannot wait for `flush_interval`, so that a registry
/// that was rolled back has all writers again within about a second.
const RETRY_PERIOD: Duration = Duration::from_millis(500);
/// Time until a failed round is repeated at the end of the process.
const RETRY_AT_END: Duration = Duration::from_millis(200);

/// A handle on the task.
pub struct Pusher<R> {
    state: Rc<State>,
    shared: R,
    requests: mpsc::UnboundedSender<RefreshRequest>,
    task: JoinHandle<()>,
}

impl<R: SharedRegistry> Pusher<R> {
    /// Pushes changes every `every`; tries a server that is away again every half second.
    pub fn start(state: Rc<State>, shared: R, every: Duration) -> Self {
        let (requests, waiting) = mpsc::unbounded_channel();
        let task = run(Rc::clone(&state), shared.clone(), every, waiting);
        Self {
            state,
            shared,
            requests,
            task: tokio::task::spawn_local(task),
        }
    }

    /// Pushes, and then answers; if the server is away, after one attempt.
    pub fn push_now(&self, request: RefreshRequest) {
        // If the task is gone, the process ends soon, and the scrape is answered without.
        let _request_is_dropped = self.requests.send(request);
    }

    /// Pushes the rest, until all has arrived or time is up. Sends left-out series once more.
    pub async fn finish(self, deadline: Instant) {
        // A batch that is in flight there is sent again here, which changes nothing.
        self.task.abort();
        let _cancelled = self.task.await;
        self.state.retry_left_out_now();
        loop {
            let round = round(&self.state, &self.shared, PushScope::Changes);
            match timeout_at(deadline, round).await {
                Ok(Ok(())) => return,
                Ok(Err(_)) if Instant::now() + RETRY_AT_END < deadline => sleep(RETRY_AT_END).await,
                Ok(Err(error)) => {
                    tracing::warn!("the shared registry does not have everything: {error}");
                    return;
                }
                Err(_elapsed) => {
                    tracing::warn!("the shared registry does not have everything: it is too slow");
                    return;
                }
            }
        }
    }
}

async fn run<R: SharedRegistry>(
    state: Rc<State>,
    shared: R,
    every: Duration,
    mut requests: mpsc::UnboundedReceiver<RefreshRequest>,
) {
    let mut changes = interval(every);
    changes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut retries = interval(every.min(RETRY_PERIOD));
    retries.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complete_at = Instant::now();
    let mut said = None;
    let mut left_out = 0;
    let mut declarations = Declarations::default();
    loop {
        let mut waiting = Vec::new();
        let mut scope = tokio::select! {
            _ = changes.tick() => PushScope::Changes,
            _ = retries.tick() => PushScope::Retries,
            Some(request) = requests.recv() => {
                waiting.push(request);
                PushScope::Changes
            }
        };
        while let Ok(request) = requests.try_recv() {
            waiting.push(request);
            scope = PushScope::Changes;
        }
        let began = Instant::now();
        match round(&state, &shared, scope).await {
            Ok(()) if scope == PushScope::Changes => {
                complete_at = began;
                if said.take().is_some() {
                    tracing::warn!("the shared registry has everything again");
                }
                state.own.set_push_lag(Duration::ZERO);
            }
            Ok(()) => {}
            Err(error) => {
                let error = error.to_string();
                if said.as_ref() != Some(&error) {
                    tracing::warn!("the shared registry has to wait: {error}");
                    said = Some(error);
                }
                state.own.set_push_lag(began - complete_at);
            }
        }
        left_out = report_left_out(&state, left_out);
        declarations.compare(&state, &shared).await;
        waiting.into_iter().for_each(RefreshRequest::answer);
    }
}

/// Measures the series that the shared registry leaves out, and logs when that begins and ends.
fn report_left_out(state: &State, before: usize) -> usize {
    let (series, writers) = state.left_out();
    state.own.set_left_out(series);
    match (before, series) {
        (0, 1..) => tracing::warn!(
            "the shared registry leaves out {series} series of {writers} workers (METRICS.INFO counts the \
             reasons): they are kept and sent again until it accepts them"
        ),
        (1.., 0) => tracing::warn!("the shared registry accepts everything again"),
        _ => {}
    }
    series
}

/// Gives every writer one turn at every shard. If a shard cannot be reached, the other writers'
/// turn there is skipped; the other shards do not wait for it.
async fn round<R: SharedRegistry>(
    state: &State,
    shared: &R,
    scope: PushScope,
) -> Result<(), R::Error> {
    let rounds = (0..shared.shards()).map(|shard| shard_round(state, shared, shard, scope));
    let rounds = join_all(rounds).await;
    rounds.into_iter().find(Result::is_err).unwrap_or(Ok(()))
}

async fn shard_round<R: SharedRegistry>(
    state: &State,
    shared: &R,
    shard: usize,
    scope: PushScope,
) -> Result<(), R::Error> {
    let mut first_error = None;
    for number in state.shared_writers(shard) {
        if let Err(error) = push(state, shared, shard, number, scope).await {
            state.own.push_failed();
            if !is_about_one_batch(error.failure()) {
                return Err(error);
            }
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// One writer's turn: sends changes and, if it has ended, LEAVE.
async fn push<R: SharedRegistry>(
    state: &State,
    shared: &R,
    shard: usize,
    number: u64,
    scope: PushScope,
) -> Result<(), R::Error> {
    for _ in 0..BATCHES_IN_A_ROUND {
        if let Some(SharedPush { writer, push }) = state.next_shared(shard, number, scope) {
            let reply = shared
                .push(shard, &writer, push.seq, push.epoch, LEASE_MS, &push.batch)
                .await;
            match reply {
                Ok(reply) => state.on_shared_reply(shard, number, &reply),
                Err(error) if error.failure() == SharedFailure::UnknownQuestion => {
                    state.on_unknown_question(shard, number);
                }
                Err(error) => {
                    if error.failure() == SharedFailure::Refused {
                        state.on_shared_error(shard, number);
                    }
                    return Err(error);
                }
            }
            continue;
        }
        let FinalLeave::Leave(leave) = state.final_leave(shard, number) else {
            return Ok(());
        };
        let reply = shared
            .leave(shard, &leave.writer, leave.seq, leave.epoch)
            .await?;
        if state.on_final_leave_reply(shard, number, &reply) {
            return Ok(());
        }
    }
    Ok(())
}

fn is_about_one_batch(failure: SharedFailure) -> bool {
    match failure {
        SharedFailure::Refused | SharedFailure::UnknownQuestion | SharedFailure::Malformed => true,
        SharedFailure::Forbidden | SharedFailure::Unavailable => false,
    }
}

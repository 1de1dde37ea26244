//! The task that talks to the shared registry.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::declarations::Declarations;
use super::state::{Farewell, State};
use crate::RedisBackend;
use crate::backend::BackendError;
use crate::refresh::RefreshRequest;
use crate::stores::{SharedPush, Turn};

/// For how long a writer's live values are shown after its exporter was last heard of.
const LEASE_MS: u64 = 15_000;
/// Batches of one writer in one round; a full state of millions of series takes several rounds, and
/// the other writers have their turn.
const BATCHES_IN_A_ROUND: usize = 256;
/// Longest time between two turns of what cannot wait for `flush_interval`, so that a registry that was
/// rolled back has all writers again within a second or so.
const RETRY_PERIOD: Duration = Duration::from_millis(500);
/// How soon a failed round is tried again at the end of the process.
const RETRY_AT_END: Duration = Duration::from_millis(200);

/// A handle on the task.
pub(crate) struct Pusher {
    state: Rc<State>,
    redis: RedisBackend,
    requests: mpsc::UnboundedSender<RefreshRequest>,
    task: JoinHandle<()>,
}

impl Pusher {
    /// Pushes changes every `every`; a server that is away is tried again every half second.
    pub(crate) fn start(state: Rc<State>, redis: RedisBackend, every: Duration) -> Self {
        let (requests, waiting) = mpsc::unbounded_channel();
        let task = run(Rc::clone(&state), redis.clone(), every, waiting);
        Self {
            state,
            redis,
            requests,
            task: tokio::task::spawn_local(task),
        }
    }

    /// Pushes, and then answers; where the server is away, after it has been tried.
    pub(crate) fn push_now(&self, request: RefreshRequest) {
        // When the task is gone, so is the process soon: the scrape goes without.
        let _request_is_dropped = self.requests.send(request);
    }

    /// Pushes what is left, until all has arrived or time is up. What the registry leaves out is sent
    /// once more.
    pub(crate) async fn finish(self, deadline: Instant) {
        // A batch that is in flight there is sent again here, which changes nothing.
        self.task.abort();
        let _cancelled = self.task.await;
        self.state.retry_left_out_now();
        loop {
            let round = round(&self.state, &self.redis, Turn::Changes);
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

async fn run(
    state: Rc<State>,
    redis: RedisBackend,
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
        let mut turn = tokio::select! {
            _ = changes.tick() => Turn::Changes,
            _ = retries.tick() => Turn::Retries,
            Some(request) = requests.recv() => {
                waiting.push(request);
                Turn::Changes
            }
        };
        while let Ok(request) = requests.try_recv() {
            waiting.push(request);
            turn = Turn::Changes;
        }
        let began = Instant::now();
        match round(&state, &redis, turn).await {
            Ok(()) if turn == Turn::Changes => {
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
        declarations.compare(&state, &redis).await;
        waiting.into_iter().for_each(RefreshRequest::answer);
    }
}

/// Measures what the shared registry leaves out, and logs when that begins and ends.
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

/// One turn of every writer, at every shard. Where a shard cannot be reached, the turn of the other
/// writers there is in vain; the other shards are not kept waiting for it.
async fn round(state: &State, redis: &RedisBackend, turn: Turn) -> Result<(), BackendError> {
    let turns = (0..redis.shards()).map(|shard| shard_round(state, redis, shard, turn));
    let turns = join_all(turns).await;
    turns.into_iter().find(Result::is_err).unwrap_or(Ok(()))
}

async fn shard_round(
    state: &State,
    redis: &RedisBackend,
    shard: usize,
    turn: Turn,
) -> Result<(), BackendError> {
    let mut first_error = None;
    for number in state.shared_writers(shard) {
        if let Err(error) = push(state, redis, shard, number, turn).await {
            state.own.push_failed();
            if !is_about_one_batch(&error) {
                return Err(error);
            }
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// One writer's turn: what is new and, if it has ended, its farewell.
async fn push(
    state: &State,
    redis: &RedisBackend,
    shard: usize,
    number: u64,
    turn: Turn,
) -> Result<(), BackendError> {
    for _ in 0..BATCHES_IN_A_ROUND {
        if let Some(SharedPush { writer, push }) = state.next_shared(shard, number, turn) {
            let reply = redis
                .push(shard, &writer, push.seq, push.epoch, LEASE_MS, &push.batch)
                .await;
            match reply {
                Ok(reply) => state.on_shared_reply(shard, number, &reply),
                Err(error) if error.is_unknown_question() => {
                    state.on_unknown_question(shard, number);
                }
                Err(error) => {
                    if matches!(error, BackendError::Refused { .. }) {
                        state.on_shared_error(shard, number);
                    }
                    return Err(error);
                }
            }
            continue;
        }
        let Farewell::Leave(leave) = state.farewell(shard, number) else {
            return Ok(());
        };
        let reply = redis
            .leave(shard, &leave.writer, leave.seq, leave.epoch)
            .await?;
        if state.on_farewell_reply(shard, number, &reply) {
            return Ok(());
        }
    }
    Ok(())
}

fn is_about_one_batch(error: &BackendError) -> bool {
    matches!(
        error,
        BackendError::Refused { .. } | BackendError::Reply { .. } | BackendError::Batch(_)
    )
}

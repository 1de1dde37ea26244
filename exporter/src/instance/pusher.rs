//! The task that talks to the shared registry.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::state::{Farewell, State};
use crate::RedisBackend;
use crate::backend::BackendError;
use crate::refresh::RefreshRequest;
use crate::stores::SharedPush;

/// For how long a writer's live values are shown after its exporter was last heard of.
const LEASE_MS: u64 = 15_000;
/// Batches of one writer in one round; a full state of millions of series takes several rounds, and
/// the other writers have their turn.
const BATCHES_IN_A_ROUND: usize = 256;
/// How soon a failed round is tried again at the end of the process.
const RETRY: Duration = Duration::from_millis(200);

/// A handle on the task.
pub(crate) struct Pusher {
    state: Rc<State>,
    redis: RedisBackend,
    requests: mpsc::UnboundedSender<RefreshRequest>,
    task: JoinHandle<()>,
}

impl Pusher {
    /// Pushes every `every`, which is also how often a server that is away is tried again.
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

    /// Pushes what is left, until all has arrived or time is up.
    pub(crate) async fn finish(self, deadline: Instant) {
        // A batch that is in flight there is sent again here, which changes nothing.
        self.task.abort();
        let _cancelled = self.task.await;
        loop {
            match timeout_at(deadline, round(&self.state, &self.redis)).await {
                Ok(Ok(())) => return,
                Ok(Err(_)) if Instant::now() + RETRY < deadline => sleep(RETRY).await,
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
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complete_at = Instant::now();
    let mut said = None;
    loop {
        let mut waiting = Vec::new();
        tokio::select! {
            _ = tick.tick() => {}
            Some(request) = requests.recv() => waiting.push(request),
        }
        while let Ok(request) = requests.try_recv() {
            waiting.push(request);
        }
        let began = Instant::now();
        match round(&state, &redis).await {
            Ok(()) => {
                complete_at = began;
                if said.take().is_some() {
                    tracing::warn!("the shared registry has everything again");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if said.as_ref() != Some(&error) {
                    tracing::warn!("the shared registry has to wait: {error}");
                    said = Some(error);
                }
            }
        }
        state.own.set_push_lag(began - complete_at);
        waiting.into_iter().for_each(RefreshRequest::answer);
    }
}

/// One turn of every writer, at every shard. Where a shard cannot be reached, the turn of the other
/// writers there is in vain; the other shards are not kept waiting for it.
async fn round(state: &State, redis: &RedisBackend) -> Result<(), BackendError> {
    let turns = (0..redis.shards()).map(|shard| shard_round(state, redis, shard));
    let turns = join_all(turns).await;
    turns.into_iter().find(Result::is_err).unwrap_or(Ok(()))
}

async fn shard_round(
    state: &State,
    redis: &RedisBackend,
    shard: usize,
) -> Result<(), BackendError> {
    let mut first_error = None;
    for number in state.shared_writers(shard) {
        if let Err(error) = push(state, redis, shard, number).await {
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
) -> Result<(), BackendError> {
    for _ in 0..BATCHES_IN_A_ROUND {
        if let Some(SharedPush { writer, push }) = state.next_shared(shard, number) {
            let reply = redis
                .push(shard, &writer, push.seq, push.epoch, LEASE_MS, &push.batch)
                .await?;
            state.on_shared_reply(shard, number, &reply);
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

//! Lets a scrape wait until the flusher of its instance is up to date.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use metrics_settings::Scope;

/// What is left of a scrape's limit for the flush itself, when its page was held.
const ANSWER: Duration = Duration::from_millis(150);
/// How often held requests are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Maximum number of scrapes that wait for the flusher; others are answered without.
const WAITING: usize = 64;

/// The server's end of the channel.
#[derive(Debug, Clone)]
pub struct Refresh {
    requests: mpsc::Sender<RefreshRequest>,
}

/// The flusher's end. The flusher takes all waiting scrapes, reads the stores once, and answers
/// them.
#[derive(Debug)]
pub struct RefreshRequests {
    requests: mpsc::Receiver<RefreshRequest>,
}

/// One waiting scrape.
#[derive(Debug)]
pub struct RefreshRequest {
    /// The registry to update: that of this instance, or (`Shared`) the one in Redis as well.
    pub scope: Scope,
    /// How long the page may be held for values that workers have yet to evaluate; `None`: not at all.
    pub held_until: Option<Instant>,
    done: oneshot::Sender<()>,
}

/// The flusher did not answer in time, so the page shows the previous flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the flusher did not answer within {0:?}")]
pub struct NotRefreshed(Duration);

/// Returns both ends.
pub fn refresh() -> (Refresh, RefreshRequests) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (
        Refresh { requests: sender },
        RefreshRequests { requests: receiver },
    )
}

impl Refresh {
    /// Returns when everything recorded before the call is in the registry of that scope, or after
    /// `limit`.
    pub async fn flush(&self, scope: Scope, limit: Duration) -> Result<(), NotRefreshed> {
        let until = Instant::now() + limit.saturating_sub(ANSWER);
        self.ask(scope, limit, Some(until)).await
    }

    /// The same for a worker that asks for its own page: it evaluates nothing meanwhile.
    pub async fn flush_for_worker(
        &self,
        scope: Scope,
        limit: Duration,
    ) -> Result<(), NotRefreshed> {
        self.ask(scope, limit, None).await
    }

    async fn ask(
        &self,
        scope: Scope,
        limit: Duration,
        held_until: Option<Instant>,
    ) -> Result<(), NotRefreshed> {
        let (done, answered) = oneshot::channel();
        let asked = async {
            let request = RefreshRequest {
                scope,
                held_until,
                done,
            };
            self.requests.send(request).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Some(())) => Ok(()),
            Ok(None) | Err(_) => Err(NotRefreshed(limit)),
        }
    }
}

impl RefreshRequests {
    /// Returns the next waiting scrape; `None` once the server is gone.
    pub async fn next(&mut self) -> Option<RefreshRequest> {
        self.requests.recv().await
    }

    /// Returns another scrape that already waits, to be answered by the same flush.
    pub fn waiting(&mut self) -> Option<RefreshRequest> {
        self.requests.try_recv().ok()
    }
}

impl RefreshRequest {
    /// Tells the scrape that the flush is done, as far as possible.
    pub fn answer(self) {
        // The client may have disconnected meanwhile.
        let _ = self.done.send(());
    }
}

/// The scrapes that wait for a flush, and those whose pages are held until workers have evaluated what they ask for.
#[derive(Debug)]
pub struct WaitingScrapes {
    requests: RefreshRequests,
    held: Vec<RefreshRequest>,
}

impl WaitingScrapes {
    /// Returns those of the flusher's end, none of them held.
    pub fn new(requests: RefreshRequests) -> Self {
        Self {
            requests,
            held: Vec::new(),
        }
    }

    /// Returns the next scrape that asks for a flush; `None` when it is time to look at those that are held.
    pub async fn next(&mut self) -> Option<RefreshRequest> {
        let look = async {
            if self.held.is_empty() {
                return std::future::pending().await;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        tokio::select! {
            biased;
            Some(request) = self.requests.next() => Some(request),
            () = look => None,
        }
    }

    /// Returns `first` and all others that ask for a flush by now: one flush is enough for them.
    pub fn asking(&mut self, first: Option<RefreshRequest>) -> Vec<RefreshRequest> {
        let mut asking = Vec::from_iter(first);
        while let Some(request) = self.requests.waiting() {
            asking.push(request);
        }
        asking
    }

    /// Returns those to be answered after a flush: while values are awaited, those of `asking` and of the held
    /// ones that may not be held any longer; else all.
    pub fn ready(
        &mut self,
        asking: Vec<RefreshRequest>,
        awaits_values: bool,
    ) -> Vec<RefreshRequest> {
        self.held.extend(asking);
        let now = Instant::now();
        let is_ready = |request: &mut RefreshRequest| {
            !awaits_values || request.held_until.is_none_or(|until| until <= now)
        };
        self.held.extract_if(.., is_ready).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_flush_answers_all_that_wait() {
        let (refresh, mut requests) = refresh();
        let second = refresh.clone();
        let limit = Duration::from_secs(30);
        let flusher = async {
            let mut taken = vec![requests.next().await.unwrap()];
            while taken.len() < 2 {
                taken.extend(requests.waiting());
                tokio::task::yield_now().await;
            }
            let scopes: Vec<Scope> = taken.iter().map(|request| request.scope).collect();
            taken.into_iter().for_each(RefreshRequest::answer);
            scopes
        };
        let (scopes, first, second) = tokio::join!(
            flusher,
            refresh.flush(Scope::Instance, limit),
            second.flush(Scope::Shared, limit)
        );
        assert_eq!(
            (scopes, first, second),
            (vec![Scope::Instance, Scope::Shared], Ok(()), Ok(()))
        );
    }

    #[tokio::test]
    async fn a_flusher_that_is_gone_or_hangs_is_said_to_be() {
        let limit = Duration::from_millis(1);
        let (gone, requests) = refresh();
        drop(requests);
        assert_eq!(
            gone.flush(Scope::Shared, limit).await,
            Err(NotRefreshed(limit))
        );
        let (hung, _requests) = refresh();
        assert_eq!(
            hung.flush(Scope::Shared, limit).await,
            Err(NotRefreshed(limit))
        );
    }
}

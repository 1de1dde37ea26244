//! A scrape asks the flusher of its own instance to be up to date before it is answered.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use metrics_settings::Scope;

/// How many scrapes may wait for the flusher; more than that go without.
const WAITING: usize = 64;

/// The server's end.
#[derive(Debug, Clone)]
pub struct Refresh {
    requests: mpsc::Sender<RefreshRequest>,
}

/// The flusher's end: it drains this, reads the stores once, and answers all that it took.
#[derive(Debug)]
pub struct RefreshRequests {
    requests: mpsc::Receiver<RefreshRequest>,
}

/// One scrape that waits.
#[derive(Debug)]
pub struct RefreshRequest {
    /// How far: into the registry of this instance, or (`Shared`) into the one in Redis as well.
    pub scope: Scope,
    done: oneshot::Sender<()>,
}

/// The page shows what was last flushed, because the flusher did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the flusher did not answer within {0:?}")]
pub struct NotRefreshed(Duration);

/// Both ends.
pub fn refresh() -> (Refresh, RefreshRequests) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (
        Refresh { requests: sender },
        RefreshRequests { requests: receiver },
    )
}

impl Refresh {
    /// Returns when everything recorded before the call is in the registry of that scope, or when
    /// `limit` has passed.
    pub async fn flush(&self, scope: Scope, limit: Duration) -> Result<(), NotRefreshed> {
        let (done, answered) = oneshot::channel();
        let asked = async {
            let request = RefreshRequest { scope, done };
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
    /// The next that waits; `None` once the server is gone.
    pub async fn next(&mut self) -> Option<RefreshRequest> {
        self.requests.recv().await
    }

    /// Another that waits already, to be answered by the same flush.
    pub fn waiting(&mut self) -> Option<RefreshRequest> {
        self.requests.try_recv().ok()
    }
}

impl RefreshRequest {
    /// The flush is done, as far as it could be.
    pub fn answer(self) {
        // Who asked may have gone away meanwhile: then nobody is disappointed.
        let _ = self.done.send(());
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

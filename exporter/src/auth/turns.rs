//! Turns at work that is done one at a time: the newest attempt is next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A queue of attempts, newest first.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    /// Waiting attempts, the newest last. Abandoned ones are dropped when others come.
    waiting: Vec<oneshot::Sender<Turn>>,
}

/// One turn; it ends when this is dropped, and the next attempt gets the turn.
#[derive(Debug)]
pub(super) struct Turn {
    state: Option<Arc<Mutex<State>>>,
}

impl Turns {
    /// Waits for a turn.
    pub(super) async fn take(&self) -> Turn {
        loop {
            let coming = {
                let mut state = lock(&self.state);
                if !state.is_taken {
                    state.is_taken = true;
                    return Turn {
                        state: Some(Arc::clone(&self.state)),
                    };
                }
                let (sender, coming) = oneshot::channel();
                state.waiting.retain(|waiting| !waiting.is_closed());
                state.waiting.push(sender);
                coming
            };
            if let Ok(turn) = coming.await {
                return turn;
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else {
            return;
        };
        loop {
            let next = {
                let mut state = lock(&state);
                let Some(next) = state.waiting.pop() else {
                    state.is_taken = false;
                    return;
                };
                next
            };
            let turn = Self {
                state: Some(Arc::clone(&state)),
            };
            match next.send(turn) {
                Ok(()) => return,
                // The waiting attempt was abandoned: this loop, and not the drop of the turn,
                // passes it on.
                Err(mut turn) => turn.state = None,
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_that_came_is_the_next() {
        let turns = Arc::new(Turns::default());
        let first = turns.take().await;
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for number in 0..4 {
            let (turns, told) = (Arc::clone(&turns), told.clone());
            tasks.push(tokio::spawn(async move {
                let _turn = turns.take().await;
                let _ = told.send(number);
            }));
            tokio::task::yield_now().await;
        }
        // An abandoned attempt is skipped.
        tasks[3].abort();
        tokio::task::yield_now().await;
        drop(first);
        for expected in [2, 1, 0] {
            assert_eq!(order.recv().await, Some(expected));
        }
        for task in tasks {
            let _ = task.await;
        }
        // The turn is free again.
        drop(turns.take().await);
    }
}

//! Tracks connections and evicts the one idle longest at the limit.
//!
//! # How it works
//!
//! There are as many places as this process can afford. When all are taken, a new connection gets
//! the place of the one that has waited longest for a request. Only if all are being answered, it
//! gets the place of the one that has been answered longest. So a crowd of connections that send
//! nothing, or read nothing, evicts only itself: a scraper's request is read as soon as it is
//! connected.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ending::Ending;

/// All places. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    limit: usize,
    places: Arc<Mutex<Places>>,
}

#[derive(Debug, Default)]
struct Places {
    taken: BTreeMap<u64, Place>,
    next: u64,
}

#[derive(Debug)]
struct Place {
    /// Whether it has not sent a request yet: it may be in a handshake, or in the middle of a head.
    is_new: bool,
    is_answered: bool,
    since: Instant,
    leave: Arc<Notify>,
}

/// One connection's place, until this is dropped.
#[derive(Debug)]
pub(super) struct PlaceGuard {
    number: u64,
    leave: Arc<Notify>,
    connections: Connections,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            places: Arc::default(),
        }
    }

    /// Returns a place for a new connection; when all are taken, by evicting another.
    pub(super) fn admit(&self) -> PlaceGuard {
        let mut places = self.lock();
        if places.taken.len() >= self.limit {
            places.give_away();
        }
        let number = places.next;
        places.next += 1;
        let leave = Arc::new(Notify::new());
        let place = Place {
            is_new: true,
            is_answered: false,
            since: Instant::now(),
            leave: Arc::clone(&leave),
        };
        places.taken.insert(number, place);
        PlaceGuard {
            number,
            leave,
            connections: self.clone(),
        }
    }

    /// Evicts a connection, because the system has no room for another.
    pub(super) fn make_room(&self) {
        self.lock().give_away();
    }

    /// Ends the connections that have never sent a request. Others may have unread bytes of a
    /// response, even after it was answered.
    pub(super) fn end_new(&self) {
        self.lock().taken.retain(|_, place| {
            if place.is_new {
                place.leave.notify_one();
            }
            !place.is_new
        });
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn give_away(&mut self) {
        let missed_least = self
            .taken
            .iter()
            .min_by_key(|(number, place)| (place.is_answered, place.since, **number))
            .map(|(number, _)| *number);
        if let Some(place) = missed_least.and_then(|number| self.taken.remove(&number)) {
            place.leave.notify_one();
        }
    }
}

impl PlaceGuard {
    /// Returns when the place is given to another connection.
    pub(super) fn evicted(&self) -> impl Future<Output = ()> + use<> {
        let leave = Arc::clone(&self.leave);
        async move { leave.notified().await }
    }

    /// Notes that a request was read; it is being answered until the result is dropped.
    pub(super) fn answer(self: &Arc<Self>) -> AnswerMark {
        self.set(true);
        AnswerMark(Arc::clone(self))
    }

    fn set(&self, is_answered: bool) {
        if let Some(place) = self.connections.lock().taken.get_mut(&self.number) {
            place.is_new = false;
            place.is_answered = is_answered;
            place.since = Instant::now();
        }
    }
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        self.connections.lock().taken.remove(&self.number);
    }
}

/// Marks its connection as being answered until it is dropped.
#[derive(Debug)]
pub(super) struct AnswerMark(Arc<PlaceGuard>);

impl Drop for AnswerMark {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// A body that keeps its connection marked as being answered.
pub(super) struct TrackedBody<B> {
    pub(super) body: B,
    pub(super) ending: Ending,
    #[expect(dead_code, reason = "kept to be dropped with the body")]
    pub(super) answering: AnswerMark,
}

impl<B: Body + Unpin> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) {
            self.ending.is_whole();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_evicted(seat: &PlaceGuard) -> bool {
        tokio::time::timeout(Duration::from_millis(1), seat.evicted())
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_silent_connection_goes_first() {
        let connections = Connections::new(3);
        let mut seats = Vec::new();
        for _ in 0..3 {
            seats.push(Arc::new(connections.admit()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let answering = seats[0].answer();
        let fourth = Arc::new(connections.admit());
        assert!(!is_evicted(&seats[0]).await);
        assert!(is_evicted(&seats[1]).await);
        // It was answered, so it has waited for less time than the others.
        drop(answering);
        tokio::time::advance(Duration::from_secs(1)).await;
        connections.make_room();
        assert!(is_evicted(&seats[2]).await);
        assert!(!is_evicted(&fourth).await);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_answered_the_first_of_them_goes() {
        let connections = Connections::new(2);
        let first = Arc::new(connections.admit());
        let _first = first.answer();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = Arc::new(connections.admit());
        let _second = second.answer();
        let _third = connections.admit();
        assert!(is_evicted(&first).await);
        assert!(!is_evicted(&second).await);
    }

    #[tokio::test]
    async fn at_the_end_only_those_who_have_said_something_stay() {
        let connections = Connections::new(3);
        let (silent, idle) = (connections.admit(), Arc::new(connections.admit()));
        drop(idle.answer());
        connections.end_new();
        assert!(is_evicted(&silent).await);
        assert!(!is_evicted(&idle).await);
    }

    #[tokio::test]
    async fn a_connection_that_ends_makes_room() {
        let connections = Connections::new(1);
        drop(connections.admit());
        let seat = connections.admit();
        assert!(!is_evicted(&seat).await);
    }
}

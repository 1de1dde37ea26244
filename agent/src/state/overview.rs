//! What runs now, and the last deaths: read from the memory of this instance when it is requested.

use std::time::Duration;

use metrics_settings::InFlight;
use metrics_store::{Death, OpenRequest, Role, monotonic_ns};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::{Life, State};

/// Maximum number of requests that are listed.
const MAX_LISTED: usize = 1000;
/// Maximum number of readers that wait.
const WAITING: usize = 64;

/// The requests in progress of this instance, and the last deaths of its workers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overview {
    /// The instance's name.
    pub instance: String,
    /// The requests, longest first.
    pub requests: Vec<RunningRequest>,
    /// Number of the others.
    pub more: u64,
    /// The deaths, newest first.
    pub deaths: Vec<LoggedDeath>,
}

/// The death of a worker, with the line of the error log.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LoggedDeath {
    /// The death.
    #[serde(flatten)]
    pub death: Death,
    /// The line.
    pub line: String,
}

/// A request in progress.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunningRequest {
    /// The instance's name.
    pub instance: String,
    /// The worker's id.
    pub worker: String,
    /// The worker's process.
    pub pid: u32,
    /// The method.
    pub method: String,
    /// The endpoint as `exporter.http.in_flight` allows.
    pub endpoint: String,
    /// The age in seconds.
    pub age: f64,
    /// The trace that it belongs to.
    pub trace: Option<String>,
}

/// The server's end: requests overviews.
#[derive(Debug, Clone)]
pub struct Overviews {
    requests: mpsc::Sender<oneshot::Sender<Overview>>,
}

/// The other end, of the process' main loop.
pub type OverviewRequests = mpsc::Receiver<oneshot::Sender<Overview>>;

/// Returns both ends.
pub fn overviews() -> (Overviews, OverviewRequests) {
    let (requests, receiver) = mpsc::channel(WAITING);
    (Overviews { requests }, receiver)
}

impl Overviews {
    /// Returns the present overview; `None` if the main loop does not answer within `limit`.
    pub async fn get(&self, limit: Duration) -> Option<Overview> {
        let (sender, answer) = oneshot::channel();
        let asked = async {
            self.requests.send(sender).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(limit, asked).await.ok().flatten()
    }
}

impl State {
    /// Reads what runs now.
    pub fn overview(&self) -> Overview {
        let mut inner = self.inner.borrow_mut();
        let own = inner.writers.values_mut().filter(|entry| {
            entry.is_own() && entry.life == Life::Live && entry.writer.role() == Role::Worker
        });
        let mut listed = Vec::new();
        let mut unlisted = 0;
        for entry in own {
            let requests = entry.writer.requests();
            unlisted += requests.unlisted;
            let pid = entry.writer.process().map_or(0, |process| process.pid);
            let worker = entry.writer.name();
            listed.extend(
                requests
                    .listed
                    .into_iter()
                    .map(|request| (request, worker.to_owned(), pid)),
            );
        }
        listed.sort_by_key(|(request, ..)| request.start_ns);
        let more = listed.len().saturating_sub(MAX_LISTED) as u64 + unlisted;
        listed.truncate(MAX_LISTED);
        let now_ns = monotonic_ns();
        let requests = listed.into_iter().map(|(request, worker, pid)| {
            let endpoint = self.shown(&request);
            RunningRequest {
                instance: self.options.instance.clone(),
                worker,
                pid,
                method: request.method.label().to_owned(),
                endpoint,
                age: request.age(now_ns),
                trace: request.trace_id(),
            }
        });
        let deaths = self.control.deaths().into_iter();
        let deaths = deaths.map(|death| LoggedDeath {
            line: death.in_words(),
            death,
        });
        Overview {
            instance: self.options.instance.clone(),
            requests: requests.collect(),
            more,
            deaths: deaths.collect(),
        }
    }

    fn shown(&self, request: &OpenRequest) -> String {
        let shown = match self.in_flight {
            InFlight::Path => request.path(),
            InFlight::Endpoint | InFlight::Off => {
                request.label(|path| self.control.find_endpoint(path).is_some())
            }
        };
        shown.into()
    }
}

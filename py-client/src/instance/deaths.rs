//! The end of a worker: what it was answering, in one line of the log, in a metric and in the control memory.
//!
//! The arbiter does this because it alone knows why a worker has ended, and it outlives every exporter. So an
//! exporter that is killed meanwhile changes nothing, and each end is reported once.

use std::collections::BTreeMap;

use metrics_settings::InFlight;
use metrics_store::catalogue::HTTP_ABORTED;
use metrics_store::{
    Death, Endpoint, LostRequest, Method, OTHER, OpenRequest, OpenRequests, Process, StoreError,
    StoreFile, monotonic_ns,
};

use super::{Line, Supervisor};
use crate::process::unix_time;
use crate::store::add_to;

/// Maximum number of requests in a line.
const LISTED: usize = 5;

/// What a worker leaves in its store.
#[derive(Debug, Clone, Default)]
pub(super) struct Remains {
    /// The code of its reason to end; 0 = none.
    pub(super) last_words: u64,
    pub(super) requests: OpenRequests,
    /// Where it hung.
    pub(super) stack: Option<String>,
}

impl Remains {
    pub(super) fn of(file: &StoreFile) -> Self {
        Self {
            last_words: file.last_words(),
            requests: file.requests(),
            stack: file.stack(),
        }
    }
}

/// The end of a worker as Gunicorn's arbiter sees it.
#[derive(Debug)]
pub(super) struct WorkerEnd {
    pub(super) worker_id: String,
    pub(super) pid: u32,
    /// As in `gunicorn_worker_restart_total`.
    pub(super) reason: String,
    /// The same in words: "was killed by SIGKILL".
    pub(super) how: String,
    /// Whether the worker was asked to end and did so.
    pub(super) is_orderly: bool,
    /// The largest size of its resident memory, in bytes; 0 = not known.
    pub(super) memory: u64,
}

impl Supervisor {
    /// Reports the end of the worker with that store, before [`end`](Self::end). Returns the line for the log;
    /// `None` if it ended in order and was answering nothing.
    pub(super) fn report_end(
        &mut self,
        number: u64,
        end: WorkerEnd,
        shows: InFlight,
        endpoint_limit: usize,
    ) -> Result<Option<Line>, StoreError> {
        let remains = match self.stores.get(&number) {
            Some(held) => Remains::of(&held.file),
            None => self.remains.get(&number).cloned().unwrap_or_default(),
        };
        let requests = &remains.requests;
        let counted = self.count_aborted(requests, &end.reason, endpoint_limit);
        if requests.is_empty() && end.is_orderly {
            return counted.map(|()| None);
        }
        let now_ns = monotonic_ns();
        let listed = requests.listed.iter().take(LISTED);
        let lost = listed.map(|request| LostRequest {
            method: request.method.label().to_owned(),
            endpoint: self.shown(request, shows),
            age: request.age(now_ns),
            trace: request.trace_id(),
        });
        let lost: Vec<_> = match shows {
            InFlight::Off => Vec::new(),
            InFlight::Endpoint | InFlight::Path => lost.collect(),
        };
        let stack = remains.stack.iter().flat_map(|stack| stack.lines());
        let death = Death {
            worker: end.worker_id,
            pid: end.pid,
            time: unix_time(),
            reason: end.reason,
            how: end.how,
            memory: end.memory,
            more: (requests.len() - lost.len()) as u64,
            requests: lost,
            stack: stack.map(str::to_owned).collect(),
        };
        let level = if end.is_orderly { "warning" } else { "error" };
        let line = (level, in_words(&death));
        self.control.add_death(death);
        counted.map(|()| Some(line))
    }

    fn shown(&self, request: &OpenRequest, shows: InFlight) -> String {
        let shown = match shows {
            InFlight::Path => request.path(),
            InFlight::Endpoint | InFlight::Off => self.label(request),
        };
        shown.into()
    }

    fn label(&self, request: &OpenRequest) -> Box<str> {
        request.label(|path| self.control.find_endpoint(path).is_some())
    }

    /// Counts the requests that a worker took with it, in the store of this process.
    fn count_aborted(
        &self,
        requests: &OpenRequests,
        reason: &str,
        endpoint_limit: usize,
    ) -> Result<(), StoreError> {
        let mut counts = BTreeMap::<(&str, Box<str>), u32>::new();
        for request in &requests.listed {
            if let Endpoint::Path(_) = &request.endpoint {
                // A path that cost a worker its life is worth a label, as one that was answered is.
                request.label(|path| {
                    let entry = self
                        .control
                        .endpoint(path, endpoint_limit, Process::current());
                    entry.is_some()
                });
            }
            let key = (request.method.label(), self.label(request));
            *counts.entry(key).or_default() += 1;
        }
        if let Ok(unlisted @ 1..) = u32::try_from(requests.unlisted) {
            let key = (Method::UNKNOWN.label(), OTHER.into());
            *counts.entry(key).or_default() += unlisted;
        }
        for ((method, endpoint), count) in counts {
            let labels = [
                ("method", method),
                ("endpoint", &endpoint),
                ("reason", reason),
            ];
            add_to(&HTTP_ABORTED, &labels, count)?;
        }
        Ok(())
    }
}

/// Returns the line of a death, and below it where the worker hung.
fn in_words(death: &Death) -> String {
    let mut text = death.in_words();
    if !death.stack.is_empty() {
        text.push_str("; it was in");
        for line in &death.stack {
            text.push_str("\n  ");
            text.push_str(line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_follow_the_line() {
        let mut death = Death {
            worker: "shop:0".to_owned(),
            pid: 7,
            how: "was killed by SIGABRT (timeout of 30 s)".to_owned(),
            ..Death::default()
        };
        let line =
            "worker 7 (shop:0) was killed by SIGABRT (timeout of 30 s) while answering no request";
        assert_eq!(in_words(&death), line);
        death.stack = vec!["File \"shop.py\", line 7, in slow".to_owned()];
        let frames = "; it was in\n  File \"shop.py\", line 7, in slow";
        assert_eq!(in_words(&death), format!("{line}{frames}"));
    }
}

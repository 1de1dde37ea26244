//! Exceptions: by which requests failed, and of which somebody made an answer.

use std::collections::{HashMap, HashSet};

use metrics_store::{Series, StoreError, WorkerStore};

use super::families::RouteFamilies;
use super::method::Method;
use super::route::OTHER;

/// How many classes of exceptions become label values; a program may make classes without end.
const MAX_NAMES: usize = 100;

/// What an error is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ErrorKind {
    /// The worker's documented family: the request ended by it.
    Failed,
    /// The worker's documented family: the server or the framework made an answer of it.
    Handled,
    /// By endpoint: the framework, or a handler of the application, made an answer of it.
    ByFramework,
    /// By endpoint: it came as far as the server.
    ByServer,
}

/// The labels of an error.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ErrorKey {
    pub(super) kind: ErrorKind,
    pub(super) method: Method,
    pub(super) endpoint: Box<str>,
    pub(super) name: Box<str>,
}

/// The errors of one worker.
#[derive(Debug, Default)]
pub(super) struct Errors {
    series: HashMap<ErrorKey, Series>,
    names: HashSet<Box<str>>,
}

impl Errors {
    pub(super) fn count(
        &mut self,
        store: &WorkerStore,
        families: &RouteFamilies,
        worker_id: &str,
        mut key: ErrorKey,
    ) -> Result<(), StoreError> {
        if !self.names.contains(&key.name) {
            if self.names.len() >= MAX_NAMES {
                key.name = OTHER.into();
            } else {
                self.names.insert(key.name.clone());
            }
        }
        if let Some(series) = self.series.get(&key) {
            series.add(0, 1.0);
            return Ok(());
        }
        let series = families.error(store, worker_id, &key)?;
        series.add(0, 1.0);
        self.series.insert(key, series);
        Ok(())
    }
}

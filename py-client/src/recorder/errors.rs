//! Exceptions: those that made requests fail, and those that were turned into responses.

use std::collections::{HashMap, HashSet};

use metrics_store::{Method, Series, StoreError, WorkerStore};

use super::families::RouteFamilies;
use super::route::OTHER;

/// Maximum number of classes of exceptions that become label values; a program may make any number.
const MAX_NAMES: usize = 100;

/// The family and kind under which an error is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ErrorKind {
    /// The worker's documented family: the request ended with it.
    Failed,
    /// The worker's documented family: the server or the framework turned it into a response.
    Handled,
    /// By endpoint: the framework, or a handler of the application, turned it into a response.
    ByFramework,
    /// By endpoint: it reached the server.
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

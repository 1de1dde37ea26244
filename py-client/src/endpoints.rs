//! The paths that may become labels if no framework names the route: one table for all workers.

use std::sync::Arc;

use metrics_store::{Control, Process};

/// A worker's view of the table of this instance.
#[derive(Debug, Clone)]
pub(crate) struct EndpointTable {
    control: Arc<Control>,
    limit: usize,
    me: Process,
}

impl EndpointTable {
    /// `limit` is the maximum number of paths.
    pub(crate) fn new(control: Arc<Control>, limit: usize) -> Self {
        Self {
            control,
            limit,
            me: Process::current(),
        }
    }

    /// Returns whether a path is in the table; adds it if its request was answered and there is
    /// space.
    pub(crate) fn holds(&self, path: &str, answered: bool) -> bool {
        let entry = if answered {
            self.control.endpoint(path, self.limit, self.me)
        } else {
            self.control.find_endpoint(path)
        };
        entry.is_some()
    }
}

//! The paths that may become labels, where no framework names the route: one table for all workers.

use std::sync::Arc;

use metrics_store::{Control, Process};

/// The table of this instance, as one worker uses it.
#[derive(Debug, Clone)]
pub(crate) struct EndpointTable {
    control: Arc<Control>,
    limit: usize,
    me: Process,
}

impl EndpointTable {
    /// `limit`: how many paths may enter.
    pub(crate) fn new(control: Arc<Control>, limit: usize) -> Self {
        Self {
            control,
            limit,
            me: Process::current(),
        }
    }

    /// Whether a path is in the table, or enters it now because its request was answered.
    pub(crate) fn holds(&self, path: &str, answered: bool) -> bool {
        let entry = if answered {
            self.control.endpoint(path, self.limit, self.me)
        } else {
            self.control.find_endpoint(path)
        };
        entry.is_some()
    }
}

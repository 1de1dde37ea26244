//! The settings `exporter.http` in the form that the recorder uses.

use metrics_settings::{HttpSettings, InFlight};

/// Which requests are recorded, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    skip_paths: Vec<String>,
    skip_methods: Vec<String>,
    pub(super) group_status: bool,
    pub(super) exemplars: bool,
    pub(super) in_flight: InFlight,
}

impl From<&HttpSettings> for Options {
    fn from(http: &HttpSettings) -> Self {
        Self {
            skip_paths: http.skip_paths.clone(),
            skip_methods: http
                .skip_methods
                .iter()
                .map(|method| method.to_ascii_uppercase())
                .collect(),
            group_status: http.group_status,
            exemplars: http.exemplars,
            in_flight: http.in_flight,
        }
    }
}

impl Options {
    /// Returns whether any request is skipped.
    #[inline]
    pub(super) fn skips(&self) -> bool {
        !(self.skip_paths.is_empty() && self.skip_methods.is_empty())
    }

    /// Returns whether requests with that method or path are skipped.
    pub(super) fn skips_request(&self, method: &str, path: &str) -> bool {
        self.skip_methods.iter().any(|skipped| skipped == method)
            || self.skip_paths.iter().any(|skipped| skipped == path)
    }

    /// Returns the value of the label `status`.
    pub(super) fn status_label(&self, status: u16) -> String {
        match status {
            super::route::NO_STATUS => "<none>".to_owned(),
            status if self.group_status => format!("{}xx", status / 100),
            status => status.to_string(),
        }
    }
}

//! `/requests`: what this instance answers now, and the last deaths of its workers, as JSON.

use std::time::Duration;

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use metrics_agent::Overview;

use super::{App, line};
use crate::scrape::PageBody;

/// Time limit for reading the memory of this instance's workers.
const LIMIT: Duration = Duration::from_secs(2);
const OFF: &str = "not found: requests in progress are shown by the exporter that Gunicorn starts, unless exporter.http.in_flight is off";
const SILENT: &str =
    "the requests in progress cannot be read now: the exporter is busy, or about to end";

impl App {
    /// Returns what runs now; `None` if this exporter has no instance, does not show it, or cannot read it.
    pub(super) async fn overview(&self) -> Option<Overview> {
        self.overviews.as_ref()?.get(LIMIT).await
    }

    pub(super) async fn running_requests(&self) -> Response<PageBody> {
        if self.overviews.is_none() {
            return line(StatusCode::NOT_FOUND, OFF);
        }
        let Some(overview) = self.overview().await else {
            return line(StatusCode::SERVICE_UNAVAILABLE, SILENT);
        };
        let text = match serde_json::to_string(&overview) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!("the requests in progress cannot be written: {error}");
                return line(StatusCode::INTERNAL_SERVER_ERROR, SILENT);
            }
        };
        let mut response = Response::new(format!("{text}\n").into());
        let headers = response.headers_mut();
        for (name, value) in [
            (CONTENT_TYPE, "application/json"),
            (CACHE_CONTROL, "no-store"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

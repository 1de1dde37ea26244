//! The live page and its parts (see [`crate::page`]).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use metrics_model::ExposeRequest;
use serde::Serialize;
use tokio::time::Instant;

use super::{App, no_instance};
use crate::backend::BackendError;
use crate::negotiate::Encoding;
use crate::page::{self, FAMILIES, Figures};
use crate::scrape::{HoldBack, Outcome, PageBody, Scrape};
use metrics_agent::{Overview, now_ms};
use metrics_settings::Scope;

/// Time limit of the live page.
const DEADLINE: Duration = Duration::from_secs(5);
/// Time limit of the refresh before it.
const REFRESH_LIMIT: Duration = Duration::from_secs(1);

/// The JSON that the script gets.
#[derive(Serialize)]
struct Answer<'a> {
    scope: &'a str,
    figures: &'a Figures,
    /// What runs in this instance now, if this exporter shows that.
    running: Option<Overview>,
}

/// The outage that the script and the page show in place of figures.
#[derive(Serialize)]
pub(crate) struct Outage {
    pub(crate) headline: &'static str,
    /// The reason and its remedy, in one line.
    pub(crate) reason: String,
    /// Start of the outage, in Unix milliseconds.
    pub(crate) since_ms: u64,
}

impl Outage {
    fn of(error: &BackendError, since_ms: u64) -> Self {
        let reason = if error.is_outage() {
            format!(
                "Redis is away: {error}. Start it, or check exporter.redis. Workers go on counting, and nothing is lost."
            )
        } else {
            format!("{error}.")
        };
        Self {
            headline: "No figures",
            reason,
            since_ms,
        }
    }
}

impl App {
    fn outage(&self, scope: Scope, error: &BackendError) -> Outage {
        Outage::of(error, self.renderings.has_failed(scope, now_ms()))
    }

    /// Returns what the figures cover, or what is missing.
    fn in_words(&self, scope: Scope) -> Cow<'static, str> {
        match (self.advice, scope) {
            (Some(advice), _) => {
                let (first, rest) = advice.split_at(1);
                format!("{}{rest}.", first.to_uppercase()).into()
            }
            (None, Scope::Shared) => "All instances that share this Redis.".into(),
            (None, Scope::Instance) => "This instance.".into(),
        }
    }

    pub(super) async fn live_page(&self) -> Response<PageBody> {
        let (status, html) = match self.figures().await {
            None => return no_instance(),
            Some((scope, Ok(figures))) => {
                let overview = self.overview().await;
                let html = page::page(&figures, overview.as_ref(), &self.in_words(scope));
                (StatusCode::OK, html)
            }
            Some((scope, Err(error))) => {
                let html = page::unavailable(&self.outage(scope, &error));
                (StatusCode::SERVICE_UNAVAILABLE, html)
            }
        };
        let mut response = html_part(html, "text/html; charset=utf-8");
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    pub(super) async fn page_figures(&self) -> Response<PageBody> {
        let (status, text) = match self.figures().await {
            None => return no_instance(),
            Some((scope, Err(error))) => {
                let outage = self.outage(scope, &error);
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    serde_json::to_string(&outage),
                )
            }
            Some((scope, Ok(figures))) => {
                let answer = Answer {
                    scope: &self.in_words(scope),
                    figures: &figures,
                    running: self.overview().await,
                };
                (StatusCode::OK, serde_json::to_string(&answer))
            }
        };
        match text {
            Ok(text) => {
                let mut response = html_part(text, "application/json");
                *response.status_mut() = status;
                let fresh = HeaderValue::from_static("no-store");
                response.headers_mut().insert(CACHE_CONTROL, fresh);
                response
            }
            Err(error) => {
                tracing::error!("the figures of the page cannot be written: {error}");
                let text = "the figures of the page cannot be written";
                super::line(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    }

    /// Returns the figures of `/metrics`; `None` if there is no registry for it.
    async fn figures(&self) -> Option<(Scope, Result<Figures, BackendError>)> {
        let (backend, scope) = self.what_metrics_means()?;
        let started = Instant::now();
        self.refreshed(scope, REFRESH_LIMIT).await;
        let scrape = Scrape {
            scope,
            backend: backend.clone(),
            request: ExposeRequest {
                names: FAMILIES.map(str::to_owned).to_vec(),
                ..ExposeRequest::default()
            },
            encoding: Encoding::Identity,
            shows_flushed: self.refresh.is_some(),
            deadline: started + DEADLINE,
            keep: HoldBack::All,
            head_only: false,
            outcome: Outcome {
                own: Arc::clone(&self.own),
                path: "/",
                started,
            },
        };
        let figures = scrape.start(&self.renderings).await.map(|body| {
            let text = match body {
                PageBody::Whole(Some(text)) => text,
                // With `HoldBack::All` there are no other bodies, because all of the page is kept back
                // until it is complete.
                PageBody::Whole(None) | PageBody::Unknown | PageBody::Pages(_) => {
                    bytes::Bytes::new()
                }
            };
            Figures::of(&String::from_utf8_lossy(&text), now_ms())
        });
        Some((scope, figures))
    }
}

/// Returns the script or the style sheet.
pub(super) fn page_part(text: &'static str, content_type: &'static str) -> Response<PageBody> {
    let mut response = html_part(text.to_owned(), content_type);
    // They change only with the program, but a new program may have the same address.
    let checked = HeaderValue::from_static("no-cache");
    response.headers_mut().insert(CACHE_CONTROL, checked);
    response
}

fn html_part(text: String, content_type: &'static str) -> Response<PageBody> {
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, page::SECURITY_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

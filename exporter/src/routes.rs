//! The paths of the server.

mod live_page;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use hyper::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY,
    WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use metrics_model::{ExposeRequest, MAX_NAMES, MAX_NAMES_BYTES};
use tokio::time::Instant;

use crate::backend::{Backend, BackendError};
use crate::negotiate::{self, Form};
use crate::page;
use crate::protection::Protection;
use crate::scrape::{HoldBack, Outcome, PageBody, Renderings, Scrape};
pub(crate) use live_page::Outage;
use live_page::page_part;
use metrics_agent::{Overviews, OwnMetrics, Refresh};
use metrics_settings::Scope;

/// Maximum time that a scrape waits for the flusher of its instance; at most half of the scraper's
/// own limit.
const REFRESH_LIMIT: Duration = Duration::from_secs(2);
const PLAIN: &str = "text/plain; charset=utf-8";
const ALLOWED: &str = "GET, HEAD, OPTIONS";

/// What the server serves.
#[derive(Debug, Clone)]
pub struct App {
    /// The registry of this instance; a standalone exporter has none.
    pub instance: Option<Backend>,
    /// The registry that instances share, if Redis is used.
    pub shared: Option<Backend>,
    /// The registry that `/metrics` shows.
    pub scope: Scope,
    /// What is missing, if there is nothing to serve: the exporter is not ready then.
    pub advice: Option<&'static str>,
    /// The flusher of this instance; a standalone exporter has none.
    pub refresh: Option<Refresh>,
    /// Overviews of this instance; `None` without an instance, or if they are turned off.
    pub overviews: Option<Overviews>,
    /// Renderings in progress.
    pub renderings: Renderings,
    /// TLS and password.
    pub protection: Protection,
    /// The exporter's own metrics.
    pub own: Arc<OwnMetrics>,
}

/// The target of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Metrics,
    InstanceMetrics,
    OwnMetrics,
    Requests,
    Root,
    PageFigures,
    PageScript,
    PageStyle,
    Healthy,
    Ready,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/metrics/instance" => Some(Self::InstanceMetrics),
            "/requests" => Some(Self::Requests),
            "/-/metrics" => Some(Self::OwnMetrics),
            "/" => Some(Self::Root),
            "/-/page.json" => Some(Self::PageFigures),
            "/-/page.js" => Some(Self::PageScript),
            "/-/page.css" => Some(Self::PageStyle),
            "/healthz" | "/-/healthy" => Some(Self::Healthy),
            "/readyz" | "/-/ready" => Some(Self::Ready),
            _ => None,
        }
    }
}

impl App {
    /// Answers one request. Does not read the request's body.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<PageBody> {
        let route = Route::of(request.uri().path());
        // Health checks of containers have no password.
        let is_open = matches!(route, Some(Route::Healthy | Route::Ready));
        if !is_open
            && let Some(auth) = self.protection.auth()
            && !auth.allows(request.headers()).await
        {
            return unauthorized();
        }
        let Some(route) = route else {
            return line(
                StatusCode::NOT_FOUND,
                "not found: the metrics are at /metrics",
            );
        };
        if !matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS
        ) {
            let text = format!("{} is not allowed here: {ALLOWED}", request.method());
            return allowing(line(StatusCode::METHOD_NOT_ALLOWED, &text));
        }
        if request.method() == Method::OPTIONS {
            let mut response = Response::new(PageBody::Whole(None));
            *response.status_mut() = StatusCode::NO_CONTENT;
            return allowing(response);
        }
        let response = match route {
            Route::Root if page::is_wanted(request.headers()) => self.live_page().await,
            Route::Root | Route::Metrics => match self.what_metrics_means() {
                Some((backend, scope)) => self.scrape(&request, backend, scope, "/metrics").await,
                None => no_instance(),
            },
            Route::PageFigures => self.page_figures().await,
            Route::PageScript => page_part(page::SCRIPT, "text/javascript; charset=utf-8"),
            Route::PageStyle => page_part(page::STYLE, "text/css; charset=utf-8"),
            Route::InstanceMetrics => match &self.instance {
                Some(instance) => {
                    self.scrape(&request, instance, Scope::Instance, "/metrics/instance")
                        .await
                }
                None => no_instance(),
            },
            Route::OwnMetrics => self.own_metrics(),
            Route::Requests => self.running_requests().await,
            Route::Healthy => line(StatusCode::OK, "ok"),
            Route::Ready => self.ready().await,
        };
        if request.method() == Method::HEAD {
            return head(response);
        }
        response
    }

    /// Returns the registry of `/metrics` and its scope.
    fn what_metrics_means(&self) -> Option<(&Backend, Scope)> {
        match (&self.shared, &self.instance, self.scope) {
            (Some(shared), _, Scope::Shared) => Some((shared, Scope::Shared)),
            (_, Some(instance), _) => Some((instance, Scope::Instance)),
            (_, None, _) => None,
        }
    }

    async fn scrape<B>(
        &self,
        request: &Request<B>,
        backend: &Backend,
        scope: Scope,
        path: &'static str,
    ) -> Response<PageBody> {
        let started = Instant::now();
        let names = negotiate::names(request.uri().query());
        if names.len() > MAX_NAMES {
            let found = names.len();
            let text = format!("name[] is given {found} times, at most {MAX_NAMES} are allowed");
            return line(StatusCode::BAD_REQUEST, &text);
        }
        let found = names.iter().map(String::len).sum::<usize>();
        if found > MAX_NAMES_BYTES {
            let text = format!(
                "name[] has {found} bytes altogether, at most {MAX_NAMES_BYTES} are allowed"
            );
            return line(StatusCode::BAD_REQUEST, &text);
        }
        let limit = negotiate::deadline(request.headers());
        self.refreshed(scope, REFRESH_LIMIT.min(limit / 2)).await;
        let form = negotiate::form(request.headers());
        let encoding = negotiate::encoding(request.headers());
        let scrape = Scrape {
            scope,
            backend: backend.clone(),
            request: ExposeRequest {
                format: form.format,
                escaping: form.escaping,
                names,
                ..ExposeRequest::default()
            },
            encoding,
            shows_flushed: self.refresh.is_some(),
            deadline: started + limit,
            keep: if request.version() < Version::HTTP_11 {
                HoldBack::Usual
            } else {
                HoldBack::Nothing
            },
            head_only: request.method() == Method::HEAD,
            outcome: Outcome {
                own: Arc::clone(&self.own),
                path,
                started,
            },
        };
        match scrape.start(&self.renderings).await {
            Ok(body) => {
                let mut response = Response::new(body);
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, content_type(form));
                if let Some(name) = encoding.name() {
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
                }
                headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
                response
            }
            Err(error) => {
                tracing::warn!("the scrape of {path} fails: {error}");
                unavailable(&error)
            }
        }
    }

    /// Makes the flusher push the latest values of this instance. If it cannot, the page shows the
    /// previous flush, which is correct and a little older.
    async fn refreshed(&self, scope: Scope, limit: Duration) {
        let Some(refresh) = &self.refresh else {
            return;
        };
        if let Err(error) = refresh.flush(scope, limit).await {
            tracing::warn!("the page is as old as the last flush: {error}");
            self.own.failed("refresh");
        }
    }

    fn own_metrics(&self) -> Response<PageBody> {
        match self.own.render() {
            Ok(page) => {
                let mut response = Response::new(page.into());
                let value = content_type(Form::OPEN_METRICS);
                response.headers_mut().insert(CONTENT_TYPE, value);
                response
            }
            Err(error) => {
                tracing::error!("the exporter's own metrics cannot be rendered: {error}");
                line(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the exporter's own metrics cannot be rendered",
                )
            }
        }
    }

    /// Answers whether `/metrics` would be answered.
    async fn ready(&self) -> Response<PageBody> {
        if let Some(advice) = self.advice {
            return line(StatusCode::SERVICE_UNAVAILABLE, advice);
        }
        let Some((backend, _)) = self.what_metrics_means() else {
            return no_instance();
        };
        let first_series = ExposeRequest {
            cursor: Some(b"0".to_vec()),
            count: Some(1),
            ..ExposeRequest::default()
        };
        match backend.page(&first_series).await {
            Ok(_) => line(StatusCode::OK, "ready"),
            Err(error) => unavailable(&error),
        }
    }
}

fn content_type(form: Form) -> HeaderValue {
    // It contains only letters, digits and punctuation.
    HeaderValue::try_from(form.content_type()).unwrap_or(HeaderValue::from_static(PLAIN))
}

fn no_instance() -> Response<PageBody> {
    line(
        StatusCode::NOT_FOUND,
        "not found: this exporter serves no instance of its own, the shared metrics are at /metrics",
    )
}

fn unauthorized() -> Response<PageBody> {
    let mut response = line(
        StatusCode::UNAUTHORIZED,
        "a user and a password are needed here: exporter.auth names them",
    );
    let scheme = HeaderValue::from_static("Basic realm=\"metrics\", charset=\"UTF-8\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response
}

fn unavailable(error: &BackendError) -> Response<PageBody> {
    let mut response = line(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
    let soon = HeaderValue::from_static("1");
    response.headers_mut().insert(RETRY_AFTER, soon);
    response
}

/// Returns a response of one line of text.
pub(crate) fn line(status: StatusCode, text: &str) -> Response<PageBody> {
    let mut response = Response::new(format!("{text}\n").into());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static(PLAIN);
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

fn allowing(mut response: Response<PageBody>) -> Response<PageBody> {
    let allowed = HeaderValue::from_static(ALLOWED);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// Removes the body of a response; a page of more than one part has no known length.
fn head(mut response: Response<PageBody>) -> Response<PageBody> {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = PageBody::Whole(None);
    response
}

#[cfg(test)]
mod tests;

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use flate2::read::GzDecoder;
use hyper::header::{ACCEPT, ACCEPT_ENCODING};
use metrics_model::{Epoch, Labels, Limits, Registry};

use super::*;
use metrics_agent::EmbeddedRegistry;
use metrics_agent::{RefreshRequests, refresh};

/// Makes a registry in which the series `of` has been counted once, under so many values of a
/// label.
fn registry(of: &str, series: usize) -> Arc<Mutex<Registry>> {
    let mut registry = Registry::new(Epoch(7), Limits::default(), 1);
    for number in 0..series {
        let stamp = registry.stamp(1, &Limits::default(), false);
        let value = number.to_string();
        let labels = Labels::new([("number", value.as_str())]).unwrap();
        registry.inc(&stamp, of, &labels, 1.0, None).unwrap();
    }
    Arc::new(Mutex::new(registry))
}

fn app(instance: Option<&Arc<Mutex<Registry>>>, shared: Option<&Arc<Mutex<Registry>>>) -> App {
    let backend = |registry: &Arc<Mutex<Registry>>| {
        Backend::Embedded(EmbeddedRegistry::new(Arc::clone(registry)))
    };
    App {
        instance: instance.map(backend),
        shared: shared.map(backend),
        scope: Scope::Shared,
        advice: None,
        refresh: None,
        overviews: None,
        renderings: Renderings::default(),
        protection: Protection::default(),
        own: Arc::new(OwnMetrics::new()),
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

async fn bytes(mut body: PageBody) -> Result<Vec<u8>, <PageBody as Body>::Error> {
    let mut bytes = Vec::new();
    loop {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        match frame.transpose()?.map(hyper::body::Frame::into_data) {
            None => return Ok(bytes),
            Some(data) => bytes.extend_from_slice(&data.unwrap()),
        }
    }
}

async fn text(response: Response<PageBody>) -> String {
    String::from_utf8(bytes(response.into_body()).await.unwrap()).unwrap()
}

fn header(response: &Response<PageBody>, name: hyper::header::HeaderName) -> &str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn without_redis_metrics_are_this_instances() {
    let app = app(Some(&registry("mine", 1)), None);
    for path in ["/metrics", "/metrics/instance"] {
        let response = app.answer(get(path)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            header(&response, CONTENT_TYPE),
            "text/plain; version=0.0.4; charset=utf-8"
        );
        assert_eq!(
            text(response).await,
            "# TYPE mine_total counter\nmine_total{number=\"0\"} 1\n"
        );
    }
}

#[tokio::test]
async fn with_a_shared_registry_the_scope_decides() {
    let mut app = app(Some(&registry("mine", 1)), Some(&registry("ours", 1)));
    for (scope, path, family) in [
        (Scope::Shared, "/metrics", "ours_total"),
        (Scope::Shared, "/metrics/instance", "mine_total"),
        (Scope::Instance, "/metrics", "mine_total"),
    ] {
        app.scope = scope;
        let page = text(app.answer(get(path)).await).await;
        assert!(page.contains(family), "{scope:?} {path}: {page}");
    }
}

#[tokio::test]
async fn names_formats_and_compression_are_the_scrapers_choice() {
    let registry = registry("mine", 1);
    {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = registry.stamp(1, &Limits::default(), false);
        let none = Labels::none();
        registry.inc(&stamp, "other", &none, 2.0, None).unwrap();
    }
    let app = app(Some(&registry), None);
    let mut request = get("/metrics?name%5B%5D=other_total");
    let headers = request.headers_mut();
    let open_metrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0");
    headers.insert(ACCEPT, open_metrics);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    let response = app.answer(request).await;
    assert_eq!(header(&response, CONTENT_ENCODING), "gzip");
    assert_eq!(
        header(&response, CONTENT_TYPE),
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    );
    let compressed = bytes(response.into_body()).await.unwrap();
    let mut page = String::new();
    GzDecoder::new(compressed.as_slice())
        .read_to_string(&mut page)
        .unwrap();
    assert_eq!(page, "# TYPE other counter\nother_total 2\n# EOF\n");
}

#[tokio::test]
async fn a_long_page_comes_in_parts_and_is_the_same() {
    const SERIES: usize = 30_000;
    let app = app(Some(&registry("mine", SERIES)), None);
    for version in [Version::HTTP_11, Version::HTTP_10] {
        let mut request = get("/metrics");
        *request.version_mut() = version;
        let response = app.answer(request).await;
        let is_streamed = response.body().size_hint().exact().is_none();
        assert_eq!(is_streamed, version == Version::HTTP_11);
        let page = text(response).await;
        assert_eq!(page.lines().count(), SERIES + 1);
        for (number, line) in page.lines().skip(1).enumerate() {
            assert_eq!(line, format!("mine_total{{number=\"{number}\"}} 1"));
        }
    }
    let own = text(app.answer(get("/-/metrics")).await).await;
    assert!(
        own.contains("gunicorn_exporter_scrapes_total{path=\"/metrics\",result=\"complete\"} 2\n"),
        "{own}"
    );
}

#[tokio::test]
async fn a_registry_that_changes_its_life_breaks_the_page_off() {
    let registry = registry("mine", 30_000);
    let app = app(Some(&registry), None);
    let response = app.answer(get("/metrics")).await;
    assert_eq!(response.status(), StatusCode::OK);
    *registry.lock().unwrap() = Registry::new(Epoch(8), Limits::default(), 1);
    assert!(bytes(response.into_body()).await.is_err());
    let own = app.own.render().unwrap();
    assert!(own.contains("result=\"broken_off\"} 1\n"), "{own}");
}

#[tokio::test]
async fn a_deadline_that_passes_breaks_the_page_off() {
    let app = app(Some(&registry("mine", 30_000)), None);
    let mut request = get("/metrics");
    let name = "x-prometheus-scrape-timeout-seconds";
    request
        .headers_mut()
        .insert(name, HeaderValue::from_static("0.2"));
    let response = app.answer(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(bytes(response.into_body()).await.is_err());
}

#[tokio::test]
async fn a_healing_registry_is_unavailable_and_not_empty() {
    let registry = registry("mine", 1);
    let app = app(Some(&registry), None);
    let clock_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64;
    {
        let mut registry = registry.lock().unwrap();
        let stamp = registry.stamp(clock_ms, &Limits::default(), false);
        let write = metrics_model::GaugeWrite {
            family: "leased",
            labels: &Labels::none(),
            value: 1.0,
            mode: None,
            writer: b"w",
            lease_ms: Some(60_000),
            ttl_ms: None,
        };
        registry.set(&stamp, &write).unwrap();
        registry.rolled_back(clock_ms);
    }
    for path in ["/metrics", "/readyz"] {
        let response = app.answer(get(path)).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(
            text(response).await,
            "the registry was rolled back and waits for its writers, try again soon\n"
        );
    }
    assert_eq!(app.answer(get("/healthz")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn so_many_names_are_asked_for_at_once() {
    let app = app(Some(&registry("mine", 1)), None);
    let path = |names: usize| format!("/metrics?{}", "name[]=mine&".repeat(names));
    let response = app.answer(get(&path(256))).await;
    assert_eq!(response.status(), StatusCode::OK);
    let response = app.answer(get(&path(257))).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        text(response).await,
        "name[] is given 257 times, at most 256 are allowed\n"
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_told_where_and_how() {
    let app = app(Some(&registry("mine", 1)), None);
    let response = app.answer(get("/favicon.ico")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        text(response).await,
        "not found: the metrics are at /metrics\n"
    );

    let post = Request::post("/metrics").body(()).unwrap();
    let response = app.answer(post).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(header(&response, ALLOW), "GET, HEAD, OPTIONS");

    let options = Request::options("/metrics").body(()).unwrap();
    let response = app.answer(options).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&response, ALLOW), "GET, HEAD, OPTIONS");

    let whole = text(app.answer(get("/metrics")).await).await;
    let head = Request::head("/metrics").body(()).unwrap();
    let response = app.answer(head).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, CONTENT_LENGTH), whole.len().to_string());
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn an_exporter_without_an_instance_says_so() {
    let app = app(None, Some(&registry("ours", 1)));
    let response = app.answer(get("/metrics/instance")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(app.answer(get("/metrics")).await.status(), StatusCode::OK);
    assert_eq!(app.answer(get("/-/ready")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_scrape_shows_what_was_recorded_up_to_now() {
    let registry = registry("mine", 1);
    let mut app = app(Some(&registry), None);
    let (handle, requests) = refresh();
    app.refresh = Some(handle);
    let flusher = tokio::spawn(flush_once(requests, Arc::clone(&registry)));
    let page = text(app.answer(get("/metrics")).await).await;
    assert!(page.contains("late_total 1\n"), "{page}");
    assert_eq!(flusher.await.unwrap(), Scope::Instance);
}

async fn flush_once(mut requests: RefreshRequests, registry: Arc<Mutex<Registry>>) -> Scope {
    let request = requests.next().await.unwrap();
    let scope = request.scope;
    {
        let mut registry = registry.lock().unwrap();
        let stamp = registry.stamp(2, &Limits::default(), false);
        let none = Labels::none();
        registry.inc(&stamp, "late", &none, 1.0, None).unwrap();
    }
    request.answer();
    scope
}

//! Writes the page as it is without a script: totals since the start.

mod running;
mod values;

use std::fmt::{self, Display, Write as _};

use metrics_agent::Overview;

use super::figures::{Endpoint, Exception, Figures, Worker};
use crate::routes::Outage;
use running::running;
use values::{Count, Percent, Seconds, Text, Time, Uptime};

/// Share of failed requests above which the page warns, and below it the share for an alarm. The
/// script uses the same limits for the last minute.
const SOME_FAIL: f64 = 0.01;
const MANY_FAIL: f64 = 0.05;
/// Maximum number of rows without a script.
const ROWS: usize = 50;

/// Returns the whole page. `scope` describes in words what the figures cover.
pub(crate) fn page(figures: &Figures, overview: Option<&Overview>, scope: &str) -> String {
    let (level, headline) = verdict(figures);
    let mut html = String::with_capacity(16 * 1_024);
    begin(
        &mut html,
        level,
        &headline,
        scope,
        "Counted since the start.",
    );
    // Writing to a string cannot fail.
    let _ = body(&mut html, figures, overview);
    html.push_str(END);
    html
}

/// Returns the page for a registry that does not answer; the script shows figures when it does. The
/// page contains nothing else, because nothing is known of workers and requests.
pub(crate) fn unavailable(outage: &Outage) -> String {
    let mut html = String::new();
    let since = format!(
        "Since {} (UTC). This page goes on by itself.",
        Time(outage.since_ms)
    );
    begin(&mut html, "bad", outage.headline, &outage.reason, &since);
    html.push_str("<div id=\"figures\" hidden>\n");
    // Writing to a string cannot fail.
    let none = Figures::default();
    let _ = tiles(&mut html, &none).and_then(|()| tables(&mut html, &none, None));
    html.push_str("</div>\n");
    html.push_str(END);
    html
}

fn verdict(figures: &Figures) -> (&'static str, String) {
    let failures = figures.statuses.server_errors + figures.aborted;
    let answered = figures.statuses.all() + figures.aborted;
    let share = failures / answered.max(1.0);
    if figures.workers.is_empty() {
        ("idle", "Waiting for the first worker".to_owned())
    } else if figures.running == 0 {
        ("bad", "No worker is running".to_owned())
    } else if share > MANY_FAIL {
        ("bad", format!("{} of requests fail", Percent(share)))
    } else if share > SOME_FAIL {
        ("warn", format!("{} of requests fail", Percent(share)))
    } else if answered == 0.0 {
        ("good", "Ready, no requests yet".to_owned())
    } else {
        ("good", "Healthy".to_owned())
    }
}

fn begin(html: &mut String, level: &str, headline: &str, scope: &str, when: &str) {
    let _ = write!(
        html,
        r##"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{headline} – Gunicorn</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="-/page.css">
<script src="-/page.js" defer></script>
<noscript><meta http-equiv="refresh" content="5"></noscript>
</head>
<body>
<a class="skip" href="#endpoints">Skip to the endpoints</a>
<header>
<div role="status" aria-live="polite">
<h1 id="verdict" class="{level}"><span class="dot" aria-hidden="true"></span><span id="headline">{headline}</span></h1>
</div>
<p id="scope">{scope}</p>
<p class="when"><span id="when">{when}</span> <button id="pause" type="button" hidden>Pause</button></p>
</header>
<main>
"##,
        headline = Text(headline),
        scope = Text(scope),
        when = Text(when),
    );
}

const END: &str = r#"</main>
<footer>
<p>Quantiles are estimated from the buckets of the histograms, as Prometheus does it.
The same numbers for a scraper: <a href="metrics">/metrics</a>; what runs, as JSON: <a href="requests">/requests</a>; the exporter's own: <a href="-/metrics">/-/metrics</a>.</p>
</footer>
</body>
</html>
"#;

fn body(html: &mut String, figures: &Figures, overview: Option<&Overview>) -> fmt::Result {
    html.push_str("<div id=\"figures\">\n");
    tiles(html, figures)?;
    notes(html, figures)?;
    tables(html, figures, overview)?;
    html.push_str("</div>\n");
    Ok(())
}

fn tiles(html: &mut String, figures: &Figures) -> fmt::Result {
    let durations = &figures.durations;
    let statuses = &figures.statuses;
    let failed = statuses.server_errors + figures.aborted;
    html.push_str("<section class=\"tiles\" aria-label=\"At a glance\">\n");
    tile(html, "rate", "Requests", Count(figures.requests), "in all")?;
    let p50 = Seconds(durations.quantile(0.5));
    let (p95, p99) = (
        Seconds(durations.quantile(0.95)),
        Seconds(durations.quantile(0.99)),
    );
    tile(
        html,
        "latency",
        "Latency, 95 %",
        p95,
        &format!("half {p50}, 99 % {p99}"),
    )?;
    let share = Percent(failed / (statuses.all() + figures.aborted).max(1.0));
    let note = format!(
        "{} errors, {} cut off",
        Count(statuses.server_errors),
        Count(figures.aborted)
    );
    tile(html, "failing", "Failing", share, &note)?;
    let told =
        |count: Option<f64>| count.map_or("–".to_owned(), |count| Count(count).to_string());
    let note = format!("{} wait to be accepted", told(figures.waiting));
    tile(
        html,
        "progress",
        "In progress",
        told(figures.in_progress),
        &note,
    )?;
    let restarts = figures.restarts.values().fold(0.0, |sum, one| sum + one);
    let note = format!("{} restarts", Count(restarts));
    tile(html, "workers", "Workers", figures.running, &note)?;
    html.push_str("</section>\n");
    Ok(())
}

/// Tips for a page without data.
fn notes(html: &mut String, figures: &Figures) -> fmt::Result {
    if figures.requests == 0.0 {
        html.push_str(EMPTY);
        if !figures.missing_keys.is_empty() {
            let keys = figures.missing_keys.join(", ");
            writeln!(html, "{MISSING}<code>{}</code></p>", Text(&keys))?;
        } else if figures.workers.is_empty() {
            html.push_str(NO_WORKER);
        }
        html.push_str("</section>\n");
    }
    Ok(())
}

fn tables(html: &mut String, figures: &Figures, overview: Option<&Overview>) -> fmt::Result {
    endpoints(html, figures)?;
    running(html, overview)?;
    exceptions(html, &figures.exceptions)?;
    workers(html, figures)?;
    reasons(html, figures)
}

const EMPTY: &str = r#"<section id="empty" class="empty">
<h2>Nothing has been asked yet</h2>
<p>This page draws what the workers of this application do, as they do it. Send it a request, for example
<code>curl http://localhost:8000/</code>, and watch.</p>
"#;
const NO_WORKER: &str = r#"<p id="no-worker">No worker has reported here yet. Where Gunicorn runs already, see that it was started with our worker class
(<code>gunicorn -k gunicorn_prometheus_exporter.PrometheusWorker app:app</code>), and with Redis, that both name the same one.</p>
"#;
const MISSING: &str = "<p id=\"no-worker\">Redis answers, and has no registry at this key: no application has pushed there yet, or \
    <code>exporter.redis.key_prefix</code> is another than theirs. ";

fn tile(html: &mut String, id: &str, name: &str, value: impl Display, note: &str) -> fmt::Result {
    writeln!(
        html,
        "<div class=\"tile\" id=\"{id}\"><h2>{name}</h2><p class=\"value\">{value}</p>\
         <p class=\"note\">{}</p><svg class=\"spark\" role=\"img\" aria-label=\"{name}, last five minutes\" \
         viewBox=\"0 0 240 48\" preserveAspectRatio=\"none\"></svg></div>",
        Text(note)
    )
}

fn endpoints(html: &mut String, figures: &Figures) -> fmt::Result {
    html.push_str(
        "<section id=\"endpoints\"><div class=\"title\"><h2>Endpoints</h2>\
         <div class=\"sorts\" role=\"group\" aria-label=\"Order of endpoints\" hidden>\
         <button type=\"button\" data-sort=\"rate\" aria-pressed=\"true\">Busiest</button>\
         <button type=\"button\" data-sort=\"p95\" aria-pressed=\"false\">Slowest</button>\
         <button type=\"button\" data-sort=\"failing\" aria-pressed=\"false\">Failing</button></div></div>\n\
         <table><thead><tr><th scope=\"col\">Endpoint</th><th scope=\"col\" class=\"load\">Requests</th>\
         <th scope=\"col\">Half</th><th scope=\"col\">95 %</th><th scope=\"col\">4xx</th>\
         <th scope=\"col\">5xx</th></tr></thead>\n<tbody id=\"endpoint-rows\">\n",
    );
    for endpoint in figures.endpoints.iter().take(ROWS) {
        let Endpoint {
            method,
            endpoint,
            statuses,
            durations,
        } = endpoint;
        writeln!(
            html,
            "<tr><th scope=\"row\"><span class=\"method\">{}</span> {}</th>\
             <td data-name=\"Requests\" class=\"load\">{}</td>\
             <td data-name=\"Half\">{}</td><td data-name=\"95 %\">{}</td>\
             <td data-name=\"4xx\">{}</td><td data-name=\"5xx\"{}>{}</td></tr>",
            Text(method),
            Text(endpoint),
            Count(statuses.all()),
            Seconds(durations.quantile(0.5)),
            Seconds(durations.quantile(0.95)),
            Count(statuses.client_errors),
            hot(statuses.server_errors),
            Count(statuses.server_errors),
        )?;
    }
    html.push_str("</tbody></table>\n<p id=\"more-endpoints\" class=\"note\">");
    let left_out =
        figures.more_endpoints + figures.endpoints.len() - figures.endpoints.len().min(ROWS);
    if left_out > 0 {
        write!(html, "And {left_out} more, with fewer requests.")?;
    }
    html.push_str("</p></section>\n");
    Ok(())
}

fn exceptions(html: &mut String, exceptions: &[Exception]) -> fmt::Result {
    html.push_str("<section><h2>What fails</h2>\n<ul id=\"exceptions\" class=\"lines\">\n");
    for exception in exceptions.iter().take(20) {
        writeln!(
            html,
            "<li><b>{}</b> <span>in <span class=\"method\">{}</span> {}</span> <i>{} ×</i></li>",
            Text(&exception.exception),
            Text(&exception.method),
            Text(&exception.endpoint),
            Count(exception.count)
        )?;
    }
    if exceptions.is_empty() {
        html.push_str("<li class=\"none\">No exceptions.</li>\n");
    }
    html.push_str("</ul></section>\n");
    Ok(())
}

fn workers(html: &mut String, figures: &Figures) -> fmt::Result {
    html.push_str(
        "<section><h2>Workers</h2>\n<table><thead><tr><th scope=\"col\">Worker</th>\
         <th scope=\"col\">State</th><th scope=\"col\" class=\"load\">Requests</th>\
         <th scope=\"col\">CPU</th><th scope=\"col\">Memory</th><th scope=\"col\">Up</th>\
         <th scope=\"col\">Restarts</th></tr></thead>\n<tbody id=\"worker-rows\">\n",
    );
    for worker in figures.workers.iter().take(ROWS) {
        let Worker {
            id,
            state,
            requests,
            restarts,
            memory_bytes,
            cpu_percent,
            uptime_seconds,
            ..
        } = worker;
        writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td data-name=\"State\">{}</td>\
             <td data-name=\"Requests\" class=\"load\">{}</td><td data-name=\"CPU\">{cpu_percent:.0} %</td>\
             <td data-name=\"Memory\">{:.0} MB</td><td data-name=\"Up\">{}</td>\
             <td data-name=\"Restarts\">{}</td></tr>",
            Text(id),
            Text(state),
            Count(*requests),
            memory_bytes / 1e6,
            Uptime(*uptime_seconds),
            Count(*restarts),
        )?;
    }
    html.push_str("</tbody></table></section>\n");
    Ok(())
}

fn reasons(html: &mut String, figures: &Figures) -> fmt::Result {
    html.push_str("<section><h2>Restarts and signals</h2>\n<ul id=\"restarts\" class=\"lines\">\n");
    for (reason, count) in &figures.restarts {
        let (reason, count) = (Text(reason), Count(*count));
        writeln!(
            html,
            "<li><b>{reason}</b> <span>ended a worker</span> <i>{count} ×</i></li>"
        )?;
    }
    for (signal, count) in &figures.signals {
        let (signal, count) = (Text(signal), Count(*count));
        writeln!(
            html,
            "<li><b>{signal}</b> <span>reached the arbiter</span> <i>{count} ×</i></li>"
        )?;
    }
    if figures.restarts.is_empty() && figures.signals.is_empty() {
        html.push_str("<li class=\"none\">None.</li>\n");
    }
    html.push_str("</ul></section>\n");
    Ok(())
}

fn hot(errors: f64) -> &'static str {
    if errors > 0.0 {
        " class=\"hot\""
    } else {
        " class=\"zero\""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_holds_is_never_markup() {
        let page = "gunicorn_http_requests_total{endpoint=\"/<script>\\\"&'\",method=\"GET\",status=\"200\"} 1\n";
        let html = page_of(page);
        assert!(html.contains("/&lt;script&gt;&quot;&amp;&#39;"), "{html}");
        assert!(!html.contains("/<script>"));
        let outage = Outage {
            headline: "No figures",
            reason: "<b>".to_owned(),
            since_ms: 3_723_000,
        };
        let html = unavailable(&outage);
        assert!(
            html.contains("&lt;b&gt;") && html.contains("Since 01:02:03"),
            "{html}"
        );
        assert!(!html.contains("worker class"));
    }

    #[test]
    fn the_headline_says_whether_it_is_healthy() {
        let running = "gunicorn_worker_state{worker_id=\"a\",state=\"running\"} 1\n";
        let requests = |status: u16, count: u32| {
            format!("{running}gunicorn_http_requests_total{{status=\"{status}\"}} {count}\n")
        };
        for (page, headline) in [
            (String::new(), "Waiting for the first worker"),
            (
                running.replace("running", "stopped"),
                "No worker is running",
            ),
            (running.to_owned(), "Ready, no requests yet"),
            (requests(404, 5), "Healthy"),
            (requests(500, 5), "100\u{202f}% of requests fail"),
        ] {
            let html = page_of(&page);
            assert!(
                html.contains(&format!("id=\"headline\">{headline}<")),
                "{html}"
            );
        }
    }

    fn page_of(text: &str) -> String {
        page(&Figures::of(text, 1), None, "here")
    }
}

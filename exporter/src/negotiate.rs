//! What a scraper wants: `Accept`, `Accept-Encoding`, the deadline, and the names it asks for.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};
use metrics_model::Format;

/// How long the scraper will wait, in seconds.
const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
/// Who does not say how long, a person with curl, waits that long at most.
const DEFAULT_DEADLINE: Duration = Duration::from_mins(1);

/// The value of `Content-Type`. Prometheus 3 refuses a page without the right one; from version
/// 1.0.0 on it wants to be told how names are escaped (ours never need it).
pub(crate) fn content_type(format: Format) -> &'static str {
    match format {
        Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        Format::Text1 => "text/plain; version=1.0.0; charset=utf-8; escaping=underscores",
        Format::OpenMetrics2 => {
            "application/openmetrics-text; version=2.0.0; charset=utf-8; escaping=underscores"
        }
        Format::Protobuf => {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
        }
        Format::OpenMetrics => {
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
        }
    }
}

/// The format with the highest weight, of equals the one that is named more exactly, of those the
/// one named first. A scraper that asks for none of ours gets text 0.0.4, which all understand.
pub(crate) fn format(headers: &HeaderMap) -> Format {
    let ranges = ranges(headers, &ACCEPT);
    let text = preference(&ranges, "text/plain", "0.0.4");
    let open_metrics = preference(&ranges, "application/openmetrics-text", "1.0.0");
    if open_metrics > text {
        Format::OpenMetrics
    } else {
        Format::Text
    }
}

/// How a page is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// The value of `Content-Encoding`; `None` for a page as it is.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// What is asked for by name, with the highest weight. Of equals zstd, which is faster and smaller;
/// whoever asks for nothing, or for anything (`*`), gets the page as it is.
pub(crate) fn encoding(headers: &HeaderMap) -> Encoding {
    let ranges = ranges(headers, &ACCEPT_ENCODING);
    let weight = |name: &str| {
        let named = ranges.iter().filter(|range| range.name == name);
        named.map(|range| range.weight).max().unwrap_or(0)
    };
    let (gzip, zstd) = (weight("gzip"), weight("zstd"));
    match (gzip, zstd) {
        (0, 0) => Encoding::Identity,
        _ if zstd >= gzip => Encoding::Zstd,
        _ => Encoding::Gzip,
    }
}

/// When the scraper stops waiting.
pub(crate) fn deadline(headers: &HeaderMap) -> Duration {
    headers
        .get(SCRAPE_TIMEOUT)
        .and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok())
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds.min(3_600.0)).ok())
        .unwrap_or(DEFAULT_DEADLINE)
}

/// The values of `name[]`.
pub(crate) fn names(query: Option<&str>) -> Vec<String> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(|(key, _)| key == "name[]")
        .map(|(_, name)| name.into_owned())
        .collect()
}

/// One element of `Accept` or `Accept-Encoding` (RFC 9110, section 12.5).
struct Range {
    /// In lower case.
    name: String,
    version: Option<String>,
    /// In thousandths: 0 means "not this one".
    weight: u16,
}

fn ranges(headers: &HeaderMap, name: &HeaderName) -> Vec<Range> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(range)
        .collect()
}

fn range(text: &str) -> Option<Range> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let mut range = Range {
        name: name.to_ascii_lowercase(),
        version: None,
        weight: 1_000,
    };
    for parameter in parts {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        match key.trim().to_ascii_lowercase().as_str() {
            "q" => {
                let weight: f64 = value.parse().ok()?;
                range.weight = (weight.clamp(0.0, 1.0) * 1_000.0).round() as u16;
            }
            "version" => range.version = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(range)
}

/// How much a media type is wanted: the weight that the most exact range gives it, then how exact
/// that is, then how early it stands. `None` is least: not wanted.
fn preference(ranges: &[Range], media: &str, version: &str) -> Option<(u16, u8, usize)> {
    let major = media.split('/').next().unwrap_or(media);
    let (position, range, exactness) = ranges
        .iter()
        .enumerate()
        .filter_map(|(position, range)| {
            let exactness = match (range.name.as_str(), range.version.as_deref()) {
                (name, Some(asked)) if name == media && asked == version => 3,
                (name, None) if name == media => 2,
                (name, _) if name.strip_suffix("/*") == Some(major) => 1,
                ("*/*", _) => 0,
                _ => return None,
            };
            Some((position, range, exactness))
        })
        .max_by_key(|(position, range, exactness)| {
            (*exactness, range.weight, usize::MAX - position)
        })?;
    (range.weight > 0).then_some((range.weight, exactness, usize::MAX - position))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn negotiated(accept: &str) -> Format {
        format(&headers(ACCEPT, accept))
    }

    #[test]
    fn real_scrapers_get_what_they_prefer() {
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        ] {
            assert_eq!(negotiated(accept), Format::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn weights_decide_and_not_the_order() {
        for (accept, expected) in [
            (
                "text/plain;q=0.3, application/openmetrics-text;q=0.4",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;q=0.4, text/plain;q=0.5",
                Format::Text,
            ),
            ("application/openmetrics-text;q=0, */*;q=0.1", Format::Text),
            ("text/plain;q=0, application/*;q=0.1", Format::OpenMetrics),
            // equal weights: the more exact, then the first
            ("application/openmetrics-text, */*", Format::OpenMetrics),
            (
                "application/openmetrics-text, text/plain",
                Format::OpenMetrics,
            ),
            ("text/plain, application/openmetrics-text", Format::Text),
            (
                "Application/OpenMetrics-Text; Version=\"1.0.0\" ; Q=0.9, text/*;q=0.8",
                Format::OpenMetrics,
            ),
            // an exact range overrules a general one, downwards too
            ("*/*, application/openmetrics-text;q=0.1", Format::Text),
        ] {
            assert_eq!(negotiated(accept), expected, "{accept}");
        }
    }

    #[test]
    fn what_we_do_not_speak_falls_back_to_what_we_do() {
        for (accept, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Format::Text,
            ),
            ("application/json", Format::Text),
            ("application/openmetrics-text;version=0.0.1", Format::Text),
            ("text/plain;version=1.0.0", Format::Text),
            (
                "application/openmetrics-text;version=2.0.0, application/openmetrics-text;version=1.0.0;q=0.9, text/plain;q=0.5",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=nonsense", Format::Text),
        ] {
            assert_eq!(negotiated(accept), expected, "{accept}");
        }
        assert_eq!(format(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn pages_are_compressed_only_when_asked_for() {
        for (accept, expected) in [
            ("gzip", Encoding::Gzip),
            ("deflate, GZIP;q=0.5", Encoding::Gzip),
            ("gzip;q=0", Encoding::Identity),
            ("br, deflate", Encoding::Identity),
            ("*", Encoding::Identity),
            ("", Encoding::Identity),
            ("gzip, deflate, br, zstd", Encoding::Zstd),
            ("zstd;q=0.5, gzip", Encoding::Gzip),
            ("zstd;q=0, gzip;q=0.1", Encoding::Gzip),
            ("identity, zstd;q=0", Encoding::Identity),
        ] {
            assert_eq!(
                encoding(&headers(ACCEPT_ENCODING, accept)),
                expected,
                "{accept}"
            );
        }
    }

    #[test]
    fn the_deadline_is_the_scrapers() {
        for (value, expected) in [
            ("10", Duration::from_secs(10)),
            ("0.25", Duration::from_millis(250)),
            ("0", DEFAULT_DEADLINE),
            ("-1", DEFAULT_DEADLINE),
            ("soon", DEFAULT_DEADLINE),
            ("NaN", DEFAULT_DEADLINE),
            ("inf", Duration::from_hours(1)),
        ] {
            assert_eq!(
                deadline(&headers(SCRAPE_TIMEOUT, value)),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn names_are_decoded() {
        assert_eq!(
            names(Some("name[]=a_total&x=1&name%5B%5D=b%5F2")),
            ["a_total", "b_2"]
        );
        assert_eq!(names(None), Vec::<String>::new());
    }
}

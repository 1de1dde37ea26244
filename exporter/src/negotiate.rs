//! Reads a scraper's request: `Accept`, `Accept-Encoding`, the deadline, and `name[]`.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};
use metrics_model::{Escaping, Format};

/// Header with the scraper's time limit, in seconds.
const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
/// Deadline of a request without that header, for example from curl.
const DEFAULT_DEADLINE: Duration = Duration::from_mins(1);

const TEXT: &str = "text/plain";
const OPEN_METRICS: &str = "application/openmetrics-text";
const PROTOBUF: &str = "application/vnd.google.protobuf";
const MESSAGE: &str = "io.prometheus.client.MetricFamily";

/// The formats that can be requested, each with its media type and version. The first of a type is
/// the default for requests without a version.
const OFFERS: [(Format, &str, &str); 6] = [
    (Format::Text, TEXT, "0.0.4"),
    (Format::Text1, TEXT, "1.0.0"),
    (Format::OpenMetrics, OPEN_METRICS, "1.0.0"),
    (Format::OpenMetrics2, OPEN_METRICS, "2.0.0"),
    // The draft version, the only one that Prometheus before 2.30 requests; for its samples the
    // text is the same.
    (Format::OpenMetrics, OPEN_METRICS, "0.0.1"),
    (Format::Protobuf, PROTOBUF, ""),
];

/// A format, and how it writes names that older scrapers cannot parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) format: Format,
    /// The version; protobuf has none.
    version: &'static str,
    pub(crate) escaping: Escaping,
}

impl Form {
    pub(crate) const TEXT: Self = Self {
        format: Format::Text,
        version: "0.0.4",
        escaping: Escaping::Underscores,
    };
    pub(crate) const OPEN_METRICS: Self = Self {
        format: Format::OpenMetrics,
        version: "1.0.0",
        escaping: Escaping::Underscores,
    };

    /// Returns the value of `Content-Type`. Prometheus 3 refuses a page without the right one, and
    /// expects the escaping scheme in it. Text 0.0.4 is older than that and names it only on
    /// request.
    pub(crate) fn content_type(self) -> String {
        let (version, escaping) = (self.version, self.escaping.parameter());
        let media = match self.format {
            Format::Text if self.escaping == Escaping::Underscores => {
                return format!("{TEXT}; version={version}; charset=utf-8");
            }
            Format::Protobuf => {
                return format!(
                    "{PROTOBUF}; proto={MESSAGE}; encoding=delimited; escaping={escaping}"
                );
            }
            Format::Text | Format::Text1 => TEXT,
            Format::OpenMetrics | Format::OpenMetrics2 => OPEN_METRICS,
        };
        format!("{media}; version={version}; charset=utf-8; escaping={escaping}")
    }
}

/// Returns the form with the highest weight; of equals the more specific one, and of those the
/// first. A scraper that requests none of these formats gets text 0.0.4, which every scraper can
/// parse.
pub(crate) fn form(headers: &HeaderMap) -> Form {
    let ranges = ranges(headers, &ACCEPT);
    let mut best: Option<(Preference, Form)> = None;
    for (format, media, version) in OFFERS {
        let Some((preference, range)) = preference(&ranges, media, version) else {
            continue;
        };
        if best
            .as_ref()
            .is_none_or(|(highest, _)| preference > *highest)
        {
            let escaping = range.escaping(format);
            let form = Form {
                format,
                version,
                escaping,
            };
            best = Some((preference, form));
        }
    }
    best.map_or(Form::TEXT, |(_, form)| form)
}

/// The compression of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// Returns the value of `Content-Encoding`; `None` for an uncompressed page.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Returns the encoding with the highest weight among those that the request names; of equals zstd,
/// which is faster and smaller. A request that names none, or any (`*`), gets the page
/// uncompressed.
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

/// Returns how long the scraper waits.
pub(crate) fn deadline(headers: &HeaderMap) -> Duration {
    headers
        .get(SCRAPE_TIMEOUT)
        .and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok())
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds.min(3_600.0)).ok())
        .unwrap_or(DEFAULT_DEADLINE)
}

/// Returns the values of `name[]`.
pub(crate) fn names(query: Option<&str>) -> Vec<String> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .filter(|(key, _)| key == "name[]")
        .map(|(_, name)| name.into_owned())
        .collect()
}

/// One element of `Accept` or `Accept-Encoding` (RFC 9110, section 12.5).
struct Range {
    /// The name in lower case.
    name: String,
    version: Option<String>,
    escaping: Option<Escaping>,
    /// Whether a parameter restricts it to a message or encoding of another kind.
    is_foreign: bool,
    /// The weight in thousandths: 0 means "not this one".
    weight: u16,
}

impl Range {
    /// Returns the escaping scheme; `underscores` if the request names none or an unsupported one.
    fn escaping(&self, format: Format) -> Escaping {
        match self.escaping {
            Some(Escaping::AllowUtf8) if format == Format::Text => Escaping::Underscores,
            Some(escaping) => escaping,
            None => Escaping::Underscores,
        }
    }
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
        escaping: None,
        is_foreign: false,
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
            "escaping" => range.escaping = value.parse().ok(),
            "proto" => range.is_foreign |= value != MESSAGE,
            "encoding" => range.is_foreign |= value != "delimited",
            _ => {}
        }
    }
    Some(range)
}

/// The rank of an offer: the weight in the most specific range, then how specific that range is,
/// then how early it stands.
type Preference = (u16, u8, usize);

/// `None`, the lowest rank, means: not wanted.
fn preference<'r>(
    ranges: &'r [Range],
    media: &str,
    version: &str,
) -> Option<(Preference, &'r Range)> {
    let major = media.split('/').next().unwrap_or(media);
    let is_default = OFFERS
        .iter()
        .find(|(_, offered, _)| *offered == media)
        .is_some_and(|(.., first)| *first == version);
    // Protobuf must be requested explicitly: it is unreadable in a terminal.
    let is_readable = media != PROTOBUF;
    let (position, range, exactness) = ranges
        .iter()
        .enumerate()
        .filter_map(|(position, range)| {
            let exactness = match (range.name.as_str(), range.version.as_deref()) {
                (name, _) if name == media && range.is_foreign => return None,
                (name, Some(asked)) if name == media && asked == version => 3,
                (name, None) if name == media && is_default => 2,
                (name, _)
                    if is_default && is_readable && name.strip_suffix("/*") == Some(major) =>
                {
                    1
                }
                ("*/*", _) if is_default && is_readable => 0,
                _ => return None,
            };
            Some((position, range, exactness))
        })
        .max_by_key(|(position, range, exactness)| {
            (*exactness, range.weight, usize::MAX - position)
        })?;
    let preference = (range.weight, exactness, usize::MAX - position);
    (range.weight > 0).then_some((preference, range))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn negotiated(accept: &str) -> Format {
        form(&headers(ACCEPT, accept)).format
    }

    #[test]
    fn real_scrapers_get_what_they_prefer() {
        for (accept, expected) in [
            // Prometheus before 2.30
            (
                "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores",
            ),
            // Prometheus 2
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
            ),
            // … with native histograms
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores",
            ),
            // Prometheus 3
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            ),
            // … with native histograms
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8",
            ),
            // … that is told to ask for text
            (
                "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            ),
            (
                "text/plain;version=0.0.4;escaping=values;q=0.6,*/*;q=0.2",
                "text/plain; version=0.0.4; charset=utf-8; escaping=values",
            ),
            (
                "application/openmetrics-text;version=2.0.0;escaping=dots,*/*;q=0.2",
                "application/openmetrics-text; version=2.0.0; charset=utf-8; escaping=dots",
            ),
            ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
            (
                "text/plain;version=0.0.4;escaping=allow-utf-8",
                "text/plain; version=0.0.4; charset=utf-8",
            ),
            (
                "application/openmetrics-text;escaping=nonsense",
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
            ),
        ] {
            let form = form(&headers(ACCEPT, accept));
            assert_eq!(form.content_type(), expected, "{accept}");
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
            ("application/openmetrics-text;version=3.0.0", Format::Text),
            ("text/plain;version=1.0.0", Format::Text1),
            ("text/plain;version=2.0.0", Format::Text),
            (
                "application/openmetrics-text;version=2.0.0, application/openmetrics-text;version=1.0.0;q=0.9, text/plain;q=0.5",
                Format::OpenMetrics2,
            ),
            ("application/*", Format::OpenMetrics),
            ("application/vnd.google.protobuf", Format::Protobuf),
            (
                "application/vnd.google.protobuf;proto=other.Message, text/*;q=0.1",
                Format::Text,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text, */*;q=0.1",
                Format::Text,
            ),
            ("application/openmetrics-text;q=nonsense", Format::Text),
        ] {
            assert_eq!(negotiated(accept), expected, "{accept}");
        }
        assert_eq!(form(&HeaderMap::new()), Form::TEXT);
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

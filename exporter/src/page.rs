//! The live page at `/`, for a person who has no Grafana yet.
//!
//! # How it works
//!
//! The page is made of the same exposition that a scraper gets, of the few families that it shows:
//! read ([`samples`]), added up ([`figures`]), and written as a page that says everything without a
//! script (`render`). The script asks `/-/page.json` for the same figures every two seconds
//! and turns differences into rates; nothing is kept in the exporter, so a page costs nothing when
//! nobody looks. All that a browser loads comes from here, and it is told so
//! ([`SECURITY_POLICY`]): no inline script or style, so a label's value cannot become one.

mod figures;
mod render;
mod samples;

use hyper::HeaderMap;
use hyper::header::ACCEPT;

pub(crate) use figures::{FAMILIES, Figures};
pub(crate) use render::{page, unavailable};

/// What a browser may load, and from where.
pub(crate) const SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The script.
pub(crate) const SCRIPT: &str = include_str!("page/page.js");
/// The style sheet.
pub(crate) const STYLE: &str = include_str!("page/page.css");

/// Whether a person asks: browsers name `text/html`, and no scraper does.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|name| name.trim().eq_ignore_ascii_case("text/html"))
}

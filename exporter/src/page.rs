//! The live page at `/`, for a person who has no Grafana yet.
//!
//! # How it works
//!
//! The page is made from the same exposition that a scraper gets, restricted to the few families
//! that it shows. They are parsed ([`samples`]), added up ([`figures`]), and written as a page that
//! is complete without a script (`render`). The script requests the same figures from
//! `/-/page.json` every two seconds and turns differences into rates. The exporter stores nothing
//! for this, so the page costs nothing while no browser shows it. A browser loads everything from
//! this server, and [`SECURITY_POLICY`] allows nothing else: no inline script or style, so a
//! label's value cannot become one.

mod figures;
mod render;
mod samples;

use hyper::HeaderMap;
use hyper::header::ACCEPT;

pub(crate) use figures::{FAMILIES, Figures};
pub(crate) use render::{page, unavailable};

/// The sources from which a browser may load parts of the page.
pub(crate) const SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The script.
pub(crate) const SCRIPT: &str = include_str!("page/page.js");
/// The style sheet.
pub(crate) const STYLE: &str = include_str!("page/page.css");

/// Returns whether a browser asks: browsers accept `text/html`, and no scraper does.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|name| name.trim().eq_ignore_ascii_case("text/html"))
}

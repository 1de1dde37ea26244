//! Renders the registry as text, in pages: the body of a scrape.
//!
//! # How it works
//!
//! Families come in the order of their names, their series in the order of creation. So a page can
//! end between any two series, and the next page goes on there. A cursor holds the place: the
//! registry's epoch, the time of page one (every page takes it as the present for leases and
//! expiry), the last series that existed at page one, and the last series that was shown. Later
//! series are left out; a series that existed all the time appears exactly once. A histogram is
//! never split.
//!
//! # What it costs
//!
//! Label texts were escaped when the series was created, so a sample costs two copies and a number.

mod cursor;
mod filter;
mod number;
mod openmetrics2;
mod protobuf;
mod renderer;
mod text;
mod written;

use std::str::FromStr;

use crate::escaping::is_legacy;
use crate::name::REJECTED;
use crate::registry::{SeriesEntry, SeriesView};
use crate::{Escaping, Exemplar, FamilySpec, FamilyType, Registry};
use cursor::Cursor;
pub use cursor::WrongCursor;
use filter::is_asked_for;
pub use number::format_number;
use openmetrics2::OpenMetrics2;
use protobuf::Protobuf;
use renderer::{Renderer, Shown};
use text::Text;
use written::Written;

/// A page ends after this many bytes …
const PAGE_BYTES: usize = 64 * 1024;
/// … or after this many values were visited, so that no page takes longer than a millisecond.
const PAGE_VALUES: usize = 10_000;
/// Number of values that take as long as a name or a label set that is written otherwise than it is
/// stored: other names are looked up.
const VALUES_OF_CHANGED_NAME: usize = 32;
/// Number of writers of one series that are visited between two checks whether the page is full.
const WRITERS_IN_A_STEP: usize = 64;
/// Maximum size of an unpaged reply, in bytes.
const WHOLE_BYTES: usize = 4 * 1024 * 1024;

/// The format of a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    #[default]
    Text,
    /// Prometheus text format 1.0.0, which has quoted names.
    Text1,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// `OpenMetrics` 2.0.0.
    OpenMetrics2,
    /// `io.prometheus.client.MetricFamily` messages, each behind its length.
    Protobuf,
}

/// An unknown format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format '{0}', expected TEXT, TEXT1, OPENMETRICS, OPENMETRICS2 or PROTOBUF")]
pub struct UnknownFormat(String);

impl Format {
    /// Every format.
    pub const EVERY: [Self; 5] = [
        Self::Text,
        Self::Text1,
        Self::OpenMetrics,
        Self::OpenMetrics2,
        Self::Protobuf,
    ];

    /// Returns the word of the command `METRICS.EXPOSE`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Text1 => "TEXT1",
            Self::OpenMetrics => "OPENMETRICS",
            Self::OpenMetrics2 => "OPENMETRICS2",
            Self::Protobuf => "PROTOBUF",
        }
    }
}

impl Format {
    /// Returns the end of a page.
    pub fn end(self) -> &'static [u8] {
        match self {
            Self::OpenMetrics | Self::OpenMetrics2 => b"# EOF\n",
            Self::Text | Self::Text1 | Self::Protobuf => b"",
        }
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::EVERY
            .into_iter()
            .find(|format| format.word().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// What to render.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExposeRequest {
    /// The format.
    pub format: Format,
    /// How to write names that older formats do not allow.
    pub escaping: Escaping,
    /// Whether start times of series are shown as samples of their own (`_created`), if the format
    /// has no better place for them.
    pub created: bool,
    /// Shows only whole families that have one of these samples; empty: all.
    pub names: Vec<String>,
    /// `None`: everything at once; `0`: the first page; otherwise the cursor from the page before.
    pub cursor: Option<Vec<u8>>,
    /// Maximum number of series on a page.
    pub count: Option<usize>,
    /// Whether the caller joins the page with those of other registries. Then the page has no end
    /// and none of the registry's own samples; the caller adds both.
    pub is_part: bool,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The text.
    pub body: Vec<u8>,
    /// Cursor of the next page; `None` on the last.
    pub next: Option<String>,
    /// How many values of the registry were visited: the cost of the page, whatever it shows; 0 if
    /// another process rendered it.
    pub visited: usize,
}

/// The reason why there is no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ExposeError {
    #[error("the registry has changed so much that this cursor means nothing, start again at 0")]
    StaleCursor,
    #[error("the registry was rolled back and waits for its writers, try again soon")]
    Healing,
    #[error("text 0.0.4 has no quoted names: ESCAPING ALLOWUTF8 goes with the other formats")]
    NoQuotedNames,
    #[error("the page is larger than 4 MiB, ask for it in parts with CURSOR 0")]
    TooLarge,
    #[error(transparent)]
    Cursor(#[from] WrongCursor),
}

impl Registry {
    /// Renders the registry, or one page of it.
    ///
    /// # Errors
    ///
    /// See [`ExposeError`]; nothing is rendered then.
    pub fn expose(&self, now_ms: u64, request: &ExposeRequest) -> Result<Page, ExposeError> {
        if self.is_healing(now_ms) {
            return Err(ExposeError::Healing);
        }
        let first = Cursor::first(self.epoch(), now_ms, self.last_created_no());
        let from = match request.cursor.as_deref() {
            None | Some(b"0") => first,
            Some(text) => Cursor::parse(text)?,
        };
        if from.epoch != self.epoch() || from.up_to > self.last_created_no() {
            return Err(ExposeError::StaleCursor);
        }
        if request.escaping == Escaping::AllowUtf8 && request.format == Format::Text {
            return Err(ExposeError::NoQuotedNames);
        }
        let (format, escaping) = (request.format, request.escaping);
        match format {
            Format::Text | Format::Text1 | Format::OpenMetrics => {
                self.page(Text::new(format, escaping, request.created), from, request)
            }
            Format::OpenMetrics2 => self.page(OpenMetrics2::new(escaping), from, request),
            Format::Protobuf => self.page(Protobuf::new(escaping), from, request),
        }
    }

    fn page(
        &self,
        mut out: impl Renderer,
        from: Cursor,
        request: &ExposeRequest,
    ) -> Result<Page, ExposeError> {
        let is_part = request.cursor.is_some();
        let mut budget = Budget {
            bytes: if is_part { PAGE_BYTES } else { WHOLE_BYTES },
            values: if is_part { PAGE_VALUES } else { usize::MAX },
            visited: 0,
            series: request.count.unwrap_or(usize::MAX).max(1),
        };
        let next = self.render(&mut out, from, request, &mut budget);
        if next.is_some() && !is_part {
            return Err(ExposeError::TooLarge);
        }
        if next.is_none() && !request.is_part {
            self.render_rejected(&mut out, request);
            out.end();
        }
        Ok(Page {
            body: out.into_bytes(),
            next: next.map(|next| next.to_string()),
            visited: budget.visited,
        })
    }

    /// Renders from a cursor until the page is full, and returns where the next page begins.
    fn render(
        &self,
        out: &mut impl Renderer,
        from: Cursor,
        request: &ExposeRequest,
        page: &mut Budget,
    ) -> Option<Cursor> {
        let mut at = from;
        let escaping = request.escaping;
        for family in self.families_of(&request.names, escaping, &at.family.clone()) {
            let family = Written::new(self, family, escaping);
            let spec = family.family.spec;
            if *at.family != *spec.name {
                at.begin(spec.name, false);
                // Families have a cost as well, even those without series.
                if page.is_spent(out.size()) {
                    return Some(at);
                }
                let is_changed = escaping != Escaping::AllowUtf8 && !is_legacy(spec.name);
                page.visit(if is_changed {
                    VALUES_OF_CHANGED_NAME
                } else {
                    1
                });
            }
            loop {
                if self.render_section(out, &family, &mut at, page) {
                    return Some(at);
                }
                let has_more = out.has_family_of_start_times(spec.family_type)
                    && !family.family.has_created_beside;
                if at.of_start_times || !has_more {
                    break;
                }
                at.begin(spec.name, true);
            }
        }
        None
    }

    /// Renders a family's samples, or its start times, from a cursor on. Returns true if the page
    /// became full before their end; the cursor is then at the place where it stopped.
    fn render_section(
        &self,
        out: &mut impl Renderer,
        family: &Written<'_>,
        at: &mut Cursor,
        page: &mut Budget,
    ) -> bool {
        let view = &family.family;
        out.family(&view.spec, &family.name, at.of_start_times);
        if view.has_created_beside {
            out.without_start_times();
        }
        let family_type = view.spec.family_type;
        let mode = family_type.gauge_mode();
        let is_per_writer = mode.is_some_and(crate::GaugeMode::is_per_writer);
        for series in self.catalog().series_after(view.id, at.after) {
            if series.no() > at.up_to {
                break;
            }
            if page.is_spent(out.size()) && out.may_pause() {
                return true;
            }
            if is_per_writer && !self.has_group(series.id) {
                if self.render_writers(out, family, series, at, page) {
                    return true;
                }
                continue;
            }
            let mut visited = 0;
            if let Some(view) = self.view(series, family_type, at.time_ms, &mut visited) {
                self.render_series(out, family, series, &view, at);
                if !family.escaping.keeps_labels(series.labels()) {
                    page.visit(VALUES_OF_CHANGED_NAME);
                }
            }
            page.spend(visited);
            at.after = series.no();
            if visited >= WRITERS_IN_A_STEP {
                out.allow_pause();
            }
        }
        out.end_family();
        false
    }

    /// Renders one series of a mode that shows each writer; it may have more writers than fit on a
    /// page. Returns true if the page became full before their end.
    fn render_writers(
        &self,
        out: &mut impl Renderer,
        family: &Written<'_>,
        series: SeriesEntry<'_>,
        at: &mut Cursor,
        page: &mut Budget,
    ) -> bool {
        // On a full page it visits one writer at a time, so that the page ends at the first place
        // where the format allows it.
        let step = |is_full: bool| if is_full { 1 } else { WRITERS_IN_A_STEP };
        let mut at_most = step(page.is_spent(out.size()));
        while let Some((values, next)) = self.writers_of(series.id, at.time_ms, at.writer, at_most)
        {
            if !values.is_empty() {
                let view = SeriesView::PerWriter(values);
                self.render_series(out, family, series, &view, at);
            }
            page.visit(at_most);
            at.writer = next;
            let is_full = page.is_spent(out.size());
            if is_full && out.may_pause() {
                return true;
            }
            at_most = step(is_full);
        }
        page.spend(1);
        (at.after, at.writer) = (series.no(), 0);
        false
    }

    #[expect(
        clippy::inline_always,
        reason = "the way of every sample: calls were a third of what it costs"
    )]
    #[inline(always)]
    fn render_series(
        &self,
        out: &mut impl Renderer,
        family: &Written<'_>,
        series: SeriesEntry<'_>,
        view: &SeriesView<'_>,
        at: &mut Cursor,
    ) {
        if !at.has_head {
            out.head(&family.family.spec);
            at.has_head = true;
        }
        if family.escaping.keeps_labels(series.labels()) {
            self.render_labels(out, series, series.labels(), view);
        } else {
            self.render_changed_labels(out, family, series, view);
        }
    }

    #[cold]
    #[inline(never)]
    fn render_changed_labels(
        &self,
        out: &mut impl Renderer,
        family: &Written<'_>,
        series: SeriesEntry<'_>,
        view: &SeriesView<'_>,
    ) {
        self.render_labels(out, series, &family.labels(self, series), view);
    }

    #[expect(
        clippy::inline_always,
        reason = "the way of every sample: calls were a third of what it costs"
    )]
    #[inline(always)]
    fn render_labels(
        &self,
        out: &mut impl Renderer,
        series: SeriesEntry<'_>,
        labels: &str,
        view: &SeriesView<'_>,
    ) {
        let exemplars = self
            .catalog()
            .exemplars_of(series.id)
            .collect::<Vec<&Exemplar>>();
        out.series(&Shown {
            labels,
            view,
            start_ms: series.start_ms(),
            exemplars: &exemplars,
        });
    }

    /// Renders the count of rejected entries, so that a page shows when it is incomplete.
    fn render_rejected(&self, out: &mut impl Renderer, request: &ExposeRequest) {
        let mut counts = self.rejected().peekable();
        let spec = FamilySpec {
            help: "Entries of batches that the registry left out, by reason.",
            ..FamilySpec::new(REJECTED, FamilyType::Counter)
        };
        let name = self.written_name(&spec, request.escaping);
        let is_asked = |name| is_asked_for(&request.names, name, spec.family_type);
        if counts.peek().is_none() || !(is_asked(REJECTED) || is_asked(&name)) {
            return;
        }
        out.family(&spec, &name, false);
        out.head(&spec);
        for (reason, count) in counts {
            out.series(&Shown {
                labels: &format!("reason=\"{}\"", reason.name()),
                view: &SeriesView::Number(count as f64),
                start_ms: 0,
                exemplars: &[],
            });
        }
        out.end_family();
    }
}

/// What a page may hold, and what it holds so far.
struct Budget {
    bytes: usize,
    values: usize,
    visited: usize,
    series: usize,
}

impl Budget {
    fn is_spent(&self, bytes: usize) -> bool {
        bytes >= self.bytes || self.visited >= self.values || self.series == 0
    }

    fn visit(&mut self, values: usize) {
        self.visited = self.visited.saturating_add(values);
    }

    fn spend(&mut self, values: usize) {
        self.visit(values);
        self.series = self.series.saturating_sub(1);
    }
}

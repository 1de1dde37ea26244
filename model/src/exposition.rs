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

mod budget;
mod cursor;
mod filter;
mod line;
mod number;
mod openmetrics2;
mod parts;
mod protobuf;
mod renderer;
mod request;
mod text;
mod written;

use crate::escaping::is_legacy;
use crate::name::REJECTED;
use crate::registry::{SeriesEntry, SeriesView};
use crate::{Escaping, Exemplar, FamilySpec, FamilyType, Registry};
use budget::Budget;
use cursor::Cursor;
pub use cursor::WrongCursor;
use filter::is_asked_for;
pub use number::{format_number, is_whole_text, number_text};
use openmetrics2::OpenMetrics2;
use protobuf::Protobuf;
use renderer::{Renderer, Shown};
pub use request::{ExposeError, ExposeRequest, Format, Page, UnknownFormat};
use text::Text;
use written::Written;

/// A page ends after this many values were visited, or after the bytes of its request, so that no
/// page takes longer than half a millisecond.
const PAGE_VALUES: usize = 10_000;
/// Number of values that take as long as a name or a label set that is written otherwise than it is
/// stored: other names are looked up.
const VALUES_OF_CHANGED_NAME: usize = 32;
/// Number of writers of one series that are visited between two checks whether the page is full.
const WRITERS_IN_A_STEP: usize = 64;
/// Maximum size of an unpaged reply, in bytes.
const WHOLE_BYTES: usize = 4 * 1024 * 1024;

impl Registry {
    /// Renders the registry, or one page of it.
    ///
    /// # Errors
    ///
    /// See [`ExposeError`]; nothing is rendered then.
    pub fn expose(&self, now_ms: u64, request: &ExposeRequest) -> Result<Page, ExposeError> {
        self.expose_into(Vec::new(), now_ms, request)
    }

    /// Does the same, into the memory of a page that is no longer needed.
    ///
    /// # Errors
    ///
    /// See [`ExposeError`]; nothing is rendered then.
    pub fn expose_into(
        &self,
        mut buffer: Vec<u8>,
        now_ms: u64,
        request: &ExposeRequest,
    ) -> Result<Page, ExposeError> {
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
        buffer.clear();
        buffer.reserve(self.expected_bytes(request));
        let (format, escaping) = (request.format, request.escaping);
        match format {
            Format::Text | Format::Text1 | Format::OpenMetrics => {
                let text = Text::new(buffer, format, escaping, request.created);
                self.page(text, from, request)
            }
            Format::OpenMetrics2 => self.page(OpenMetrics2::new(buffer, escaping), from, request),
            Format::Protobuf => self.page(Protobuf::new(buffer, escaping), from, request),
        }
    }

    /// Returns how many bytes to reserve for a page: the page and one long series, or less where
    /// the registry has few series.
    fn expected_bytes(&self, request: &ExposeRequest) -> usize {
        /// A page ends behind the series with which it becomes full.
        const LAST_SERIES: usize = 16 * 1024;
        /// More than most series take.
        const SERIES: usize = 256;
        let of_all = usize::try_from(self.last_created_no()).unwrap_or(usize::MAX);
        let of_all = of_all.saturating_mul(SERIES).saturating_add(LAST_SERIES);
        of_all.min(request.page_bytes() + LAST_SERIES)
    }

    fn page(
        &self,
        mut out: impl Renderer,
        from: Cursor,
        request: &ExposeRequest,
    ) -> Result<Page, ExposeError> {
        let is_part = request.cursor.is_some();
        let mut budget = Budget {
            bytes: if is_part {
                request.page_bytes()
            } else {
                WHOLE_BYTES
            },
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
        let plain = self.plain_numbers(family_type, at.time_ms);
        let plain = plain.filter(|_| out.takes_plain_numbers(self.catalog().has_exemplars()));
        for series in self.catalog().series_after(view.id, at.after) {
            if series.no() > at.up_to {
                break;
            }
            if page.is_spent(out.size()) && out.may_pause() {
                return true;
            }
            // Most samples of most pages take the short way.
            if let Some(plain) = &plain
                && let Some(number) = plain.number(series)
                && family.escaping.keeps_labels(series.labels())
            {
                render_head(out, family, at);
                out.plain_number(series.labels(), number);
                page.spend(1);
                at.after = series.no();
                continue;
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
        render_head(out, family, at);
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

/// Writes the metadata of a family before its first sample.
#[inline]
fn render_head(out: &mut impl Renderer, family: &Written<'_>, at: &mut Cursor) {
    if !at.has_head {
        out.head(&family.family.spec);
        at.has_head = true;
    }
}

//! The registry as text: what a scrape gets, in pages.
//!
//! # How it works
//!
//! Families are shown by name, their series in the order of creation, so that a page can end
//! anywhere between two series and the next go on there. A cursor says where: the registry's epoch,
//! the time of page one (what has ended or expired is judged by that time on every page), the last
//! series that page one could know of, and the last one that was shown. A series created later is
//! left out; one that was there throughout appears exactly once. A histogram is never split.
//!
//! # What it costs
//!
//! Label texts were escaped when the series was created: a sample is two copies and a number.

mod cursor;
mod number;
mod text;

use crate::name::{REJECTED, sample_suffixes};
use crate::registry::FamilyView;
use crate::{FamilyType, Registry};
use cursor::Cursor;
pub use cursor::WrongCursor;
pub use number::{format_number, parse_number};
use text::Text;

/// A page ends after that many bytes …
const PAGE_BYTES: usize = 64 * 1024;
/// … or after that many values were looked at, so that no page takes longer than a millisecond.
const PAGE_VALUES: usize = 10_000;
/// What is asked for without a cursor must fit in this.
const WHOLE_BYTES: usize = 4 * 1024 * 1024;

/// The form of a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    #[default]
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

/// What to render.
#[derive(Debug, Clone, Default)]
pub struct ExposeRequest {
    /// The form.
    pub format: Format,
    /// Whether the start times of series are shown as samples of their own (`_created`).
    pub created: bool,
    /// Only whole families that have one of these samples; empty: all.
    pub names: Vec<String>,
    /// `None`: everything at once; `0`: the first page; otherwise what the page before named.
    pub cursor: Option<Vec<u8>>,
    /// The most series on a page.
    pub count: Option<usize>,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The text.
    pub body: Vec<u8>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<String>,
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ExposeError {
    #[error("the registry has changed so much that this cursor means nothing, start again at 0")]
    StaleCursor,
    #[error("the registry was rolled back and waits for its writers, try again soon")]
    Healing,
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
        let bytes = if request.cursor.is_some() {
            PAGE_BYTES
        } else {
            WHOLE_BYTES
        };
        let values = if request.cursor.is_some() {
            PAGE_VALUES
        } else {
            usize::MAX
        };
        let mut page = Budget {
            bytes,
            values,
            series: request.count.unwrap_or(usize::MAX).max(1),
        };
        let mut text = Text::new(request.format, request.created);
        let next = self.render(&mut text, &from, request, &mut page);
        match next {
            Some(_) if request.cursor.is_none() => Err(ExposeError::TooLarge),
            Some(next) => Ok(Page {
                body: text.out,
                next: Some(next.to_string()),
            }),
            None => {
                self.render_rejected(&mut text, request);
                text.end();
                Ok(Page {
                    body: text.out,
                    next: None,
                })
            }
        }
    }

    /// Renders from a cursor until the page is full, and says where it goes on.
    fn render(
        &self,
        text: &mut Text,
        from: &Cursor,
        request: &ExposeRequest,
        page: &mut Budget,
    ) -> Option<Cursor> {
        for family in self.families_from(&from.family) {
            if !is_asked_for(request, family.spec.name, family.spec.family_type) {
                continue;
            }
            let begin = Cursor {
                after: 0,
                has_head: false,
                of_start_times: false,
                family: family.spec.name.to_owned(),
                ..from.clone()
            };
            let continues = *from.family == *family.spec.name;
            let mut at = if continues {
                from.clone()
            } else {
                begin.clone()
            };
            loop {
                if self.render_section(text, &family, &mut at, page) {
                    return Some(at);
                }
                if at.of_start_times || !text.has_family_of_start_times(family.spec.family_type) {
                    break;
                }
                let of_start_times = true;
                at = Cursor {
                    of_start_times,
                    ..begin.clone()
                };
            }
        }
        None
    }

    /// Renders a family's samples, or its start times, from a cursor on; true if the page was full
    /// before they ended, with the cursor where it stopped.
    fn render_section(
        &self,
        text: &mut Text,
        family: &FamilyView<'_>,
        at: &mut Cursor,
        page: &mut Budget,
    ) -> bool {
        text.family(&family.spec, at.of_start_times);
        for (no, id) in self.series_after(family.id, at.after) {
            if no > at.up_to {
                break;
            }
            if page.is_spent(text.out.len()) {
                return true;
            }
            let mut visited = 0;
            if let Some(view) = self.view(id, at.time_ms, &mut visited) {
                if !at.has_head {
                    text.head(&family.spec);
                    at.has_head = true;
                }
                text.series(self.labels_of(id), &view, self.start_ms_of(id));
            }
            page.spend(visited);
            at.after = no;
        }
        false
    }

    /// What was left out, so that a page never hides that it is not everything.
    fn render_rejected(&self, text: &mut Text, request: &ExposeRequest) {
        let mut counts = self.rejected().peekable();
        if counts.peek().is_some() && is_asked_for(request, REJECTED, FamilyType::Counter) {
            text.rejected(counts.map(|(reason, count)| (reason.name(), count)));
        }
    }
}

/// What is left of a page.
struct Budget {
    bytes: usize,
    values: usize,
    series: usize,
}

impl Budget {
    fn is_spent(&self, bytes: usize) -> bool {
        bytes >= self.bytes || self.values == 0 || self.series == 0
    }

    fn spend(&mut self, values: usize) {
        self.values = self.values.saturating_sub(values);
        self.series -= 1;
    }
}

/// Whether a family has one of the samples asked for.
fn is_asked_for(request: &ExposeRequest, family: &str, family_type: FamilyType) -> bool {
    let has = |name: &String| {
        let suffix = name.strip_prefix(family);
        suffix.is_some_and(|suffix| sample_suffixes(family_type).contains(&suffix))
    };
    request.names.is_empty() || request.names.iter().any(has)
}

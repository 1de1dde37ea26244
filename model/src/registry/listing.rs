//! Lists the families and the writers of a registry, in pages that are little work.

use std::ops::Bound;

use super::Registry;
use super::writers::{Phase, Writer};
use crate::FamilyType;
use crate::Limits;
use crate::ids::FamilyId;
use crate::registry::catalog::Catalog;
use crate::registry::writers::Writers;

/// Maximum number of entries of one page.
const PAGE_ENTRIES: usize = 500;
/// Maximum number of bucket bounds, and of places without a writer, that one page passes.
const PAGE_STEPS: usize = 5_000;
/// Maximum size of the names and texts of one page, in bytes; the last entry may exceed it.
const PAGE_BYTES: usize = 64 * 1024;

/// One family, as `METRICS.FAMILIES` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyEntry<'a> {
    /// Its name; a counter's without `_total`.
    pub name: &'a str,
    /// Its type and mode.
    pub family_type: FamilyType,
    /// The text of `# HELP`.
    pub help: &'a str,
    /// The text of `# UNIT`.
    pub unit: &'a str,
    /// Number of its series; expired ones count until a write has removed them.
    pub series: usize,
    /// The TTL of its new series; `None`: the registry's default.
    pub ttl_ms: Option<u64>,
    /// The bounds for direct observations, without `+Inf`.
    pub buckets: Vec<&'a str>,
    /// The lowest schema that a writer of native histograms may have; `None`: 0.
    pub schema: Option<i8>,
    /// The bounds of each bucket layout that live writers have, without `+Inf`; only if the request
    /// named the family.
    pub held_buckets: Vec<Vec<&'a str>>,
}

/// One writer, as `METRICS.WRITERS` lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterEntry<'a> {
    /// Its id.
    pub id: &'a [u8],
    /// Its phase.
    pub state: WriterState,
    /// The last seq that was applied; 0 if it never sent a batch.
    pub seq: u64,
    /// Number of series that the registry remembers of it.
    pub series: usize,
    /// Rest of its lease; `None`: until it leaves.
    pub lease_left_ms: Option<u64>,
    /// The text of its `pid` label, in the modes that have one.
    pub pid: &'a str,
}

/// The phases of a writer's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriterState {
    /// Its lease runs.
    Live,
    /// Its lease is over; it may come back.
    Silent,
    /// It has left for good.
    Left,
    /// It was silent for so long that the registry keeps only its last seq.
    Forgotten,
}

impl WriterState {
    /// Returns the word for it in replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Silent => "silent",
            Self::Left => "left",
            Self::Forgotten => "forgotten",
        }
    }
}

/// A cursor that no page has returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no cursor: begin with 0, and go on with what the page before gave")]
pub struct WrongListCursor(String);

/// Entries, and the cursor of the next page; `None` after the last.
pub type Listing<T> = (Vec<T>, Option<String>);

/// The first cursor of every listing.
const START: &[u8] = b"0";
/// Prefix of a cursor that is the name of a page's last family.
const AFTER: u8 = b'>';

impl Registry {
    /// Returns families in the order of their names. A family that exists all the time appears
    /// exactly once, whatever comes and goes between pages: a cursor is a name, so it never becomes
    /// invalid.
    pub fn list_families(
        &self,
        cursor: &[u8],
    ) -> Result<Listing<FamilyEntry<'_>>, WrongListCursor> {
        let after = match cursor {
            START => None,
            [AFTER, name @ ..] => Some(std::str::from_utf8(name).map_err(|_| wrong(cursor))?),
            _ => return Err(wrong(cursor)),
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut page, mut budget) = (Vec::new(), Budget::default());
        for (name, &id) in self
            .catalog
            .by_name
            .range::<str, _>((from, Bound::Unbounded))
        {
            if budget.is_spent() {
                let last = page.last().map_or("", |entry: &FamilyEntry<'_>| entry.name);
                return Ok((page, Some(format!("{}{last}", AFTER as char))));
            }
            let entry = family_entry(&self.catalog, id);
            budget.entries += 1;
            budget.steps += entry.buckets.len();
            budget.bytes += name.len() + entry.help.len() + entry.unit.len();
            page.push(entry);
        }
        Ok((page, None))
    }

    /// Returns the family of that name, with the bucket layouts that live writers have.
    pub fn family(&self, name: &str) -> Option<FamilyEntry<'_>> {
        let id = self.catalog.family_named(name)?;
        let layouts = self.catalog.families[id].holders.layouts();
        let bounds = layouts.map(|number| self.catalog.layouts[number].texts().collect());
        Some(FamilyEntry {
            held_buckets: bounds.collect(),
            ..family_entry(&self.catalog, id)
        })
    }

    /// Returns writers, in no particular order. A writer that exists all the time appears exactly
    /// once; of those that are gone, the last few appear.
    pub fn list_writers(
        &self,
        now_ms: u64,
        cursor: &[u8],
    ) -> Result<Listing<WriterEntry<'_>>, WrongListCursor> {
        let text = std::str::from_utf8(cursor).map_err(|_| wrong(cursor))?;
        let from = text.parse::<u32>().map_err(|_| wrong(cursor))? as usize;
        let (mut page, mut budget) = (Vec::new(), Budget::default());
        for (at, writer) in (from..).zip(self.writers.table.places_from(from)) {
            if budget.is_spent() {
                return Ok((page, Some(at.to_string())));
            }
            budget.steps += 1;
            let Some(writer) = writer else { continue };
            if writer.is_gone() && self.writers.by_id.contains_key(&writer.id) {
                // A new writer has this id.
                continue;
            }
            budget.entries += 1;
            budget.bytes += writer.id.len() + writer.pid.len();
            page.push(writer_entry(&self.writers, writer, now_ms, &self.limits));
        }
        Ok((page, None))
    }
}

fn family_entry(catalog: &Catalog, id: FamilyId) -> FamilyEntry<'_> {
    let family = &catalog.families[id];
    let layout = family.layout.map(|number| &catalog.layouts[number]);
    FamilyEntry {
        name: &family.name,
        family_type: family.family_type,
        help: &family.help,
        unit: &family.unit,
        series: family.order.len(),
        ttl_ms: family.ttl_ms,
        buckets: layout.map_or(Vec::new(), |layout| layout.texts().collect()),
        schema: family.schema,
        held_buckets: Vec::new(),
    }
}

fn writer_entry<'a>(
    writers: &'a Writers,
    writer: &'a Writer,
    now_ms: u64,
    limits: &Limits,
) -> WriterEntry<'a> {
    let state = match writers.phase_at(writer, now_ms, limits) {
        Phase::Live => WriterState::Live,
        Phase::Ended => WriterState::Silent,
        Phase::Closed => WriterState::Left,
        Phase::Forgotten => WriterState::Forgotten,
    };
    let is_endless = state == WriterState::Live && writer.lease_end_ms == u64::MAX;
    let left_ms = match state {
        WriterState::Live => writers.lease_end_ms(writer).saturating_sub(now_ms),
        _ => 0,
    };
    let is_gone = matches!(state, WriterState::Left | WriterState::Forgotten);
    WriterEntry {
        id: &writer.id,
        state,
        seq: writer.seq,
        // The entries of a writer that is gone stay until a write has settled them.
        series: if is_gone {
            0
        } else {
            writer.entries.len() - writer.holes as usize
        },
        lease_left_ms: (!is_endless).then_some(left_ms),
        pid: &writer.pid,
    }
}

/// The cost of a page so far.
#[derive(Default)]
struct Budget {
    entries: usize,
    steps: usize,
    bytes: usize,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.entries >= PAGE_ENTRIES || self.steps >= PAGE_STEPS || self.bytes >= PAGE_BYTES
    }
}

fn wrong(cursor: &[u8]) -> WrongListCursor {
    let shown = String::from_utf8_lossy(&cursor[..cursor.len().min(64)]).into_owned();
    WrongListCursor(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, GaugeMode, GaugeWrite, Labels, Limits, Stamp};

    fn registry() -> Registry {
        Registry::new(Epoch(1), Limits::default(), 0)
    }

    fn at(now_ms: u64) -> Stamp {
        Stamp::at(now_ms, Epoch(1))
    }

    fn set(registry: &mut Registry, writer: &[u8], lease_ms: Option<u64>) {
        let write = GaugeWrite {
            family: "depth",
            labels: &Labels::none(),
            value: 1.0,
            mode: Some(GaugeMode::LiveSum),
            writer,
            lease_ms,
            ttl_ms: None,
        };
        registry.set(&at(0), &write).unwrap();
    }

    #[test]
    fn every_family_is_on_exactly_one_page() {
        let mut registry = registry();
        let names = (0..1234).map(|n| format!("f{n:04}")).collect::<Vec<_>>();
        for name in &names {
            registry
                .inc(&at(0), name, &Labels::none(), 1.0, None)
                .unwrap();
        }
        let (mut listed, mut cursor, mut pages) = (Vec::new(), "0".to_owned(), 0);
        loop {
            let (page, next) = registry.list_families(cursor.as_bytes()).unwrap();
            listed.extend(page.iter().map(|entry| entry.name.to_owned()));
            pages += 1;
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        assert_eq!((listed, pages), (names, 3));
    }

    #[test]
    fn a_family_says_what_it_is() {
        let mut registry = registry();
        let layout = crate::Layout::new(["0.5", "1.0"]).unwrap();
        let declaration = crate::Declaration {
            layout: Some(&layout),
            ttl_ms: Some(7),
            ..crate::Declaration::default()
        };
        let spec = crate::FamilySpec {
            help: "Waiting",
            unit: "seconds",
            ..crate::FamilySpec::new("wait_seconds", FamilyType::Histogram)
        };
        registry.declare(&at(0), &spec, &declaration).unwrap();
        let (page, next) = registry.list_families(b"0").unwrap();
        let expected = FamilyEntry {
            name: "wait_seconds",
            family_type: FamilyType::Histogram,
            help: "Waiting",
            unit: "seconds",
            series: 0,
            ttl_ms: Some(7),
            buckets: vec!["0.5", "1.0"],
            schema: None,
            held_buckets: Vec::new(),
        };
        assert_eq!((page, next), (vec![expected], None));
    }

    #[test]
    fn writers_tell_their_state_and_what_is_left_of_their_lease() {
        let mut registry = registry();
        set(&mut registry, b"endless", None);
        set(&mut registry, b"brief", Some(10));
        set(&mut registry, b"gone", Some(10_000));
        registry.leave(&at(0), b"gone", 0, None);
        let (page, next) = registry.list_writers(4, b"0").unwrap();
        let told = page
            .iter()
            .map(|entry| (entry.id, entry.state, entry.lease_left_ms))
            .collect::<Vec<_>>();
        assert_eq!(
            told,
            [
                (&b"endless"[..], WriterState::Live, None),
                (b"brief", WriterState::Live, Some(6)),
                (b"gone", WriterState::Left, Some(0)),
            ]
        );
        assert_eq!(next, None);
        let (page, _) = registry.list_writers(11, b"1").unwrap();
        assert_eq!(page[0].state, WriterState::Silent);
    }

    #[test]
    fn pages_of_writers_are_bounded_and_complete() {
        let mut registry = registry();
        for number in 0..1100 {
            set(&mut registry, format!("w{number}").as_bytes(), None);
        }
        let (first, next) = registry.list_writers(0, b"0").unwrap();
        let (second, next) = registry.list_writers(0, next.unwrap().as_bytes()).unwrap();
        let (third, next) = registry.list_writers(0, next.unwrap().as_bytes()).unwrap();
        assert_eq!((first.len(), second.len(), third.len()), (500, 500, 100));
        assert_eq!(next, None);
    }

    #[test]
    fn a_made_up_cursor_is_refused() {
        for cursor in [&b""[..], b"x", b"1x", b">\xff"] {
            assert!(registry().list_families(cursor).is_err(), "{cursor:?}");
            assert!(registry().list_writers(0, cursor).is_err(), "{cursor:?}");
        }
    }
}

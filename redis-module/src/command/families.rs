//! `METRICS.FAMILIES key [CURSOR c | NAMES n family ...]`

use metrics_model::{Epoch, FamilyEntry, FamilyType, Limits, MAX_NAMES, Registry};

use super::about::CURSOR;
use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Lists the families.
pub(crate) struct Families;

/// A copy of one family. The reply is sent after the key is closed.
pub(crate) struct Family {
    name: String,
    family_type: FamilyType,
    help: String,
    unit: String,
    series: usize,
    ttl_ms: Option<u64>,
    buckets: Vec<String>,
    schema: Option<i8>,
    /// The buckets that writers still hold; only for a family that the request named.
    held_buckets: Option<Vec<Vec<String>>>,
}

/// The families that a request wants.
pub(crate) enum Request<'a> {
    /// All of them, or one page of them.
    Listing(Option<&'a [u8]>),
    /// Those of these names that exist.
    Named(Vec<&'a str>),
}

impl Family {
    fn new(family: &FamilyEntry<'_>, is_named: bool) -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let held_buckets = family.held_buckets.iter();
        Self {
            name: family.name.to_owned(),
            family_type: family.family_type,
            help: family.help.to_owned(),
            unit: family.unit.to_owned(),
            series: family.series,
            ttl_ms: family.ttl_ms,
            buckets: texts(&family.buckets),
            schema: family.schema,
            held_buckets: is_named.then(|| held_buckets.map(|bounds| texts(bounds)).collect()),
        }
    }
}

/// The reply of a listing: entries, and for a page the next cursor.
pub(crate) struct Listing<T> {
    pub(super) entries: Vec<T>,
    pub(super) next: Option<String>,
}

/// The cursor of the first page.
const START: &[u8] = b"0";

/// Parses the option CURSOR, which is the same in every listing.
pub(super) fn parse_cursor<'a>(args: &mut Args<'a>) -> Result<Option<&'a [u8]>, Refusal> {
    let mut cursor = None;
    while let Some(option) = args.option() {
        match option.as_str() {
            "CURSOR" => args.once(&mut cursor, Args::bytes)?,
            _ => return Err(args.unknown_option("CURSOR")),
        }
    }
    Ok(cursor)
}

impl<T> Listing<T> {
    /// Reads one page, or without a cursor the whole list, which has to fit into one reply.
    pub(super) fn read(
        cursor: Option<&[u8]>,
        target: &Target<'_>,
        list: impl FnOnce(&Registry, u64, &[u8]) -> Result<(Vec<T>, Option<String>), Refusal>,
    ) -> Result<Self, Refusal> {
        target.read(|registry, now_ms| {
            let cursor_or_start = cursor.unwrap_or(START);
            let (entries, next) = if let Some(registry) = registry {
                list(registry, now_ms, cursor_or_start)?
            } else {
                // A missing key has no entries, but a wrong cursor is still an error.
                let empty = Registry::new(Epoch(0), Limits::default(), now_ms);
                list(&empty, now_ms, cursor_or_start)?
            };
            match (cursor, next) {
                (None, Some(_)) => Err(Refusal::LongListing(entries.len())),
                (None, None) => Ok(Self {
                    entries,
                    next: None,
                }),
                (Some(_), next) => Ok(Self {
                    entries,
                    next: Some(next.unwrap_or_else(|| "0".to_owned())),
                }),
            }
        })
    }

    pub(super) fn reply(self, reply: Reply, entry: impl Fn(T)) {
        if let Some(next) = self.next {
            reply.array(2);
            reply.bulk(next.as_bytes());
        }
        reply.array(self.entries.len());
        self.entries.into_iter().for_each(entry);
    }
}

impl Command for Families {
    const ABOUT: About = About {
        name: c"METRICS.FAMILIES",
        event: c"",
        flags: c"readonly",
        access: Access::Read,
        arity: 2,
        summary: c"Answers which metric families there are, whole or in pages.",
        complexity: c"O(N) where N is the number of families of the page, at most 500",
        arguments: &[CURSOR, NAMES],
    };
    type Request<'a> = Request<'a>;
    type Answer = Listing<Family>;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let (mut cursor, mut names) = (None, None);
        while let Some(option) = args.option() {
            match option.as_str() {
                "CURSOR" => args.once(&mut cursor, Args::bytes)?,
                "NAMES" => args.once(&mut names, read_names)?,
                _ => return Err(args.unknown_option("CURSOR or NAMES")),
            }
        }
        match (cursor, names) {
            (Some(_), Some(_)) => Err(Refusal::Apart("CURSOR", "NAMES")),
            (None, Some(names)) => Ok(Request::Named(names)),
            (cursor, None) => Ok(Request::Listing(cursor)),
        }
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<Listing<Family>, Refusal> {
        let cursor = match request {
            Request::Listing(cursor) => cursor,
            Request::Named(names) => {
                return target.read(|registry, _now_ms| {
                    let found = |name| registry.and_then(|registry| registry.family(name));
                    let found = names.into_iter().filter_map(found);
                    Ok(Listing {
                        entries: found.map(|family| Family::new(&family, true)).collect(),
                        next: None,
                    })
                });
            }
        };
        Listing::read(cursor, target, |registry, _now_ms, cursor| {
            let (page, next) = registry.list_families(cursor)?;
            let families = page.iter().map(|family| Family::new(family, false));
            Ok((families.collect(), next))
        })
    }

    fn reply(answer: Listing<Family>, reply: Reply) {
        answer.reply(reply, |family| {
            let mode = match family.family_type {
                FamilyType::Gauge(mode) => Some(mode.name()),
                _ => None,
            };
            let fields = 5
                + usize::from(mode.is_some())
                + usize::from(family.ttl_ms.is_some())
                + usize::from(!family.buckets.is_empty())
                + usize::from(family.schema.is_some())
                + usize::from(family.held_buckets.is_some());
            reply.map(fields);
            reply.field("name", family.name.as_bytes());
            reply.field("type", word_of(family.family_type).as_bytes());
            if let Some(mode) = mode {
                reply.field("mode", mode.as_bytes());
            }
            reply.field("help", family.help.as_bytes());
            reply.field("unit", family.unit.as_bytes());
            reply.bulk(b"series");
            reply.integer(family.series as u64);
            if let Some(ttl_ms) = family.ttl_ms {
                reply.bulk(b"ttl_ms");
                reply.integer(ttl_ms);
            }
            if !family.buckets.is_empty() {
                reply.bulk(b"buckets");
                reply.array(family.buckets.len());
                for bound in &family.buckets {
                    reply.bulk(bound.as_bytes());
                }
            }
            if let Some(schema) = family.schema {
                reply.bulk(b"schema");
                reply.signed(schema.into());
            }
            if let Some(held_buckets) = &family.held_buckets {
                reply.bulk(b"held_buckets");
                reply.array(held_buckets.len());
                for bounds in held_buckets {
                    reply.array(bounds.len());
                    for bound in bounds {
                        reply.bulk(bound.as_bytes());
                    }
                }
            }
        });
    }
}

/// Parses the names: `n family ...`
fn read_names<'a>(args: &mut Args<'a>) -> Result<Vec<&'a str>, Refusal> {
    let count = args.count("number of names", MAX_NAMES)?;
    (0..count).map(|_| args.family()).collect()
}

const NAMES: Argument = Argument::group(
    c"names",
    &[
        Argument::integer(c"numnames"),
        Argument::text(c"family").repeated(),
    ],
)
.after(c"NAMES")
.optional();

/// Returns the word that METRICS.DECLARE takes for this type.
fn word_of(family_type: FamilyType) -> &'static str {
    match family_type {
        FamilyType::NativeHistogram => "nativehistogram",
        other => other.name(),
    }
}

//! `METRICS.EXPOSE key [FORMAT format] [ESCAPING scheme] [CREATED] [PART] [NAMES n sample ...] [CURSOR c [COUNT series] [BYTES n]]`

use std::cell::Cell;

use metrics_model::{
    Epoch, ExposeRequest, Limits, MAX_NAME_BYTES, MAX_NAMES, MAX_NAMES_BYTES, Page, Registry,
};

use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::refusal::{Refusal, shown};
use crate::reply::Reply;
use crate::target::Target;

/// Renders the registry, or one page of it.
pub(crate) struct Expose;

pub(crate) enum Answer {
    Whole(Vec<u8>),
    Page(Page),
}

thread_local! {
    /// The memory of the page before, for the next one. Commands run on one thread.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Maximum size of that memory, in bytes: a page of the default size and its last series.
const MOST_KEPT: usize = 320 * 1024;

/// Maximum size of a sample's name, in bytes: ten times that of a family. An escaping scheme may
/// write each character as a number, and the name has an ending.
const MAX_SAMPLE_NAME_BYTES: usize = 10 * MAX_NAME_BYTES;

impl Command for Expose {
    const ABOUT: About = About {
        name: c"METRICS.EXPOSE",
        event: c"",
        flags: c"readonly",
        access: Access::Read,
        arity: 2,
        summary:
            c"Renders a registry as Prometheus or OpenMetrics text or protobuf, whole or in pages.",
        complexity: c"O(N) where N is the number of series of the page",
        arguments: ARGUMENTS,
    };
    type Request<'a> = ExposeRequest;
    type Answer = Answer;

    fn parse(args: &mut Args<'_>) -> Result<ExposeRequest, Refusal> {
        let (mut format, mut escaping, mut created, mut part, mut names) = Default::default();
        let (mut cursor, mut count, mut bytes) = Default::default();
        while let Some(option) = args.option() {
            match option.as_str() {
                "FORMAT" => args.once(&mut format, Args::word)?,
                "ESCAPING" => args.once(&mut escaping, Args::word)?,
                "CREATED" => args.once(&mut created, |_| Ok(()))?,
                "PART" => args.once(&mut part, |_| Ok(()))?,
                "NAMES" => args.once(&mut names, read_names)?,
                "CURSOR" => args.once(&mut cursor, |args| Ok(args.bytes()?.to_vec()))?,
                "COUNT" => args.once(&mut count, |args| args.whole("number of series"))?,
                "BYTES" => args.once(&mut bytes, read_page_bytes)?,
                _ => {
                    return Err(args.unknown_option(
                        "FORMAT, ESCAPING, CREATED, PART, NAMES, CURSOR, COUNT or BYTES",
                    ));
                }
            }
        }
        for (option, is_given) in [("COUNT", count.is_some()), ("BYTES", bytes.is_some())] {
            if is_given && cursor.is_none() {
                return Err(Refusal::Misplaced {
                    option,
                    with: "CURSOR",
                });
            }
        }
        Ok(ExposeRequest {
            format: format.unwrap_or_default(),
            escaping: escaping.unwrap_or_default(),
            created: created.is_some(),
            names: names.unwrap_or_default(),
            cursor,
            count: count.map(|count| count as usize),
            bytes,
            is_part: part.is_some(),
        })
    }

    fn act(request: ExposeRequest, target: &Target<'_>) -> Result<Answer, Refusal> {
        let page = target.read(|registry, now_ms| match registry {
            Some(registry) => Ok(registry.expose_into(BUFFER.take(), now_ms, &request)?),
            // A missing key gives a page without families.
            None => {
                Ok(Registry::new(Epoch(0), Limits::default(), now_ms).expose(now_ms, &request)?)
            }
        })?;
        Ok(match request.cursor {
            None => Answer::Whole(page.body),
            Some(_) => Answer::Page(page),
        })
    }

    fn reply(answer: Answer, reply: Reply) {
        let body = match answer {
            Answer::Whole(body) => body,
            Answer::Page(page) => {
                reply.array(2);
                reply.bulk(page.next.as_deref().unwrap_or("0").as_bytes());
                page.body
            }
        };
        reply.bulk(&body);
        if body.capacity() <= MOST_KEPT {
            BUFFER.set(body);
        }
    }
}

fn read_page_bytes(args: &mut Args<'_>) -> Result<usize, Refusal> {
    let given = args.bytes()?;
    let text = std::str::from_utf8(given).ok();
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
        .filter(|bytes| ExposeRequest::PAGE_BYTES.contains(bytes))
        .ok_or_else(|| Refusal::PageBytes(shown(given)))
}

fn read_names(args: &mut Args<'_>) -> Result<Vec<String>, Refusal> {
    let count = args.count("number of names", MAX_NAMES)?;
    let name = |_| {
        let name = args.text("sample name")?;
        if name.len() > MAX_SAMPLE_NAME_BYTES {
            return Err(Refusal::TooLong {
                what: "sample name",
                found: name.len(),
                most: MAX_SAMPLE_NAME_BYTES,
            });
        }
        Ok(name.to_owned())
    };
    let names = (0..count).map(name).collect::<Result<Vec<_>, _>>()?;
    let found = names.iter().map(String::len).sum::<usize>();
    if found > MAX_NAMES_BYTES {
        return Err(Refusal::TooLong {
            what: "list of sample names",
            found,
            most: MAX_NAMES_BYTES,
        });
    }
    Ok(names)
}

const ARGUMENTS: &[Argument] = &[
    Argument::one_of(
        c"format",
        &[
            Argument::word(c"text", c"TEXT"),
            Argument::word(c"text1", c"TEXT1"),
            Argument::word(c"openmetrics", c"OPENMETRICS"),
            Argument::word(c"openmetrics2", c"OPENMETRICS2"),
            Argument::word(c"protobuf", c"PROTOBUF"),
        ],
    )
    .after(c"FORMAT")
    .optional(),
    Argument::one_of(
        c"escaping",
        &[
            Argument::word(c"underscores", c"UNDERSCORES"),
            Argument::word(c"dots", c"DOTS"),
            Argument::word(c"values", c"VALUES"),
            Argument::word(c"allowutf8", c"ALLOWUTF8"),
        ],
    )
    .after(c"ESCAPING")
    .optional(),
    Argument::word(c"created", c"CREATED").optional(),
    Argument::word(c"part", c"PART").optional(),
    Argument::group(
        c"names",
        &[
            Argument::integer(c"numnames"),
            Argument::text(c"sample").repeated(),
        ],
    )
    .after(c"NAMES")
    .optional(),
    Argument::group(
        c"page",
        &[
            Argument::text(c"cursor").after(c"CURSOR"),
            Argument::integer(c"count").after(c"COUNT").optional(),
            Argument::integer(c"bytes").after(c"BYTES").optional(),
        ],
    )
    .optional(),
];

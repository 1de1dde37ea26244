//! `METRICS.REPLACE key numbatches batch [batch ...] LABELS n name value [name value ...] [KEEP] [CHECK]`

use metrics_model::{Batch, Labels, Replaced, Replacement};

use super::about::PAIRS;
use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::{Effect, Target};

/// Replaces the series of a group in one step.
pub(crate) struct Replace;

pub(crate) struct Request<'a> {
    batches: Vec<Batch<'a>>,
    group: Labels,
    keeps_others: bool,
    /// Whether the command only returns what it would do.
    is_check: bool,
}

/// Maximum number of batches of one command; each has at most 4,096 entries.
const MAX_BATCHES: usize = 65_536;

impl Command for Replace {
    // Without deny-oom: when memory is full, a group can still get other values, and can end.
    const ABOUT: About = About {
        name: c"METRICS.REPLACE",
        event: c"metrics.replace",
        flags: c"write",
        access: Access::Write,
        arity: 6,
        summary: c"Gives a group, known by its labels, other series in one step.",
        complexity: c"O(N) where N is the number of series that the group has and had",
        arguments: &[
            Argument::integer(c"numbatches"),
            Argument::text(c"batch").optional().repeated(),
            Argument::group(c"labels", PAIRS).after(c"LABELS"),
            Argument::word(c"keep", c"KEEP").optional(),
            Argument::word(c"check", c"CHECK").optional(),
        ],
    };
    type Request<'a> = Request<'a>;
    type Answer = Replaced;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let count = args.count("number of batches", MAX_BATCHES)?;
        let batches = (0..count)
            .map(|_| Batch::decode(args.bytes()?).map_err(Refusal::Batch))
            .collect::<Result<_, _>>()?;
        let (mut group, mut keeps_others, mut is_check) = (None, None, None);
        while let Some(option) = args.option() {
            match option.as_str() {
                "LABELS" => args.once(&mut group, Args::labels)?,
                "KEEP" => args.once(&mut keeps_others, |_| Ok(true))?,
                "CHECK" => args.once(&mut is_check, |_| Ok(true))?,
                _ => return Err(args.unknown_option("LABELS, KEEP or CHECK")),
            }
        }
        let group: Labels = group.unwrap_or_default();
        if group.as_str().is_empty() {
            return Err(Refusal::NoGroup);
        }
        Ok(Request {
            batches,
            group,
            keeps_others: keeps_others.unwrap_or(false),
            is_check: is_check.unwrap_or(false),
        })
    }

    /// Creates a missing key only if the group has series.
    fn act(request: Request<'_>, target: &Target<'_>) -> Result<Replaced, Refusal> {
        let replacement = Replacement {
            group: &request.group,
            batches: &request.batches,
            keeps_others: request.keeps_others,
        };
        if request.is_check {
            return target.check(|registry, stamp| registry.check_group(stamp, &replacement));
        }
        if request.batches.is_empty() {
            let done = target.write_existing(|registry, stamp| {
                // Without definitions the registry refuses nothing.
                registry
                    .replace_group(stamp, &replacement)
                    .unwrap_or_default()
            })?;
            return Ok(done.unwrap_or_default());
        }
        target.write(|registry, stamp| registry.replace_group(stamp, &replacement))
    }

    fn reply(answer: Replaced, reply: Reply) {
        reply.array(2);
        reply.integer(answer.series);
        reply.integer(answer.removed);
    }
}

impl Effect for Replaced {
    fn is_news(&self) -> bool {
        self.series > 0 || self.removed > 0
    }

    fn keeps_key(&self) -> bool {
        self.series > 0
    }
}

//! `METRICS.INFO key`

use super::{About, Access, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Returns sizes, epoch, limits and rejections of a registry.
pub(crate) struct Info;

impl Command for Info {
    const ABOUT: About = About {
        name: c"METRICS.INFO",
        event: c"",
        flags: c"readonly",
        access: Access::Read,
        arity: 2,
        summary: c"Answers what a registry says of itself: sizes, epoch, limits, what it left out.",
        complexity: c"O(N) where N is the number of writers",
        arguments: &[],
    };
    type Request<'a> = ();
    type Answer = Vec<(&'static str, String)>;

    fn parse(args: &mut Args<'_>) -> Result<(), Refusal> {
        args.end()
    }

    fn act((): (), target: &Target<'_>) -> Result<Self::Answer, Refusal> {
        target.read(|registry, now_ms| Ok(registry.ok_or(Refusal::NoKey)?.info(now_ms)))
    }

    fn reply(answer: Self::Answer, reply: Reply) {
        reply.map(answer.len());
        for (name, value) in answer {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        }
    }
}

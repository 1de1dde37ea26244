//! `METRICS.ADD key family number [MODE mode] [WRITER id] [LEASE ms] [LABELS n name value ...] [TTL ms]`

use super::about::{FAMILY, LABELS, LEASE, MODE, TTL};
use super::set::Request;
use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Adds to a writer's value of a gauge.
pub(crate) struct Add;

impl Command for Add {
    const ABOUT: About = About {
        name: c"METRICS.ADD",
        event: c"metrics.add",
        flags: c"write deny-oom fast",
        access: Access::ReadWrite,
        arity: 4,
        summary: c"Adds to a gauge for one writer and answers the writer's new value.",
        complexity: c"O(1)",
        arguments: &[
            FAMILY,
            Argument::number(c"increment"),
            MODE,
            Argument::text(c"writer").after(c"WRITER").optional(),
            LEASE,
            LABELS,
            TTL,
        ],
    };
    type Request<'a> = Request<'a>;
    type Answer = f64;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        Request::parse(args)
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<f64, Refusal> {
        target.write(|registry, stamp| registry.add(stamp, &request.write()))
    }

    fn reply(value: f64, reply: Reply) {
        reply.number(value);
    }
}

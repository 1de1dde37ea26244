//! `METRICS.TTL key family ms [LABELS n name value ...]`

use metrics_model::Labels;

use super::about::{FAMILY, LABELS};
use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Sets the idle time after which a series, or without labels every series of a family, expires.
pub(crate) struct Ttl;

pub(crate) struct Request<'a> {
    family: &'a str,
    ttl_ms: u64,
    labels: Option<Labels>,
}

impl Command for Ttl {
    const ABOUT: About = About {
        name: c"METRICS.TTL",
        event: c"metrics.ttl",
        flags: c"write",
        access: Access::Write,
        arity: 4,
        summary: c"Sets the idle time after which series expire, and answers for how many.",
        complexity: c"O(1), also for a whole family: later writes walk through its series",
        arguments: &[FAMILY, Argument::integer(c"milliseconds"), LABELS],
    };
    type Request<'a> = Request<'a>;
    type Answer = u64;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let (family, ttl_ms) = (args.family()?, args.milliseconds()?);
        let mut labels = None;
        while let Some(option) = args.option() {
            match option.as_str() {
                "LABELS" => args.once(&mut labels, Args::labels)?,
                _ => return Err(args.unknown_option("LABELS")),
            }
        }
        Ok(Request {
            family,
            ttl_ms,
            labels,
        })
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<u64, Refusal> {
        let Request {
            family,
            ttl_ms,
            labels,
        } = request;
        let touched = target.write_existing(|registry, stamp| {
            registry.set_ttl(stamp, family, labels.as_ref(), ttl_ms)
        })?;
        Ok(touched.unwrap_or(0))
    }

    fn reply(touched: u64, reply: Reply) {
        reply.integer(touched);
    }
}

//! `METRICS.INC key family [BY number] [LABELS n name value ...] [TTL ms]`

use metrics_model::Labels;

use super::{About, Access, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Adds to a counter.
pub(crate) struct Inc;

pub(crate) struct Request<'a> {
    family: &'a str,
    by: f64,
    labels: Labels,
    ttl_ms: Option<u64>,
}

impl Command for Inc {
    const ABOUT: About = About {
        name: c"METRICS.INC",
        flags: c"write deny-oom",
        access: Access::ReadWrite,
        arity: 3,
        summary: c"Adds to a counter and answers its new total.",
    };
    type Request<'a> = Request<'a>;
    type Answer = f64;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let family = args.family()?;
        let (mut by, mut labels, mut ttl_ms) = Default::default();
        while let Some(option) = args.option() {
            match option.as_str() {
                "BY" => args.once(&mut by, Args::number)?,
                "LABELS" => args.once(&mut labels, Args::labels)?,
                "TTL" => args.once(&mut ttl_ms, Args::milliseconds)?,
                _ => return Err(args.unknown_option("BY, LABELS or TTL")),
            }
        }
        Ok(Request {
            family,
            by: by.unwrap_or(1.0),
            labels: labels.unwrap_or_default(),
            ttl_ms,
        })
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<f64, Refusal> {
        let Request {
            family,
            by,
            labels,
            ttl_ms,
        } = request;
        target.write(|registry, stamp| registry.inc(stamp, family, &labels, by, ttl_ms))
    }

    fn reply(total: f64, reply: Reply) {
        reply.number(total);
    }
}

//! `METRICS.INC key family [BY number] [LABELS n name value ...] [EXEMPLAR n name value ...] [TTL ms]`

use metrics_model::{Exemplar, Labels};

use super::about::{EXEMPLAR, FAMILY, LABELS, TTL};
use super::{About, Access, Argument, Command};
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
    exemplar: Option<Exemplar>,
    ttl_ms: Option<u64>,
}

impl Command for Inc {
    const ABOUT: About = About {
        name: c"METRICS.INC",
        event: c"metrics.inc",
        flags: c"write deny-oom fast",
        access: Access::ReadWrite,
        arity: 3,
        summary: c"Adds to a counter and answers its new total.",
        complexity: c"O(1)",
        arguments: &[
            FAMILY,
            Argument::number(c"increment").after(c"BY").optional(),
            LABELS,
            EXEMPLAR,
            TTL,
        ],
    };
    type Request<'a> = Request<'a>;
    type Answer = f64;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let family = args.family()?;
        let (mut by, mut labels, mut exemplar, mut ttl_ms) = Default::default();
        while let Some(option) = args.option() {
            match option.as_str() {
                "BY" => args.once(&mut by, Args::number)?,
                "LABELS" => args.once(&mut labels, Args::labels)?,
                "EXEMPLAR" => args.once(&mut exemplar, Args::pairs)?,
                "TTL" => args.once(&mut ttl_ms, Args::milliseconds)?,
                _ => return Err(args.unknown_option("BY, LABELS, EXEMPLAR or TTL")),
            }
        }
        let by = by.unwrap_or(1.0);
        Ok(Request {
            family,
            by,
            labels: labels.unwrap_or_default(),
            exemplar: exemplar
                .map(|pairs| Exemplar::new(pairs.into_iter(), by, 0.0))
                .transpose()?,
            ttl_ms,
        })
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<f64, Refusal> {
        let Request {
            family,
            by,
            labels,
            exemplar,
            ttl_ms,
        } = request;
        target.write(|registry, stamp| {
            registry.inc_with(stamp, family, &labels, by, exemplar.as_ref(), ttl_ms)
        })
    }

    fn reply(total: f64, reply: Reply) {
        reply.number(total);
    }
}

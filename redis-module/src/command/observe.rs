//! `METRICS.OBSERVE key family number [BUCKETS n b ...] [LABELS n name value ...] [EXEMPLAR n name value ...] [TTL ms]`

use metrics_model::{Exemplar, Labels, Layout, Observation};

use super::about::{BUCKETS, EXEMPLAR, FAMILY, LABELS, TTL};
use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Counts one observation in a histogram or summary.
pub(crate) struct Observe;

pub(crate) struct Request<'a> {
    family: &'a str,
    value: f64,
    layout: Option<Layout>,
    labels: Labels,
    exemplar: Option<Exemplar>,
    ttl_ms: Option<u64>,
}

impl Command for Observe {
    const ABOUT: About = About {
        name: c"METRICS.OBSERVE",
        event: c"metrics.observe",
        flags: c"write deny-oom fast",
        access: Access::Write,
        arity: 4,
        summary: c"Counts one observation in a histogram or summary.",
        complexity: c"O(log(N)) where N is the number of buckets",
        arguments: &[
            FAMILY,
            Argument::number(c"value"),
            BUCKETS,
            LABELS,
            EXEMPLAR,
            TTL,
        ],
    };
    type Request<'a> = Request<'a>;
    type Answer = ();

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let (family, value) = (args.family()?, args.number()?);
        let (mut bounds, mut labels, mut exemplar, mut ttl_ms) = Default::default();
        while let Some(option) = args.option() {
            match option.as_str() {
                "BUCKETS" => args.once(&mut bounds, Args::bounds)?,
                "LABELS" => args.once(&mut labels, Args::labels)?,
                "EXEMPLAR" => args.once(&mut exemplar, Args::pairs)?,
                "TTL" => args.once(&mut ttl_ms, Args::milliseconds)?,
                _ => return Err(args.unknown_option("BUCKETS, LABELS, EXEMPLAR or TTL")),
            }
        }
        Ok(Request {
            family,
            value,
            layout: bounds.map(Layout::new).transpose()?,
            labels: labels.unwrap_or_default(),
            exemplar: exemplar
                .map(|pairs| Exemplar::new(pairs.into_iter(), value, 0.0))
                .transpose()?,
            ttl_ms,
        })
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<(), Refusal> {
        let observation = Observation {
            family: request.family,
            labels: &request.labels,
            value: request.value,
            layout: request.layout.as_ref(),
            exemplar: request.exemplar.as_ref(),
            ttl_ms: request.ttl_ms,
        };
        target.write(|registry, stamp| registry.observe(stamp, &observation))
    }

    fn reply((): (), reply: Reply) {
        reply.ok();
    }
}

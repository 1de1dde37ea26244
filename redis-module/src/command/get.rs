//! `METRICS.GET key family [LABELS n name value ...]`

use metrics_model::{Aggregate, Labels};

use super::about::{FAMILY, LABELS};
use super::{About, Access, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Returns one series, aggregated over its writers.
pub(crate) struct Get;

pub(crate) struct Request<'a> {
    family: &'a str,
    labels: Labels,
}

impl Command for Get {
    const ABOUT: About = About {
        name: c"METRICS.GET",
        event: c"",
        flags: c"readonly fast",
        access: Access::Read,
        arity: 3,
        summary: c"Answers the value of one series.",
        complexity: c"O(N) where N is the number of buckets, or of writers of a gauge whose mode is folded at reading",
        arguments: &[FAMILY, LABELS],
    };
    type Request<'a> = Request<'a>;
    type Answer = Option<Aggregate>;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let family = args.family()?;
        let mut labels = None;
        while let Some(option) = args.option() {
            match option.as_str() {
                "LABELS" => args.once(&mut labels, Args::labels)?,
                _ => return Err(args.unknown_option("LABELS")),
            }
        }
        Ok(Request {
            family,
            labels: labels.unwrap_or_default(),
        })
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<Option<Aggregate>, Refusal> {
        target.read(|registry, now_ms| {
            Ok(registry.and_then(|registry| registry.get(now_ms, request.family, &request.labels)))
        })
    }

    fn reply(answer: Option<Aggregate>, reply: Reply) {
        match answer {
            None => reply.nil(),
            Some(Aggregate::Number(number)) => reply.number(number),
            Some(Aggregate::Buckets {
                count,
                sum,
                buckets,
            }) => {
                reply.array(2 + buckets.len());
                reply.number(count as f64);
                reply.number(sum);
                for (bound, cumulative) in buckets {
                    reply.array(2);
                    reply.bulk(bound.as_bytes());
                    reply.number(cumulative as f64);
                }
            }
        }
    }
}

//! `METRICS.DEL key family [LABELS n name value ...]`

use metrics_model::Labels;

use super::about::{FAMILY, LABELS};
use super::{About, Access, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Removes a series, or without labels a whole family.
pub(crate) struct Del;

pub(crate) struct Request<'a> {
    family: &'a str,
    labels: Option<Labels>,
}

impl Command for Del {
    const ABOUT: About = About {
        name: c"METRICS.DEL",
        event: c"metrics.del",
        flags: c"write fast",
        access: Access::Delete,
        arity: 3,
        summary: c"Removes a series, or a family, and answers how many series that were.",
        complexity: c"O(1)",
        arguments: &[FAMILY, LABELS],
    };
    type Request<'a> = Request<'a>;
    type Answer = u64;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let family = args.family()?;
        let mut labels = None;
        while let Some(option) = args.option() {
            match option.as_str() {
                "LABELS" => args.once(&mut labels, Args::labels)?,
                _ => return Err(args.unknown_option("LABELS")),
            }
        }
        Ok(Request { family, labels })
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<u64, Refusal> {
        let Request { family, labels } = request;
        let removed = target
            .write_existing(|registry, stamp| registry.del(stamp, family, labels.as_ref()))?;
        Ok(removed.unwrap_or(0))
    }

    fn reply(removed: u64, reply: Reply) {
        reply.integer(removed);
    }
}

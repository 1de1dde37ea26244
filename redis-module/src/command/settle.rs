//! `METRICS.SETTLE key`, which servers send and clients do not

use super::{About, Access, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::{Effect, Target};

/// Finishes work that earlier writes and the passing of time have left: see
/// [`background`](crate::background).
pub(crate) struct Settle;

/// The effect of SETTLE. It changes nothing that a client could see.
struct SettleEffect;

impl Effect for SettleEffect {
    fn is_news(&self) -> bool {
        false
    }
}

impl Command for Settle {
    const ABOUT: About = About {
        name: c"METRICS.SETTLE",
        event: c"",
        flags: c"write",
        access: Access::Write,
        arity: 2,
        summary: c"Works off what earlier writes have left; servers send this to each other.",
        complexity: c"O(1)",
        arguments: &[],
    };
    type Request<'a> = ();
    type Answer = ();

    fn parse(args: &mut Args<'_>) -> Result<(), Refusal> {
        args.end()
    }

    fn act((): (), target: &Target<'_>) -> Result<(), Refusal> {
        if !target.is_repetition() {
            return Err(Refusal::InternalSettle);
        }
        target.write_existing(|registry, stamp| {
            registry.settle(stamp);
            SettleEffect
        })?;
        Ok(())
    }

    fn reply((): (), reply: Reply) {
        reply.ok();
    }
}

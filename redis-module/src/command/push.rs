//! `METRICS.PUSH key writer seq batch [EPOCH e] [LEASE ms]`

use metrics_model::{Batch, Epoch, PushReply};

use super::about::{EPOCH, LEASE};
use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Applies one batch of a writer, exactly once.
pub(crate) struct Push;

pub(crate) struct Request<'a> {
    writer: &'a [u8],
    seq: u64,
    batch: Batch<'a>,
    epoch: Option<Epoch>,
    lease_ms: u64,
}

/// Default lease of a writer, in milliseconds.
const DEFAULT_LEASE_MS: u64 = 15_000;

impl Command for Push {
    // Without deny-oom: when memory is full, known writers still renew their leases and update
    // their series. The command itself refuses new writers and keys, and leaves out definitions;
    // the stamp carries that decision.
    const ABOUT: About = About {
        name: c"METRICS.PUSH",
        event: c"metrics.push",
        flags: c"write",
        access: Access::Write,
        arity: 5,
        summary: c"Applies one batch of a writer's absolute values, exactly once.",
        complexity: c"O(N) where N is the number of entries of the batch, at most 4096",
        arguments: &[
            Argument::text(c"writer"),
            Argument::integer(c"seq"),
            Argument::text(c"batch"),
            EPOCH,
            LEASE,
        ],
    };
    type Request<'a> = Request<'a>;
    type Answer = PushReply;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let (writer, seq) = (args.writer()?, args.seq()?);
        let batch = Batch::decode(args.bytes()?).map_err(Refusal::Batch)?;
        let (mut epoch, mut lease_ms) = Default::default();
        while let Some(option) = args.option() {
            match option.as_str() {
                "EPOCH" => args.once(&mut epoch, Args::epoch)?,
                "LEASE" => args.once(&mut lease_ms, Args::milliseconds)?,
                _ => return Err(args.unknown_option("EPOCH or LEASE")),
            }
        }
        let lease_ms = lease_ms.unwrap_or(DEFAULT_LEASE_MS);
        Ok(Request {
            writer,
            seq,
            batch,
            epoch,
            lease_ms,
        })
    }

    /// On a missing key the reply is RESYNC, as for any batch that names no epoch. The new, empty
    /// key is replicated all the same, so that every copy has its epoch.
    fn act(request: Request<'_>, target: &Target<'_>) -> Result<PushReply, Refusal> {
        let Request {
            writer,
            seq,
            batch,
            epoch,
            lease_ms,
        } = request;
        let decides = !target.is_repetition();
        target.write(|registry, stamp| {
            if decides {
                registry.check_writer(stamp, writer)?;
            }
            Ok(registry.push(stamp, writer, seq, epoch, lease_ms, &batch))
        })
    }

    fn reply(answer: PushReply, reply: Reply) {
        reply.push(&answer);
    }
}

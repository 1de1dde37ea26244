//! `METRICS.LEAVE key writer seq [EPOCH e]`

use metrics_model::{Epoch, PushReply, PushStatus};

use super::about::EPOCH;
use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Ends a writer: it will not come back.
pub(crate) struct Leave;

pub(crate) struct Request<'a> {
    writer: &'a [u8],
    seq: u64,
    epoch: Option<Epoch>,
}

impl Command for Leave {
    const ABOUT: About = About {
        name: c"METRICS.LEAVE",
        event: c"metrics.leave",
        flags: c"write fast",
        access: Access::Write,
        arity: 4,
        summary: c"Notes that a writer is gone for good.",
        complexity: c"O(1)",
        arguments: &[Argument::text(c"writer"), Argument::integer(c"seq"), EPOCH],
    };
    type Request<'a> = Request<'a>;
    type Answer = PushReply;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let (writer, seq) = (args.writer()?, args.seq()?);
        let mut epoch = None;
        while let Some(option) = args.option() {
            match option.as_str() {
                "EPOCH" => args.once(&mut epoch, Args::epoch)?,
                _ => return Err(args.unknown_option("EPOCH")),
            }
        }
        Ok(Request { writer, seq, epoch })
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<PushReply, Refusal> {
        let Request { writer, seq, epoch } = request;
        let left =
            target.write_existing(|registry, stamp| registry.leave(stamp, writer, seq, epoch))?;
        Ok(left.unwrap_or_else(|| gone_with_its_key(seq, epoch)))
    }

    fn reply(answer: PushReply, reply: Reply) {
        reply.push(&answer);
    }
}

/// Answers LEAVE on a missing key: the writer has nothing there, and no key is made. The reply has
/// the form of every other; its epoch is the one in the request.
fn gone_with_its_key(seq: u64, epoch: Option<Epoch>) -> PushReply {
    PushReply {
        status: PushStatus::Ok,
        epoch: epoch.unwrap_or(Epoch(0)),
        last_seq: seq,
        left_out: 0,
        series_left_out: None,
        expire_at_ms: None,
    }
}

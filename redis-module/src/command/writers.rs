//! `METRICS.WRITERS key [CURSOR c]`

use metrics_model::WriterState;

use super::about::CURSOR;
use super::families::{Listing, parse_cursor};
use super::{About, Access, Command};
use crate::args::Args;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// Lists the writers: those with a lease, and those that have ended.
pub(crate) struct Writers;

/// A copy of one writer. The reply is sent after the key is closed.
pub(crate) struct Writer {
    id: Vec<u8>,
    pid: String,
    state: WriterState,
    seq: u64,
    series: usize,
    lease_left_ms: Option<u64>,
}

impl Command for Writers {
    const ABOUT: About = About {
        name: c"METRICS.WRITERS",
        event: c"",
        flags: c"readonly",
        access: Access::Read,
        arity: 2,
        summary: c"Answers which writers there are and were, whole or in pages.",
        complexity: c"O(N) where N is the number of writers of the page, at most 500",
        arguments: &[CURSOR],
    };
    type Request<'a> = Option<&'a [u8]>;
    type Answer = Listing<Writer>;

    fn parse<'a>(args: &mut Args<'a>) -> Result<Option<&'a [u8]>, Refusal> {
        parse_cursor(args)
    }

    fn act(cursor: Option<&[u8]>, target: &Target<'_>) -> Result<Listing<Writer>, Refusal> {
        Listing::read(cursor, target, |registry, now_ms, cursor| {
            let (page, next) = registry.list_writers(now_ms, cursor)?;
            let writers = page.into_iter().map(|writer| Writer {
                id: writer.id.to_vec(),
                pid: writer.pid.to_owned(),
                state: writer.state,
                seq: writer.seq,
                series: writer.series,
                lease_left_ms: writer.lease_left_ms,
            });
            Ok((writers.collect(), next))
        })
    }

    /// The lease of a writer without an end is −1, as with PTTL.
    fn reply(answer: Listing<Writer>, reply: Reply) {
        answer.reply(reply, |writer| {
            reply.map(6);
            reply.field("id", &writer.id);
            reply.field("state", writer.state.name().as_bytes());
            reply.field("pid", writer.pid.as_bytes());
            reply.bulk(b"seq");
            reply.integer(writer.seq);
            reply.bulk(b"series");
            reply.integer(writer.series as u64);
            reply.bulk(b"lease_ms");
            match writer.lease_left_ms {
                Some(left_ms) => reply.integer(left_ms),
                None => reply.signed(-1),
            }
        });
    }
}

//! `METRICS.LOAD key part parts bytes`, which servers send and clients do not
//!
//! An append only file without RDB preamble, and slot migrations in that form, rebuild a value from
//! commands: [`parts::emit`](crate::parts::emit) writes these. The key gets its value when the last
//! part has arrived and the whole can be decoded. Until then nothing changes.

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{Mutex, PoisonError};

use metrics_model::Registry;

use super::{About, Access, Argument, Command};
use crate::args::Args;
use crate::parts::PART_BYTES;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// One part of a value.
pub(crate) struct Load;

pub(crate) struct Request<'a> {
    part: u64,
    parts: u64,
    bytes: &'a [u8],
}

/// The parts of a value that have arrived so far.
struct PartialLoad {
    parts: u64,
    come: u64,
    bytes: Vec<u8>,
}

/// Database and key.
type Identity = (c_int, Vec<u8>);

/// Holds more than one entry only while the server imports several slots.
static PARTIAL_LOADS: Mutex<Option<HashMap<Identity, PartialLoad>>> = Mutex::new(None);

/// Drops the parts of values that never became complete: loading has ended.
pub(crate) fn forget_partial_loads() {
    *PARTIAL_LOADS.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

impl Command for Load {
    const ABOUT: About = About {
        name: c"METRICS.LOAD",
        event: c"metrics.load",
        flags: c"write",
        access: Access::Restore,
        arity: 5,
        summary: c"One part of a registry; servers send this to each other.",
        complexity: c"O(N) where N is the size of the registry, with the last part",
        arguments: &[
            Argument::integer(c"part"),
            Argument::integer(c"numparts"),
            Argument::text(c"bytes"),
        ],
    };
    type Request<'a> = Request<'a>;
    type Answer = ();

    fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>, Refusal> {
        let (part, parts) = (args.whole("part")?, args.whole("number of parts")?);
        let bytes = args.bytes()?;
        if bytes.len() > PART_BYTES {
            return Err(Refusal::TooLong {
                what: "part",
                found: bytes.len(),
                most: PART_BYTES,
            });
        }
        args.end()?;
        Ok(Request { part, parts, bytes })
    }

    fn act(request: Request<'_>, target: &Target<'_>) -> Result<(), Refusal> {
        if !target.is_repetition() {
            return Err(Refusal::Internal);
        }
        if let Some(snapshot) = take_part(target, &request)? {
            let registry = Registry::decode_snapshot(&snapshot).map_err(Refusal::Snapshot)?;
            target.restore(registry)?;
        }
        target.replicate_verbatim();
        Ok(())
    }

    fn reply((): (), reply: Reply) {
        reply.ok();
    }
}

/// Stores a part; with the last one, returns the whole value.
fn take_part(target: &Target<'_>, request: &Request<'_>) -> Result<Option<Vec<u8>>, Refusal> {
    let &Request { part, parts, bytes } = request;
    let mut begun = PARTIAL_LOADS.lock().unwrap_or_else(PoisonError::into_inner);
    let begun = begun.get_or_insert_default();
    let key = target.identity();
    let mut so_far = match begun.remove(&key) {
        Some(so_far) if part != 1 => so_far,
        _ => PartialLoad {
            parts,
            come: 0,
            bytes: Vec::new(),
        },
    };
    if part != so_far.come + 1 || parts != so_far.parts || part > parts {
        return Err(Refusal::Part {
            found: part,
            parts,
            expected: so_far.come + 1,
        });
    }
    so_far.come = part;
    so_far.bytes.extend_from_slice(bytes);
    if part == parts {
        return Ok(Some(so_far.bytes));
    }
    begun.insert(key, so_far);
    Ok(None)
}

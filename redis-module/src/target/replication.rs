//! Passes a write on to replicas and the append only file, with its stamp behind it.

use std::ptr;

use metrics_model::{LONGEST_STAMP, Stamp, WrongStamp};
use redis_module::raw;

use super::{StampedWrite, Target};
use crate::api::{self, call};
use crate::trailer::with_trailer;

impl Target<'_> {
    /// Replicates the command as it was sent, with the stamp if that is new. A client's last label
    /// values may look like a stamp: then the stamp follows too, because the last one counts.
    pub(super) fn replicate(&self, stamped: &StampedWrite) {
        if !stamped.is_new && stamp_at_end(self.args).is_err() {
            self.replicate_verbatim();
            return;
        }
        // The name as the client sent it: the server may have renamed the command.
        // SAFETY: the string is valid while the command runs.
        let command = unsafe { api::bytes_of(self.command) };
        with_trailer(&stamped.stamp, |trailer| {
            let count = self.args.len() + trailer.len();
            if count <= MOST_SINGLE {
                self.replicate_few(command, trailer);
                return;
            }
            // SAFETY: Redis' own strings end with NUL, and Redis has found the command by this
            // name. The arguments are those that the format names, two vectors and their lengths.
            // Redis retains the strings that it keeps.
            unsafe {
                call!(RedisModule_Replicate(
                    self.context.as_ptr(),
                    command.as_ptr().cast(),
                    c"vv".as_ptr(),
                    self.args.as_ptr(),
                    self.args.len(),
                    trailer.as_ptr(),
                    trailer.len(),
                ));
            }
        });
    }

    /// Replicates a command of few arguments one by one: for a vector Redis would enlarge its own
    /// list.
    fn replicate_few(&self, command: &[u8], trailer: &[*mut raw::RedisModuleString]) {
        let mut texts = [ptr::null_mut(); MOST_SINGLE];
        let given = self.args.iter().chain(trailer);
        let mut count = 0;
        for (place, text) in texts.iter_mut().zip(given) {
            *place = *text;
            count += 1;
        }
        let format = &SINGLE[MOST_SINGLE - count..];
        // SAFETY: as in `replicate`; the format names the first `count` strings, and Redis ignores
        // arguments that it does not name.
        unsafe {
            call!(RedisModule_Replicate(
                self.context.as_ptr(),
                command.as_ptr().cast(),
                format.as_ptr().cast(),
                texts[0],
                texts[1],
                texts[2],
                texts[3],
                texts[4],
                texts[5],
                texts[6],
                texts[7],
                texts[8],
                texts[9],
                texts[10],
                texts[11],
                texts[12],
                texts[13],
                texts[14],
                texts[15],
            ));
        }
    }
}

/// Maximum number of arguments that are replicated one by one.
const MOST_SINGLE: usize = 16;
/// Format for that many strings; the end of it is the format for fewer.
const SINGLE: &[u8; MOST_SINGLE + 1] = b"ssssssssssssssss\0";

/// Parses the stamp after a command's own arguments; also returns how many arguments it takes.
pub(super) fn stamp_at_end(
    args: &[*mut raw::RedisModuleString],
) -> Result<(Stamp, usize), WrongStamp> {
    // Nearly all commands of clients end here: only few arguments are looked at.
    let may_begin = |length: usize| {
        let first = args.len().checked_sub(length).map(|at| args[at]);
        // SAFETY: the strings are valid while the command runs.
        first.is_some_and(|arg| Stamp::may_begin_with(unsafe { api::bytes_of(arg) }))
    };
    if !may_begin(LONGEST_STAMP) && !may_begin(LONGEST_STAMP - 1) {
        return Err(WrongStamp);
    }
    let last = &args[args.len().saturating_sub(LONGEST_STAMP)..];
    let mut texts: [&[u8]; LONGEST_STAMP] = [b""; LONGEST_STAMP];
    for (text, arg) in texts.iter_mut().zip(last) {
        // SAFETY: the strings are valid while the command runs.
        *text = unsafe { api::bytes_of(*arg) };
    }
    Stamp::from_args(&texts[..last.len()])
}

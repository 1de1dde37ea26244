//! Replies. They are the same in RESP2 and RESP3, except for the map of `METRICS.INFO` and for nil.

use std::cell::RefCell;
use std::ffi::c_long;

use metrics_model::{PushReply, format_number};
use redis_module::raw;

use crate::api::{self, Context, call};
use crate::refusal::Refusal;

thread_local! {
    /// Buffer for the text of a number. Commands run on one thread, and most of them reply with a
    /// number.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Maximum length of an error reply, in characters.
const LONGEST_ERROR: usize = 1000;

/// Sends replies to the client of the running command.
#[derive(Clone, Copy)]
pub(crate) struct Reply(Context);

impl Reply {
    /// Returns the replies to the client of this context.
    pub(crate) fn to(context: Context) -> Self {
        Self(context)
    }

    pub(crate) fn ok(self) {
        // SAFETY: here and below the context is that of the running command, and Redis copies what
        // is passed before the function returns.
        unsafe {
            call!(RedisModule_ReplyWithSimpleString(
                self.0.as_ptr(),
                c"OK".as_ptr()
            ))
        };
    }

    pub(crate) fn nil(self) {
        // SAFETY: see `ok`.
        unsafe { call!(RedisModule_ReplyWithNull(self.0.as_ptr())) };
    }

    /// Sends a metric's value, in Go's spelling.
    pub(crate) fn number(self, number: f64) {
        TEXT.with_borrow_mut(|text| {
            text.clear();
            format_number(number, text);
            self.bulk(text);
        });
    }

    /// Sends a number of things.
    pub(crate) fn integer(self, integer: u64) {
        self.signed(i64::try_from(integer).unwrap_or(i64::MAX));
    }

    /// Sends a whole number that may be negative.
    pub(crate) fn signed(self, integer: i64) {
        // SAFETY: see `ok`.
        unsafe { call!(RedisModule_ReplyWithLongLong(self.0.as_ptr(), integer)) };
    }

    /// Sends one entry of a map: a name and a string.
    pub(crate) fn field(self, name: &str, value: &[u8]) {
        self.bulk(name.as_bytes());
        self.bulk(value);
    }

    pub(crate) fn bulk(self, bytes: &[u8]) {
        // SAFETY: see `ok`.
        unsafe {
            call!(RedisModule_ReplyWithStringBuffer(
                self.0.as_ptr(),
                bytes.as_ptr().cast(),
                bytes.len()
            ));
        }
    }

    /// Begins an array of so many replies.
    pub(crate) fn array(self, length: usize) {
        // SAFETY: see `ok`.
        unsafe {
            call!(RedisModule_ReplyWithArray(
                self.0.as_ptr(),
                length.cast_signed() as c_long
            ))
        };
    }

    /// Begins a map of so many entries; two replies follow for each.
    pub(crate) fn map(self, length: usize) {
        // SAFETY: see `ok`. The function exists since 7.0; in RESP2 it sends a flat array.
        unsafe {
            match raw::RedisModule_ReplyWithMap {
                Some(reply) => {
                    reply(self.0.as_ptr(), length.cast_signed() as c_long);
                }
                None => self.array(2 * length),
            }
        }
    }

    /// Sends the reply of PUSH and LEAVE.
    pub(crate) fn push(self, answer: &PushReply) {
        self.array(if answer.series_left_out.is_some() {
            5
        } else {
            4
        });
        self.bulk(answer.status.as_str().as_bytes());
        self.bulk(answer.epoch.to_string().as_bytes());
        self.integer(answer.last_seq);
        self.integer(answer.left_out);
        if let Some(left_out) = &answer.series_left_out {
            self.bulk(left_out.as_bytes());
        }
    }

    pub(crate) fn refusal(self, refusal: &Refusal) {
        let mut line = format!("{} {refusal}", refusal.code());
        // The message may quote an argument of any length.
        if let Some((end, _)) = line.char_indices().nth(LONGEST_ERROR) {
            line.truncate(end);
            line.push('…');
        }
        self.error(&line);
    }

    pub(crate) fn wrong_arity(self) {
        // SAFETY: see `ok`.
        unsafe { call!(RedisModule_WrongArity(self.0.as_ptr())) };
    }

    pub(crate) fn internal_error(self) {
        self.error("ERR internal error");
    }

    fn error(self, line: &str) {
        let line = api::one_line(line);
        // SAFETY: see `ok`.
        unsafe { call!(RedisModule_ReplyWithError(self.0.as_ptr(), line.as_ptr())) };
    }
}

//! `STAMP ms epoch flags [limits]`, the end of every replicated command, as strings of Redis.
//!
//! A busy registry is written many times in one millisecond, and all of those writes have the same
//! stamp: its strings are made once and lent to each. They are the greater part of what a small
//! command costs.

use std::cell::RefCell;

use metrics_model::Stamp;
use redis_module::raw;

use crate::api::call;

type Text = *mut raw::RedisModuleString;

/// The strings of the last stamp.
struct Kept {
    stamp: Option<Stamp>,
    texts: Vec<Text>,
}

thread_local! {
    // Commands run on one thread. Nothing is freed at its end, which is that of the server.
    static KEPT: RefCell<Kept> = const {
        RefCell::new(Kept {
            stamp: None,
            texts: Vec::new(),
        })
    };
}

/// Lends the strings of a stamp; who keeps them beyond the call retains them.
pub(crate) fn with_trailer(stamp: &Stamp, lend: impl FnOnce(&[Text])) {
    KEPT.with_borrow_mut(|kept| {
        if kept.stamp != Some(*stamp) {
            kept.stamp = Some(*stamp);
            for text in kept.texts.drain(..) {
                // SAFETY: made below, and nobody else's but of those who retained it.
                unsafe { call!(RedisModule_FreeString(std::ptr::null_mut(), text)) };
            }
            kept.texts.extend(stamp.to_args().iter().map(|text| {
                // SAFETY: Redis copies the bytes. Without a context the string is ours until freed.
                unsafe {
                    call!(RedisModule_CreateString(
                        std::ptr::null_mut(),
                        text.as_ptr().cast(),
                        text.len()
                    ))
                }
            }));
        }
        lend(&kept.texts);
    });
}

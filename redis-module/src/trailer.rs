//! `STAMP ms epoch flags [limits]`, the end of every replicated command, as Redis strings.
//!
//! A busy registry gets many writes in one millisecond, all with the same stamp. So the strings of
//! a stamp are made once and used for each of these writes: to make them is the larger part of the
//! cost of a small command.

use std::cell::RefCell;

use metrics_model::Stamp;
use redis_module::raw;

use crate::api::call;

type Text = *mut raw::RedisModuleString;

/// The strings of the last stamp.
struct LastTrailer {
    stamp: Option<Stamp>,
    texts: Vec<Text>,
}

thread_local! {
    // Commands run on one thread. The strings are never freed: they live as long as the server.
    static LAST_TRAILER: RefCell<LastTrailer> = const {
        RefCell::new(LastTrailer {
            stamp: None,
            texts: Vec::new(),
        })
    };
}

/// Passes the strings of a stamp to `lend`, which retains those that it keeps.
pub(crate) fn with_trailer(stamp: &Stamp, lend: impl FnOnce(&[Text])) {
    LAST_TRAILER.with_borrow_mut(|kept| {
        if kept.stamp != Some(*stamp) {
            kept.stamp = Some(*stamp);
            for text in kept.texts.drain(..) {
                // SAFETY: made below, and shared only with owners that retained it.
                unsafe { call!(RedisModule_FreeString(std::ptr::null_mut(), text)) };
            }
            kept.texts.extend(stamp.to_args().iter().map(|text| {
                // SAFETY: Redis copies the bytes. A string made without a context belongs to this
                // module until it is freed.
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

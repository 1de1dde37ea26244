//! Server events after which values may be out of date, or complete.

use std::ffi::c_void;

use redis_module::raw;

use crate::api::{Context, OK, call};
use crate::authority::Authority;
use crate::command;
use crate::guard::guard;

/// The server refused a subscription.
#[derive(Debug, thiserror::Error)]
#[error("the server does not tell of {0}")]
pub(crate) struct EventRefused(&'static str);

/// Subscribes to the events.
pub(crate) fn subscribe(context: Context) -> Result<(), EventRefused> {
    let role_changes = raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED;
    let loading = raw::REDISMODULE_EVENT_LOADING;
    subscribe_to(context, role_changes, role_changed).ok_or(EventRefused("role changes"))?;
    subscribe_to(context, loading, loading_changed).ok_or(EventRefused("loading"))
}

type Callback =
    unsafe extern "C" fn(*mut raw::RedisModuleCtx, raw::RedisModuleEvent, u64, *mut c_void);

fn subscribe_to(context: Context, id: u64, callback: Callback) -> Option<()> {
    let event = raw::RedisModuleEvent { id, dataver: 1 };
    // SAFETY: the context is that of OnLoad, and the callbacks live as long as the module.
    let status = unsafe {
        call!(RedisModule_SubscribeToServerEvent(
            context.as_ptr(),
            event,
            Some(callback)
        ))
    };
    (status == OK).then_some(())
}

/// The server was promoted: it may have missed the last decisions of the old primary.
unsafe extern "C" fn role_changed(
    _context: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    role: u64,
    _data: *mut c_void,
) {
    guard(|| {
        if role == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_MASTER {
            Authority::renew();
        }
    });
}

/// The server has loaded its data. `rdb_load` marks RDB values as restored; values that commands of
/// the append only file made get their mark here.
unsafe extern "C" fn loading_changed(
    _context: *mut raw::RedisModuleCtx,
    _event: raw::RedisModuleEvent,
    phase: u64,
    _data: *mut c_void,
) {
    guard(|| {
        let is_over = phase == raw::REDISMODULE_SUBEVENT_LOADING_ENDED
            || phase == raw::REDISMODULE_SUBEVENT_LOADING_FAILED;
        if is_over {
            Authority::renew();
            command::forget_partial_loads();
        }
    });
}

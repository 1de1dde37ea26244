//! The section `metrics` of INFO.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use redis_module::raw;

use crate::api::{Context, OK, call};
use crate::data_type;
use crate::guard::guard;

/// Registers the section.
pub(crate) fn register(context: Context) {
    // SAFETY: the context is that of OnLoad.
    unsafe {
        call!(RedisModule_RegisterInfoFunc(
            context.as_ptr(),
            Some(add_section)
        ))
    };
}

/// Writes the section. It runs in crash reports too, so it reads counters and allocates nothing.
unsafe extern "C" fn add_section(info: *mut raw::RedisModuleInfoCtx, _for_crash_report: c_int) {
    guard(|| {
        // SAFETY: without a name the section gets the module's name. Redis refuses a section that
        // the client did not request; then the fields are not needed.
        let wanted = unsafe { call!(RedisModule_InfoAddSection(info, ptr::null())) } == OK;
        if wanted {
            add_field(info, c"keys", &data_type::KEYS);
            add_field(info, c"series", &data_type::SERIES);
            add_field(info, c"rejected_samples", &data_type::REJECTED);
        }
    });
}

fn add_field(info: *mut raw::RedisModuleInfoCtx, name: &CStr, value: &AtomicU64) {
    let value = value.load(Ordering::Relaxed);
    // SAFETY: called from the callback with its context; the name is copied.
    unsafe {
        call!(RedisModule_InfoAddFieldULongLong(
            info,
            name.as_ptr(),
            value
        ))
    };
}

//! Finishes, by timer, the work that commands have left over.
//!
//! # How it works
//!
//! A command leaves part of its work to later writes
//! ([`Registry::settle`](metrics_model::Registry::settle)). Those writes may never come, or the
//! server may refuse them while its memory is full. So a primary sets a timer for the moment at
//! which a registry has work to do. The timer's write is stamped and replicated like any other, as
//! `METRICS.SETTLE key`. It does not decide whether the registry was rolled back: only writers can
//! show that.
//!
//! # What it costs
//!
//! At most 0.3 ms in each [`PAUSE_MS`] as long as there is work; without work there is no timer. A
//! renamed key and a promoted server get their timer with the next command on the key.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics_model::Stamp;
use redis_module::raw;

use crate::api::{Context, OK, call};
use crate::config;
use crate::data_type::MetricSet;
use crate::failpoint;
use crate::guard::guard;
use crate::key::Key;
use crate::trailer::with_trailer;

/// Pause between two steps of the work, in milliseconds.
const PAUSE_MS: u64 = 5;
/// Pause while the server accepts no writes, in milliseconds.
const HELD_UP_MS: u64 = 100;
/// A timer that is late by more milliseconds than this no longer exists.
const LATE_MS: u64 = 1000;
/// A new timer replaces an older one only if it comes at least so many milliseconds before it.
const WORTH_MS: u64 = 20;

/// The timer of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timer {
    id: raw::RedisModuleTimerID,
    number: u64,
    /// Time at which it comes, in the registry's time.
    at_ms: u64,
}

/// The data of a timer: the key, and the timer's number.
struct Job {
    database: c_int,
    key: Vec<u8>,
    /// The number of the [`Timer`]. If the key holds another value when the timer comes, the
    /// numbers differ.
    number: u64,
}

static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Sets the timer for a value's next work. A primary calls this after each use of the value.
pub(crate) fn set_timer(
    context: Context,
    name: *mut raw::RedisModuleString,
    set: &mut MetricSet,
    now_ms: u64,
) {
    let Some(due_ms) = set.registry.next_work_ms(now_ms) else {
        return;
    };
    let due_ms = due_ms.max(now_ms.saturating_add(PAUSE_MS));
    if let Some(timer) = set.timer {
        let is_lost = now_ms > timer.at_ms.saturating_add(LATE_MS);
        if !is_lost && timer.at_ms <= due_ms.saturating_add(WORTH_MS) {
            return;
        }
        stop(context, timer);
    }
    // SAFETY: the name is a valid string while the command or the timer runs.
    let key = unsafe { crate::api::bytes_of(name) }.to_vec();
    start(context, key, set, now_ms, due_ms);
}

fn start(context: Context, key: Vec<u8>, set: &mut MetricSet, now_ms: u64, at_ms: u64) {
    let number = LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
    let job = Job {
        database: context.database(),
        key,
        number,
    };
    let pause_ms = i64::try_from(at_ms - now_ms).unwrap_or(i64::MAX);
    let data = Box::into_raw(Box::new(job)).cast();
    // SAFETY: the context is that of a command or a timer; the timer frees the data, or `stop`
    // does.
    let id = unsafe {
        call!(RedisModule_CreateTimer(
            context.as_ptr(),
            pause_ms,
            Some(fired),
            data
        ))
    };
    set.timer = Some(Timer { id, number, at_ms });
}

fn stop(context: Context, timer: Timer) {
    let mut data: *mut c_void = ptr::null_mut();
    // SAFETY: Redis returns the data of the timer with this id, and the data is ours again. The id
    // belongs to no other timer.
    unsafe {
        let status = call!(RedisModule_StopTimer(
            context.as_ptr(),
            timer.id,
            &raw mut data
        ));
        if status == OK && !data.is_null() {
            drop(Box::from_raw(data.cast::<Job>()));
        }
    }
}

/// Callback of Redis for a timer that has come.
unsafe extern "C" fn fired(context: *mut raw::RedisModuleCtx, data: *mut c_void) {
    guard(|| {
        // SAFETY: the context is valid until this function returns, and the data is what `start` gave.
        let (context, job) = unsafe { (Context::new(context), Box::from_raw(data.cast::<Job>())) };
        failpoint::reached("timer");
        run(context, &job);
    });
}

fn run(context: Context, job: &Job) {
    if !context.situation().is_primary() || !context.select(job.database) {
        return;
    }
    let name = Context::string(&job.key);
    work(context, name, job.number);
    Context::free_string(name);
}

fn work(context: Context, name: *mut raw::RedisModuleString, number: u64) {
    let Ok(mut key) = Key::open_for_writing(context, name) else {
        return;
    };
    let Ok(Some(set)) = key.value() else { return };
    if set.timer.is_none_or(|timer| timer.number != number) {
        return;
    }
    set.timer = None;
    set.take_charge();
    if Context::must_not_write() {
        let now_ms = set.now_ms();
        // SAFETY: the caller made the name and has not freed it yet.
        let key = unsafe { crate::api::bytes_of(name) }.to_vec();
        start(context, key, set, now_ms, now_ms + HELD_UP_MS);
        return;
    }
    let now_ms = set.time_of_write();
    let expired_before = set.registry.expired_count();
    settle(context, name, set, now_ms);
    let has_expired = set.registry.expired_count() > expired_before;
    set_timer(context, name, set, now_ms);
    drop(key);
    if has_expired {
        context.signal_change(name);
        context.notify(raw::REDISMODULE_NOTIFY_MODULE, c"metrics.expired", name);
    }
}

/// Does one step of the work and replicates it, so that replicas do the same.
pub(crate) fn settle(
    context: Context,
    name: *mut raw::RedisModuleString,
    set: &mut MetricSet,
    now_ms: u64,
) {
    if set
        .registry
        .next_work_ms(now_ms)
        .is_none_or(|at_ms| at_ms > now_ms)
    {
        return;
    }
    let stamp = set.registry.stamp_of_settling(now_ms, &config::limits());
    set.registry.settle(&stamp);
    set.count();
    replicate(context, name, &stamp);
}

fn replicate(context: Context, name: *mut raw::RedisModuleString, stamp: &Stamp) {
    with_trailer(stamp, |trailer| {
        // SAFETY: the strings are valid and are those that the format names: one string, and a
        // vector with its length. Redis retains those that it keeps.
        unsafe {
            call!(RedisModule_Replicate(
                context.as_ptr(),
                c"METRICS.SETTLE".as_ptr(),
                c"sv".as_ptr(),
                name,
                trailer.as_ptr(),
                trailer.len(),
            ));
        }
    });
}

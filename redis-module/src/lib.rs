//! A native Redis type for Prometheus metrics.
//!
//! A key of the type `metricset` holds a registry ([`metrics_model::Registry`]), which contains all
//! rules of the metrics. This crate parses a command's arguments, stamps the time, calls the
//! registry, replicates, and replies. README.md documents the commands; [`command`] shows how each
//! is built.
//!
//! One library serves Redis from 6.2 and Valkey: it looks up functions of newer servers at run
//! time.

mod alloc;
mod api;
mod args;
mod authority;
mod background;
mod command;
mod config;
mod data_type;
mod defrag;
mod events;
mod failpoint;
mod guard;
mod info;
mod key;
mod parts;
mod refusal;
mod reply;
mod target;
mod trailer;

use std::error::Error;
use std::ffi::{CStr, c_int};
use std::slice;

use redis_module::raw;

use crate::api::{Context, OK, REFUSED, call};
use crate::command::{
    Add, Declare, Del, Expose, Families, Get, Inc, Info, Leave, Load, Observe, Push, Replace, Set,
    Settle, Ttl, Writers, register,
};

#[global_allocator]
static ALLOCATOR: alloc::RedisAllocator = alloc::RedisAllocator;

/// Prefix of the settings' names, and name of the section of INFO.
const NAME: &CStr = c"metrics";
const VERSION: c_int = 10_000;

/// Registers the type, commands, settings and events.
fn load(context: Context, arguments: &[&[u8]]) -> Result<(), Box<dyn Error>> {
    api::check()?;
    data_type::register(context)?;

    register::<Declare>(context)?;
    register::<Inc>(context)?;
    register::<Set>(context)?;
    register::<Add>(context)?;
    register::<Observe>(context)?;
    register::<Push>(context)?;
    register::<Leave>(context)?;
    register::<Expose>(context)?;
    register::<Replace>(context)?;
    register::<Get>(context)?;
    register::<Del>(context)?;
    register::<Ttl>(context)?;
    register::<Info>(context)?;
    register::<Families>(context)?;
    register::<Writers>(context)?;
    register::<Load>(context)?;
    register::<Settle>(context)?;

    config::load(context, arguments)?;
    info::register(context);
    events::subscribe(context)?;
    Ok(())
}

/// Called by Redis when it loads the module. There is no `RedisModule_OnUnload`: a module with a
/// data type cannot be unloaded.
///
/// # Safety
///
/// Only Redis calls it.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the name by which Redis finds it")]
pub unsafe extern "C" fn RedisModule_OnLoad(
    context: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the arguments are those of Redis. This call comes first: before it there is no
    // allocator.
    let status = unsafe {
        let version = raw::REDISMODULE_APIVER_1.cast_signed();
        raw::Export_RedisModule_Init(context, NAME.as_ptr(), VERSION, version)
    };
    if status != OK {
        return REFUSED;
    }
    guard::log_panics();
    // SAFETY: the context is valid until this function returns.
    let context = unsafe { Context::new(context) };
    let loaded = guard::guard(|| {
        api::valkey::look_up();
        failpoint::look_up();
        set_options(context);
        let argv: &[*mut raw::RedisModuleString] = match usize::try_from(argc) {
            // SAFETY: Redis passes `argc` strings, which it keeps until this function returns.
            Ok(length @ 1..) => unsafe { slice::from_raw_parts(argv, length) },
            _ => &[],
        };
        // SAFETY: as above.
        let arguments = argv.iter().map(|arg| unsafe { api::bytes_of(*arg) });
        load(context, &arguments.collect::<Vec<_>>())
    });
    match loaded {
        Some(Ok(())) => OK,
        Some(Err(error)) => {
            context.log(c"warning", &error.to_string());
            REFUSED
        }
        None => REFUSED,
    }
}

/// Declares what this module handles itself. Errors of RDB and RESTORE do not end the server.
/// Replicas may serve reads while they load. Valkey may migrate slots atomically, because the AOF
/// form of a value is complete. A key that a command opened for writing counts as changed only when
/// the command signals it.
fn set_options(context: Context) {
    const VALKEY_HANDLE_ATOMIC_SLOT_MIGRATION: u32 = 1 << 5;
    let mut options = raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS
        | raw::REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD
        | raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED;
    if api::valkey::must_obey_client().is_some() {
        options |= VALKEY_HANDLE_ATOMIC_SLOT_MIGRATION;
    }
    // SAFETY: the context is that of OnLoad.
    unsafe {
        call!(RedisModule_SetModuleOptions(
            context.as_ptr(),
            options.cast_signed()
        ))
    };
}

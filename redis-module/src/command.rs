//! What all commands have in common.
//!
//! Each command is one file with the same three steps in the same order: *parse* the arguments,
//! *act* on the registry, *reply*. [`about`] describes a command to Redis, and Redis calls `run`.
//!
//! This module registers commands through the raw API. The crate's macro would retain and copy
//! every argument of every call.

mod about;
mod add;
mod declare;
mod del;
mod expose;
mod families;
mod get;
mod inc;
mod info;
mod leave;
mod load;
mod observe;
mod push;
mod replace;
mod set;
mod settle;
mod ttl;
mod writers;

use std::ffi::c_int;
use std::slice;

use redis_module::raw;

pub(crate) use self::about::{About, Access, Argument, register};
pub(crate) use self::load::forget_partial_loads;
pub(crate) use self::{
    add::Add, declare::Declare, del::Del, expose::Expose, families::Families, get::Get, inc::Inc,
    info::Info, leave::Leave, load::Load, observe::Observe, push::Push, replace::Replace, set::Set,
    settle::Settle, ttl::Ttl, writers::Writers,
};
use crate::api::{Context, OK};
use crate::args::Args;
use crate::failpoint;
use crate::guard::guard;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// A command on one key.
pub(crate) trait Command {
    /// The description that Redis gets.
    const ABOUT: About;
    /// The parsed arguments.
    type Request<'a>;
    /// The result of `act`, from which `reply` makes the reply.
    type Answer;

    /// Parses the arguments after the key; reads no registry.
    fn parse<'a>(args: &mut Args<'a>) -> Result<Self::Request<'a>, Refusal>;

    /// Carries out the request.
    fn act(request: Self::Request<'_>, target: &Target<'_>) -> Result<Self::Answer, Refusal>;

    /// Sends the result to the client.
    fn reply(answer: Self::Answer, reply: Reply);
}

/// Callback of Redis for a command.
unsafe extern "C" fn run<C: Command>(
    context: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the context is valid until this function returns.
    let context = unsafe { Context::new(context) };
    let reply = Reply::to(context);
    let done = guard(|| {
        // SAFETY: Redis passes `argc` strings, which it keeps until this function returns.
        let argv = unsafe { slice::from_raw_parts(argv, argc.unsigned_abs() as usize) };
        carry_out::<C>(context, argv)
    });
    match done {
        Some(Ok(answer)) => {
            guard(|| C::reply(answer, reply));
        }
        Some(Err(Refusal::Arity)) => reply.wrong_arity(),
        Some(Err(refusal)) => reply.refusal(&refusal),
        None => reply.internal_error(),
    }
    OK
}

fn carry_out<C: Command>(
    context: Context,
    argv: &[*mut raw::RedisModuleString],
) -> Result<C::Answer, Refusal> {
    failpoint::reached(C::ABOUT.name.to_str().unwrap_or_default());
    let (target, rest) = match C::ABOUT.access {
        Access::Read | Access::Restore => Target::unstamped(context, argv, C::ABOUT.event)?,
        Access::Write | Access::ReadWrite | Access::Delete => {
            Target::stamped(context, argv, C::ABOUT.event)?
        }
    };
    // SAFETY: the strings are valid while the command runs.
    let mut args = unsafe { Args::new(rest) };
    let request = C::parse(&mut args)?;
    C::act(request, &target)
}

//! What all commands have in common.
//!
//! Each command is one file with the same three steps in the same order: *parse* the arguments, *act*
//! on the registry, *reply*. Around them, [`register`] tells Redis of a command, and `run` is what
//! Redis then calls.
//!
//! Commands are registered through the raw API and not the crate's macro, because that retains and
//! copies every argument of every call.

mod add;
mod declare;
mod del;
mod expose;
mod get;
mod inc;
mod info;
mod leave;
mod load;
mod observe;
mod push;
mod set;
mod ttl;

use std::ffi::{CStr, c_int};
use std::{mem, ptr, slice};

use redis_module::raw;

pub(crate) use self::load::forget_begun;
pub(crate) use self::{
    add::Add, declare::Declare, del::Del, expose::Expose, get::Get, inc::Inc, info::Info,
    leave::Leave, load::Load, observe::Observe, push::Push, set::Set, ttl::Ttl,
};
use crate::api::{Context, OK, call};
use crate::args::Args;
use crate::guard::guard;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::target::Target;

/// A command on one key.
pub(crate) trait Command {
    /// What Redis is told of it.
    const ABOUT: About;
    /// What the arguments say.
    type Request<'a>;
    /// What is replied.
    type Answer;

    /// Reads the arguments after the key; looks at nothing else.
    fn parse<'a>(args: &mut Args<'a>) -> Result<Self::Request<'a>, Refusal>;

    /// Does it.
    fn act(request: Self::Request<'_>, target: &Target<'_>) -> Result<Self::Answer, Refusal>;

    /// Says what came of it.
    fn reply(answer: Self::Answer, reply: Reply);
}

/// What Redis is told of a command.
pub(crate) struct About {
    pub(crate) name: &'static CStr,
    pub(crate) flags: &'static CStr,
    pub(crate) access: Access,
    /// The fewest arguments, the name of the command among them.
    pub(crate) arity: c_int,
    pub(crate) summary: &'static CStr,
}

/// What a command does with its key, for ACL rules such as `%R~metrics*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Answers what is in there.
    Read,
    /// Changes what is in there, and answers nothing of it.
    Write,
    /// Both.
    ReadWrite,
    /// Removes something.
    Delete,
    /// Puts there what another server has saved.
    Restore,
}

/// The server refused a command.
#[derive(Debug, thiserror::Error)]
#[error("the command {0} cannot be created: is it there already?")]
pub(crate) struct CommandRefused(String);

/// Tells Redis of a command.
pub(crate) fn register<C: Command>(context: Context) -> Result<(), CommandRefused> {
    let about = C::ABOUT;
    let refused = || CommandRefused(about.name.to_string_lossy().into_owned());
    // SAFETY: the context is that of OnLoad, and Redis copies what it is told. The two optional
    // functions came later: key specs (without which `%R~` patterns refuse even what only reads) with
    // 7.0, categories with 7.2.
    unsafe {
        let created = call!(RedisModule_CreateCommand(
            context.as_ptr(),
            about.name.as_ptr(),
            Some(run::<C>),
            about.flags.as_ptr(),
            1,
            1,
            1
        ));
        if created != OK {
            return Err(refused());
        }
        let Some(get_command) = raw::RedisModule_GetCommand else {
            return Ok(());
        };
        let command = get_command(context.as_ptr(), about.name.as_ptr());
        if let Some(set_info) = raw::RedisModule_SetCommandInfo
            && describe(command, &about, set_info) != OK
        {
            return Err(refused());
        }
        if let Some(set_categories) = raw::RedisModule_SetCommandACLCategories
            && set_categories(command, about.access.category().as_ptr()) != OK
        {
            return Err(refused());
        }
    }
    Ok(())
}

type SetCommandInfo =
    unsafe extern "C" fn(*mut raw::RedisModuleCommand, *const raw::RedisModuleCommandInfo) -> c_int;

/// # Safety
///
/// The command has just been created.
unsafe fn describe(
    command: *mut raw::RedisModuleCommand,
    about: &About,
    set_info: SetCommandInfo,
) -> c_int {
    static VERSION: raw::RedisModuleCommandInfoVersion = raw::RedisModuleCommandInfoVersion {
        version: 1,
        sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
        sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
        sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
    };
    // SAFETY: the structures are plain C, for which zero means absent, and a zeroed entry ends a list.
    let mut key_specs: [raw::RedisModuleCommandKeySpec; 2] = unsafe { mem::zeroed() };
    key_specs[0].flags = about.access.key_flags().into();
    key_specs[0].begin_search_type =
        raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    key_specs[0].bs.index.pos = 1;
    key_specs[0].find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
    key_specs[0].fk.range.lastkey = 0;
    key_specs[0].fk.range.keystep = 1;
    let info = raw::RedisModuleCommandInfo {
        version: &raw const VERSION,
        summary: about.summary.as_ptr(),
        complexity: ptr::null(),
        since: c"1.0.0".as_ptr(),
        history: ptr::null_mut(),
        tips: ptr::null(),
        arity: -about.arity,
        key_specs: key_specs.as_mut_ptr(),
        args: ptr::null_mut(),
    };
    // SAFETY: the caller's promise; Redis copies everything.
    unsafe { set_info(command, &raw const info) }
}

impl Access {
    fn key_flags(self) -> u32 {
        match self {
            Self::Read => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
            Self::Write => raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_UPDATE,
            Self::ReadWrite => {
                raw::REDISMODULE_CMD_KEY_RW
                    | raw::REDISMODULE_CMD_KEY_ACCESS
                    | raw::REDISMODULE_CMD_KEY_UPDATE
            }
            Self::Delete => raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_DELETE,
            Self::Restore => raw::REDISMODULE_CMD_KEY_OW | raw::REDISMODULE_CMD_KEY_UPDATE,
        }
    }

    fn category(self) -> &'static CStr {
        match self {
            Self::Read => c"read",
            _ => c"write",
        }
    }
}

/// What Redis calls for a command.
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
    let (target, rest) = match C::ABOUT.access {
        Access::Read | Access::Restore => Target::unstamped(context, argv)?,
        Access::Write | Access::ReadWrite | Access::Delete => Target::stamped(context, argv)?,
    };
    // SAFETY: the strings are valid while the command runs.
    let mut args = unsafe { Args::new(rest) };
    let request = C::parse(&mut args)?;
    C::act(request, &target)
}

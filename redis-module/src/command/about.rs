//! The description of a command that Redis gets: flags to check, route and protect it, and words to
//! explain it.
//!
//! All servers take the name, the flags and the position of the key. Key specs and the words of
//! COMMAND DOCS came with 7.0, categories with 7.2. Without key specs, `%R~` patterns of ACL refuse
//! even a command that only reads.

use std::ffi::{CStr, c_int};
use std::{mem, ptr};

use redis_module::raw;

use super::{Command, run};
use crate::api::{Context, OK, call};

/// The description of a command.
pub(crate) struct About {
    pub(crate) name: &'static CStr,
    /// Name of the keyspace event for a change by this command.
    pub(crate) event: &'static CStr,
    pub(crate) flags: &'static CStr,
    pub(crate) access: Access,
    /// Smallest number of arguments, the command's name included.
    pub(crate) arity: c_int,
    pub(crate) summary: &'static CStr,
    pub(crate) complexity: &'static CStr,
    /// The arguments after the key.
    pub(crate) arguments: &'static [Argument],
}

/// What a command does with its key, for ACL rules such as `%R~metrics*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Returns what the key holds.
    Read,
    /// Changes what the key holds, and returns nothing of it.
    Write,
    /// Changes what the key holds, and returns part of it.
    ReadWrite,
    /// Removes part of what the key holds.
    Delete,
    /// Writes a value that another server has saved.
    Restore,
}

/// One argument in the grammar of COMMAND DOCS.
#[derive(Clone, Copy)]
pub(crate) struct Argument {
    name: &'static CStr,
    kind: raw::RedisModuleCommandArgType,
    token: Option<&'static CStr>,
    flags: u32,
    parts: &'static [Argument],
}

impl Argument {
    pub(crate) const fn text(name: &'static CStr) -> Self {
        Self::of(
            name,
            raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING,
        )
    }

    pub(crate) const fn number(name: &'static CStr) -> Self {
        Self::of(
            name,
            raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_DOUBLE,
        )
    }

    pub(crate) const fn integer(name: &'static CStr) -> Self {
        Self::of(
            name,
            raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER,
        )
    }

    /// A word that stands for itself.
    pub(crate) const fn word(name: &'static CStr, word: &'static CStr) -> Self {
        let kind = raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN;
        Self::of(name, kind).after(word)
    }

    /// Several arguments that belong together.
    pub(crate) const fn group(name: &'static CStr, parts: &'static [Self]) -> Self {
        let kind = raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK;
        Self {
            parts,
            ..Self::of(name, kind)
        }
    }

    /// One of several arguments.
    pub(crate) const fn one_of(name: &'static CStr, parts: &'static [Self]) -> Self {
        let kind = raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF;
        Self {
            parts,
            ..Self::of(name, kind)
        }
    }

    /// Puts a keyword in front of the argument.
    pub(crate) const fn after(self, keyword: &'static CStr) -> Self {
        Self {
            token: Some(keyword),
            ..self
        }
    }

    pub(crate) const fn optional(self) -> Self {
        Self {
            flags: self.flags | raw::REDISMODULE_CMD_ARG_OPTIONAL,
            ..self
        }
    }

    pub(crate) const fn repeated(self) -> Self {
        Self {
            flags: self.flags | raw::REDISMODULE_CMD_ARG_MULTIPLE,
            ..self
        }
    }

    const fn of(name: &'static CStr, kind: raw::RedisModuleCommandArgType) -> Self {
        Self {
            name,
            kind,
            token: None,
            flags: raw::REDISMODULE_CMD_ARG_NONE,
            parts: &[],
        }
    }
}

/// `family`
pub(crate) const FAMILY: Argument = Argument::text(c"family");
/// `[LABELS n name value ...]`
pub(crate) const LABELS: Argument = Argument::group(c"labels", PAIRS)
    .after(c"LABELS")
    .optional();
/// `[EXEMPLAR n name value ...]`
pub(crate) const EXEMPLAR: Argument = Argument::group(c"exemplar", PAIRS)
    .after(c"EXEMPLAR")
    .optional();
/// `[BUCKETS n bound ...]`
pub(crate) const BUCKETS: Argument = Argument::group(
    c"buckets",
    &[
        Argument::integer(c"numbounds"),
        Argument::number(c"bound").repeated(),
    ],
)
.after(c"BUCKETS")
.optional();
/// `[MODE mode]`
pub(crate) const MODE: Argument = Argument::one_of(
    c"mode",
    &[
        Argument::word(c"all", c"ALL"),
        Argument::word(c"liveall", c"LIVEALL"),
        Argument::word(c"min", c"MIN"),
        Argument::word(c"livemin", c"LIVEMIN"),
        Argument::word(c"max", c"MAX"),
        Argument::word(c"livemax", c"LIVEMAX"),
        Argument::word(c"sum", c"SUM"),
        Argument::word(c"livesum", c"LIVESUM"),
        Argument::word(c"mostrecent", c"MOSTRECENT"),
        Argument::word(c"livemostrecent", c"LIVEMOSTRECENT"),
    ],
)
.after(c"MODE")
.optional();
/// `[LEASE ms]`
pub(crate) const LEASE: Argument = Argument::integer(c"lease").after(c"LEASE").optional();
/// `[TTL ms]`
pub(crate) const TTL: Argument = Argument::integer(c"ttl").after(c"TTL").optional();
/// `[EPOCH epoch]`
pub(crate) const EPOCH: Argument = Argument::text(c"epoch").after(c"EPOCH").optional();
/// `[CURSOR cursor]`
pub(crate) const CURSOR: Argument = Argument::text(c"cursor").after(c"CURSOR").optional();

/// `n name value ...`
pub(crate) const PAIRS: &[Argument] = &[
    Argument::integer(c"numlabels"),
    Argument::group(
        c"label",
        &[Argument::text(c"name"), Argument::text(c"value")],
    )
    .optional()
    .repeated(),
];

/// The server refused to create a command.
#[derive(Debug, thiserror::Error)]
#[error("the command {0} cannot be created: is it there already?")]
pub(crate) struct CommandRefused(String);

/// Registers a command with the server.
pub(crate) fn register<C: Command>(context: Context) -> Result<(), CommandRefused> {
    let about = C::ABOUT;
    let refused = || CommandRefused(about.name.to_string_lossy().into_owned());
    // SAFETY: the context is that of OnLoad, and Redis copies everything that is passed.
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
    let key_type = raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY;
    let key = Argument::of(c"key", key_type);
    let arguments = [&[key], about.arguments].concat();
    let mut lists = Vec::new();
    let info = raw::RedisModuleCommandInfo {
        version: &raw const VERSION,
        summary: about.summary.as_ptr(),
        complexity: about.complexity.as_ptr(),
        since: SINCE.as_ptr(),
        history: ptr::null_mut(),
        tips: ptr::null(),
        arity: -about.arity,
        key_specs: key_specs.as_mut_ptr(),
        args: list_of(&arguments, &mut lists),
    };
    // SAFETY: the caller's promise; `lists` is still there, and Redis copies everything.
    unsafe { set_info(command, &raw const info) }
}

/// Version of the module in which these commands and arguments appeared.
const SINCE: &CStr = c"1.0.0";

/// Builds a list for Redis that ends with an empty entry. It lives as long as `lists`.
fn list_of(
    arguments: &[Argument],
    lists: &mut Vec<Vec<raw::RedisModuleCommandArg>>,
) -> *mut raw::RedisModuleCommandArg {
    if arguments.is_empty() {
        return ptr::null_mut();
    }
    let key_type = raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY;
    let mut list = Vec::with_capacity(arguments.len() + 1);
    for argument in arguments {
        list.push(raw::RedisModuleCommandArg {
            name: argument.name.as_ptr(),
            type_: argument.kind,
            key_spec_index: if argument.kind == key_type { 0 } else { -1 },
            token: argument.token.map_or(ptr::null(), CStr::as_ptr),
            summary: ptr::null(),
            since: ptr::null(),
            flags: argument.flags.cast_signed(),
            deprecated_since: ptr::null(),
            subargs: list_of(argument.parts, lists),
            display_text: ptr::null(),
        });
    }
    // SAFETY: a zeroed entry ends the list.
    list.push(unsafe { mem::zeroed() });
    let start = list.as_mut_ptr();
    lists.push(list);
    start
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

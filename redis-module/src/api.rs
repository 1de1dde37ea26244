//! The functions of the Redis module API that commands need, made safe.
//!
//! Redis hands its functions out by name when a module is loaded; which there are depends on the
//! server. Those that every server since 6.2 has are [checked once](check) and then called with
//! `call!`; the others are looked at where they are used, so that one library serves them all.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use redis_module::raw;

/// Calls a function of the API that [`check`] has seen.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        match redis_module::raw::$function {
            Some(function) => function($($argument),*),
            None => $crate::api::missing(stringify!($function)),
        }
    };
}
pub(crate) use call;

macro_rules! check_functions {
    ($($function:ident),* $(,)?) => {
        /// The first function that this server should have and has not.
        pub(crate) fn check() -> Result<(), MissingFunction> {
            // SAFETY: the statics are written once, by the initialisation that has just run.
            $(if unsafe { raw::$function }.is_none() {
                return Err(MissingFunction(stringify!($function)));
            })*
            Ok(())
        }
    };
}

check_functions!(
    RedisModule_Alloc,
    RedisModule_Calloc,
    RedisModule_Call,
    RedisModule_CloseKey,
    RedisModule_CreateCommand,
    RedisModule_CreateDataType,
    RedisModule_CreateString,
    RedisModule_CreateTimer,
    RedisModule_DigestAddStringBuffer,
    RedisModule_DigestEndSequence,
    RedisModule_EmitAOF,
    RedisModule_ExitFromChild,
    RedisModule_Free,
    RedisModule_FreeCallReply,
    RedisModule_FreeString,
    RedisModule_GetContextFlags,
    RedisModule_GetRandomBytes,
    RedisModule_GetSelectedDb,
    RedisModule_InfoAddFieldULongLong,
    RedisModule_InfoAddSection,
    RedisModule_IsIOError,
    RedisModule_KeyType,
    RedisModule_LoadStringBuffer,
    RedisModule_LoadUnsigned,
    RedisModule_Log,
    RedisModule_LogIOError,
    RedisModule_Milliseconds,
    RedisModule_ModuleTypeGetType,
    RedisModule_ModuleTypeGetValue,
    RedisModule_ModuleTypeSetValue,
    RedisModule_NotifyKeyspaceEvent,
    RedisModule_OpenKey,
    RedisModule_Realloc,
    RedisModule_RegisterInfoFunc,
    RedisModule_Replicate,
    RedisModule_ReplicateVerbatim,
    RedisModule_ReplyWithArray,
    RedisModule_ReplyWithError,
    RedisModule_ReplyWithLongLong,
    RedisModule_ReplyWithNull,
    RedisModule_ReplyWithSimpleString,
    RedisModule_ReplyWithStringBuffer,
    RedisModule_SaveStringBuffer,
    RedisModule_SaveUnsigned,
    RedisModule_SelectDb,
    RedisModule_SetModuleOptions,
    RedisModule_SignalModifiedKey,
    RedisModule_StopTimer,
    RedisModule_StringPtrLen,
    RedisModule_SubscribeToServerEvent,
    RedisModule_WrongArity,
);

/// A server too old for this module.
#[derive(Debug, thiserror::Error)]
#[error("this server has no {0}: Redis 6.2 or newer, or Valkey, is needed")]
pub(crate) struct MissingFunction(&'static str);

/// Ends a `call!` of a function that is not in the list of [`check`]: a defect of this module, which
/// the guard turns into an error reply.
#[cold]
pub(crate) fn missing(function: &str) -> ! {
    panic!("{function} is called but not checked for");
}

/// What functions and callbacks answer when all went well.
pub(crate) const OK: c_int = raw::REDISMODULE_OK as c_int;
/// And when not.
pub(crate) const REFUSED: c_int = raw::REDISMODULE_ERR as c_int;

/// Where a command runs: client, database, server state.
#[derive(Clone, Copy)]
pub(crate) struct Context(*mut raw::RedisModuleCtx);

/// What the server is and where the command came from, at the time of asking.
#[derive(Clone, Copy)]
pub(crate) struct Situation(u32);

impl Context {
    /// # Safety
    ///
    /// The pointer is what Redis passed to the callback that is running, and is not used after it.
    pub(crate) unsafe fn new(context: *mut raw::RedisModuleCtx) -> Self {
        Self(context)
    }

    /// For functions of the API.
    pub(crate) fn as_ptr(self) -> *mut raw::RedisModuleCtx {
        self.0
    }

    /// Looks around.
    pub(crate) fn situation(self) -> Situation {
        // SAFETY: the context is valid as long as `self`.
        let flags = unsafe { call!(RedisModule_GetContextFlags(self.0)) };
        let obeys = must_obey(self).then_some(raw::REDISMODULE_CTX_FLAGS_REPLICATED);
        Situation(flags.cast_unsigned() | obeys.unwrap_or(0))
    }

    /// The number of the database that is selected.
    pub(crate) fn database(self) -> c_int {
        // SAFETY: the context is valid as long as `self`.
        unsafe { call!(RedisModule_GetSelectedDb(self.0)) }
    }

    /// Selects a database; false where the server does not have it.
    pub(crate) fn select(self, database: c_int) -> bool {
        // SAFETY: the context is valid as long as `self`.
        let status = unsafe { call!(RedisModule_SelectDb(self.0, database)) };
        status == OK
    }

    /// A string with these bytes, to be [freed](Self::free_string).
    pub(crate) fn string(bytes: &[u8]) -> *mut raw::RedisModuleString {
        // SAFETY: Redis copies the bytes. Without a context the string is ours.
        unsafe {
            call!(RedisModule_CreateString(
                ptr::null_mut(),
                bytes.as_ptr().cast(),
                bytes.len()
            ))
        }
    }

    /// Frees a string that [`string`](Self::string) made.
    pub(crate) fn free_string(string: *mut raw::RedisModuleString) {
        // SAFETY: made without a context, and freed once; Redis keeps what it has retained.
        unsafe { call!(RedisModule_FreeString(ptr::null_mut(), string)) };
    }

    /// Whether clients' writes are paused, so that nothing may be replicated now. Servers before 7.0 do
    /// not say.
    pub(crate) fn must_not_write() -> bool {
        // SAFETY: the static is written once, by the initialisation; the function has no arguments.
        unsafe { raw::RedisModule_AvoidReplicaTraffic.is_some_and(|is_paused| is_paused() != 0) }
    }

    /// Tells clients that WATCH the key, or have it in their cache, that it has changed.
    pub(crate) fn signal_change(self, key: *mut raw::RedisModuleString) {
        // SAFETY: both are valid while the command runs.
        unsafe { call!(RedisModule_SignalModifiedKey(self.0, key)) };
    }

    /// Tells those who subscribed to keyspace events of that class.
    pub(crate) fn notify(self, class: c_int, event: &CStr, key: *mut raw::RedisModuleString) {
        // SAFETY: both are valid while the command runs, and Redis copies the event's name.
        unsafe {
            call!(RedisModule_NotifyKeyspaceEvent(
                self.0,
                class,
                event.as_ptr(),
                key
            ))
        };
    }

    /// Logs one line.
    pub(crate) fn log(self, level: &CStr, line: &str) {
        let line = one_line(line);
        // SAFETY: both strings end with NUL, and the format takes one string.
        unsafe {
            call!(RedisModule_Log(
                self.0,
                level.as_ptr(),
                c"%s".as_ptr(),
                line.as_ptr()
            ))
        };
    }
}

impl Situation {
    /// Whether the command repeats what a primary has decided (its link, a slot import, or the AOF), so
    /// that nothing is to be decided again.
    pub(crate) fn is_repetition(self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_REPLICATED)
            || self.has(raw::REDISMODULE_CTX_FLAGS_LOADING)
    }

    /// Whether this server decides for others.
    pub(crate) fn is_primary(self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_MASTER)
            && !self.has(raw::REDISMODULE_CTX_FLAGS_LOADING)
            && !self.has(raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING)
    }

    /// Whether `maxmemory` is exceeded, and eviction could not help.
    pub(crate) fn is_out_of_memory(self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_OOM)
    }

    fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

/// The server's clock: Unix time in milliseconds.
pub(crate) fn clock_ms() -> u64 {
    // SAFETY: the function has no arguments.
    let now = unsafe { call!(RedisModule_Milliseconds()) };
    u64::try_from(now).unwrap_or(0)
}

/// What has passed since some moment, in microseconds; a clock that nobody sets, and that counts on
/// while the machine is suspended.
pub(crate) fn steady_us() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = libc::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    let clock = libc::CLOCK_MONOTONIC;
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // The C library's own way, which also works under valgrind. Both clocks are always there.
    // SAFETY: `now` is a time to write to.
    let _always_0 = unsafe { libc::clock_gettime(clock, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanoseconds / 1000
}

/// Whether this process is one that the server forked to save.
pub(crate) fn is_child() -> bool {
    // SAFETY: without a context only the server's own flags are answered.
    let flags = unsafe { call!(RedisModule_GetContextFlags(ptr::null_mut())) };
    flags.cast_unsigned() & raw::REDISMODULE_CTX_FLAGS_IS_CHILD != 0
}

/// Ends such a process: what it was forked for has failed.
pub(crate) fn fail_child() {
    // SAFETY: called in a child; the server hears of the exit code as of any child's.
    unsafe { call!(RedisModule_ExitFromChild(1)) };
}

/// A number nobody has used before.
pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; size_of::<u64>()];
    // SAFETY: the buffer has the length given.
    unsafe { call!(RedisModule_GetRandomBytes(bytes.as_mut_ptr(), bytes.len())) };
    u64::from_le_bytes(bytes)
}

/// Logs a warning where there is no context.
pub(crate) fn log_warning(line: &str) {
    // SAFETY: without a context Redis logs the line without the module's name.
    unsafe { Context::new(ptr::null_mut()) }.log(c"warning", line);
}

/// A text as Redis takes it: one line, without NUL.
pub(crate) fn one_line(text: &str) -> CString {
    let text = text.replace(char::is_control, " ");
    CString::new(text).unwrap_or_default()
}

/// The bytes of a string of Redis.
///
/// # Safety
///
/// The string is valid, and not changed, for `'a`.
pub(crate) unsafe fn bytes_of<'a>(string: *const raw::RedisModuleString) -> &'a [u8] {
    let mut length = 0;
    // SAFETY: the caller's promise; Redis answers where the bytes are and how many.
    unsafe {
        let start: *const c_char = call!(RedisModule_StringPtrLen(string, &raw mut length));
        std::slice::from_raw_parts(start.cast(), length)
    }
}

/// Whether the server says that the client must be obeyed. Valkey has a function for it, which knows
/// of slot imports too; elsewhere the context's flags tell.
fn must_obey(context: Context) -> bool {
    let Some(function) = valkey::must_obey_client() else {
        return false;
    };
    // SAFETY: the context is valid, and the signature is that of valkeymodule.h.
    unsafe { function(context.as_ptr()) == 1 }
}

/// Functions that Redis does not have, and the crate therefore not either.
pub(crate) mod valkey {
    use std::ffi::{c_int, c_void};
    use std::sync::OnceLock;

    use redis_module::raw;

    type MustObeyClient = unsafe extern "C" fn(*mut raw::RedisModuleCtx) -> c_int;

    static MUST_OBEY_CLIENT: OnceLock<Option<MustObeyClient>> = OnceLock::new();

    /// Asks the server for them, once.
    pub(crate) fn look_up() {
        MUST_OBEY_CLIENT.get_or_init(|| {
            let mut function: Option<MustObeyClient> = None;
            // SAFETY: Redis writes a function pointer, or leaves it as it is where it knows none.
            unsafe {
                let get_api = raw::RedisModule_GetApi?;
                let place: *mut c_void = (&raw mut function).cast();
                get_api(c"RedisModule_MustObeyClient".as_ptr(), place);
            }
            function
        });
    }

    /// `ValkeyModule_MustObeyClient`, since Valkey 8.1.
    pub(crate) fn must_obey_client() -> Option<MustObeyClient> {
        MUST_OBEY_CLIENT.get().copied().flatten()
    }
}

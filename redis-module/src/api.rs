//! Safe wrappers of the functions of the Redis module API that commands need.
//!
//! Redis passes its functions by name when it loads a module. Which functions exist depends on the
//! server. [`check`] verifies once that those of Redis 6.2 are there, and `call!` calls them. Code
//! that uses a newer function tests for it first, so one library works on every server.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use redis_module::raw;

/// Calls a function of the API whose presence [`check`] has verified.
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
        /// Returns an error that names the first function that the server should have and lacks.
        pub(crate) fn check() -> Result<(), MissingFunction> {
            // SAFETY: the statics are written once, by the initialisation that has just finished.
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

/// The server is too old for this module.
#[derive(Debug, thiserror::Error)]
#[error("this server has no {0}: Redis 6.2 or newer, or Valkey, is needed")]
pub(crate) struct MissingFunction(&'static str);

/// Panics because `call!` named a function that [`check`] does not check. That is a defect of this
/// module; the guard turns the panic into an error reply.
#[cold]
pub(crate) fn missing(function: &str) -> ! {
    panic!("{function} is called but not checked for");
}

/// Status that API functions and callbacks return for success.
pub(crate) const OK: c_int = raw::REDISMODULE_OK as c_int;
/// Status that API functions and callbacks return for failure.
pub(crate) const REFUSED: c_int = raw::REDISMODULE_ERR as c_int;

/// The environment of a command: its client, its database, and the state of the server.
#[derive(Clone, Copy)]
pub(crate) struct Context(*mut raw::RedisModuleCtx);

/// Flags of the server and of the running command, at the moment when they were read.
#[derive(Clone, Copy)]
pub(crate) struct Situation(u32);

impl Context {
    /// # Safety
    ///
    /// `context` is the pointer that Redis passed to the running callback, and nothing uses it
    /// after the callback returns.
    pub(crate) unsafe fn new(context: *mut raw::RedisModuleCtx) -> Self {
        Self(context)
    }

    /// Returns the pointer, for functions of the API.
    pub(crate) fn as_ptr(self) -> *mut raw::RedisModuleCtx {
        self.0
    }

    /// Reads the flags of the server and of the running command.
    pub(crate) fn situation(self) -> Situation {
        // SAFETY: the context is valid as long as `self`.
        let flags = unsafe { call!(RedisModule_GetContextFlags(self.0)) };
        let obeys = must_obey(self).then_some(raw::REDISMODULE_CTX_FLAGS_REPLICATED);
        Situation(flags.cast_unsigned() | obeys.unwrap_or(0))
    }

    /// Returns the number of the selected database.
    pub(crate) fn database(self) -> c_int {
        // SAFETY: the context is valid as long as `self`.
        unsafe { call!(RedisModule_GetSelectedDb(self.0)) }
    }

    /// Selects a database; returns false if the server does not have it.
    pub(crate) fn select(self, database: c_int) -> bool {
        // SAFETY: the context is valid as long as `self`.
        let status = unsafe { call!(RedisModule_SelectDb(self.0, database)) };
        status == OK
    }

    /// Returns a new string with these bytes. The caller [frees](Self::free_string) it.
    pub(crate) fn string(bytes: &[u8]) -> *mut raw::RedisModuleString {
        // SAFETY: Redis copies the bytes. A string made without a context belongs to this module.
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
        // SAFETY: the string was made without a context and is freed once; Redis keeps what it has
        // retained.
        unsafe { call!(RedisModule_FreeString(ptr::null_mut(), string)) };
    }

    /// Returns whether the server has paused the writes of clients, so that nothing may be
    /// replicated now. Always false on servers before 7.0, which do not tell.
    pub(crate) fn must_not_write() -> bool {
        // SAFETY: the static is written once, by the initialisation; the function has no arguments.
        unsafe { raw::RedisModule_AvoidReplicaTraffic.is_some_and(|is_paused| is_paused() != 0) }
    }

    /// Tells clients that WATCH or cache the key that it has changed.
    pub(crate) fn signal_change(self, key: *mut raw::RedisModuleString) {
        // SAFETY: both are valid while the command runs.
        unsafe { call!(RedisModule_SignalModifiedKey(self.0, key)) };
    }

    /// Publishes a keyspace event of that class.
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

    /// Writes one line to the server's log.
    pub(crate) fn log(self, level: &CStr, line: &str) {
        let line = one_line(line);
        // SAFETY: both strings end with NUL, and the format has one `%s`.
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
    /// Returns whether the command repeats a decision of a primary (it comes from the primary's
    /// link, a slot import, or the AOF), so that this server must not decide again.
    pub(crate) fn is_repetition(self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_REPLICATED)
            || self.has(raw::REDISMODULE_CTX_FLAGS_LOADING)
    }

    /// Returns whether this server is a primary.
    pub(crate) fn is_primary(self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_MASTER)
            && !self.has(raw::REDISMODULE_CTX_FLAGS_LOADING)
            && !self.has(raw::REDISMODULE_CTX_FLAGS_ASYNC_LOADING)
    }

    /// Returns whether memory use is over `maxmemory` although the server has evicted what it
    /// could.
    pub(crate) fn is_out_of_memory(self) -> bool {
        self.has(raw::REDISMODULE_CTX_FLAGS_OOM)
    }

    fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

/// Returns the server's wall clock: Unix time in milliseconds.
pub(crate) fn clock_ms() -> u64 {
    // SAFETY: the function has no arguments.
    let now = unsafe { call!(RedisModule_Milliseconds()) };
    u64::try_from(now).unwrap_or(0)
}

/// Returns a steady time in microseconds. Setting the wall clock does not change it, and it runs on
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
    // The C library's function also works under valgrind. Both clocks always exist.
    // SAFETY: `now` is valid memory for the result.
    let _always_0 = unsafe { libc::clock_gettime(clock, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanoseconds / 1000
}

/// Returns whether this process is a child that the server forked to save.
pub(crate) fn is_child() -> bool {
    // SAFETY: without a context Redis returns only the server's own flags.
    let flags = unsafe { call!(RedisModule_GetContextFlags(ptr::null_mut())) };
    flags.cast_unsigned() & raw::REDISMODULE_CTX_FLAGS_IS_CHILD != 0
}

/// Ends this forked child with an error, because it could not save.
pub(crate) fn fail_child() {
    // SAFETY: called in a child; the server reads the exit code as that of any child.
    unsafe { call!(RedisModule_ExitFromChild(1)) };
}

/// Returns a random number, which no earlier call has returned.
pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; size_of::<u64>()];
    // SAFETY: the buffer has the length that is passed.
    unsafe { call!(RedisModule_GetRandomBytes(bytes.as_mut_ptr(), bytes.len())) };
    u64::from_le_bytes(bytes)
}

/// Logs a warning in code that has no context.
pub(crate) fn log_warning(line: &str) {
    // SAFETY: without a context Redis logs the line without the module's name.
    unsafe { Context::new(ptr::null_mut()) }.log(c"warning", line);
}

/// Turns a text into the form that Redis takes: one line, without NUL.
pub(crate) fn one_line(text: &str) -> CString {
    let text = text.replace(char::is_control, " ");
    CString::new(text).unwrap_or_default()
}

/// Returns the bytes of a Redis string.
///
/// # Safety
///
/// The string is valid and unchanged for `'a`.
pub(crate) unsafe fn bytes_of<'a>(string: *const raw::RedisModuleString) -> &'a [u8] {
    let mut length = 0;
    // SAFETY: the caller's promise; Redis returns the address and the number of the bytes.
    unsafe {
        let start: *const c_char = call!(RedisModule_StringPtrLen(string, &raw mut length));
        std::slice::from_raw_parts(start.cast(), length)
    }
}

/// Returns whether the server requires that this client's commands be obeyed. Valkey has a function
/// for it, which also knows slot imports; on other servers the context's flags tell.
fn must_obey(context: Context) -> bool {
    let Some(function) = valkey::must_obey_client() else {
        return false;
    };
    // SAFETY: the context is valid, and the signature is that of valkeymodule.h.
    unsafe { function(context.as_ptr()) == 1 }
}

/// Functions that only Valkey has, and that the crate `redis-module` therefore lacks.
pub(crate) mod valkey {
    use std::ffi::{c_int, c_void};
    use std::sync::OnceLock;

    use redis_module::raw;

    type MustObeyClient = unsafe extern "C" fn(*mut raw::RedisModuleCtx) -> c_int;

    static MUST_OBEY_CLIENT: OnceLock<Option<MustObeyClient>> = OnceLock::new();

    /// Asks the server for these functions, once.
    pub(crate) fn look_up() {
        MUST_OBEY_CLIENT.get_or_init(|| {
            let mut function: Option<MustObeyClient> = None;
            // SAFETY: Redis writes a function pointer, or writes nothing if it does not know the
            // name.
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

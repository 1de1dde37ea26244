//! The native type `metricset`: the callbacks by which Redis saves, loads, copies and frees a
//! registry.
//!
//! Each callback is a cast, a SAFETY line, and a call into the model. A registry is saved as a
//! snapshot ([`Registry::encode_snapshot`]) in parts (`parts.rs`), so that neither RDB nor AOF
//! contains a string of hundreds of megabytes.
//!
//! Deliberately absent: `unlink` (a key that is removed leaves nothing to undo), `aux` (no state
//! exists outside the keys).

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use metrics_model::{DecodeError, Registry, RegistryTime};
use redis_module::raw;

use crate::api::{self, call};
use crate::authority::Authority;
use crate::background::Timer;
use crate::guard::guard;
use crate::parts;
use crate::{defrag, failpoint};

/// Name of the type: exactly nine characters. RDB stores it in 54 bits, so it can never change.
const NAME: &CStr = c"metricset";
/// Version of what `rdb_save` writes around the snapshot. The snapshot has its own version.
const ENCODING: c_int = 1;

static HANDLE: AtomicPtr<raw::RedisModuleType> = AtomicPtr::new(ptr::null_mut());

/// The value of a key.
pub(crate) struct MetricSet {
    pub(crate) registry: Registry,
    authority: Authority,
    counted: Totals,
    time: RegistryTime,
    /// The timer for the registry's next work, if it has any.
    pub(crate) timer: Option<Timer>,
}

impl MetricSet {
    /// A value that a command has just made.
    pub(crate) fn new(registry: Registry) -> Self {
        Self::with(registry, Authority::current())
    }

    /// A value that comes from a save or a copy.
    pub(crate) fn restored(registry: Registry) -> Self {
        Self::with(registry, Authority::NONE)
    }

    fn with(registry: Registry, authority: Authority) -> Self {
        let last_stamp_ms = registry.last_stamp_ms();
        let mut set = Self {
            registry,
            authority,
            counted: Totals::default(),
            time: RegistryTime::begin(api::clock_ms(), last_stamp_ms, api::steady_us()),
            timer: None,
        };
        KEYS.fetch_add(1, Ordering::Relaxed);
        set.count();
        set
    }

    /// Updates the sums for INFO, which then needs no walk through the keys. Called after each
    /// write.
    pub(crate) fn count(&mut self) {
        self.registry.measure();
        let now = Totals {
            series: self.registry.series_count() as u64,
            rejected: self.registry.rejected().map(|(_, count)| count).sum(),
        };
        let before = std::mem::replace(&mut self.counted, now);
        // A difference may be negative; the addition wraps to the right result.
        SERIES.fetch_add(now.series.wrapping_sub(before.series), Ordering::Relaxed);
        REJECTED.fetch_add(
            now.rejected.wrapping_sub(before.rejected),
            Ordering::Relaxed,
        );
    }

    /// Makes the registry heal if its value may be out of date. A primary calls this before each
    /// use.
    pub(crate) fn take_charge(&mut self) {
        let current = Authority::current();
        if self.authority != current {
            self.authority = current;
            self.registry.rolled_back(self.now_ms());
        }
    }

    /// Returns the registry's time, which does not jump when the server's clock is set.
    pub(crate) fn now_ms(&self) -> u64 {
        self.time.at(api::clock_ms(), api::steady_us())
    }

    /// Returns the registry's time for a write, and advances it.
    pub(crate) fn time_of_write(&mut self) -> u64 {
        self.time.move_to(api::clock_ms(), api::steady_us())
    }

    /// Takes over the time of a write that another server has stamped.
    pub(crate) fn follow(&mut self, stamp_ms: u64) {
        self.time.follow(stamp_ms, api::steady_us());
    }
}

impl Drop for MetricSet {
    fn drop(&mut self) {
        KEYS.fetch_sub(1, Ordering::Relaxed);
        SERIES.fetch_sub(self.counted.series, Ordering::Relaxed);
        REJECTED.fetch_sub(self.counted.rejected, Ordering::Relaxed);
    }
}

/// The part of a value in the sums of INFO.
#[derive(Default, Clone, Copy)]
struct Totals {
    series: u64,
    rejected: u64,
}

/// Number of values on this server.
pub(crate) static KEYS: AtomicU64 = AtomicU64::new(0);
/// Number of series of all values.
pub(crate) static SERIES: AtomicU64 = AtomicU64::new(0);
/// Number of batch entries that all registries left out.
pub(crate) static REJECTED: AtomicU64 = AtomicU64::new(0);

/// Returns Redis' handle of the type.
pub(crate) fn handle() -> *mut raw::RedisModuleType {
    HANDLE.load(Ordering::Relaxed)
}

/// The server refused to create the type.
#[derive(Debug, thiserror::Error)]
#[error("the data type metricset cannot be created: is another module of that type loaded?")]
pub(crate) struct TypeRefused;

/// Registers the type.
pub(crate) fn register(context: api::Context) -> Result<(), TypeRefused> {
    let mut methods = raw::RedisModuleTypeMethods {
        version: u64::from(raw::REDISMODULE_TYPE_METHOD_VERSION),
        rdb_load: Some(rdb_load),
        rdb_save: Some(rdb_save),
        aof_rewrite: Some(aof_rewrite),
        mem_usage: Some(mem_usage),
        digest: Some(digest),
        free: Some(free),
        aux_load: None,
        aux_save: None,
        aux_save_triggers: 0,
        free_effort: Some(free_effort),
        unlink: None,
        copy: Some(copy),
        defrag: Some(defrag::defrag),
        mem_usage2: None,
        free_effort2: None,
        unlink2: None,
        copy2: None,
        aux_save2: None,
    };
    // SAFETY: the context is that of OnLoad; Redis copies the name and the methods.
    let handle = unsafe {
        call!(RedisModule_CreateDataType(
            context.as_ptr(),
            NAME.as_ptr(),
            ENCODING,
            &raw mut methods
        ))
    };
    HANDLE.store(handle, Ordering::Relaxed);
    if handle.is_null() {
        Err(TypeRefused)
    } else {
        Ok(())
    }
}

/// # Safety
///
/// `value` is what [`into_value`] made, and nothing else accesses it for `'a`.
unsafe fn set_of<'a>(value: *const c_void) -> &'a MetricSet {
    // SAFETY: the caller's promise.
    unsafe { &*value.cast::<MetricSet>() }
}

fn into_value(set: MetricSet) -> *mut c_void {
    Box::into_raw(Box::new(set)).cast()
}

unsafe extern "C" fn free(value: *mut c_void) {
    // SAFETY: Redis frees each value once, perhaps on a background thread.
    guard(|| drop(unsafe { Box::from_raw(value.cast::<MetricSet>()) }));
}

unsafe extern "C" fn rdb_save(io: *mut raw::RedisModuleIO, value: *mut c_void) {
    guard_saving(|| {
        failpoint::reached("rdb_save");
        // SAFETY: a value of our type, and the stream that Redis saves it to.
        unsafe { parts::save(io, &set_of(value).registry.encode_snapshot()) };
    });
}

/// Runs a callback that saves. After a defect the saved value is incomplete. A forked child then
/// ends with an error: the server reports that saving failed, and keeps the file from before.
/// Without a child (SAVE, DUMP) Redis has no way to report it; the load of such a value fails.
fn guard_saving(save: impl FnOnce()) {
    if guard(save).is_none() && api::is_child() {
        api::fail_child();
    }
}

unsafe extern "C" fn rdb_load(io: *mut raw::RedisModuleIO, encoding: c_int) -> *mut c_void {
    let load = || {
        failpoint::reached("rdb_load");
        if encoding != ENCODING {
            return Err(LoadError::Encoding(encoding));
        }
        // SAFETY: the stream that Redis loads from.
        let bytes = unsafe { parts::load(io) }.ok_or(LoadError::Short)?;
        Ok(Registry::decode_snapshot(&bytes)?)
    };
    let loaded = guard(|| match load() {
        Ok(registry) => into_value(MetricSet::restored(registry)),
        Err(error) => {
            parts::log_error(io, &error.to_string());
            ptr::null_mut()
        }
    });
    loaded.unwrap_or(ptr::null_mut())
}

/// A saved value cannot be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("a metricset of encoding {0}, this version reads {ENCODING}")]
    Encoding(c_int),
    #[error("a metricset that is cut off")]
    Short,
    #[error("a metricset that cannot be read: {0}")]
    Snapshot(#[from] DecodeError),
}

unsafe extern "C" fn aof_rewrite(
    io: *mut raw::RedisModuleIO,
    key: *mut raw::RedisModuleString,
    value: *mut c_void,
) {
    guard_saving(|| {
        failpoint::reached("aof_rewrite");
        // SAFETY: a value of our type, its key, and the file that Redis rewrites.
        unsafe { parts::emit(io, key, &set_of(value).registry.encode_snapshot()) };
    });
}

unsafe extern "C" fn mem_usage(value: *const c_void) -> usize {
    let bytes = guard(|| {
        failpoint::reached("mem_usage");
        // SAFETY: a value of our type.
        let set = unsafe { set_of(value) };
        size_of::<MetricSet>() + set.registry.memory_bytes()
    });
    bytes.unwrap_or(0)
}

unsafe extern "C" fn digest(digest: *mut raw::RedisModuleDigest, value: *mut c_void) {
    guard(|| {
        failpoint::reached("digest");
        // SAFETY: a value of our type; the bytes are read before the call returns.
        unsafe {
            let bytes = set_of(value).registry.encode_snapshot();
            call!(RedisModule_DigestAddStringBuffer(
                digest,
                bytes.as_ptr().cast(),
                bytes.len()
            ));
            call!(RedisModule_DigestEndSequence(digest));
        }
    });
}

/// Returns the effort of freeing a value. From 64 on, UNLINK and lazy expiry free it on a
/// background thread.
unsafe extern "C" fn free_effort(_key: *mut raw::RedisModuleString, value: *const c_void) -> usize {
    // SAFETY: a value of our type.
    guard(|| unsafe { set_of(value) }.registry.series_count()).unwrap_or(1)
}

/// A copy may later replace the value that it was made from, so it counts as restored.
unsafe extern "C" fn copy(
    _from: *mut raw::RedisModuleString,
    _to: *mut raw::RedisModuleString,
    value: *const c_void,
) -> *mut c_void {
    let copied = guard(|| {
        failpoint::reached("copy");
        // SAFETY: a value of our type.
        let bytes = unsafe { set_of(value) }.registry.encode_snapshot();
        Registry::decode_snapshot(&bytes).map_or(ptr::null_mut(), |registry| {
            into_value(MetricSet::restored(registry))
        })
    });
    copied.unwrap_or(ptr::null_mut())
}

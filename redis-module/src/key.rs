//! An open key.

use std::ffi::c_int;
use std::ptr::NonNull;

use redis_module::raw;

use crate::api::{Context, call};
use crate::data_type::{self, MetricSet};
use crate::refusal::Refusal;

const EMPTY: c_int = raw::REDISMODULE_KEYTYPE_EMPTY as c_int;

/// A key, open until it is dropped.
pub(crate) struct Key(NonNull<raw::RedisModuleKey>);

impl Key {
    /// Opens a key for reading; `None` if it does not exist.
    pub(crate) fn open(context: Context, name: *mut raw::RedisModuleString) -> Option<Self> {
        Self::open_as(context, name, raw::REDISMODULE_READ)
    }

    /// Opens a key to change or create it; an error if the server does not allow that.
    pub(crate) fn open_for_writing(
        context: Context,
        name: *mut raw::RedisModuleString,
    ) -> Result<Self, Refusal> {
        let mode = raw::REDISMODULE_READ | raw::REDISMODULE_WRITE;
        Self::open_as(context, name, mode).ok_or(Refusal::NoKey)
    }

    fn open_as(context: Context, name: *mut raw::RedisModuleString, mode: u32) -> Option<Self> {
        // SAFETY: context and name are valid while the command runs, and a key does not outlive it.
        let key = unsafe {
            call!(RedisModule_OpenKey(
                context.as_ptr(),
                name,
                mode.cast_signed()
            ))
        };
        NonNull::new(key.cast()).map(Self)
    }

    /// Returns the value; `None` if the key is empty.
    pub(crate) fn value(&mut self) -> Result<Option<&mut MetricSet>, Refusal> {
        let key = self.0.as_ptr();
        // SAFETY: the key is open. A value of our type is a `MetricSet` that `data_type` has boxed.
        // Redis runs one command at a time, so this is the only reference to it.
        unsafe {
            if call!(RedisModule_KeyType(key)) == EMPTY {
                return Ok(None);
            }
            if call!(RedisModule_ModuleTypeGetType(key)) != data_type::handle() {
                return Err(Refusal::WrongType);
            }
            Ok(call!(RedisModule_ModuleTypeGetValue(key))
                .cast::<MetricSet>()
                .as_mut())
        }
    }

    /// Stores a value in the key.
    pub(crate) fn set(&mut self, value: MetricSet) {
        let value = Box::into_raw(Box::new(value));
        // SAFETY: the key is open for writing; from here on the value belongs to Redis, which
        // passes it to the type's `free`.
        unsafe {
            call!(RedisModule_ModuleTypeSetValue(
                self.0.as_ptr(),
                data_type::handle(),
                value.cast()
            ));
        }
    }

    /// Sets the time at which the key expires, if the server has a function for it (Redis 7.0).
    pub(crate) fn expire_at(&mut self, at_ms: u64) -> Result<(), NoSuchFunction> {
        let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
        // SAFETY: the key is open for writing.
        unsafe {
            let set_expiry = raw::RedisModule_SetAbsExpire.ok_or(NoSuchFunction)?;
            set_expiry(self.0.as_ptr(), at_ms);
        }
        Ok(())
    }

    /// Removes the key's expiry time.
    pub(crate) fn persist(&mut self) {
        const NEVER: i64 = -1;
        // SAFETY: the key is open for writing.
        unsafe { call!(RedisModule_SetExpire(self.0.as_ptr(), NEVER)) };
    }
}

/// The server is too old for the function.
pub(crate) struct NoSuchFunction;

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: the key is open, and nothing uses it afterwards.
        unsafe { call!(RedisModule_CloseKey(self.0.as_ptr())) };
    }
}

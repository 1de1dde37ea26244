//! A snapshot in parts of at most 1 MiB: as strings in RDB and DUMP, as `METRICS.LOAD` commands in AOF.

use redis_module::raw;

use crate::api::{self, call};

/// Maximum size of a part, in bytes.
pub(crate) const PART_BYTES: usize = 1024 * 1024;

/// Writes a snapshot to RDB or DUMP.
///
/// # Safety
///
/// `io` is the stream of the running `rdb_save`.
pub(crate) unsafe fn save(io: *mut raw::RedisModuleIO, bytes: &[u8]) {
    let parts = bytes.chunks(PART_BYTES);
    // SAFETY: the caller's promise; Redis copies the bytes.
    unsafe {
        call!(RedisModule_SaveUnsigned(io, parts.len() as u64));
        for part in parts {
            call!(RedisModule_SaveStringBuffer(
                io,
                part.as_ptr().cast(),
                part.len()
            ));
        }
    }
}

/// Reads a snapshot; `None` if the stream ends too early. RESTORE takes bytes from any client, so
/// the length that the stream states allocates no memory before the bytes are there.
///
/// # Safety
///
/// `io` is the stream of the running `rdb_load`.
pub(crate) unsafe fn load(io: *mut raw::RedisModuleIO) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // SAFETY: the caller's promise. After an error Redis returns zero and null. A string that it
    // returns is ours to free.
    unsafe {
        let parts = call!(RedisModule_LoadUnsigned(io));
        for _ in 0..parts {
            let mut length = 0;
            let part = call!(RedisModule_LoadStringBuffer(io, &raw mut length));
            if part.is_null() || call!(RedisModule_IsIOError(io)) != 0 {
                return None;
            }
            bytes.extend_from_slice(std::slice::from_raw_parts(part.cast(), length));
            call!(RedisModule_Free(part.cast()));
        }
        (call!(RedisModule_IsIOError(io)) == 0).then_some(bytes)
    }
}

/// Writes a snapshot to the append only file, as commands.
///
/// # Safety
///
/// `io` is the stream of the running `aof_rewrite`, and `key` the key of the value.
pub(crate) unsafe fn emit(
    io: *mut raw::RedisModuleIO,
    key: *mut raw::RedisModuleString,
    bytes: &[u8],
) {
    let parts = bytes.chunks(PART_BYTES);
    let count = parts.len().cast_signed() as i64;
    for (part, number) in parts.zip(1_i64..) {
        // SAFETY: the caller's promise; the arguments are those that the format names: a string of
        // Redis, two integers, a buffer and its length.
        unsafe {
            call!(RedisModule_EmitAOF(
                io,
                c"METRICS.LOAD".as_ptr(),
                c"sllb".as_ptr(),
                key,
                number,
                count,
                part.as_ptr(),
                part.len()
            ));
        }
    }
}

/// Logs why a value cannot be loaded.
pub(crate) fn log_error(io: *mut raw::RedisModuleIO, line: &str) {
    let line = api::one_line(line);
    // SAFETY: called from `rdb_load` with its stream; the format takes one string.
    unsafe {
        call!(RedisModule_LogIOError(
            io,
            c"warning".as_ptr(),
            c"%s".as_ptr(),
            line.as_ptr()
        ));
    }
}

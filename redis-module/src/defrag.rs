//! Active defragmentation: moves a registry's memory to where the allocator wants it.
//!
//! Redis calls this for each value that it finds. For a large value it calls again, with a cursor
//! and a time limit. Only servers with their own jemalloc do so.

use std::ffi::{c_int, c_ulong, c_void};
use std::ptr;

use metrics_model::Relocate;
use redis_module::raw;

use crate::api::OK;
use crate::data_type::MetricSet;
use crate::guard::guard;

/// Result for a value that is finished.
const DONE: c_int = 0;
const GO_ON: c_int = 1;

/// Callback of Redis for one value.
pub(crate) unsafe extern "C" fn defrag(
    context: *mut raw::RedisModuleDefragCtx,
    _key: *mut raw::RedisModuleString,
    value: *mut *mut c_void,
) -> c_int {
    let moved = guard(|| {
        let mut mover = Mover(context);
        // SAFETY: Redis passes the place of a value of our type, and nothing else accesses it
        // meanwhile.
        unsafe {
            if let Some(new) = mover.moved::<c_void>(*value) {
                *value = new;
            }
            let set = &mut *(*value).cast::<MetricSet>();
            let next = set.registry.relocate(mover.cursor(), &mut mover);
            mover.set_cursor(next)
        }
    });
    moved.unwrap_or(DONE)
}

struct Mover(*mut raw::RedisModuleDefragCtx);

impl Mover {
    /// Returns the new place of an allocation, whose old place is then free; `None` if it stays.
    ///
    /// # Safety
    ///
    /// Redis' allocator returned the memory, and nothing uses its old place after this call.
    unsafe fn moved<T: ?Sized>(&self, memory: *mut T) -> Option<*mut c_void> {
        // SAFETY: the context is that of the callback, and the caller's promise.
        let new = unsafe {
            let alloc = raw::RedisModule_DefragAlloc?;
            alloc(self.0, memory.cast())
        };
        (!new.is_null()).then_some(new)
    }

    fn cursor(&self) -> usize {
        let mut cursor: c_ulong = 0;
        // SAFETY: the context is that of the callback. A value that is finished in one call has no
        // cursor.
        let known = unsafe {
            raw::RedisModule_DefragCursorGet.map(|get| get(self.0, &raw mut cursor) == OK)
        };
        if known == Some(true) {
            cursor as usize
        } else {
            0
        }
    }

    fn set_cursor(&self, next: Option<usize>) -> c_int {
        let Some(next) = next else { return DONE };
        // SAFETY: as above.
        let kept =
            unsafe { raw::RedisModule_DefragCursorSet.map(|set| set(self.0, next as c_ulong)) };
        if kept == Some(OK) { GO_ON } else { DONE }
    }
}

/// Returns whether values of this type begin at an address that Redis' allocator returned, which is
/// not so for memory that `alloc` aligned.
const fn is_plain<T>() -> bool {
    size_of::<T>() > 0 && align_of::<T>() <= align_of::<usize>()
}

impl Relocate for Mover {
    fn text(&mut self, text: &mut Box<str>) {
        if text.is_empty() {
            return;
        }
        let old: *mut str = &raw mut **text;
        // SAFETY: a box that is not empty is memory of Redis' allocator. After a move the old box
        // is overwritten without a drop, and the new one has the same bytes.
        unsafe {
            if let Some(new) = self.moved(old) {
                let bytes = ptr::slice_from_raw_parts_mut(new.cast::<u8>(), text.len());
                ptr::write(text, Box::from_raw(bytes as *mut str));
            }
        }
    }

    fn boxed<T>(&mut self, boxed: &mut Box<T>) {
        if !is_plain::<T>() {
            return;
        }
        let old: *mut T = &raw mut **boxed;
        // SAFETY: as in `text`.
        unsafe {
            if let Some(new) = self.moved(old) {
                ptr::write(boxed, Box::from_raw(new.cast()));
            }
        }
    }

    fn slice<T>(&mut self, slice: &mut Box<[T]>) {
        if slice.is_empty() || !is_plain::<T>() {
            return;
        }
        let old: *mut [T] = &raw mut **slice;
        // SAFETY: as in `text`.
        unsafe {
            if let Some(new) = self.moved(old) {
                let things = ptr::slice_from_raw_parts_mut(new.cast::<T>(), slice.len());
                ptr::write(slice, Box::from_raw(things));
            }
        }
    }

    fn vector<T>(&mut self, vector: &mut Vec<T>) {
        if vector.capacity() == 0 || !is_plain::<T>() {
            return;
        }
        // SAFETY: as in `text`; the new vector has the length and capacity of the old one.
        unsafe {
            if let Some(new) = self.moved(vector.as_mut_ptr()) {
                let moved = Vec::from_raw_parts(new.cast(), vector.len(), vector.capacity());
                ptr::write(vector, moved);
            }
        }
    }

    fn should_stop(&mut self) -> bool {
        // SAFETY: the context is that of the callback.
        unsafe { raw::RedisModule_DefragShouldStop.is_some_and(|stop| stop(self.0) != 0) }
    }
}

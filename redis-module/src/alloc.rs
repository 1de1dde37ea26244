//! Makes Rust use Redis' allocator, so that `used_memory`, `maxmemory` and `MEMORY USAGE` see every
//! byte.
//!
//! The crate's own `RedisAlloc` has no `realloc`, so it copies each vector that grows, and it
//! assumes jemalloc's alignment. Redis promises only the alignment of the largest basic C type
//! minus the size of its own header, which is 8 bytes on every build. This module aligns larger
//! types (hash tables need it) itself: it allocates more and keeps the address that Redis returned
//! in a header.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use redis_module::raw;

/// The global allocator; see the documentation of this module.
pub(crate) struct RedisAllocator;

/// Alignment that every allocator of Redis guarantees, in bytes.
const ALIGNED: usize = align_of::<usize>();

// SAFETY: `alloc` and `alloc_zeroed` return null, or memory of the requested size and alignment.
// `dealloc` and `realloc` accept what these returned. None of them unwinds.
unsafe impl GlobalAlloc for RedisAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the pointer is written once, when Redis loads the module, before the first
        // allocation.
        let Some(alloc) = (unsafe { raw::RedisModule_Alloc }) else {
            return ptr::null_mut();
        };
        if layout.align() <= ALIGNED {
            // SAFETY: any size is allowed.
            return unsafe { alloc(layout.size()) }.cast();
        }
        let Some(room) = layout.size().checked_add(layout.align() + ALIGNED) else {
            return ptr::null_mut();
        };
        // SAFETY: any size is allowed.
        let start: *mut u8 = unsafe { alloc(room) }.cast();
        if start.is_null() {
            return start;
        }
        // SAFETY: `room` has space for the address of its start and, at the next multiple of
        // `align`, for `size` bytes.
        unsafe {
            let after_header = start.add(ALIGNED);
            let placed = after_header.add(after_header.align_offset(layout.align()));
            header_of(placed).write(start);
            placed
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: see `alloc`; the header of memory that this module aligned holds its start.
        unsafe {
            let start = if layout.align() <= ALIGNED {
                memory
            } else {
                header_of(memory).read()
            };
            if let Some(free) = raw::RedisModule_Free {
                free(start.cast());
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `calloc` returns zeroed memory; the code below zeroes memory that this module
        // aligned.
        unsafe {
            match raw::RedisModule_Calloc {
                Some(calloc) if layout.align() <= ALIGNED => calloc(1, layout.size()).cast(),
                _ => {
                    let memory = self.alloc(layout);
                    if !memory.is_null() {
                        memory.write_bytes(0, layout.size());
                    }
                    memory
                }
            }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: memory of plain alignment came from Redis' allocator; other memory is copied.
        unsafe {
            match raw::RedisModule_Realloc {
                Some(realloc) if layout.align() <= ALIGNED => realloc(memory.cast(), size).cast(),
                _ => {
                    let Ok(new_layout) = Layout::from_size_align(size, layout.align()) else {
                        return ptr::null_mut();
                    };
                    let moved = self.alloc(new_layout);
                    if !moved.is_null() {
                        moved.copy_from_nonoverlapping(memory, layout.size().min(size));
                        self.dealloc(memory, layout);
                    }
                    moved
                }
            }
        }
    }
}

/// Returns the place before the memory at which `alloc` keeps the address that Redis returned.
fn header_of(placed: *mut u8) -> *mut *mut u8 {
    placed.wrapping_sub(ALIGNED).cast()
}

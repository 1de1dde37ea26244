//! Redis' allocator as Rust's, so that `used_memory`, `maxmemory` and `MEMORY USAGE` see every byte.
//!
//! The crate's own `RedisAlloc` has no `realloc`, so that each growing vector is copied, and trusts
//! jemalloc's alignment. Redis promises that of the largest basic C type less its own header, which
//! is 8 bytes on every build; what needs more (hash tables do) is placed by hand.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use redis_module::raw;

/// See the module's documentation.
pub(crate) struct RedisAllocator;

/// What every allocator that Redis is built with gives.
const ALIGNED: usize = align_of::<usize>();

// SAFETY: `alloc` and `alloc_zeroed` answer memory of the size and alignment asked for or null,
// `dealloc` and `realloc` take what they answered, and none of them unwinds.
unsafe impl GlobalAlloc for RedisAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the pointer is written once, when the module is loaded, before it allocates.
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
        // SAFETY: `room` has space for the address of its start and then for `size` bytes at the next
        // multiple of `align`.
        unsafe {
            let after_header = start.add(ALIGNED);
            let placed = after_header.add(after_header.align_offset(layout.align()));
            header_of(placed).write(start);
            placed
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: see `alloc`; of memory placed by hand the header holds the start.
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
        // SAFETY: `calloc` answers zeroed memory; memory placed by hand is zeroed here.
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
        // SAFETY: memory of plain alignment came from Redis' allocator; other memory is moved.
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

/// Where memory that was placed by hand keeps the address that Redis gave.
fn header_of(placed: *mut u8) -> *mut *mut u8 {
    placed.wrapping_sub(ALIGNED).cast()
}

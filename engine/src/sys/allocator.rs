//! Has the allocator give freed memory back to the kernel. Allocators keep what is freed: glibc
//! until the end of its heap is free (malloc_trim(3)), mimalloc until a large allocation makes it
//! look for what has been free for a while. A server that a crowd has left allocates nothing more,
//! so that nothing would ever make them.

use std::hint::black_box;

/// Larger than what mimalloc takes from the pages of a thread (512 KiB).
const LARGE_BYTES: usize = 1 << 20;

/// Works with glibc's allocator, and with mimalloc for what has been free for a second; does no
/// harm to others. Costs some microseconds, with glibc more where much is free in small pieces.
pub(super) fn give_back_freed() {
    // Nothing is written to it, so that it takes address space only.
    drop(black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

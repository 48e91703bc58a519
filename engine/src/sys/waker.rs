//! An eventfd by which other threads wake a shard. It carries no data: the shard then checks its
//! queues.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Wakes the shard whose driver polls it. Shared between threads by `Arc`.
#[derive(Debug)]
pub(crate) struct Waker {
    eventfd: OwnedFd,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above made `fd`, and nobody else has it.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { eventfd })
    }

    /// Adds one to the counter, which makes the shard's driver return from its wait. The counter
    /// is never read: each write wakes the poll anew (it is edge-triggered), and were it ever
    /// to be full after 2⁶⁴ wakes, the poll is ready anyway.
    pub(crate) fn wake(&self) {
        let one = 1u64;
        // SAFETY: the pointer and the length name `one`, which lives across the call.
        let written = unsafe { libc::write(self.eventfd.as_raw_fd(), (&raw const one).cast(), 8) };
        debug_assert!(
            written == 8 || io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
        );
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}

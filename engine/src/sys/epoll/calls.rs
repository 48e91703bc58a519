//! The system calls on a socket that never wait: accept, receive, send. Each is made again when a
//! signal interrupts it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use socket2::SockRef;

use super::super::listener::Listener;
use crate::driver::Errno;

/// What came of it.
pub(super) enum Tried<T> {
    Done(T),
    /// Nothing now: epoll tells when it is worth trying again (`EAGAIN`).
    Later,
    Failed(Errno),
}

pub(super) fn accept(listener: &Listener) -> Tried<OwnedFd> {
    tried(|| listener.accept())
}

/// Receives into `room`; 0 at the end of the stream.
pub(super) fn receive(fd: RawFd, room: &mut [u8]) -> Tried<u32> {
    // SAFETY: initialised bytes may be seen as possibly uninitialised ones, and a receive never
    // takes the initialisation back: the kernel writes bytes or leaves them.
    let room = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr().cast(), room.len()) };
    receive_uninit(fd, room)
}

/// Receives at most `bytes` bytes behind those in `buffer`, which grows by as many as have come.
///
/// # Panics
///
/// If it has no room for them.
pub(super) fn receive_behind(fd: RawFd, buffer: &mut Vec<u8>, bytes: usize) -> Tried<u32> {
    let room = &mut buffer.spare_capacity_mut()[..bytes];
    let received = receive_uninit(fd, room);
    if let Tried::Done(bytes) = received {
        let filled = buffer.len() + bytes as usize;
        assert!(filled <= buffer.capacity(), "the kernel received more than it was asked to");
        // SAFETY: within the capacity, and the kernel has written the bytes behind the old
        // length, as many as its result says.
        unsafe { buffer.set_len(filled) };
    }
    received
}

/// Sends what the kernel takes of `bytes` at once.
pub(super) fn send(fd: RawFd, bytes: &[u8]) -> Tried<u32> {
    // Its result must fit, and the rest is a short send's.
    let bytes = &bytes[..bytes.len().min(CALL_BYTES_MAX)];
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    tried(|| SockRef::from(&borrow(fd)).send_with_flags(bytes, flags).map(|sent| sent as u32))
}

const CALL_BYTES_MAX: usize = i32::MAX as usize;

fn receive_uninit(fd: RawFd, room: &mut [MaybeUninit<u8>]) -> Tried<u32> {
    let length = room.len().min(CALL_BYTES_MAX);
    let room = &mut room[..length];
    tried(|| {
        let received = SockRef::from(&borrow(fd)).recv_with_flags(room, libc::MSG_DONTWAIT)?;
        Ok(received as u32)
    })
}

/// The socket behind a descriptor that `Sockets` knows.
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: a descriptor is used only while a receive is armed or a send waits, and the shard
    // closes a socket only when neither is (`Driver`). So it is open, and the calls above use the
    // borrow within one call.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn tried<T>(mut call: impl FnMut() -> io::Result<T>) -> Tried<T> {
    loop {
        let error = match call() {
            Ok(done) => return Tried::Done(done),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN) => return Tried::Later,
            errno => return Tried::Failed(Errno(errno.unwrap_or(libc::EIO))),
        }
    }
}

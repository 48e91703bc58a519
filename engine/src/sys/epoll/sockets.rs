//! What the epoll driver knows of each socket, by the slot of its connection. An idle connection
//! takes one entry and nothing else here.

use std::os::fd::RawFd;

use crate::driver::Key;

/// The receive of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receive {
    Off,
    Multishot,
    Once,
    /// Into a buffer of its own, by its index.
    Fill(u32),
}

pub(super) struct SocketState {
    /// Of the tenant that epoll was told of.
    generation: u32,
    /// Open while a receive is armed or a send waits.
    pub(super) fd: RawFd,
    pub(super) receive: Receive,
    /// The send that waits for the socket to become writable, by its index.
    pub(super) send: Option<u32>,
    /// Epoll has said so, and no receive has found the socket empty since.
    pub(super) is_readable: bool,
    /// Only a receive that finds nothing shows that nothing is left.
    pub(super) is_at_end: bool,
    /// It is among those whose turn it is.
    pub(super) is_queued: bool,
}

// The io_uring driver needs nothing for an idle connection; `docs/memory.md` has the sum.
const _: () = assert!(size_of::<SocketState>() <= 32);

/// Entries are allocated so many at a time: an array that grows by doubling would be copied, and leave
/// its copies to the allocator. 1,024: 28 KiB.
const CHUNK: usize = 1_024;

/// By slot; `None` where there was no tenant yet.
#[derive(Default)]
pub(super) struct Sockets {
    chunks: Vec<Box<[Option<SocketState>]>>,
}

impl Sockets {
    /// The state of a tenant that epoll was told of; `None` of an earlier one.
    #[inline]
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut SocketState> {
        let slot = key.slot as usize;
        let state = self.chunks.get_mut(slot / CHUNK)?[slot % CHUNK].as_mut()?;
        (state.generation == key.generation).then_some(state)
    }

    /// A new tenant of a slot, in the place of the earlier one.
    pub(super) fn insert(&mut self, key: Key, fd: RawFd) {
        let slot = key.slot as usize;
        while self.chunks.len() <= slot / CHUNK {
            self.chunks.push((0..CHUNK).map(|_| None).collect());
        }
        self.chunks[slot / CHUNK][slot % CHUNK] = Some(SocketState {
            generation: key.generation,
            fd,
            receive: Receive::Off,
            send: None,
            is_readable: false,
            is_at_end: false,
            is_queued: false,
        });
    }
}

//! The interface between a shard and the kernel: operations, and their completions.
//!
//! The shard is generic over [`Driver`], so the drivers on io_uring and on epoll and the simulated
//! one run the same shard. Ownership makes it safe. Bytes to send are moved into the driver and come
//! back with their completion. Received bytes are borrowed with a [`Lease`], which goes back by
//! [`Driver::recycle`]. This file contains no system call and knows nothing of frames.

mod errno;
mod token;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::SystemTime;

pub use self::errno::{ConnectionError, Errno};
pub use self::token::SLOTS_MAX;
pub(crate) use self::token::{Operation, Token};

#[cfg(feature = "driver")]
pub use crate::sys::{
    EpollDriver, KernelSocket, Listener, RingConfig, RingError, UringDriver, pin_to,
};

/// Names one tenant of one slot: a completion for an earlier tenant does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Index into the shard's slab; less than 2²⁸.
    pub slot: u32,
    /// Differs between any two tenants of a shard's slots (until 2³² have come and gone).
    pub generation: u32,
}

/// A receive buffer the kernel has filled and the shard now holds.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease that is not recycled is a receive buffer lost"]
pub struct Lease {
    /// Which buffer of the driver's pool.
    pub(crate) buffer: u16,
    /// How many bytes the kernel wrote; at least one.
    pub(crate) bytes: u32,
}

impl Lease {
    /// How many bytes were received; at least one.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }
}

/// Bytes on their way out, owned by whoever holds them: shard or driver, never both.
#[derive(Debug)]
pub enum Outbound {
    /// A connection's own sealed write buffer.
    Own(Vec<u8>),
    /// Part of a run shared by the subscribers of a topic.
    Run(Run),
    /// A received message on its way back.
    Received(Received),
}

impl Outbound {
    /// How many bytes there are.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Run(run) => run.as_slice().len(),
            Self::Received(received) => (received.end - received.start) as usize,
        }
    }
}

/// A part of a receive buffer. Its lease is over when it has been sent.
#[derive(Debug)]
pub struct Received {
    pub(crate) lease: Lease,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Received {
    /// Where in the buffer.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A range of bytes published in one tick, shared by reference count within one shard.
#[derive(Clone, Debug)]
pub struct Run {
    pub(crate) bytes: Rc<Vec<u8>>,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Run {
    /// All of these bytes.
    pub(crate) fn whole(bytes: &Rc<Vec<u8>>) -> Self {
        Self { bytes: Rc::clone(bytes), start: 0, end: bytes.len() as u32 }
    }

    /// The bytes of the range.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start as usize..self.end as usize]
    }
}

/// What the kernel says has happened; `K` is the driver's [`Socket`](Driver::Socket).
#[derive(Debug)]
pub enum Completion<K> {
    /// A connection was accepted, or accepting failed.
    Accepted {
        /// Index of the listener it came through.
        listener: usize,
        /// The new socket; whoever takes this completion owns it.
        result: Result<K, Errno>,
        /// Whether the accept is still armed.
        more: bool,
    },
    /// Bytes arrived (`Some`), the peer sent FIN (`None`), or receiving failed.
    Received {
        /// The slot it was armed for.
        key: Key,
        /// At least one byte, end of stream, or the error.
        result: Result<Option<Lease>, Errno>,
        /// Whether the multishot receive is still armed.
        more: bool,
    },
    /// Bytes arrived straight in the buffer that was given to [`Driver::receive_into`], or the
    /// peer sent FIN (`Ok(0)`), or receiving failed. Nothing is armed any more.
    Filled {
        /// The slot it was armed for.
        key: Key,
        /// How many bytes there are at the end of the buffer that were not there before.
        result: Result<u32, Errno>,
        /// The buffer.
        buffer: Vec<u8>,
    },
    /// A send is over, and the bytes come back.
    Sent {
        /// The slot it was queued for.
        key: Key,
        /// How many bytes from the given offset on the kernel took, possibly not all.
        result: Result<u32, Errno>,
        /// What was given to [`Driver::send`].
        outbound: Outbound,
    },
    /// Another shard or thread wants this shard to look at its queues.
    Woken,
}

/// How long a tick may wait for the first completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: there is work left.
    No,
    /// Until a completion arrives or this many milliseconds are over.
    Millis(u32),
    /// Until a completion arrives.
    Forever,
}

/// A place behind what the kernel has given by some moment ([`Driver::mark`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Completions up to there, in their order.
    pub(crate) completions: u64,
    /// Sockets up to there that had become ready, in their order, of a driver that hands out what is
    /// over and who is ready side by side.
    pub(crate) turns: u64,
}

/// What the kernel knows of a connected socket. Each question costs a system call.
pub trait Socket: fmt::Debug {
    /// Bytes of the peer that have come and that no receive has taken yet. It is asked only when a
    /// deadline is about to end the connection.
    fn unread_bytes(&self) -> u32;

    /// Bytes the kernel has taken for the peer and the peer has not acknowledged; over a Unix socket
    /// what the peer has not read, and the kernel's overhead.
    fn unacknowledged_bytes(&self) -> u32;

    /// The peer's address, if the socket still has one.
    fn peer_addr(&self) -> Option<SocketAddr>;
}

/// What a shard asks of the kernel.
///
/// Calls queue operations; [`tick`](Driver::tick) submits them all, waits, and collects
/// completions. Per socket at most one receive and one send are in flight, and a socket
/// is closed only when neither is.
pub trait Driver {
    /// A connected socket. [`close`](Driver::close) ends it; one that is dropped instead, because
    /// its shard panics, is closed as well.
    type Socket: Socket;

    /// Takes a socket over that somebody else has connected; `None` if the driver has no kernel to
    /// take it from.
    fn adopt(&mut self, descriptor: OwnedFd) -> Option<Self::Socket>;

    /// How many listeners there are, named by index from 0. Default 1.
    fn listeners(&self) -> usize {
        1
    }

    /// Whether other shards accept from the same socket. Who is armed takes his turn: each connection
    /// wakes the shard that has waited longest, so such a listener is armed for one connection at a
    /// time ([`arm_accept_once`](Driver::arm_accept_once)). Default: none is.
    fn is_shared(&self, listener: usize) -> bool {
        let _ = listener;
        false
    }

    /// Arms the multishot accept of a listener.
    fn arm_accept(&mut self, listener: usize);

    /// Arms an accept of one connection, after which it is over. Default: a multishot one.
    fn arm_accept_once(&mut self, listener: usize) {
        self.arm_accept(listener);
    }

    /// Ends the accept of a listener; its last completion has `more == false`.
    fn cancel_accept(&mut self, listener: usize);

    /// Closes a listener, once its accept is over: further connects are refused.
    fn close_listener(&mut self, listener: usize);

    /// Arms the multishot receive of a socket.
    fn arm_receive(&mut self, key: Key, socket: &Self::Socket);

    /// Arms a receive of a socket that completes once, as the multishot one does for the last time.
    fn arm_receive_once(&mut self, key: Key, socket: &Self::Socket);

    /// Ends the multishot receive of a socket, which still completes: with what came before, or as
    /// cancelled.
    fn end_receive(&mut self, key: Key, socket: &Self::Socket);

    /// Arms a receive of at most `bytes` bytes behind those in `buffer`, which has capacity for
    /// them.
    ///
    /// # Panics
    ///
    /// If it has not.
    fn receive_into(&mut self, key: Key, socket: &Self::Socket, buffer: Vec<u8>, bytes: usize);

    /// Queues one send of `outbound`, from byte `offset` on.
    ///
    /// # Panics
    ///
    /// If nothing is left to send.
    fn send(&mut self, key: Key, socket: &Self::Socket, outbound: Outbound, offset: usize);

    /// Shuts a socket down both ways, which ends its receive and its send: both still complete.
    /// What it costs does not depend on how many other sockets there are.
    fn shut_down(&mut self, key: Key, socket: &Self::Socket);

    /// Sends FIN after what the kernel has already taken; receiving goes on.
    fn shut_down_write(&mut self, socket: &Self::Socket);

    /// Closes a socket that has nothing in flight.
    fn close(&mut self, socket: Self::Socket);

    /// The bytes of a lease, for parsing and unmasking in place.
    fn received<'a>(&'a mut self, lease: &'a Lease) -> &'a mut [u8];

    /// Gives a receive buffer back to the kernel.
    fn recycle(&mut self, lease: Lease);

    /// Wakes another shard from its wait.
    fn wake(&mut self, shard: usize);

    /// Submits what was queued, waits for at most `wait`, and appends completions in the
    /// order the kernel gave them, at most [`COMPLETIONS_PER_TICK_MAX`].
    fn tick(&mut self, wait: Wait, completions: &mut Vec<Completion<Self::Socket>>);

    /// How many completions the kernel has given that no tick has handed out yet. Some may turn out
    /// to be none.
    fn completions_waiting(&self) -> usize;

    /// Where what the kernel has given so far ends.
    fn mark(&self) -> Mark;

    /// Whether everything that the kernel had given before `mark` has been handed out.
    fn has_handed_out(&self, mark: Mark) -> bool;

    /// Ticks at which the completion queue had overflowed; always 0 where there is none.
    fn overflows(&self) -> u64;

    /// Gives back memory that a flood has made the driver take and that is not in use. Costs
    /// system calls; to be called now and then.
    fn trim(&mut self);

    /// Has the allocator give back what has been freed, where one is asked that keeps it. Costs
    /// system calls; to be called seldom.
    fn give_back_freed(&mut self) {}

    /// Milliseconds on a clock that never goes back; a few of granularity.
    fn now_ms(&self) -> u64;

    /// The time of day, for the Date of HTTP responses. A simulated driver has another.
    fn system_time() -> SystemTime
    where
        Self: Sized,
    {
        SystemTime::now()
    }
}

/// Completions taken in one tick, so that timers, broadcasts and other connections get
/// their turn under any flood. 512: far above what one kernel pass delivers (about 20 receives
/// and the sends).
pub const COMPLETIONS_PER_TICK_MAX: usize = 512;

/// Received bytes after which a tick takes no further completion: peers that sent much get
/// their answers while the rest is still being worked on, and what is worked on stays in the
/// cache. 64 KiB: a quarter of a small second-level cache.
pub const RECEIVED_BYTES_PER_TICK_MAX: usize = 64 << 10;

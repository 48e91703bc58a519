//! The io_uring driver: one ring, one thread, one `io_uring_enter` per tick (more only if more
//! entries are queued than the submission queue holds).
//!
//! It turns [`Driver`] calls into submission entries, and completion entries into [`Completion`]s.
//! It owns every byte that the kernel may read or write. It knows nothing of the state of a
//! connection. Oldest kernel: 6.1.

mod complete;
mod submission;
mod waking;

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use super::allocator;
use super::buffer_ring::BufferRing;
use super::listener::Listener;
use super::ring_setup::{
    MAPPING_BUFFERS, RingConfig, RingError, check_operations, refused, register_ring_fd, set_up,
    unregister_ring_fd,
};
use super::socket::{self, KernelSocket};
use super::waker::Waker;
use crate::driver::{
    COMPLETIONS_PER_TICK_MAX, Completion, Driver, Key, Lease, Mark, Operation, Outbound,
    RECEIVED_BYTES_PER_TICK_MAX, Token, Wait,
};

/// The only buffer group of a ring.
const BUFFER_GROUP: u16 = 0;

// Flags of io_uring_enter(2); the crate keeps its own private.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
/// Kernel 6.15: an idle wait does not count as waiting for a disk.
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// A tick that submits so many entries and does not wait asks for a full batch of completions, with
/// a timeout of nothing. Without asking, the kernel hands out 20 of those that are ready (Linux
/// 6.14), and a tick that ends hundreds of connections makes it queue hundreds: whatever comes from
/// others would wait behind all of them.
const BUSY_ENTRIES_MIN: usize = 64;

/// `struct io_uring_getevents_arg` (io_uring_enter(2), kernel 5.11).
#[repr(C)]
struct GeteventsArg {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_usec: u32,
    timespec: u64,
}

/// How to wake another shard.
#[derive(Clone)]
pub(crate) struct Peer {
    /// A descriptor of its ring.
    pub(crate) ring: Arc<OwnedFd>,
    /// For when a message to its ring cannot be delivered.
    pub(crate) waker: Arc<Waker>,
}

/// A [`Driver`] on the kernel. Made and used on one thread.
pub struct UringDriver {
    ring: IoUring,
    /// `None` only while the driver is being dropped.
    buffers: Option<BufferRing>,
    /// By index; `None` once closed.
    listeners: Vec<Option<Listener>>,
    waker: Option<Arc<Waker>>,
    /// When to arm the poll of the waker again, which has failed.
    waker_retry_ms: Option<u64>,
    /// The sends in flight. The kernel reads their bytes until they complete. Their tokens
    /// carry the index in here instead of a slot, so that what is hot stays small.
    sends: Slab<(Key, Outbound)>,
    /// The receives into buffers of their own: the kernel writes behind their bytes until they
    /// complete. Tokens as for sends.
    fills: Slab<(Key, Vec<u8>)>,
    receives_armed: usize,
    /// How to wake each shard. Their rings stay open as long as anybody may name them.
    peers: Vec<Peer>,
    /// The ring's descriptor, or its index among those registered with this thread.
    enter_fd: i32,
    enter_flags: u32,
    /// Completions taken out of the kernel's queue and not handed out yet, in their order. The
    /// queue is emptied before each enter, so that one enter never finds it full.
    reaped: VecDeque<cqueue::Entry>,
    /// How many have been, ever.
    handed_out: u64,
    /// Enters in a row that the kernel had no memory for.
    starved: u32,
    overflows: u64,
    /// DEFER_TASKRUN and SINGLE_ISSUER bind a ring to the thread that made it.
    not_send: PhantomData<*const ()>,
}

impl UringDriver {
    /// Sets a ring up on the calling thread, which alone may use it.
    ///
    /// # Errors
    ///
    /// See [`RingError`]. If locked memory is short, smaller rings are tried first.
    pub fn new(config: &RingConfig, listeners: Vec<Listener>) -> Result<Self, RingError> {
        let ring = set_up(config)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_skip_cqe_on_success() {
            return Err(RingError::TooOld { missing: "IORING_FEAT_EXT_ARG, IORING_FEAT_CQE_SKIP" });
        }
        check_operations(&ring)?;
        let buffers = BufferRing::new(config).map_err(refused(MAPPING_BUFFERS))?;
        let (address, entries) = buffers.registration();
        // SAFETY: the address is page-aligned memory for `entries` entries, and it stays
        // mapped until the ring is gone (`Drop`).
        unsafe { ring.submitter().register_buf_ring_with_flags(address, entries, BUFFER_GROUP, 0) }
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EINVAL) => RingError::TooOld { missing: "IORING_REGISTER_PBUF_RING" },
                _ => RingError::Refused { step: "registering the receive buffers", source },
            })?;
        let no_iowait = if ring.params().is_feature_no_iowait() { ENTER_NO_IOWAIT } else { 0 };
        let registered = register_ring_fd(ring.as_raw_fd());
        let registered_ring = if registered.is_some() { ENTER_REGISTERED_RING } else { 0 };
        let mut driver = Self {
            enter_fd: registered.unwrap_or(ring.as_raw_fd()),
            ring,
            buffers: Some(buffers),
            listeners: listeners.into_iter().map(Some).collect(),
            waker: None,
            waker_retry_ms: None,
            sends: Slab::new(),
            fills: Slab::new(),
            receives_armed: 0,
            peers: Vec::new(),
            enter_flags: ENTER_GETEVENTS | ENTER_EXT_ARG | no_iowait | registered_ring,
            reaped: VecDeque::new(),
            handed_out: 0,
            starved: 0,
            overflows: 0,
            not_send: PhantomData,
        };
        driver.buffers_mut().provide();
        driver.check_enter()?;
        Ok(driver)
    }

    /// A filter may allow a ring to be set up and forbid to enter it.
    fn check_enter(&self) -> Result<(), RingError> {
        self.ring.submitter().submit().map_err(refused("io_uring_enter"))?;
        Ok(())
    }

    /// Another descriptor of this ring, by which other rings wake it.
    pub(super) fn duplicate_ring_fd(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring's descriptor is open as long as `ring` lives.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }.try_clone_to_owned()
    }

    pub(super) fn add_listeners(&mut self, listeners: Vec<Listener>) {
        self.listeners.extend(listeners.into_iter().map(Some));
    }

    /// How to wake each shard from this one.
    pub(super) fn set_peers(&mut self, peers: Vec<Peer>) {
        self.peers = peers;
    }

    fn accept(&mut self, listener: usize, build: impl FnOnce(types::Fd) -> squeue::Entry) {
        let Some(Some(socket)) = self.listeners.get(listener) else { return };
        let accept = build(types::Fd(socket.as_raw_fd()));
        self.push(accept.user_data(Token::of_listener(listener).encode()));
    }

    fn buffers_mut(&mut self) -> &mut BufferRing {
        self.buffers.as_mut().expect("only Drop takes the buffers")
    }
}

impl Driver for UringDriver {
    type Socket = KernelSocket;

    fn adopt(&mut self, descriptor: OwnedFd) -> Option<KernelSocket> {
        Some(KernelSocket(descriptor))
    }

    fn listeners(&self) -> usize {
        self.listeners.len()
    }

    fn is_shared(&self, listener: usize) -> bool {
        self.listeners.get(listener).is_some_and(|l| l.as_ref().is_some_and(Listener::is_shared))
    }

    fn arm_accept(&mut self, listener: usize) {
        self.accept(listener, |fd| opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build());
    }

    fn arm_accept_once(&mut self, listener: usize) {
        self.accept(listener, |fd| {
            let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
            opcode::Accept::new(fd, address, length).flags(libc::SOCK_CLOEXEC).build()
        });
    }

    fn cancel_accept(&mut self, listener: usize) {
        let cancel = opcode::AsyncCancel::new(Token::of_listener(listener).encode()).build();
        self.push(quiet(cancel, Token::of_shard(Operation::Cancel)));
    }

    fn close_listener(&mut self, listener: usize) {
        if let Some(socket) = self.listeners.get_mut(listener) {
            *socket = None;
        }
    }

    fn arm_receive(&mut self, key: Key, socket: &KernelSocket) {
        self.receives_armed += 1;
        let receive = opcode::RecvMulti::new(fd_of(socket), BUFFER_GROUP).build();
        self.push(receive.user_data(Token::new(Operation::Receive, key).encode()));
    }

    fn arm_receive_once(&mut self, key: Key, socket: &KernelSocket) {
        self.receives_armed += 1;
        let receive = opcode::Recv::new(fd_of(socket), std::ptr::null_mut(), 0)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(receive.user_data(Token::new(Operation::Receive, key).encode()));
    }

    fn end_receive(&mut self, key: Key, _socket: &KernelSocket) {
        let receive = Token::new(Operation::Receive, key).encode();
        let cancel = opcode::AsyncCancel::new(receive).build();
        self.push(quiet(cancel, Token::of_shard(Operation::Cancel)));
    }

    fn receive_into(&mut self, key: Key, socket: &KernelSocket, mut buffer: Vec<u8>, bytes: usize) {
        let room = buffer.spare_capacity_mut();
        let room = &mut room[..bytes];
        let length = room.len().min(i32::MAX as usize) as u32;
        let receive = opcode::Recv::new(fd_of(socket), room.as_mut_ptr().cast(), length).build();
        // Moving the buffer does not move the heap memory the entry points to, and nobody reads or
        // grows it until the receive completes: it is in here.
        let index = self.fills.insert((key, buffer)) as u32;
        let token = Token::new(Operation::Fill, Key { slot: index, generation: 0 });
        self.push(receive.user_data(token.encode()));
    }

    fn send(&mut self, key: Key, socket: &KernelSocket, outbound: Outbound, offset: usize) {
        let bytes = match &outbound {
            Outbound::Own(bytes) => &bytes[offset..],
            Outbound::Run(run) => &run.as_slice()[offset..],
            Outbound::Received(received) => {
                let Lease { buffer, bytes } = received.lease;
                &self.buffers_mut().leased(buffer, bytes as usize)[received.range()][offset..]
            }
        };
        assert!(!bytes.is_empty(), "a send of nothing");
        // A send takes at most what its result can say; the rest is a short send's.
        let length = bytes.len().min(i32::MAX as usize) as u32;
        let send = opcode::Send::new(fd_of(socket), bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL)
            .build();
        // Moving `outbound` does not move the heap memory `bytes` points to, and nobody else
        // can change it: a `Vec` is owned, a run is shared and immutable, a receive buffer stays
        // leased until it is recycled, and its lease is in here.
        let index = self.sends.insert((key, outbound)) as u32;
        let token = Token::new(Operation::Send, Key { slot: index, generation: 0 });
        self.push(send.user_data(token.encode()));
    }

    fn shut_down(&mut self, key: Key, socket: &KernelSocket) {
        // A cancel by descriptor would walk every request of the ring.
        if socket::shut_down(socket) > 0 {
            // The multishot receive takes what is unread, finds the socket empty, and waits for the
            // event that has told it of the shutdown already: it would never end (seen on Linux
            // 6.18). It is found by its number, which costs the same whatever else is in flight.
            self.end_receive(key, socket);
        }
    }

    fn shut_down_write(&mut self, socket: &KernelSocket) {
        // A system call of its own: IORING_OP_SHUTDOWN always goes to a worker thread.
        socket::shut_down_write(socket);
    }

    fn close(&mut self, socket: KernelSocket) {
        // The kernel closes it, within the next enter.
        let close = opcode::Close::new(types::Fd(socket.0.into_raw_fd())).build();
        self.push(quiet(close, Token::of_shard(Operation::Close)));
    }

    #[inline]
    fn received<'a>(&'a mut self, lease: &'a Lease) -> &'a mut [u8] {
        self.buffers_mut().leased(lease.buffer, lease.bytes())
    }

    #[inline]
    fn recycle(&mut self, lease: Lease) {
        self.buffers_mut().recycle(lease.buffer);
    }

    fn wake(&mut self, shard: usize) {
        let wake = Token::of_shard(Operation::Wake);
        let ring = types::Fd(self.peers[shard].ring.as_raw_fd());
        let message = opcode::MsgRingData::new(ring, 0, wake.encode(), None).build();
        let peer = Key { slot: shard as u32, generation: 0 };
        self.push(quiet(message, Token::new(Operation::Rouse, peer)));
    }

    fn tick(&mut self, wait: Wait, completions: &mut Vec<Completion<KernelSocket>>) {
        self.buffers_mut().provide();
        let wait = self.bound_by_waker(wait);
        match wait {
            Wait::Forever if self.reaped.is_empty() => self.enter(1, None),
            Wait::Millis(ms) if self.reaped.is_empty() => {
                let time = types::Timespec::from(std::time::Duration::from_millis(ms.into()));
                self.enter(1, Some(time));
            }
            _ if self.ring.submission().len() >= BUSY_ENTRIES_MIN => {
                // A receive may complete more than once, and the entries complete as well.
                let want = COMPLETIONS_PER_TICK_MAX as u32;
                let want = want.min(self.ring.params().cq_entries() / 4);
                self.enter(want, Some(types::Timespec::new()));
            }
            _ => self.enter(0, None),
        }
        self.reap();
        let mut received_bytes = 0;
        for _ in 0..COMPLETIONS_PER_TICK_MAX {
            let Some(entry) = self.reaped.pop_front() else { break };
            self.handed_out += 1;
            received_bytes += received_bytes_of(&entry);
            completions.extend(self.complete(&entry));
            if received_bytes >= RECEIVED_BYTES_PER_TICK_MAX {
                break;
            }
        }
    }

    fn completions_waiting(&self) -> usize {
        self.reaped.len()
    }

    fn mark(&self) -> Mark {
        Mark { completions: self.handed_out + self.reaped.len() as u64, turns: 0 }
    }

    fn has_handed_out(&self, mark: Mark) -> bool {
        self.handed_out >= mark.completions
    }

    fn trim(&mut self) {
        // A buffer that a reaped completion names is the kernel's no more, but not leased yet.
        if self.reaped.is_empty() {
            self.buffers_mut().trim();
        }
        self.reaped.shrink_to(COMPLETIONS_PER_TICK_MAX);
        self.sends.shrink_to_fit();
        self.fills.shrink_to_fit();
    }

    fn give_back_freed(&mut self) {
        allocator::give_back_freed();
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn now_ms(&self) -> u64 {
        super::clock::now_ms()
    }
}

impl Drop for UringDriver {
    /// Closing a ring cancels what is in flight, but in the background. A shard that ended
    /// in order has nothing in flight; otherwise the memory the kernel may still touch is
    /// given up for good rather than freed under it.
    fn drop(&mut self) {
        if self.enter_flags & ENTER_REGISTERED_RING != 0 {
            unregister_ring_fd(self.ring.as_raw_fd(), self.enter_fd);
        }
        let mut sends_received = false;
        for (_, outbound) in self.sends.drain() {
            sends_received |= matches!(outbound, Outbound::Received(_));
            std::mem::forget(outbound);
        }
        for (_, buffer) in self.fills.drain() {
            std::mem::forget(buffer);
        }
        let buffers = self.buffers.take().expect("dropped once");
        if self.receives_armed > 0 || sends_received {
            buffers.leak();
        } else {
            // Unregistered before its memory is unmapped; an armed receive is no more.
            let unregistered = self.ring.submitter().unregister_buf_ring(BUFFER_GROUP);
            if unregistered.is_err() {
                buffers.leak();
            }
        }
    }
}

/// Completes only if it fails, with `token`.
fn quiet(entry: squeue::Entry, token: Token) -> squeue::Entry {
    entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(token.encode())
}

fn fd_of(socket: &KernelSocket) -> types::Fd {
    types::Fd(socket.0.as_raw_fd())
}

/// How many bytes a completion says were received; 0 for any other.
fn received_bytes_of(entry: &cqueue::Entry) -> usize {
    match Token::decode(entry.user_data()).operation {
        Operation::Receive | Operation::Fill => usize::try_from(entry.result()).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::assert_is_refused;

//! The io_uring driver: one ring, one thread, one `io_uring_enter` per tick (more only if more
//! entries are queued than the submission queue holds).
//!
//! It turns [`Driver`] calls into submission entries, and completion entries into [`Completion`]s.
//! It owns every byte that the kernel may read or write. It knows nothing of the state of a
//! connection. Oldest kernel: 6.1.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
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
use super::socket::{self, descriptor, into_descriptor};
use super::waker::Waker;
use crate::driver::{
    COMPLETIONS_PER_TICK_MAX, Completion, Descriptor, Driver, Errno, Key, Lease, Mark, Operation,
    Outbound, RECEIVED_BYTES_PER_TICK_MAX, Socket, Token, Wait,
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

    /// Takes a connected socket, for tools that connect instead of accepting.
    #[must_use]
    pub fn adopt(&mut self, stream: std::net::TcpStream) -> Socket {
        Socket(Descriptor::Open(stream.into()))
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

    /// Lets threads without a ring wake this one. Each write to the eventfd completes the
    /// multishot poll, which is edge-triggered and so needs no read.
    pub(super) fn poll_waker(&mut self, waker: Arc<Waker>) {
        self.waker = Some(waker);
        self.arm_waker();
    }

    fn arm_waker(&mut self) {
        let Some(waker) = &self.waker else { return };
        let fd = types::Fd(waker.as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true);
        self.push(poll.build().user_data(Token::of_shard(Operation::Wake).encode()));
    }

    /// The poll of the waker has failed (for want of memory, say): armed again, but not at once,
    /// since it may fail again.
    fn retry_waker(&mut self) {
        const BACK_OFF_MS: u64 = 100;
        self.waker_retry_ms = Some(super::clock::now_ms() + BACK_OFF_MS);
    }

    /// Arms the waker's poll again if it is time; until then nobody else may wake the shard in
    /// time, so it wakes by itself.
    fn bound_by_waker(&mut self, wait: Wait) -> Wait {
        let Some(retry_ms) = self.waker_retry_ms else { return wait };
        let left_ms = retry_ms.saturating_sub(super::clock::now_ms()) as u32;
        if left_ms == 0 {
            self.waker_retry_ms = None;
            self.arm_waker();
            // What was left meanwhile woke nobody.
            return Wait::No;
        }
        match wait {
            Wait::No => Wait::No,
            Wait::Millis(ms) => Wait::Millis(ms.min(left_ms)),
            Wait::Forever => Wait::Millis(left_ms),
        }
    }

    fn accept(&mut self, listener: usize, build: impl FnOnce(types::Fd) -> squeue::Entry) {
        let Some(Some(socket)) = self.listeners.get(listener) else { return };
        let accept = build(types::Fd(socket.as_raw_fd()));
        self.push(accept.user_data(Token::of_listener(listener).encode()));
    }

    fn buffers_mut(&mut self) -> &mut BufferRing {
        self.buffers.as_mut().expect("only Drop takes the buffers")
    }

    /// Queues an entry, submitting first if the queue is full. What that completes is taken out
    /// of the completion queue at once: a tick may queue any number of entries.
    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: what the entries of this driver point to is owned by the driver until
            // their last completion: send bytes in `sends`, receive buffers in `buffers`, those of
            // their own in `fills`.
            // Descriptors are open: a socket is closed only by `close`, which consumes it.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_ok() {
                return;
            }
            self.enter(0, None);
            self.reap();
        }
    }

    /// Empties the kernel's completion queue.
    fn reap(&mut self) {
        // The kernel keeps what does not fit and delivers it with a later enter.
        self.overflows += u64::from(self.ring.submission().cq_overflow());
        self.reaped.extend(self.ring.completion());
    }

    /// The one system call. Returns when `want` completions are there, the time is over, a
    /// signal arrived, or the completion queue must be emptied first.
    fn enter(&mut self, want: u32, timeout: Option<types::Timespec>) {
        let to_submit = self.ring.submission().len() as u32;
        let timespec = timeout.as_ref().map_or(0, |timeout| std::ptr::from_ref(timeout) as u64);
        let arg = GeteventsArg { sigmask: 0, sigmask_bytes: 8, min_wait_usec: 0, timespec };
        // SAFETY: `arg` is the structure EXT_ARG announces; it and the timespec it points to
        // (`types::Timespec` is the kernel's layout) live across the call. The entries it
        // submits are sound (`push`).
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                to_submit,
                want,
                self.enter_flags,
                &raw const arg,
                size_of::<GeteventsArg>(),
            )
        };
        if entered >= 0 {
            self.starved = 0;
            return;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // The time is over, a signal has come, or completions must be taken first.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY) => {}
            Some(libc::EAGAIN) => self.wait_for_memory(),
            Some(libc::EBADR) => panic!(
                "io_uring_enter: EBADR: the kernel had no memory to keep a completion and has \
                 dropped it, so a connection would never end; give the machine or the container \
                 more memory"
            ),
            _ => panic!("io_uring_enter: {error}"),
        }
    }

    /// The kernel has no memory for requests (EAGAIN): waits a little, since trying again at
    /// once would spin, and gives up after a minute.
    #[cold]
    fn wait_for_memory(&mut self) {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
        const STARVED_MAX: u32 = 6_000;
        self.starved += 1;
        assert!(
            self.starved < STARVED_MAX,
            "io_uring_enter: EAGAIN for a minute: the kernel has no memory for requests; give \
             the machine or the container more memory"
        );
        std::thread::sleep(PAUSE);
    }

    fn complete(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let token = Token::decode(entry.user_data());
        let (result, flags) = (entry.result(), entry.flags());
        match token.operation {
            Operation::Receive => Some(self.complete_receive(token.key, result, flags)),
            Operation::Send => Some(self.complete_send(token.key.slot, result)),
            Operation::Fill => Some(self.complete_fill(token.key.slot, result)),
            Operation::Accept => {
                let listener = token.key.slot as usize;
                let result = errno_or(result).map(|fd| {
                    // SAFETY: the kernel has just made this descriptor for this completion.
                    let socket = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
                    if let Some(Some(listener)) = self.listeners.get(listener) {
                        listener.prepare(&socket);
                    }
                    Socket(Descriptor::Open(socket))
                });
                Some(Completion::Accepted { listener, result, more: cqueue::more(flags) })
            }
            Operation::Wake => {
                // A message from another ring has no F_MORE either, but also no events.
                if result < 0 {
                    self.retry_waker();
                } else if result > 0 && !cqueue::more(flags) {
                    self.arm_waker();
                }
                Some(Completion::Woken)
            }
            // Only failures complete, and they tell nothing: there was nothing to cancel.
            Operation::Cancel => None,
            // The message could not be delivered (for want of memory, say), but the other
            // shard may be asleep: whoever roused it must wake it.
            Operation::Rouse => {
                self.peers[token.key.slot as usize].waker.wake();
                None
            }
            Operation::Close => {
                panic!("closing a socket that was open: {:?}", errno_or(result))
            }
        }
    }

    fn complete_receive(&mut self, key: Key, result: i32, flags: u32) -> Completion {
        let more = cqueue::more(flags);
        if !more {
            self.receives_armed -= 1;
        }
        let result = errno_or(result);
        // The end of a stream carries no buffer, whatever the upper bits of the flags say.
        let buffer = cqueue::buffer_select(flags);
        if let Some(buffer) = buffer {
            self.buffers_mut().lease(buffer);
        }
        if result == Err(Errno::NO_BUFFERS) {
            self.buffers_mut().grow();
        }
        let result = match (result, buffer) {
            (Ok(bytes @ 1..), Some(buffer)) => Ok(Some(Lease { buffer, bytes })),
            (Ok(1..), None) => panic!("the kernel received bytes into no buffer"),
            (Ok(0), buffer) => {
                buffer.inspect(|&buffer| self.buffers_mut().recycle(buffer));
                Ok(None)
            }
            (Err(errno), buffer) => {
                buffer.inspect(|&buffer| self.buffers_mut().recycle(buffer));
                Err(errno)
            }
        };
        Completion::Received { key, result, more }
    }

    fn complete_fill(&mut self, index: u32, result: i32) -> Completion {
        let fill = self.fills.try_remove(index as usize);
        let (key, mut buffer) = fill.expect("the kernel completes a receive once");
        let result = errno_or(result);
        if let Ok(bytes) = result {
            let filled = buffer.len() + bytes as usize;
            assert!(filled <= buffer.capacity(), "the kernel received more than it was asked to");
            // SAFETY: within the capacity, and the kernel has written the bytes behind the old
            // length, as many as its result says.
            unsafe { buffer.set_len(filled) };
        }
        Completion::Filled { key, result, buffer }
    }

    fn complete_send(&mut self, index: u32, result: i32) -> Completion {
        let send = self.sends.try_remove(index as usize);
        let (key, outbound) = send.expect("the kernel completes a send once");
        Completion::Sent { key, result: errno_or(result), outbound }
    }
}

impl Driver for UringDriver {
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

    fn arm_receive(&mut self, key: Key, socket: &Socket) {
        self.receives_armed += 1;
        let receive = opcode::RecvMulti::new(fd_of(socket), BUFFER_GROUP).build();
        self.push(receive.user_data(Token::new(Operation::Receive, key).encode()));
    }

    fn arm_receive_once(&mut self, key: Key, socket: &Socket) {
        self.receives_armed += 1;
        let receive = opcode::Recv::new(fd_of(socket), std::ptr::null_mut(), 0)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(receive.user_data(Token::new(Operation::Receive, key).encode()));
    }

    fn end_receive(&mut self, key: Key, _socket: &Socket) {
        let receive = Token::new(Operation::Receive, key).encode();
        let cancel = opcode::AsyncCancel::new(receive).build();
        self.push(quiet(cancel, Token::of_shard(Operation::Cancel)));
    }

    fn receive_into(&mut self, key: Key, socket: &Socket, mut buffer: Vec<u8>, bytes: usize) {
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

    fn send(&mut self, key: Key, socket: &Socket, outbound: Outbound, offset: usize) {
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

    fn shut_down(&mut self, socket: &Socket) {
        // A cancel by descriptor would walk every request of the ring.
        socket::shut_down(socket);
    }

    fn shut_down_write(&mut self, socket: &Socket) {
        // A system call of its own: IORING_OP_SHUTDOWN always goes to a worker thread.
        socket::shut_down_write(socket);
    }

    fn close(&mut self, socket: Socket) {
        // The kernel closes it, within the next enter.
        let close = opcode::Close::new(types::Fd(into_descriptor(socket).into_raw_fd())).build();
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

    fn tick(&mut self, wait: Wait, completions: &mut Vec<Completion>) {
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

    fn unread_bytes(socket: &Socket) -> u32 {
        socket::unread_bytes(socket)
    }

    fn unacknowledged_bytes(socket: &Socket) -> u32 {
        socket::unacknowledged_bytes(socket)
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn now_ms(&self) -> u64 {
        super::clock::now_ms()
    }

    fn peer_addr(socket: &Socket) -> Option<SocketAddr> {
        socket::peer_addr(socket)
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

fn fd_of(socket: &Socket) -> types::Fd {
    types::Fd(descriptor(socket).as_raw_fd())
}

/// How many bytes a completion says were received; 0 for any other.
fn received_bytes_of(entry: &cqueue::Entry) -> usize {
    match Token::decode(entry.user_data()).operation {
        Operation::Receive | Operation::Fill => usize::try_from(entry.result()).unwrap_or(0),
        _ => 0,
    }
}

fn errno_or(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| Errno(-result))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::assert_is_refused;

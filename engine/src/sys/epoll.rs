//! The epoll driver: one epoll instance, one thread, one `epoll_wait` per tick, and a system call
//! for each accept, receive and send.
//!
//! It plays the same contract as the io_uring driver ([`Driver`]): what is asked for completes with
//! a later tick. A send is tried at once, and waits for the socket to become writable only when
//! the kernel takes nothing. A receive is made when the socket is readable and the tick has room
//! for what it brings. Oldest kernel: 5.4.

mod calls;
mod poll;
mod sockets;
mod turns;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use slab::Slab;

use self::calls::Tried;
use self::poll::{Event, Poll};
use self::sockets::{Receive, Sockets};
use self::turns::received;
use super::allocator;
use super::listener::Listener;
use super::receive_buffers::ReceiveBuffers;
use super::ring_setup::{MAPPING_BUFFERS, RingConfig, RingError, refused};
use super::socket::{self, KernelSocket};
use super::waker::Waker;
use crate::driver::{
    COMPLETIONS_PER_TICK_MAX, Completion, Driver, Errno, Key, Lease, Mark, Operation, Outbound,
    Token, Wait,
};

/// Receives and accepts of one tick. The buffers of a tick's receives are worked on while they lie
/// in the cache, and answers go out while more input arrives. 32: docs/decisions.md has what 8 to
/// 512 gave.
const TURNS_PER_TICK_MAX: usize = 32;

/// Completions of sends that a tick hands out: the rest of its share is for what comes from peers.
const SENT_PER_TICK_MAX: usize = COMPLETIONS_PER_TICK_MAX - TURNS_PER_TICK_MAX;

/// A [`Driver`] on epoll(7). Made and used on one thread.
pub struct EpollDriver {
    poll: Poll,
    buffers: ReceiveBuffers,
    /// Provided buffers that a quiet server keeps the pages of.
    buffers_kept: usize,
    /// By index.
    listeners: Vec<Listening>,
    sockets: Sockets,
    /// Whose turn it is to be received from or accepted from, in the order in which they became
    /// ready. Each is in here once at most.
    ready: VecDeque<Ready>,
    /// How many of `ready` have been there since epoll was last asked.
    seen: usize,
    /// What is over and not handed out yet.
    done: VecDeque<Completion<KernelSocket>>,
    /// How far `done` and `ready` have been handed out.
    taken: Mark,
    /// Sends that wait for their socket to become writable.
    sends: Slab<Send>,
    /// Buffers of their own for receives that are armed.
    fills: Slab<Fill>,
    waker: Option<Arc<Waker>>,
    /// How to wake each shard.
    peers: Vec<Arc<Waker>>,
}

/// Somebody whose turn it is.
#[derive(Clone, Copy)]
enum Ready {
    Listener(usize),
    Socket(Key),
}

struct Send {
    outbound: Outbound,
    offset: usize,
}

struct Fill {
    buffer: Vec<u8>,
    /// How many bytes may come at most.
    bytes: usize,
}

/// How a listener accepts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accept {
    Off,
    Multishot,
    Once,
}

struct Listening {
    /// `None` once closed.
    listener: Option<Listener>,
    accept: Accept,
    /// Epoll has said that a connection waits, and no accept has found none since.
    is_readable: bool,
    is_queued: bool,
}

impl EpollDriver {
    /// Makes a driver on the calling thread.
    ///
    /// # Errors
    ///
    /// [`RingError::Refused`] if the kernel has no descriptor or no memory for it.
    pub fn new(config: &RingConfig, listeners: Vec<Listener>) -> Result<Self, RingError> {
        let poll = Poll::new().map_err(refused("epoll_create1"))?;
        let buffers = ReceiveBuffers::new(config.receive_buffers_max, config.receive_buffer_bytes)
            .map_err(refused(MAPPING_BUFFERS))?;
        let mut driver = Self {
            poll,
            buffers,
            buffers_kept: config.receive_buffers_min,
            listeners: Vec::new(),
            sockets: Sockets::default(),
            ready: VecDeque::new(),
            seen: 0,
            done: VecDeque::new(),
            taken: Mark::default(),
            sends: Slab::new(),
            fills: Slab::new(),
            waker: None,
            peers: Vec::new(),
        };
        driver.add_listeners(listeners).map_err(refused("epoll_ctl"))?;
        Ok(driver)
    }

    pub(super) fn add_listeners(&mut self, listeners: Vec<Listener>) -> std::io::Result<()> {
        for listener in listeners {
            // An accept takes what waits until nothing does.
            listener.set_nonblocking()?;
            // A shared one is watched while it is armed: else this shard would be told of
            // connections that it does not take.
            if !listener.is_shared() {
                self.poll.add(listener.as_fd(), Token::of_listener(self.listeners.len()))?;
            }
            self.listeners.push(Listening {
                listener: Some(listener),
                accept: Accept::Off,
                is_readable: false,
                is_queued: false,
            });
        }
        Ok(())
    }

    /// Lets other threads wake this one, and this one the other shards.
    pub(super) fn join_wakers(
        &mut self,
        peers: Vec<Arc<Waker>>,
        waker: Arc<Waker>,
    ) -> std::io::Result<()> {
        self.peers = peers;
        self.poll.add(waker.as_fd(), Token::of_shard(Operation::Wake))?;
        self.waker = Some(waker);
        Ok(())
    }

    /// Asks epoll what has happened, and waits for it if there is nothing else to hand out.
    fn ask(&mut self, wait: Wait) {
        let has_work = !self.done.is_empty() || !self.ready.is_empty();
        let mut wait = if has_work { Wait::No } else { wait };
        // Until nothing is left: what has completed by now is known then, however much it is.
        loop {
            let events = self.poll.wait(wait);
            for index in 0..events {
                let event = self.poll.event(index);
                self.note(event);
            }
            if events < Poll::EVENTS_MAX {
                break;
            }
            wait = Wait::No;
        }
        self.seen = self.ready.len();
    }

    fn note(&mut self, event: Event) {
        let Event { token, .. } = event;
        match token.operation {
            Operation::Receive => self.note_socket(token.key, event),
            Operation::Accept => {
                let index = token.key.slot as usize;
                self.listeners[index].is_readable = true;
                self.queue_listener(index);
            }
            // It can be written to at any time, which is nobody's wake.
            Operation::Wake if !event.is_readable() => {}
            Operation::Wake => self.done.push_back(Completion::Woken),
            _ => panic!("epoll tells of what it was never asked for: {token:?}"),
        }
    }

    fn note_socket(&mut self, key: Key, event: Event) {
        let Some(state) = self.sockets.get_mut(key) else { return };
        if event.is_readable() {
            state.is_readable = true;
            // A short receive does not show that nothing is left: the end may be, or what lies
            // behind urgent data.
            state.is_at_end |= event.is_at_end();
            self.queue_socket(key);
        }
        if event.is_writable() {
            self.retry_send(key);
        }
    }

    /// Tries a send; `Some` gives it back because the socket takes nothing now.
    fn try_send(&mut self, key: Key, fd: i32, send: Send) -> Option<Send> {
        let Send { outbound, offset } = &send;
        let bytes = match outbound {
            Outbound::Own(bytes) => &bytes[*offset..],
            Outbound::Run(run) => &run.as_slice()[*offset..],
            Outbound::Received(received) => {
                let Lease { buffer, bytes } = received.lease;
                &self.buffers.leased(buffer, bytes as usize)[received.range()][*offset..]
            }
        };
        assert!(!bytes.is_empty(), "a send of nothing");
        let result = match calls::send(fd, bytes) {
            Tried::Later => return Some(send),
            Tried::Failed(errno) => Err(errno),
            Tried::Done(sent_bytes) => Ok(sent_bytes),
        };
        self.done.push_back(Completion::Sent { key, result, outbound: send.outbound });
        None
    }

    fn retry_send(&mut self, key: Key) {
        let Some(state) = self.sockets.get_mut(key) else { return };
        let Some(index) = state.send.take() else { return };
        let fd = state.fd;
        let send = self.sends.remove(index as usize);
        self.send_or_wait(key, fd, send);
    }

    fn send_or_wait(&mut self, key: Key, fd: i32, send: Send) {
        if let Some(send) = self.try_send(key, fd, send) {
            let index = self.sends.insert(send) as u32;
            let state = self.sockets.get_mut(key).expect("watched by the caller");
            state.send = Some(index);
        }
    }

    /// Has epoll watch the socket of a new tenant, once.
    fn watch(&mut self, key: Key, socket: &KernelSocket) -> Result<(), Errno> {
        if self.sockets.get_mut(key).is_some() {
            return Ok(());
        }
        let descriptor = socket.0.as_fd();
        self.poll
            .add(descriptor, Token::new(Operation::Receive, key))
            .map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))?;
        self.sockets.insert(key, descriptor.as_raw_fd());
        Ok(())
    }

    fn arm(&mut self, key: Key, socket: &KernelSocket, receive: Receive) -> Result<(), Errno> {
        self.watch(key, socket)?;
        let state = self.sockets.get_mut(key).expect("watched just before");
        debug_assert_eq!(state.receive, Receive::Off, "a receive armed twice");
        state.receive = receive;
        self.queue_socket(key);
        Ok(())
    }

    fn arm_pool(&mut self, key: Key, socket: &KernelSocket, receive: Receive) {
        if let Err(errno) = self.arm(key, socket, receive) {
            self.done.push_back(received(key, Err(errno), false));
        }
    }
}

impl Driver for EpollDriver {
    type Socket = KernelSocket;

    fn adopt(&mut self, descriptor: OwnedFd) -> Option<KernelSocket> {
        Some(KernelSocket(descriptor))
    }

    fn listeners(&self) -> usize {
        self.listeners.len()
    }

    fn is_shared(&self, listener: usize) -> bool {
        self.listeners
            .get(listener)
            .is_some_and(|listening| listening.listener.as_ref().is_some_and(Listener::is_shared))
    }

    fn arm_accept(&mut self, listener: usize) {
        self.arm_accept_as(listener, Accept::Multishot);
    }

    fn arm_accept_once(&mut self, listener: usize) {
        self.arm_accept_as(listener, Accept::Once);
    }

    fn cancel_accept(&mut self, listener: usize) {
        if self.disarm_accept(listener) {
            let result = Err(Errno::CANCELLED);
            self.done.push_back(Completion::Accepted { listener, result, more: false });
        }
    }

    fn close_listener(&mut self, listener: usize) {
        if let Some(listening) = self.listeners.get_mut(listener) {
            // Epoll forgets what is closed (epoll(7)), and does not watch a shared one any more.
            listening.listener = None;
        }
    }

    fn arm_receive(&mut self, key: Key, socket: &KernelSocket) {
        self.arm_pool(key, socket, Receive::Multishot);
    }

    fn arm_receive_once(&mut self, key: Key, socket: &KernelSocket) {
        self.arm_pool(key, socket, Receive::Once);
    }

    fn end_receive(&mut self, key: Key, _socket: &KernelSocket) {
        let Some(state) = self.sockets.get_mut(key) else { return };
        if state.receive == Receive::Multishot {
            state.receive = Receive::Off;
            self.done.push_back(received(key, Err(Errno::CANCELLED), false));
        }
    }

    fn receive_into(&mut self, key: Key, socket: &KernelSocket, buffer: Vec<u8>, bytes: usize) {
        assert!(bytes <= buffer.capacity() - buffer.len(), "no room for so many bytes");
        let index = self.fills.insert(Fill { buffer, bytes }) as u32;
        if let Err(errno) = self.arm(key, socket, Receive::Fill(index)) {
            let buffer = self.fills.remove(index as usize).buffer;
            self.done.push_back(Completion::Filled { key, result: Err(errno), buffer });
        }
    }

    fn send(&mut self, key: Key, socket: &KernelSocket, outbound: Outbound, offset: usize) {
        let send = Send { outbound, offset };
        match self.watch(key, socket) {
            Ok(()) => self.send_or_wait(key, socket.0.as_raw_fd(), send),
            Err(errno) => {
                let outbound = send.outbound;
                self.done.push_back(Completion::Sent { key, result: Err(errno), outbound });
            }
        }
    }

    fn shut_down(&mut self, _key: Key, socket: &KernelSocket) {
        // Makes the socket readable and writable.
        socket::shut_down(socket);
    }

    fn shut_down_write(&mut self, socket: &KernelSocket) {
        socket::shut_down_write(socket);
    }

    fn close(&mut self, socket: KernelSocket) {
        // Epoll forgets what is closed; what it has told already names an earlier tenant then.
        drop(socket.0);
    }

    #[inline]
    fn received<'a>(&'a mut self, lease: &'a Lease) -> &'a mut [u8] {
        self.buffers.leased(lease.buffer, lease.bytes())
    }

    #[inline]
    fn recycle(&mut self, lease: Lease) {
        self.buffers.recycle(lease.buffer);
    }

    fn wake(&mut self, shard: usize) {
        self.peers[shard].wake();
    }

    fn tick(&mut self, wait: Wait, completions: &mut Vec<Completion<KernelSocket>>) {
        // A full turn of those who were ready is left: asking again would only queue behind them.
        if self.seen < TURNS_PER_TICK_MAX {
            self.ask(wait);
        }
        self.hand_out(completions);
    }

    fn completions_waiting(&self) -> usize {
        self.done.len() + self.ready.len()
    }

    fn mark(&self) -> Mark {
        Mark {
            completions: self.taken.completions + self.done.len() as u64,
            turns: self.taken.turns + self.ready.len() as u64,
        }
    }

    fn has_handed_out(&self, mark: Mark) -> bool {
        self.taken.completions >= mark.completions && self.taken.turns >= mark.turns
    }

    fn overflows(&self) -> u64 {
        // Epoll keeps a socket that is ready, not a completion: nothing can overflow.
        0
    }

    fn trim(&mut self) {
        if self.buffers.touched() > self.buffers_kept {
            self.buffers.give_pages_back();
        }
        self.ready.shrink_to(COMPLETIONS_PER_TICK_MAX);
        self.done.shrink_to(COMPLETIONS_PER_TICK_MAX);
        self.sends.shrink_to_fit();
        self.fills.shrink_to_fit();
    }

    fn give_back_freed(&mut self) {
        allocator::give_back_freed();
    }

    fn now_ms(&self) -> u64 {
        super::clock::now_ms()
    }
}

#[cfg(test)]
mod readiness_tests;
#[cfg(test)]
mod tests;

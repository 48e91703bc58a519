//! The turns of a tick: accepts and receives on what is ready.

use super::calls::{self, Tried};
use super::sockets::Receive;
use super::{Accept, EpollDriver, Fill, Ready, SENT_PER_TICK_MAX, TURNS_PER_TICK_MAX};
use crate::driver::{Completion, Errno, Key, Lease, RECEIVED_BYTES_PER_TICK_MAX, Token};
use crate::sys::socket::KernelSocket;

impl EpollDriver {
    pub(super) fn arm_accept_as(&mut self, listener: usize, accept: Accept) {
        let Some(listening) = self.listeners.get_mut(listener) else { return };
        let Some(socket) = &listening.listener else { return };
        if socket.is_shared() && listening.accept == Accept::Off {
            // Behind the other shards, whose turn it is before the next one of this shard.
            let token = Token::of_listener(listener);
            if let Err(error) = self.poll.add_shared(socket.as_fd(), token) {
                let result = Err(Errno(error.raw_os_error().unwrap_or(libc::EIO)));
                return self.done.push_back(Completion::Accepted { listener, result, more: false });
            }
        }
        listening.accept = accept;
        self.queue_listener(listener);
    }

    /// Whether it was armed.
    pub(super) fn disarm_accept(&mut self, listener: usize) -> bool {
        let Some(listening) = self.listeners.get_mut(listener) else { return false };
        let was_armed = std::mem::replace(&mut listening.accept, Accept::Off) != Accept::Off;
        if was_armed
            && let Some(socket) = &listening.listener
            && socket.is_shared()
        {
            self.poll.remove(socket.as_fd(), Token::of_listener(listener));
        }
        was_armed
    }

    pub(super) fn queue_listener(&mut self, index: usize) {
        let listening = &mut self.listeners[index];
        if listening.accept != Accept::Off && listening.is_readable && !listening.is_queued {
            listening.is_queued = true;
            self.ready.push_back(Ready::Listener(index));
        }
    }

    pub(super) fn queue_socket(&mut self, key: Key) {
        let Some(state) = self.sockets.get_mut(key) else { return };
        if state.receive != Receive::Off && state.is_readable && !state.is_queued {
            state.is_queued = true;
            self.ready.push_back(Ready::Socket(key));
        }
    }

    pub(super) fn hand_out(&mut self, completions: &mut Vec<Completion<KernelSocket>>) {
        let sent = self.done.len().min(SENT_PER_TICK_MAX);
        completions.extend(self.done.drain(..sent));
        self.taken.completions += sent as u64;
        let mut received_bytes = 0;
        for _ in 0..TURNS_PER_TICK_MAX.min(self.ready.len()) {
            let Some(ready) = self.ready.pop_front() else { break };
            self.seen = self.seen.saturating_sub(1);
            self.taken.turns += 1;
            let completion = match ready {
                Ready::Listener(index) => self.accept(index),
                Ready::Socket(key) => self.receive(key),
            };
            let Some(completion) = completion else { continue };
            received_bytes += received_bytes_of(&completion);
            completions.push(completion);
            if received_bytes >= RECEIVED_BYTES_PER_TICK_MAX {
                break;
            }
        }
    }

    /// One turn of a listener.
    fn accept(&mut self, index: usize) -> Option<Completion<KernelSocket>> {
        let listening = &mut self.listeners[index];
        listening.is_queued = false;
        let accept = listening.accept;
        let listener = listening.listener.as_ref()?;
        if accept == Accept::Off {
            return None;
        }
        let result = match calls::accept(listener) {
            Tried::Later => {
                listening.is_readable = false;
                return None;
            }
            Tried::Done(socket) => Ok(KernelSocket(socket)),
            Tried::Failed(errno) => Err(errno),
        };
        let more = accept == Accept::Multishot && result.is_ok();
        if !more {
            self.disarm_accept(index);
        }
        self.queue_listener(index);
        Some(Completion::Accepted { listener: index, result, more })
    }

    /// One turn of a socket.
    fn receive(&mut self, key: Key) -> Option<Completion<KernelSocket>> {
        if self.has_sent(key) {
            // What the peer answers comes behind the completion of what it has got.
            self.ready.push_back(Ready::Socket(key));
            return None;
        }
        let state = self.sockets.get_mut(key)?;
        state.is_queued = false;
        match state.receive {
            Receive::Off => None,
            Receive::Multishot => self.receive_into_pool(key, true),
            Receive::Once => self.receive_into_pool(key, false),
            Receive::Fill(index) => self.receive_into_own(key, index),
        }
    }

    /// Whether the completion of a send has yet to be handed out: only a tick with more than its share
    /// leaves any.
    fn has_sent(&self, key: Key) -> bool {
        let is_its =
            |done: &Completion<_>| matches!(done, Completion::Sent { key: its, .. } if *its == key);
        self.done.iter().any(is_its)
    }

    fn receive_into_pool(
        &mut self,
        key: Key,
        is_multishot: bool,
    ) -> Option<Completion<KernelSocket>> {
        let state = self.sockets.get_mut(key)?;
        let Some(buffer) = self.buffers.provide() else {
            state.receive = Receive::Off;
            return Some(received(key, Err(Errno::NO_BUFFERS), false));
        };
        let room = self.buffers.provided(buffer);
        let (fd, room_bytes) = (state.fd, room.len());
        let result = match calls::receive(fd, room) {
            Tried::Later => {
                self.buffers.take_back(buffer);
                state.is_readable = false;
                return None;
            }
            Tried::Failed(errno) => Err(errno),
            Tried::Done(bytes) => Ok(bytes),
        };
        let Ok(bytes @ 1..) = result else {
            self.buffers.take_back(buffer);
            state.receive = Receive::Off;
            return Some(received(key, result.map(|_| None), false));
        };
        state.is_readable = state.is_at_end || bytes as usize == room_bytes;
        self.buffers.lease(buffer);
        if !is_multishot {
            state.receive = Receive::Off;
        }
        self.queue_socket(key);
        Some(received(key, Ok(Some(Lease { buffer, bytes })), is_multishot))
    }

    fn receive_into_own(&mut self, key: Key, index: u32) -> Option<Completion<KernelSocket>> {
        let state = self.sockets.get_mut(key)?;
        let Fill { buffer, bytes } = &mut self.fills[index as usize];
        let result = match calls::receive_behind(state.fd, buffer, *bytes) {
            Tried::Later => {
                state.is_readable = false;
                return None;
            }
            Tried::Failed(errno) => Err(errno),
            Tried::Done(received_bytes) => {
                state.is_readable = state.is_at_end || received_bytes as usize == *bytes;
                Ok(received_bytes)
            }
        };
        state.receive = Receive::Off;
        let buffer = self.fills.remove(index as usize).buffer;
        Some(Completion::Filled { key, result, buffer })
    }
}

pub(super) fn received(
    key: Key,
    result: Result<Option<Lease>, Errno>,
    more: bool,
) -> Completion<KernelSocket> {
    Completion::Received { key, result, more }
}

/// How many bytes a completion says were received; 0 for any other.
fn received_bytes_of(completion: &Completion<KernelSocket>) -> usize {
    match completion {
        Completion::Received { result: Ok(Some(lease)), .. } => lease.bytes(),
        Completion::Filled { result: Ok(bytes), .. } => *bytes as usize,
        _ => 0,
    }
}

//! What completes, in which order and in which pieces: where the faults strike.

use std::rc::Rc;

use super::{Accept, Manner, OpenSocket, Place, Send, SimDriver, SimSocket};
use crate::driver::{Completion, Errno, Key, Lease, Outbound};
use crate::sim::wire::{Faults, Wire};

const EMFILE: Errno = Errno(libc::EMFILE);
const ECONNRESET: Errno = Errno(libc::ECONNRESET);
const EPIPE: Errno = Errno(libc::EPIPE);
/// A send for which there is room is over by then.
const SEND_LATE_MS_MAX: u64 = 200;
/// How a network fails.
const BROKEN: [i32; 5] =
    [libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ENOMEM, libc::EIO];

impl SimDriver {
    pub(super) fn accept(&mut self, completions: &mut Vec<Completion<SimSocket>>) {
        if self.accept_cancelled && !self.strikes(self.faults().cancel_late) {
            self.end_cancelled_accept();
        }
        while let Some(completion) = self.accept_one() {
            completions.push(completion);
        }
    }

    pub(super) fn end_cancelled_accept(&mut self) {
        self.accept_cancelled = false;
        if std::mem::replace(&mut self.accept, Accept::Off) != Accept::Off {
            let result = Err(Errno::CANCELLED);
            self.complete(Completion::Accepted { listener: 0, result, more: false });
        }
    }

    /// Accepts one connection, if one waits.
    pub(super) fn accept_one(&mut self) -> Option<Completion<SimSocket>> {
        if self.accept == Accept::Off {
            return None;
        }
        let faults = self.faults();
        let wire = self.kernel.backlogs.borrow_mut()[self.shard].pop_front()?;
        let result = if self.strikes(faults.accept_exhausted) {
            // The connection stays in the backlog.
            self.kernel.backlogs.borrow_mut()[self.shard].push_front(wire);
            self.accept = Accept::Off;
            Err(EMFILE)
        } else {
            let ends = self.accept == Accept::Once
                || (self.readiness.is_none() && self.strikes(faults.lost_more));
            if ends {
                self.accept = Accept::Off;
            }
            Ok(self.open(wire))
        };
        Some(Completion::Accepted { listener: 0, result, more: self.accept != Accept::Off })
    }

    /// Completes what may be completed on one socket.
    pub(super) fn progress(&mut self, number: i32, completions: &mut Vec<Completion<SimSocket>>) {
        let faults = self.faults();
        self.may_break(number);
        let is_over = self.sockets[&number].is_shut_down;
        // Receives and sends complete in either order.
        if self.dice.chance(50) {
            self.progress_receive(number, &faults, completions);
            self.progress_send(number, &faults, is_over, completions);
        } else {
            self.progress_send(number, &faults, is_over, completions);
            self.progress_receive(number, &faults, completions);
        }
    }

    /// The network may fail.
    pub(super) fn may_break(&mut self, number: i32) {
        if self.strikes(self.faults().broken) {
            let errno = *self.dice.pick(&BROKEN);
            self.sockets[&number].wire.borrow_mut().broken.get_or_insert(errno);
        }
    }

    fn progress_receive(
        &mut self,
        number: i32,
        faults: &Faults,
        completions: &mut Vec<Completion<SimSocket>>,
    ) {
        // A multishot completes several times in one pass.
        for _ in 0..4 {
            let Some(key) = self.sockets[&number].receive else { return };
            if self.strikes(faults.delay) {
                return;
            }
            if self.fill(number, key, faults, completions) {
                return;
            }
            let Some((result, more)) = self.receive_once(number, faults) else { return };
            if !more {
                let socket = self.sockets.get_mut(&number).expect("looked up just before");
                (socket.receive, socket.receive_ends) = (None, true);
            }
            completions.push(Completion::Received { key, result, more });
        }
    }

    /// Completes a receive into a buffer of the message's own; `false` if this is none.
    pub(super) fn fill(
        &mut self,
        number: i32,
        key: Key,
        faults: &Faults,
        completions: &mut Vec<Completion<SimSocket>>,
    ) -> bool {
        let socket = self.sockets.get_mut(&number).expect("a socket that is open");
        let Manner::Into { buffer, bytes } = &mut socket.manner else { return false };
        let mut wire = socket.wire.borrow_mut();
        let is_end = wire.client_fin || socket.is_shut_down || socket.is_error_told;
        let error = error_of(&wire, socket.is_error_told);
        let result = if let Some(errno) = error.filter(|_| wire.broken.is_some()) {
            socket.is_error_told = true;
            Err(errno)
        } else if !wire.to_server.is_empty() {
            let mut taken = wire.to_server.len().min(*bytes);
            if self.dice.chance(faults.short_receive) {
                taken = self.dice.between(1, taken);
            }
            buffer.extend(wire.to_server.drain(..taken));
            Ok(taken as u32)
        } else if let Some(errno) = error {
            socket.is_error_told = true;
            Err(errno)
        } else if is_end {
            Ok(0)
        } else {
            return true;
        };
        drop(wire);
        let buffer = std::mem::take(buffer);
        (socket.receive, socket.receive_ends) = (None, true);
        completions.push(Completion::Filled { key, result, buffer });
        true
    }

    /// One completion of a receive: its result and whether it stays armed.
    pub(super) fn receive_once(
        &mut self,
        number: i32,
        faults: &Faults,
    ) -> Option<(Result<Option<Lease>, Errno>, bool)> {
        let wire = Rc::clone(&self.sockets[&number].wire);
        let mut wire = wire.borrow_mut();
        // What has arrived is received before the reset behind it, often in the same pass.
        let socket = self.sockets.get_mut(&number).expect("a socket that is open");
        if let Some(errno) = error_of(&wire, socket.is_error_told)
            && (wire.broken.is_some() || wire.to_server.is_empty())
        {
            socket.is_error_told = true;
            return Some((Err(errno), false));
        }
        let is_end = wire.client_fin || socket.is_shut_down || socket.is_error_told;
        if let Manner::Multishot { is_cancelled: true } = self.sockets[&number].manner
            && (wire.to_server.is_empty() || !self.dice.chance(faults.cancel_late))
        {
            return Some((Err(Errno::CANCELLED), false));
        }
        if wire.to_server.is_empty() && !is_end {
            return None;
        }
        let Some(&buffer) = self.provided.front() else {
            // Without a buffer even the end of the stream arrives as this.
            self.kernel.strike();
            return Some((Err(Errno::NO_BUFFERS), false));
        };
        if wire.to_server.is_empty() {
            return Some((Ok(None), false));
        }
        self.provided.pop_front();
        self.places[buffer as usize] = Place::Filled;
        let room = &mut self.buffers[buffer as usize];
        let mut bytes = wire.to_server.len().min(room.len());
        if self.dice.chance(faults.short_receive) {
            self.kernel.strike();
            let most = *self.dice.pick(&[1, bytes]);
            bytes = self.dice.between(1, most);
        }
        for (place, byte) in room.iter_mut().zip(wire.to_server.drain(..bytes)) {
            *place = byte;
        }
        let is_multishot = matches!(self.sockets[&number].manner, Manner::Multishot { .. });
        let more = is_multishot && !self.dice.chance(faults.lost_more);
        Some((Ok(Some(Lease { buffer, bytes: bytes as u32 })), more))
    }

    fn progress_send(
        &mut self,
        number: i32,
        faults: &Faults,
        is_over: bool,
        completions: &mut Vec<Completion<SimSocket>>,
    ) {
        let is_late = self.is_send_late(number);
        if !is_late && self.strikes(faults.delay) {
            return;
        }
        let is_short = !is_late && self.strikes(faults.short_send);
        completions.extend(self.send_now(number, is_short, is_over));
    }

    /// Whether a send must not be held back any more: one frame would take as long as a deadline.
    pub(super) fn is_send_late(&self, number: i32) -> bool {
        let send = self.sockets[&number].send.as_ref();
        send.is_some_and(|send| send.since_ms + SEND_LATE_MS_MAX <= self.kernel.now_ms.get())
    }

    /// What the kernel takes of a send at once, if it takes anything.
    pub(super) fn send_now(
        &mut self,
        number: i32,
        is_short: bool,
        is_over: bool,
    ) -> Option<Completion<SimSocket>> {
        let socket = self.sockets.get_mut(&number).expect("a socket that is open");
        let send = socket.send.as_ref()?;
        let mut wire = socket.wire.borrow_mut();
        let result = if let Some(errno) = error_of(&wire, socket.is_error_told) {
            socket.is_error_told = true;
            Err(errno)
        } else if socket.is_error_told || is_over {
            Err(EPIPE)
        } else {
            let bytes = match &send.outbound {
                Outbound::Own(bytes) => bytes.as_slice(),
                Outbound::Run(run) => run.as_slice(),
                Outbound::Received(received) => {
                    &self.buffers[received.lease.buffer as usize][received.range()]
                }
            };
            let bytes = &bytes[send.offset..];
            let room = if send.not_before_ms <= self.kernel.now_ms.get() {
                wire.window_bytes.saturating_sub(wire.to_client.len())
            } else {
                0
            };
            let mut taken = bytes.len().min(room);
            if taken == 0 {
                return None;
            }
            if is_short {
                taken = self.dice.between(1, taken);
            }
            assert!(!wire.server_fin, "bytes behind our FIN");
            wire.to_client.extend(&bytes[..taken]);
            Ok(taken as u32)
        };
        drop(wire);
        let send = socket.send.take().expect("seen just before");
        socket.send_ends = true;
        Some(self.complete_send(send, result))
    }

    /// Completions that have waited are the shard's from here on.
    pub(super) fn hand_out(&mut self, completions: &mut Vec<Completion<SimSocket>>) {
        let mut taken = self.waiting.len();
        let late = self.faults().hand_out_late;
        if self.strikes(late) {
            taken = self.dice.below(taken + 1);
        }
        self.hand_out_first(taken, completions);
        self.handed_out = completions.len();
    }

    pub(super) fn hand_out_first(
        &mut self,
        count: usize,
        completions: &mut Vec<Completion<SimSocket>>,
    ) {
        self.completions_handed_out += count as u64;
        for _ in 0..count {
            let (_, completion) = self.waiting.pop_front().expect("counted by the caller");
            completions.push(self.hand_over(completion));
        }
    }

    /// Something is over, to be handed out.
    pub(super) fn complete(&mut self, completion: Completion<SimSocket>) {
        self.waiting.push_back((self.kernel.now_ms.get(), completion));
    }

    /// What a completion tells of is the shard's from here on.
    pub(super) fn hand_over(&mut self, completion: Completion<SimSocket>) -> Completion<SimSocket> {
        let (key, is_receive) = match &completion {
            Completion::Received { key, result, more } => {
                if let Ok(Some(lease)) = result {
                    self.places[lease.buffer as usize] = Place::Leased;
                    self.socket_of(*key).wire.borrow_mut().note_taken(lease.bytes());
                }
                (!more).then_some((*key, true)).unzip()
            }
            Completion::Filled { key, result, .. } => {
                let bytes = result.unwrap_or(0) as usize;
                self.socket_of(*key).wire.borrow_mut().note_taken(bytes);
                Some((*key, true)).unzip()
            }
            Completion::Sent { key, .. } => Some((*key, false)).unzip(),
            Completion::Accepted { result: Ok(_), .. } => {
                self.kernel.sockets.borrow_mut()[self.shard] += 1;
                (None, None)
            }
            _ => (None, None),
        };
        if let (Some(key), Some(is_receive)) = (key, is_receive) {
            let socket = self.socket_of(key);
            let ends = if is_receive { &mut socket.receive_ends } else { &mut socket.send_ends };
            *ends = false;
        }
        completion
    }

    fn socket_of(&mut self, key: Key) -> &mut OpenSocket {
        let socket = self.sockets.values_mut().find(|socket| socket.key == Some(key));
        socket.expect("a socket outlives what is in flight")
    }

    fn complete_send(&mut self, send: Send, result: Result<u32, Errno>) -> Completion<SimSocket> {
        let Send { key, outbound, .. } = send;
        if let Outbound::Received(received) = &outbound {
            self.places[received.lease.buffer as usize] = Place::Leased;
        }
        Completion::Sent { key, result, outbound }
    }
}

/// The error that a receive or a send would be told now: the kernel tells it once.
fn error_of(wire: &Wire, is_told: bool) -> Option<Errno> {
    let errno = match wire.broken {
        Some(errno) => Errno(errno),
        None if wire.client_reset => ECONNRESET,
        None => return None,
    };
    (!is_told).then_some(errno)
}

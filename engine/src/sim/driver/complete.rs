//! What completes, in which order and in which pieces: where the faults strike.

use std::rc::Rc;

use super::{
    BROKEN, ECANCELED, ECONNRESET, EMFILE, EPIPE, Manner, Place, SEND_LATE_MS_MAX, Send, SimDriver,
};
use crate::driver::{Completion, Errno, Key, Lease, Outbound};
use crate::sim::wire::Faults;

impl SimDriver {
    pub(super) fn accept(&mut self, completions: &mut Vec<Completion>) {
        if self.accept_cancelled && !self.strikes(self.faults().cancel_late) {
            self.accept_cancelled = false;
            if std::mem::take(&mut self.accepting) {
                completions.push(Completion::Accepted {
                    listener: 0,
                    result: Err(ECANCELED),
                    more: false,
                });
            }
        }
        let faults = self.faults();
        while self.accepting {
            let Some(wire) = self.kernel.backlogs.borrow_mut()[self.shard].pop_front() else {
                break;
            };
            if self.strikes(faults.accept_exhausted) {
                // The connection stays in the backlog.
                self.kernel.backlogs.borrow_mut()[self.shard].push_front(wire);
                self.accepting = false;
                completions.push(Completion::Accepted {
                    listener: 0,
                    result: Err(EMFILE),
                    more: false,
                });
                break;
            }
            self.accepting = !self.strikes(faults.lost_more);
            let socket = self.open(wire);
            completions.push(Completion::Accepted {
                listener: 0,
                result: Ok(socket),
                more: self.accepting,
            });
        }
    }

    /// Completes what may be completed on one socket.
    pub(super) fn progress(&mut self, number: i32, completions: &mut Vec<Completion>) {
        let faults = self.faults();
        if self.strikes(faults.broken) {
            let errno = *self.dice.pick(&BROKEN);
            self.sockets[&number].wire.borrow_mut().broken.get_or_insert(errno);
        }
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

    fn progress_receive(
        &mut self,
        number: i32,
        faults: &Faults,
        completions: &mut Vec<Completion>,
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
    fn fill(
        &mut self,
        number: i32,
        key: Key,
        faults: &Faults,
        completions: &mut Vec<Completion>,
    ) -> bool {
        let socket = self.sockets.get_mut(&number).expect("a socket that is open");
        let Manner::Into { buffer, bytes } = &mut socket.manner else { return false };
        let mut wire = socket.wire.borrow_mut();
        let is_end = wire.client_fin || socket.is_shut_down;
        let result = if let Some(errno) = wire.broken {
            Err(Errno(errno))
        } else if !wire.to_server.is_empty() {
            let mut taken = wire.to_server.len().min(*bytes);
            if self.dice.chance(faults.short_receive) {
                taken = self.dice.between(1, taken);
            }
            buffer.extend(wire.to_server.drain(..taken));
            wire.note_taken(taken);
            Ok(taken as u32)
        } else if wire.client_reset {
            Err(ECONNRESET)
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
    fn receive_once(
        &mut self,
        number: i32,
        faults: &Faults,
    ) -> Option<(Result<Option<Lease>, Errno>, bool)> {
        let wire = Rc::clone(&self.sockets[&number].wire);
        let mut wire = wire.borrow_mut();
        // What has arrived is received before the reset behind it, often in the same pass.
        if let Some(errno) = wire.broken {
            return Some((Err(Errno(errno)), false));
        }
        if wire.client_reset && wire.to_server.is_empty() {
            return Some((Err(ECONNRESET), false));
        }
        let is_end = wire.client_fin || self.sockets[&number].is_shut_down;
        if let Manner::Multishot { is_cancelled: true } = self.sockets[&number].manner
            && (wire.to_server.is_empty() || !self.dice.chance(faults.cancel_late))
        {
            return Some((Err(ECANCELED), false));
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
        wire.note_taken(bytes);
        let is_multishot = matches!(self.sockets[&number].manner, Manner::Multishot { .. });
        let more = is_multishot && !self.dice.chance(faults.lost_more);
        Some((Ok(Some(Lease { buffer, bytes: bytes as u32 })), more))
    }

    fn progress_send(
        &mut self,
        number: i32,
        faults: &Faults,
        is_over: bool,
        completions: &mut Vec<Completion>,
    ) {
        let now_ms = self.kernel.now_ms.get();
        let send = self.sockets[&number].send.as_ref();
        // Not for ever, or one frame would take as long as a deadline.
        let is_late = send.is_some_and(|send| send.since_ms + SEND_LATE_MS_MAX <= now_ms);
        if !is_late && self.strikes(faults.delay) {
            return;
        }
        let short = !is_late && self.strikes(faults.short_send);
        let socket = self.sockets.get_mut(&number).expect("a socket that is open");
        let Some(send) = &socket.send else { return };
        let mut wire = socket.wire.borrow_mut();
        let result = if let Some(errno) = wire.broken {
            Err(Errno(errno))
        } else if wire.client_reset || is_over {
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
                return;
            }
            if short {
                taken = self.dice.between(1, taken);
            }
            assert!(!wire.server_fin, "bytes behind our FIN");
            wire.to_client.extend(&bytes[..taken]);
            Ok(taken as u32)
        };
        drop(wire);
        let send = socket.send.take().expect("seen just before");
        socket.send_ends = true;
        self.complete_send(send, result, completions);
    }

    /// Completions that have waited are the shard's from here on.
    pub(super) fn hand_out(&mut self, completions: &mut Vec<Completion>) {
        let mut taken = self.waiting.len();
        let late = self.faults().hand_out_late;
        if self.strikes(late) {
            taken = self.dice.below(taken + 1);
        }
        for completion in self.waiting.drain(..taken) {
            let (key, is_receive) = match &completion {
                Completion::Received { key, result, more } => {
                    if let Ok(Some(lease)) = result {
                        self.places[lease.buffer as usize] = Place::Leased;
                    }
                    (!more).then_some((*key, true)).unzip()
                }
                Completion::Filled { key, .. } => Some((*key, true)).unzip(),
                Completion::Sent { key, .. } => Some((*key, false)).unzip(),
                Completion::Accepted { result: Ok(_), .. } => {
                    self.kernel.sockets.borrow_mut()[self.shard] += 1;
                    (None, None)
                }
                _ => (None, None),
            };
            if let (Some(key), Some(is_receive)) = (key, is_receive) {
                let socket = self.sockets.values_mut().find(|socket| socket.key == Some(key));
                let socket = socket.expect("a socket outlives what is in flight");
                let ends =
                    if is_receive { &mut socket.receive_ends } else { &mut socket.send_ends };
                *ends = false;
            }
            completions.push(completion);
        }
        self.handed_out = completions.len();
        self.completions_handed_out += self.handed_out as u64;
    }

    fn complete_send(
        &mut self,
        send: Send,
        result: Result<u32, Errno>,
        completions: &mut Vec<Completion>,
    ) {
        let Send { key, outbound, .. } = send;
        if let Outbound::Received(received) = &outbound {
            self.places[received.lease.buffer as usize] = Place::Leased;
        }
        completions.push(Completion::Sent { key, result, outbound });
    }
}

//! The order of events of the epoll driver (`sys/epoll.rs`): readiness and turns. A send is tried
//! when it is asked for, and again when its socket is writable. What is cancelled ends at once. A
//! tick hands out what was over before it, and then lets a few of those who are readable have their
//! turn, oldest first. A turn may find nothing.

use std::collections::VecDeque;

use super::{Accept, Manner, SimDriver, SimSocket};
use crate::driver::{Completion, Errno, Lease};
use crate::sim::dice::Dice;
use crate::sim::wire::Faults;

/// Which driver's order of events a world has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sim) enum Order {
    /// Whatever is armed completes when the kernel likes.
    IoUring,
    /// Sends and cancels complete at once, or when the socket is writable. Receives and accepts
    /// have their turn, a few in a tick.
    Epoll,
}

/// Whose turn it is.
#[derive(Clone, Copy)]
enum Turn {
    Listener,
    Socket(i32),
}

pub(super) struct Readiness {
    turns: VecDeque<Turn>,
    turns_taken: u64,
    /// How many of them have been there since readiness was last asked for.
    seen: usize,
    /// What one tick hands out at most: turns, and what was over before.
    turns_max: usize,
    over_max: usize,
    is_listener_readable: bool,
    is_listener_queued: bool,
}

impl Readiness {
    pub(super) fn draw(dice: &Dice) -> Self {
        Self {
            turns: VecDeque::new(),
            turns_taken: 0,
            seen: 0,
            turns_max: *dice.pick(&[2, 5, 32]),
            over_max: *dice.pick(&[1, 3, 480]),
            is_listener_readable: false,
            is_listener_queued: false,
        }
    }

    pub(super) fn turns(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn turns_taken(&self) -> u64 {
        self.turns_taken
    }

    pub(super) fn turns_ever(&self) -> u64 {
        self.turns_taken + self.turns.len() as u64
    }

    pub(super) fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }
}

impl SimDriver {
    /// A tick.
    pub(super) fn take_turns(&mut self, completions: &mut Vec<Completion<SimSocket>>) {
        let Readiness { seen, turns_max, over_max, .. } = *self.readiness();
        // A full tick's share of those who were ready is left: who is ready now is behind them.
        if seen < turns_max {
            self.ask();
        }
        self.hand_out_first(over_max.min(self.waiting.len()), completions);
        for _ in 0..turns_max.min(self.readiness().turns.len()) {
            let readiness = self.readiness();
            let turn = readiness.turns.pop_front().expect("counted just before");
            readiness.turns_taken += 1;
            readiness.seen = readiness.seen.saturating_sub(1);
            let completion = match turn {
                Turn::Listener => self.take_listener_turn(),
                // What the client answers comes behind the completion of what it has got.
                Turn::Socket(number) if self.has_sent(number) => {
                    self.readiness().turns.push_back(turn);
                    None
                }
                Turn::Socket(number) => self.take_socket_turn(number),
            };
            if let Some(completion) = completion {
                completions.push(self.hand_over(completion));
            }
        }
        self.handed_out = completions.len();
    }

    fn readiness(&mut self) -> &mut Readiness {
        self.readiness.as_mut().expect("a world with the order of epoll")
    }

    /// Learns who is ready by now. A signal may come instead.
    fn ask(&mut self) {
        if !self.dice.chance(10) {
            let is_woken = std::mem::take(&mut self.kernel.woken.borrow_mut()[self.shard]);
            if is_woken {
                self.complete(Completion::Woken);
            }
            let is_backlog = !self.kernel.backlogs.borrow()[self.shard].is_empty();
            if is_backlog || self.strikes(self.faults().spurious) {
                self.readiness().is_listener_readable = true;
                self.queue_listener();
            }
            let mut numbers: Vec<i32> = self.sockets.keys().copied().collect();
            let start = self.dice.below(numbers.len());
            numbers.rotate_left(start);
            numbers.into_iter().for_each(|number| self.note_events(number));
        }
        self.readiness().seen = self.readiness().turns.len();
    }

    /// What has happened to a socket may be told, or with a later tick.
    fn note_events(&mut self, number: i32) {
        let faults = self.faults();
        self.may_break(number);
        let (is_told, is_spurious) = (!self.strikes(faults.delay), self.strikes(faults.spurious));
        let socket = self.sockets.get_mut(&number).expect("a socket that is open");
        if is_spurious || (is_told && socket.has_input()) {
            socket.is_readable = true;
            self.queue_socket(number);
        }
        if is_told || self.is_send_late(number) {
            self.try_send(number);
        }
    }

    pub(super) fn try_send(&mut self, number: i32) {
        let is_short = !self.is_send_late(number) && self.strikes(self.faults().short_send);
        let is_over = self.sockets[&number].is_shut_down;
        let completion = self.send_now(number, is_short, is_over);
        completion.into_iter().for_each(|completion| self.complete(completion));
    }

    /// A listener that is readable has its turn, if an accept is armed.
    pub(super) fn queue_listener(&mut self) {
        let is_armed = self.accept != Accept::Off;
        let Some(readiness) = &mut self.readiness else { return };
        if is_armed && readiness.is_listener_readable && !readiness.is_listener_queued {
            readiness.is_listener_queued = true;
            readiness.turns.push_back(Turn::Listener);
        }
    }

    /// A socket that is readable has its turn, if a receive is armed.
    pub(super) fn queue_socket(&mut self, number: i32) {
        let Some(readiness) = &mut self.readiness else { return };
        let socket = self.sockets.get_mut(&number).expect("a socket that is open");
        if socket.receive.is_some() && socket.is_readable && !socket.is_queued {
            socket.is_queued = true;
            readiness.turns.push_back(Turn::Socket(number));
        }
    }

    fn take_listener_turn(&mut self) -> Option<Completion<SimSocket>> {
        self.readiness().is_listener_queued = false;
        let completion = self.accept_one();
        if completion.is_none() && self.accept != Accept::Off {
            self.readiness().is_listener_readable = false;
        }
        self.queue_listener();
        completion
    }

    fn has_sent(&self, number: i32) -> bool {
        self.sockets.get(&number).is_some_and(|socket| socket.send_ends)
    }

    fn take_socket_turn(&mut self, number: i32) -> Option<Completion<SimSocket>> {
        // It may have been closed meanwhile.
        let socket = self.sockets.get_mut(&number)?;
        socket.is_queued = false;
        // Its receive may have been cancelled meanwhile.
        let key = socket.receive?;
        // A multishot receive ends only as the shard's own receives end it.
        let faults = Faults { lost_more: 0, ..self.kernel.faults.borrow().clone() };
        let room_bytes = match &socket.manner {
            Manner::Into { bytes, .. } => *bytes,
            Manner::Multishot { .. } | Manner::Once => self.buffers[0].len(),
        };
        let mut filled = Vec::new();
        let completion = if self.fill(number, key, &faults, &mut filled) {
            filled.pop()
        } else {
            self.take_pool_turn(number, &faults).map(|(result, more)| {
                let socket = self.sockets.get_mut(&number).expect("looked up just before");
                if !more {
                    (socket.receive, socket.receive_ends) = (None, true);
                }
                Completion::Received { key, result, more }
            })
        };
        let socket = self.sockets.get_mut(&number).expect("looked up just before");
        // A receive that brought less than it had room for has emptied the socket, unless the end
        // was told of: then only one that finds nothing shows it.
        socket.is_readable = match &completion {
            None => false,
            Some(Completion::Received { result: Ok(Some(lease)), .. }) => {
                lease.bytes() == room_bytes || socket.is_at_end()
            }
            Some(Completion::Filled { result: Ok(bytes @ 1..), .. }) => {
                *bytes as usize == room_bytes || socket.is_at_end()
            }
            Some(_) => true,
        };
        self.queue_socket(number);
        completion
    }

    /// A turn of a receive into a buffer of the pool: without one, nobody looks what there is.
    fn take_pool_turn(
        &mut self,
        number: i32,
        faults: &Faults,
    ) -> Option<(Result<Option<Lease>, Errno>, bool)> {
        if self.provided.is_empty() {
            return Some((Err(Errno::NO_BUFFERS), false));
        }
        self.receive_once(number, faults)
    }
}

//! Accepting: one accept per listener, and its pause when descriptors run out. Accepted sockets are
//! admitted in `surplus.rs`, within the limits or beyond them.
//!
//! A listener whose socket other shards have too is armed for one connection at a time. Each
//! connection wakes one shard, and a shard that has taken one is armed anew behind the others, so
//! they take turns. Such an accept is not cancelled for want of room: the connection it was woken for
//! would wait, and wake nobody else.

use super::Shard;
use super::accepting::Accepting;
use crate::config::ACCEPT_BACK_OFF_MS;
use crate::driver::{Driver, Errno};
use crate::handler::Handler;

impl<H: Handler, D: Driver> Shard<H, D> {
    pub(super) fn start_accepting(&mut self) {
        for listener in 0..self.accepting.len() {
            self.arm_accept(listener);
        }
    }

    fn arm_accept(&mut self, listener: usize) {
        if self.driver.is_shared(listener) {
            self.driver.arm_accept_once(listener);
        } else {
            self.driver.arm_accept(listener);
        }
    }

    pub(super) fn on_accepted(
        &mut self,
        listener: usize,
        result: Result<D::Socket, Errno>,
        more: bool,
    ) {
        if !more {
            self.accepting[listener] = match self.accepting[listener] {
                Accepting::Ending => Accepting::Over,
                // Cancelled by us, or over by itself meanwhile.
                Accepting::Pausing => Accepting::PausedUntil(self.core.now_ms),
                _ => Accepting::PausedUntil(self.core.now_ms + pause_ms(&result)),
            };
        }
        match result {
            Ok(socket) => self.admit(socket),
            Err(errno) => self.note_accept_error(errno),
        }
        if self.accepting[listener] == Accepting::Over {
            self.driver.close_listener(listener);
        }
    }

    fn note_accept_error(&mut self, errno: Errno) {
        let metrics = &mut self.core.metrics;
        if errno.0 == libc::ECANCELED {
            // Ours.
        } else if errno.is_of_one_connection() {
            metrics.accepts_aborted += 1;
        } else if errno.is_exhaustion() {
            metrics.accepts_exhausted += 1;
            if self.exhaustion_warned.is_due(self.core.now_ms) {
                tracing::warn!(
                    shard = self.core.shard, error = %errno,
                    "accepting pauses: too few descriptors or too little memory; raise \
                     `ulimit -n` (LimitNOFILE= in systemd, --ulimit nofile= in docker)"
                );
            }
        } else {
            metrics.accepts_failed += 1;
            if self.accept_error_warned.is_due(self.core.now_ms) {
                tracing::warn!(shard = self.core.shard, error = %errno, "accepting fails");
            }
        }
    }

    /// Arms the accepts again whose pause is over.
    pub(super) fn resume_accepting(&mut self) {
        self.attend_to_surplus();
        for listener in 0..self.accepting.len() {
            let Accepting::PausedUntil(until_ms) = self.accepting[listener] else { continue };
            if until_ms > self.core.now_ms {
                continue;
            }
            self.accepting[listener] = Accepting::Armed;
            if self.has_room() {
                self.arm_accept(listener);
            } else if self.driver.is_shared(listener) && self.others_have_room() {
                // They take it. Looked at again, because they may be full then.
                let until_ms = self.core.now_ms + ACCEPT_BACK_OFF_MS;
                self.accepting[listener] = Accepting::PausedUntil(until_ms);
            } else if self.has_surplus_room() {
                self.driver.arm_accept_once(listener);
            } else {
                self.accepting[listener] = Accepting::Held;
            }
        }
    }

    /// When an accept is to be armed again, or a surplus connection must be gone.
    pub(super) fn next_accept_ms(&self) -> Option<u64> {
        let accepts = self.accepting.iter().filter_map(|accepting| match accepting {
            Accepting::PausedUntil(until_ms) => Some(*until_ms),
            _ => None,
        });
        accepts.chain(self.core.surplus.iter().map(|surplus| surplus.until_ms)).min()
    }

    /// One of our descriptors has become free: an accept may succeed now.
    pub(super) fn hasten_accepting(&mut self) {
        for accepting in &mut self.accepting {
            if matches!(accepting, Accepting::PausedUntil(_) | Accepting::Held) {
                *accepting = Accepting::PausedUntil(self.core.now_ms);
            }
        }
    }

    /// There is no room: what waits to be accepted is taken one by one from now on.
    pub(super) fn hold_accepting_back(&mut self) {
        for listener in 0..self.accepting.len() {
            let is_armed = self.accepting[listener] == Accepting::Armed;
            if is_armed && !self.driver.is_shared(listener) {
                self.accepting[listener] = Accepting::Pausing;
                self.driver.cancel_accept(listener);
            }
        }
    }

    /// The server stops: no further connects.
    pub(super) fn end_accepting(&mut self) {
        self.refuse_waiting();
        for listener in 0..self.accepting.len() {
            match self.accepting[listener] {
                Accepting::Armed => {
                    self.accepting[listener] = Accepting::Ending;
                    self.driver.cancel_accept(listener);
                }
                Accepting::Pausing => self.accepting[listener] = Accepting::Ending,
                Accepting::PausedUntil(_) | Accepting::Held => {
                    self.accepting[listener] = Accepting::Over;
                    self.driver.close_listener(listener);
                }
                Accepting::Ending | Accepting::Over => {}
            }
        }
    }

    pub(super) fn is_accepting_over(&self) -> bool {
        self.accepting.iter().all(|accepting| *accepting == Accepting::Over)
    }
}

/// A multishot accept also ends after a success, when the completion queue overflows, and after a
/// connection that was gone before it was accepted. After anything else it backs off: the backlog
/// stays ready, and arming again at once would spin.
fn pause_ms<K>(result: &Result<K, Errno>) -> u64 {
    match result {
        Err(errno) if !errno.is_of_one_connection() => ACCEPT_BACK_OFF_MS,
        _ => 0,
    }
}

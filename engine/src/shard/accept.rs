//! Accepting: the multishot accept, its back-off when descriptors run out, and new slots.
//! Never reads from a connection.

use super::Shard;
use crate::driver::{Driver, Errno, Socket};
use crate::handler::Handler;
use crate::slot::Slot;

/// How long to leave the backlog alone when descriptors or memory are short, unless one of
/// our own connections ends first. Re-arming at once would spin: the backlog stays ready.
const BACK_OFF_MS: u64 = 100;

/// Where the multishot accept stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    Armed,
    /// It ended; to be armed again then.
    PausedUntil(u64),
    /// Cancelled because the server stops; its last completion is awaited.
    Ending,
    Over,
}

impl Accepting {
    pub(super) fn new() -> Self {
        Self::Armed
    }

    pub(super) fn resumes_at_ms(self) -> Option<u64> {
        match self {
            Self::PausedUntil(until_ms) => Some(until_ms),
            Self::Armed | Self::Ending | Self::Over => None,
        }
    }

    pub(super) fn is_over(self) -> bool {
        self == Self::Over
    }
}

impl<H: Handler, D: Driver> Shard<H, D> {
    pub(super) fn on_accepted(&mut self, result: Result<Socket, Errno>, more: bool) {
        if !more {
            self.accepting = match self.accepting {
                Accepting::Ending => Accepting::Over,
                _ => Accepting::PausedUntil(self.core.now_ms + self.pause_ms(&result)),
            };
        }
        match result {
            Ok(socket) => self.admit(socket),
            Err(errno) if errno.is_exhaustion() => self.core.metrics.accepts_exhausted += 1,
            Err(_) => {}
        }
        if self.accepting == Accepting::Over {
            self.driver.close_listener();
        }
    }

    /// A multishot accept also ends after a success, when the completion queue overflows, and
    /// after a connection that was gone before it was accepted.
    fn pause_ms(&self, result: &Result<Socket, Errno>) -> u64 {
        match result {
            Err(errno) if !errno.is_of_one_connection() => BACK_OFF_MS,
            _ => 0,
        }
    }

    fn admit(&mut self, socket: Socket) {
        if self.connections.is_full() || self.drain_until_ms.is_some() {
            self.core.metrics.connections_refused += 1;
            return self.driver.close(socket);
        }
        self.core.metrics.connections_accepted += 1;
        self.core.metrics.connections_now += 1;
        let core = &mut self.core;
        let key = self.connections.insert(|key| Slot::new(key, socket, core));
        let deadline = core.now_ms + u64::from(core.config.handshake_timeout_ms);
        core.timers.schedule(key.slot, deadline);
        self.arm_receive(key);
    }

    /// Arms the accept again if its pause is over.
    pub(super) fn resume_accepting(&mut self) {
        if let Accepting::PausedUntil(until_ms) = self.accepting
            && until_ms <= self.core.now_ms
        {
            self.accepting = Accepting::Armed;
            self.driver.arm_accept();
        }
    }

    /// One of our descriptors has become free: an accept may succeed now.
    pub(super) fn hasten_accepting(&mut self) {
        if let Accepting::PausedUntil(_) = self.accepting {
            self.accepting = Accepting::PausedUntil(self.core.now_ms);
        }
    }

    /// The server stops: no further connects.
    pub(super) fn end_accepting(&mut self) {
        match self.accepting {
            Accepting::Armed => {
                self.accepting = Accepting::Ending;
                self.driver.cancel_accept();
            }
            Accepting::PausedUntil(_) => {
                self.accepting = Accepting::Over;
                self.driver.close_listener();
            }
            Accepting::Ending | Accepting::Over => {}
        }
    }
}

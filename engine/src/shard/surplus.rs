//! Admission of accepted sockets, and connections beyond `connections_max` or the descriptor limit.
//! Such a connection gets an answer to a plain request (`/health`, `/metrics`), and 503 with
//! `Retry-After` to an upgrade. Few are served at once, each for a short time; the others wait in
//! the kernel's backlog.

use ringwire_proto::CloseCode;

use super::Shard;
use super::core::Surplus;
use crate::config::{SURPLUS_MAX, SURPLUS_TIMEOUT_MS, SURPLUS_WAITING_MAX};
use crate::connection::slot::Slot;
use crate::driver::{Driver, Key};
use crate::handler::Handler;

impl<H: Handler, D: Driver> Shard<H, D> {
    pub(super) fn admit(&mut self, socket: D::Socket) {
        if self.drain_until_ms.is_some() {
            self.core.metrics.connections_refused += 1;
            return self.driver.close(socket);
        }
        self.waiting.push_back(socket);
        self.admit_waiting();
    }

    fn admit_waiting(&mut self) {
        while !self.waiting.is_empty() {
            if self.has_slot() && self.links.descriptors.take() {
                self.core.metrics.connections_accepted += 1;
                self.insert_first_waiting();
            } else if self.core.surplus.len() < SURPLUS_MAX {
                self.warn_of_surplus();
                self.core.metrics.connections_refused += 1;
                let key = self.insert_first_waiting();
                let until_ms = self.core.now_ms + SURPLUS_TIMEOUT_MS;
                self.core.surplus.push(Surplus { key, until_ms });
            } else {
                break;
            }
        }
        if !self.has_room() {
            self.hold_accepting_back();
        }
        while self.waiting.len() > SURPLUS_WAITING_MAX {
            let socket = self.waiting.pop_back().expect("seen just before");
            self.core.metrics.connections_refused += 1;
            self.driver.close(socket);
        }
    }

    fn insert_first_waiting(&mut self) -> Key {
        let socket = self.waiting.pop_front().expect("looked at by the caller");
        self.core.metrics.connections_now += 1;
        let core = &mut self.core;
        let key = self.connections.insert(socket, |key| Slot::new(key, core));
        let deadline = core.now_ms + u64::from(core.config.handshake_timeout_ms);
        core.timers.schedule(key.slot, deadline);
        self.arm_receive(key);
        key
    }

    pub(super) fn has_slot(&self) -> bool {
        self.connections.len() - self.core.surplus.len() < self.core.config.connections_max
    }

    /// For a connection within the limits.
    pub(super) fn has_room(&self) -> bool {
        self.has_slot() && !self.links.descriptors.is_exhausted()
    }

    /// Whether another shard has room for a connection within the limits, as of its last tick.
    pub(super) fn others_have_room(&self) -> bool {
        let connections_max = self.core.config.connections_max as u64;
        let mailboxes = self.links.mailboxes.iter().enumerate();
        let mut others = mailboxes.filter(|(shard, _)| *shard != self.links.shard);
        !self.links.descriptors.is_exhausted()
            && others.any(|(_, mailbox)| mailbox.connections() < connections_max)
    }

    /// For one beyond them.
    pub(super) fn has_surplus_room(&self) -> bool {
        self.core.surplus.len() + self.waiting.len() < SURPLUS_MAX
    }

    /// Cuts off the surplus connections whose time is over, and admits those that wait.
    pub(super) fn attend_to_surplus(&mut self) {
        if self.core.surplus.is_empty() && self.waiting.is_empty() {
            return;
        }
        let now_ms = self.core.now_ms;
        while let Some(surplus) = self.core.surplus.iter_mut().find(|s| s.until_ms <= now_ms) {
            // Its slot is free when what is in flight has ended.
            surplus.until_ms = now_ms + SURPLUS_TIMEOUT_MS;
            let key = surplus.key;
            self.cut_off(key, CloseCode::ABNORMAL, "timeout");
        }
        self.admit_waiting();
    }

    /// A connection has ended: what it took is for another one.
    pub(super) fn on_released(&mut self, key: Key) {
        match self.core.surplus.iter().position(|surplus| surplus.key == key) {
            Some(index) => drop(self.core.surplus.swap_remove(index)),
            None => self.links.descriptors.give_back(),
        }
        self.hasten_accepting();
    }

    /// The server stops.
    pub(super) fn refuse_waiting(&mut self) {
        for socket in self.waiting.drain(..) {
            self.core.metrics.connections_refused += 1;
            self.driver.close(socket);
        }
    }

    fn warn_of_surplus(&mut self) {
        if !self.surplus_warned.is_due(self.core.now_ms) {
            return;
        }
        let shard = self.core.shard;
        let (slots, has_slot) = (self.core.config.connections_max, self.has_slot());
        if has_slot {
            tracing::warn!(
                shard,
                "the process's descriptors are all in use: further connections get 503; raise \
                 `ulimit -n` (LimitNOFILE= in systemd, --ulimit nofile= in docker)"
            );
        } else {
            tracing::warn!(
                shard,
                connections_max = slots,
                "connections_max is reached: further connections get 503"
            );
        }
    }
}

//! What the world and the checks ask the simulated kernel.

use super::{Accept, Place, SimDriver, SimSocket};
use crate::sim::Outstanding;

impl SimDriver {
    pub(in crate::sim) fn is_listening(&self) -> bool {
        self.listening
    }

    /// Whether the kernel has something for a shard that waits.
    pub(in crate::sim) fn is_ready(&self) -> bool {
        let backlog = !self.kernel.backlogs.borrow()[self.shard].is_empty();
        !self.waiting.is_empty()
            || self.readiness.as_ref().is_some_and(|readiness| readiness.has_turns())
            || (self.accept != Accept::Off && (backlog || self.accept_cancelled))
            || self.sockets.values().any(|socket| socket.is_ready(self.kernel.now_ms.get()))
    }

    /// Whether some socket will only be found writable later.
    pub(in crate::sim) fn is_holding(&self) -> bool {
        let now_ms = self.kernel.now_ms.get();
        let mut sends = self.sockets.values().filter_map(|socket| socket.send.as_ref());
        sends.any(|send| send.not_before_ms > now_ms)
    }
}

impl Outstanding for SimDriver {
    fn outstanding(&self, socket: &SimSocket) -> (bool, bool) {
        let open = &self.sockets[&socket.number];
        (open.receive.is_some() || open.receive_ends, open.send.is_some() || open.send_ends)
    }

    fn waiting_since_ms(&self) -> Option<u64> {
        self.waiting.front().map(|(completed_ms, _)| *completed_ms)
    }

    fn handed_out(&self) -> usize {
        self.handed_out
    }

    fn shut_downs(&self) -> usize {
        self.shut_downs
    }

    fn looks(&self) -> usize {
        self.kernel.looks.get()
    }

    fn leases(&self) -> usize {
        let leased = [Place::Leased, Place::Outbound];
        self.places.iter().filter(|place| leased.contains(place)).count()
    }
}

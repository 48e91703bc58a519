//! What the engine's rules ask of a driver ([`Shard::check`](crate::shard::Shard::check)).

use super::{Receive, TestDriver, TestSocket, World};
use crate::sim::Outstanding;

impl TestDriver {
    pub(in crate::testing) fn open_sockets(&self) -> usize {
        self.connections.len()
    }
}

impl World {
    /// Time passes within a callback.
    pub(in crate::testing) fn stall(&self, time_ms: u64) {
        self.now_ms.set(self.now_ms.get() + time_ms);
        self.until_ms.set(self.until_ms.get().max(self.now_ms.get()));
    }
}

impl Outstanding for TestDriver {
    fn outstanding(&self, socket: &TestSocket) -> (bool, bool) {
        let connection = &self.connections[&socket.0];
        (!matches!(connection.receive, Receive::Off), connection.send.is_some())
    }

    fn waiting_since_ms(&self) -> Option<u64> {
        None
    }

    fn handed_out(&self) -> usize {
        0
    }

    fn shut_downs(&self) -> usize {
        0
    }

    fn looks(&self) -> usize {
        0
    }

    fn leases(&self) -> usize {
        self.buffers.len() - self.spare.len()
    }
}

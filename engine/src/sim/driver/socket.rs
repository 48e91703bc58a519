//! A socket of the simulated kernel: as the shard has it, and what is in flight on it.

use std::rc::Rc;

use std::net::SocketAddr;

use crate::driver::{Key, Outbound, Socket};
use crate::sim::kernel::Kernel;
use crate::sim::wire::SharedWire;

/// A socket as the shard has it.
pub(crate) struct SimSocket {
    pub(super) number: i32,
    pub(super) wire: SharedWire,
    pub(super) kernel: Rc<Kernel>,
}

impl Socket for SimSocket {
    fn unread_bytes(&self) -> u32 {
        let mut wire = self.wire.borrow_mut();
        wire.asked_ms.get_or_insert(self.kernel.now_ms.get());
        self.kernel.looks.set(self.kernel.looks.get() + 1);
        wire.to_server.len() as u32
    }

    fn unacknowledged_bytes(&self) -> u32 {
        self.wire.borrow().to_client.len() as u32
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

impl std::fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.number)
    }
}

pub(super) struct Send {
    pub(super) key: Key,
    pub(super) outbound: Outbound,
    pub(super) offset: usize,
    /// When its first byte was queued.
    pub(super) since_ms: u64,
    /// Before that the socket is not found writable, whatever room there is.
    pub(super) not_before_ms: u64,
}

/// How a receive completes.
pub(super) enum Manner {
    Multishot {
        is_cancelled: bool,
    },
    Once,
    /// Behind what is in a buffer of the message's own, with so many bytes at most.
    Into {
        buffer: Vec<u8>,
        bytes: usize,
    },
}

pub(super) struct OpenSocket {
    pub(super) wire: SharedWire,
    /// Its connection, once a receive was armed.
    pub(super) key: Option<Key>,
    pub(super) receive: Option<Key>,
    /// How the receive that is armed completes.
    pub(super) manner: Manner,
    pub(super) send: Option<Send>,
    pub(super) send_since_ms: u64,
    /// It has been shut down both ways: what is in flight ends.
    pub(super) is_shut_down: bool,
    /// Its error was told, to a receive or to a send. The kernel tells it once; then the stream is
    /// at its end, and a pipe that is broken.
    pub(super) is_error_told: bool,
    /// With the order of epoll: it was said to be readable, and no receive has found it empty
    /// since; it is among those whose turn it is.
    pub(super) is_readable: bool,
    pub(super) is_queued: bool,
    /// The last completion of the receive, of the send, that waits to be handed out.
    pub(super) receive_ends: bool,
    pub(super) send_ends: bool,
}

impl OpenSocket {
    pub(super) fn new(wire: &SharedWire) -> Self {
        Self {
            wire: Rc::clone(wire),
            key: None,
            receive: None,
            manner: Manner::Multishot { is_cancelled: false },
            send: None,
            send_since_ms: 0,
            is_shut_down: false,
            is_error_told: false,
            is_readable: false,
            is_queued: false,
            receive_ends: false,
            send_ends: false,
        }
    }

    /// A receive would find bytes.
    pub(super) fn has_unread(&self) -> bool {
        !self.wire.borrow().to_server.is_empty()
    }

    /// A receive would find bytes, the end, or an error.
    pub(super) fn has_input(&self) -> bool {
        self.is_at_end() || self.has_unread()
    }

    pub(super) fn is_at_end(&self) -> bool {
        let wire = self.wire.borrow();
        self.is_shut_down || wire.broken.is_some() || wire.client_reset || wire.client_fin
    }

    pub(super) fn is_ready(&self, now_ms: u64) -> bool {
        let is_cancelled = matches!(self.manner, Manner::Multishot { is_cancelled: true });
        let receive = self.receive.is_some() && (is_cancelled || self.has_input());
        let wire = self.wire.borrow();
        let is_writable =
            |send: &Send| send.not_before_ms <= now_ms && wire.to_client.len() < wire.window_bytes;
        let is_over = self.is_shut_down || wire.broken.is_some() || wire.client_reset;
        receive || self.send.as_ref().is_some_and(|send| is_over || is_writable(send))
    }
}

//! What carries the bytes of a connection between its driver and its protocol. What was received is
//! opened where the kernel put it; what is to be sent is sealed in the connection's write buffers.
//!
//! So far bytes are carried as they are. TLS is a variant to come, with its state in a box: a
//! connection without it pays nothing.

use crate::driver::Outbound;

/// How a connection is carried.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    /// As they are: over TCP, or over a Unix socket.
    Plain,
}

impl Transport {
    /// Opens what was received, in place: the bytes of the protocol, which may be fewer.
    #[inline]
    pub(crate) fn open<'b>(&mut self, received: &'b mut [u8]) -> &'b mut [u8] {
        match self {
            Self::Plain => received,
        }
    }

    /// Seals what is sent next.
    #[inline]
    pub(crate) fn seal(&mut self, outbound: Outbound) -> Outbound {
        match self {
            Self::Plain => outbound,
        }
    }

    /// Whether bytes travel as they lie in memory. Then a received message may be sent back from its
    /// receive buffer, a run may go to many connections by reference, and the rest of a long message
    /// may be received directly into the message's buffer.
    #[inline]
    pub(crate) fn carries_by_reference(&self) -> bool {
        match self {
            Self::Plain => true,
        }
    }
}

//! The two ends of a connection.
//!
//! A role is always that of the end that holds it: a server's incoming frames come from a client.

/// Which end of the connection we are (RFC 6455 §1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that was connected to: it receives masked frames and sends unmasked ones.
    Server,
    /// The end that connected: it receives unmasked frames and sends masked ones.
    Client,
}

impl Role {
    /// The mask bit of every frame this end receives.
    #[inline]
    pub(crate) const fn mask_bit_received(self) -> u8 {
        match self {
            Role::Server => 0x80,
            Role::Client => 0,
        }
    }
}

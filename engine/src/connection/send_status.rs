//! What becomes of what is sent.

use crate::error::HandleError;

/// The result of [`Conn::send`](crate::Conn::send), [`Conn::ping`](crate::Conn::ping) and [`send_to`](crate::Context::send_to).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendStatus {
    /// The message is queued and goes out when the tick ends.
    Queued,
    /// The message is queued, but the peer reads too slowly: the write buffer is above its
    /// high-water mark ([`write_bytes_mark`](crate::Config::write_bytes_mark)). Wait for
    /// [`on_drain`](crate::Handler::on_drain) before you send more.
    Backpressure,
    /// The message is not queued. The connection is closing, or its write buffer is full
    /// ([`write_bytes_max`](crate::Config::write_bytes_max)), which closes it by default. A ping is
    /// not queued either if its payload is too long.
    Dropped,
    /// There is no such connection any more. Only
    /// [`send_to`](crate::Context::send_to) says so.
    Gone,
}

impl SendStatus {
    /// Whether the message is queued: it goes out, unless the connection ends first.
    #[must_use]
    pub const fn is_queued(self) -> bool {
        matches!(self, Self::Queued | Self::Backpressure)
    }

    /// What a message to another shard's connection has come to.
    pub(crate) fn of_command(told: Result<(), HandleError>) -> Self {
        match told {
            Ok(()) => Self::Queued,
            Err(HandleError::Busy) => Self::Dropped,
            Err(_) => Self::Gone,
        }
    }
}

/// The result of [`send_many`](crate::Context::send_many): how many connections have which
/// [`SendStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendCounts {
    /// [`SendStatus::Queued`].
    pub queued: usize,
    /// [`SendStatus::Backpressure`].
    pub backpressure: usize,
    /// [`SendStatus::Dropped`].
    pub dropped: usize,
    /// [`SendStatus::Gone`].
    pub gone: usize,
}

impl SendCounts {
    pub(crate) fn add(&mut self, status: SendStatus, connections: usize) {
        *match status {
            SendStatus::Queued => &mut self.queued,
            SendStatus::Backpressure => &mut self.backpressure,
            SendStatus::Dropped => &mut self.dropped,
            SendStatus::Gone => &mut self.gone,
        } += connections;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_peer_gets_its_messages_too() {
        for (status, is_queued) in [
            (SendStatus::Queued, true),
            (SendStatus::Backpressure, true),
            (SendStatus::Dropped, false),
            (SendStatus::Gone, false),
        ] {
            assert_eq!(status.is_queued(), is_queued, "{status:?}");
        }
    }
}

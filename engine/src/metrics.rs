//! Counters of a shard: plain numbers on the shard's thread, copied once a tick to where
//! other threads may read them. Nothing here is ever decided upon.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::driver::{ConnectionError, Errno};

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What has happened so far; sums over the shards where it comes from
        /// [`Handle::metrics`](crate::Handle::metrics).
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// One shard's counters as other threads see them: at most a tick old.
        #[derive(Default)]
        pub(crate) struct MetricsCells {
            $($name: AtomicU64,)*
        }

        impl MetricsCells {
            /// Relaxed: each counter is a fact of its own.
            pub(crate) fn store(&self, metrics: &Metrics) {
                $(self.$name.store(metrics.$name, Ordering::Relaxed);)*
            }

            pub(crate) fn add_to(&self, metrics: &mut Metrics) {
                $(metrics.$name += self.$name.load(Ordering::Relaxed);)*
            }
        }
    };
}

metrics! {
    /// Connections accepted.
    connections_accepted,
    /// Connections beyond `connections_max` or the process's descriptors, or while the server
    /// stops: an upgrade got 503, a request that ends its answer, the rest was closed.
    connections_refused,
    /// Slots in use now: handshakes, open and closing connections.
    connections_now,
    /// Connections on which nothing had come when the handshake timeout was over, and which were
    /// closed without a word: port scans, health checks by TCP, browsers that connect ahead.
    connections_silent,
    /// Opening handshakes answered with 101.
    handshakes_accepted,
    /// Requests answered with an error by the engine, its check of the origin included, or
    /// refused by `on_upgrade`.
    handshakes_refused,
    /// Messages received.
    messages_received,
    /// Messages queued by `send`.
    messages_sent,
    /// Messages of those sent that were not copied: sent on from where they lay
    /// ([`forward_bytes_min`](crate::Config::forward_bytes_min)).
    messages_forwarded,
    /// Messages not queued because a write buffer was full.
    messages_dropped,
    /// Publishes by this server's own callbacks and handles.
    publishes,
    /// Publishes that a shard never saw, counted by each shard that missed them: another shard's
    /// because this one fell a whole ring behind or because they were too many at once, or any
    /// beyond a gigabyte in one tick.
    publishes_lost,
    /// Connections failed because the peer broke the protocol or a limit.
    violations,
    /// Callbacks that panicked.
    panics,
    /// Accepts that failed for want of descriptors or memory (`EMFILE`, `ENFILE`, `ENOMEM`,
    /// `ENOBUFS`).
    accepts_exhausted,
    /// Connections that were gone before they were accepted (`ECONNABORTED`, `EPROTO`, `EPERM`).
    accepts_aborted,
    /// Accepts that failed for any other reason, which is logged.
    accepts_failed,
    /// Commands of a [`Handle`](crate::Handle) that were queued, and not carried out because the
    /// server ended.
    commands_lost,
    /// Receives that found no buffer and were armed again.
    receives_unbuffered,
    /// Ticks at which the completion queue had overflowed.
    completions_overflowed,
    /// Connections whose peer had reset them, or was gone, when we received or sent.
    connections_reset,
    /// Connections given up by the kernel because the peer's machine did not answer.
    connections_timed_out,
    /// Connections to whose peer there was no way any more.
    connections_unreachable,
    /// Connections that failed for want of the kernel's memory.
    connections_out_of_memory,
    /// Connections that failed for another reason (an unexpected error number).
    connections_broken,
}

impl Metrics {
    /// Counts a receive or a send that failed, by its cause.
    #[cold]
    pub(crate) fn count_connection_error(&mut self, errno: Errno) {
        let counter = match errno.connection_error() {
            ConnectionError::Reset => &mut self.connections_reset,
            ConnectionError::TimedOut => &mut self.connections_timed_out,
            ConnectionError::Unreachable => &mut self.connections_unreachable,
            ConnectionError::OutOfMemory => &mut self.connections_out_of_memory,
            ConnectionError::Cancelled => return,
            ConnectionError::Other => &mut self.connections_broken,
        };
        *counter += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up() {
        let cells = [MetricsCells::default(), MetricsCells::default()];
        cells[0].store(&Metrics { publishes: 3, ..Metrics::default() });
        cells[1].store(&Metrics { publishes: 4, panics: 1, ..Metrics::default() });
        let mut sum = Metrics::default();
        cells.iter().for_each(|cells| cells.add_to(&mut sum));
        assert_eq!(sum, Metrics { publishes: 7, panics: 1, ..Metrics::default() });
    }
}

//! Counters of a shard: plain numbers on the shard's thread, copied once a tick to where
//! other threads may read them. Nothing here is ever decided upon.

use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Opening handshakes answered with 101.
    handshakes_accepted,
    /// Requests answered with an error by the engine or refused by `on_upgrade`.
    handshakes_refused,
    /// Messages received.
    messages_received,
    /// Messages queued by `send`.
    messages_sent,
    /// Messages not queued because a write buffer was full.
    messages_dropped,
    /// Publishes by this server's own callbacks and handles.
    publishes,
    /// Publishes of another shard this shard never saw because it fell a whole ring behind,
    /// or that could not be handed to the other shards.
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

//! Counters of a shard: plain numbers on the shard's thread, copied once per tick to atomics that
//! other threads read. No behaviour of the engine depends on them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::driver::{ConnectionError, Errno};
use crate::server::driver_choice::DriverKind;

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the start of the server, added up over all shards by
        /// [`Handle::metrics`](crate::Handle::metrics). `connections_now` is the only one that
        /// falls.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Metrics {
            /// Each by its name.
            fn named(&self) -> impl IntoIterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*]
            }
        }

        /// One shard's counters as other threads see them, at most one tick old.
        #[derive(Default)]
        pub(crate) struct MetricsCells {
            $($name: AtomicU64,)*
        }

        impl MetricsCells {
            /// Relaxed: the counters are independent of each other.
            pub(crate) fn store(&self, metrics: &Metrics) {
                $(self.$name.store(metrics.$name, Ordering::Relaxed);)*
            }

            pub(crate) fn connections(&self) -> u64 {
                self.connections_now.load(Ordering::Relaxed)
            }

            pub(crate) fn add_to(&self, metrics: &mut Metrics) {
                $(metrics.$name += self.$name.load(Ordering::Relaxed);)*
            }
        }
    };
}

metrics! {
    /// Connections accepted within the limits.
    connections_accepted,
    /// Connections beyond `connections_max` or the descriptor limit, or during a shutdown. An
    /// upgrade got 503, any other request its answer; the rest were closed without a response.
    connections_refused,
    /// Connections that exist now: in the handshake, open or closing.
    connections_now,
    /// Connections that sent nothing until the handshake timeout and were closed without a
    /// response: port scans, TCP health checks, browsers that connect in advance.
    connections_silent,
    /// Opening handshakes answered with 101.
    handshakes_accepted,
    /// Requests that got an error: from the engine (including 403 for another origin, 408 and 503),
    /// or from `on_upgrade`.
    handshakes_refused,
    /// Plain HTTP requests passed to `on_request`.
    requests,
    /// Complete messages passed to `on_message`.
    messages_received,
    /// Messages queued by `send` of a `Conn` or a `Handle`. Publishes are not included.
    messages_sent,
    /// Sent messages that were not copied, because their receive buffer was sent
    /// ([`forward_bytes_min`](crate::Config::forward_bytes_min)).
    messages_forwarded,
    /// Messages not queued because a write buffer was full. Each message counts for each connection
    /// that missed it, publishes included.
    messages_dropped,
    /// Publishes by callbacks and handles.
    publishes,
    /// Publishes lost between shards: skipped by a shard that fell too far behind another one
    /// ([`broadcast_entries`](crate::Config::broadcast_entries)), or refused because too many
    /// waited already or because more than 1 GiB was published in one tick. The connections are
    /// told; see [`Handler::on_gap`](crate::Handler::on_gap).
    publishes_lost,
    /// Connections failed because the peer broke the protocol, the message limit, the limit of
    /// control frames or that of early bytes ([`early_bytes_max`](crate::Config::early_bytes_max)).
    violations,
    /// Panics of callbacks, and of the `Drop` of a connection's state or of a command that was lost.
    panics,
    /// Accepts that failed because descriptors or memory were exhausted (`EMFILE`, `ENFILE`,
    /// `ENOMEM`, `ENOBUFS`).
    accepts_exhausted,
    /// Connections that ended before they were accepted (`ECONNABORTED`, `EPROTO`, `EPERM`).
    accepts_aborted,
    /// Accepts that failed for another reason. The log has the error.
    accepts_failed,
    /// Commands of a [`Handle`](crate::Handle), of callbacks and of tickets that were queued and not
    /// executed, because the server ended first.
    commands_lost,
    /// Commands of other threads, of other shards and of a shard to itself that were not queued,
    /// because the queue was full or the shard had ended.
    commands_refused,
    /// Handshakes and requests whose ticket was not answered in time.
    tickets_expired,
    /// Answers to tickets that had expired, or whose peer had gone.
    tickets_late,
    /// Receives that ended because no receive buffer was free (`ENOBUFS`). They are armed again; no
    /// input is lost.
    receives_unbuffered,
    /// Times a shard found the completion queue of its io_uring overflowed. The kernel keeps such
    /// completions; none is lost, but multishot operations end and must be armed again. 0 on epoll.
    completions_overflowed,
    /// Connections whose receive or send failed because the peer had reset or closed them.
    connections_reset,
    /// Connections that the kernel gave up because the peer's machine did not answer.
    connections_timed_out,
    /// Connections whose peer's machine or network became unreachable.
    connections_unreachable,
    /// Connections that failed because the kernel was out of memory.
    connections_out_of_memory,
    /// Connections whose receive or send failed with another error number.
    connections_broken,
}

impl Metrics {
    /// In Prometheus' text format, with the driver. Its names say what kind each is: a counter's
    /// ends in `_total`.
    pub(crate) fn text(self, driver: DriverKind) -> String {
        let mut text = String::new();
        let mut add = |name: &str, kind: &str, labels: &str, value: u64| {
            writeln!(text, "# TYPE ringwire_{name} {kind}\nringwire_{name}{labels} {value}")
                .expect("a String takes every text");
        };
        add("driver", "gauge", &format!("{{driver=\"{driver}\"}}"), 1);
        for (name, value) in self.named() {
            match name {
                "connections_now" => add(name, "gauge", "", value),
                _ => add(&format!("{name}_total"), "counter", "", value),
            }
        }
        text
    }

    /// Counts a failed receive or send by its cause.
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

    #[test]
    fn a_scraper_reads_every_counter_and_the_driver() {
        let metrics = Metrics { connections_now: 3, publishes: 4, ..Metrics::default() };
        for (driver, name) in [(DriverKind::Epoll, "epoll"), (DriverKind::IoUring, "io_uring")] {
            let text = metrics.text(driver);
            let lines: Vec<&str> = text.lines().collect();
            for line in [
                "# TYPE ringwire_driver gauge",
                &format!("ringwire_driver{{driver=\"{name}\"}} 1"),
                "# TYPE ringwire_connections_now gauge",
                "ringwire_connections_now 3",
                "# TYPE ringwire_publishes_total counter",
                "ringwire_publishes_total 4",
            ] {
                assert!(lines.contains(&line), "{line} in {text}");
            }
            // A type and a value for each field, and for the driver; the format ends each line.
            assert_eq!(lines.len(), 2 * (metrics.named().into_iter().count() + 1));
            assert!(text.ends_with('\n'));
        }
    }
}

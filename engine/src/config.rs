//! Every limit of the engine: unit, default, and the reason for the default.
//! Nothing elsewhere in the engine decides how much of anything there may be.

use ringwire_proto::{HeadLimits, IncomingLimits};

use crate::error::SetupError;
use crate::sys::RingConfig;

/// The settings of a server; each is per shard or per connection as stated.
///
/// ```
/// let config = ringwire::Config { message_bytes_max: 64 * 1024, ..ringwire::Config::default() };
/// # assert_eq!(config.ping_interval_ms, 30_000);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// A connection that has not finished its opening handshake by then is answered 408 and
    /// closed, one on which nothing has come without an answer; bytes dripping in do not extend
    /// it. Default 10,000: a handshake is one round trip, and slow networks need seconds, not
    /// minutes.
    pub handshake_timeout_ms: u32,
    /// Largest request head, else 431. Default 16,384: two lines as long as nginx and Apache
    /// accept them (8 KiB each), such as a Cookie and an Authorization, and Node's limit for the
    /// whole head. A single field may take all of it.
    pub head_bytes_max: usize,
    /// Most header fields in a request, up to 128, else 431. Default 100, Apache's limit.
    pub headers_max: usize,
    /// Longest request target, else 414. Default 8,192: nginx's limit for the request line, so
    /// that what it lets through fits. RFC 9112 §3 recommends 8,000 at least.
    pub target_bytes_max: usize,

    /// Largest message, whole or in fragments, else close code 1009. Default 1 MiB, four
    /// times what chat and telemetry need and far below what hurts.
    pub message_bytes_max: usize,
    /// What each fragment of a fragmented message costs beside its bytes, so that empty
    /// fragments are not free. Default 128, the order of what parsing one costs.
    pub fragment_charge_bytes: usize,
    /// A message once begun must be whole by then, else 1008; 0 is never. Default 60,000:
    /// 1 MiB takes that long at 140 kbit/s.
    pub message_timeout_ms: u32,

    /// A connection from which nothing at all has come for that long is closed with 1001;
    /// 0 is never. Default 120,000. With pings on, a dead peer is found sooner.
    pub idle_timeout_ms: u32,
    /// A connection that has been quiet for that long is sent a ping; 0 is never. Default
    /// 30,000: half of the 60 s after which common proxies and NATs forget a connection.
    pub ping_interval_ms: u32,
    /// A ping not followed by anything from the peer for that long closes with 1011.
    /// Default 20,000: longer than a phone needs to change networks.
    pub pong_timeout_ms: u32,
    /// Control frames a peer may send per second in the long run, else 1008; 0 means no limit.
    /// Pongs to our pings are free. Default 100: a browser sends none of its own, and a peer that
    /// measures latency a few.
    pub control_frames_per_second_max: u32,
    /// Control frames a peer may send at once, up to 65,535. Default 500: what a peer that sends
    /// ten per second has waiting when its network has stalled for almost a minute.
    pub control_frames_burst_max: u32,
    /// How long a closing connection (or one whose request was refused) may go without progress
    /// before it is cut off. Acknowledging what was queued before the Close frame is progress, at
    /// [`write_rate_bytes_min`](Self::write_rate_bytes_min). Default 5,000: a round trip for the
    /// peer's Close and one for its FIN.
    pub close_timeout_ms: u32,
    /// Input that is read and dropped once the peer has nothing more to say: after its Close frame
    /// or a violation, and behind a refused request. Beyond it the connection is cut off. Default
    /// 1 MiB, what a peer may have had in flight.
    pub drain_bytes_max: usize,

    /// With more than this many unsent bytes, `send` answers
    /// [`Backpressure`](crate::SendStatus::Backpressure), and `on_drain` follows when at most half
    /// of it is left, so that it is not called again and again around the mark. Default 64 KiB,
    /// uWebSockets' limit.
    pub write_bytes_mark: usize,
    /// Most unsent bytes of a connection. A message that does not fit is not queued: see
    /// [`overflow`](Self::overflow). An empty write buffer accepts a single message of any size,
    /// and all that one tick publishes to a connection's topics. Default 4 MiB, four of the
    /// largest messages: a subscriber that reads survives when several of them are published at
    /// one moment. Starting warns if it is below twice
    /// [`message_bytes_max`](Self::message_bytes_max).
    pub write_bytes_max: usize,
    /// A received message of at least so many bytes that is sent on as it came, by
    /// `conn.send(message)`, is not copied: the receive buffer it lies in goes out, as long as
    /// at most a quarter of them do. Default 4,096: copying less costs little beside a send.
    pub forward_bytes_min: usize,
    /// What happens to a connection whose write buffer is full. Default
    /// [`Overflow::Close`]: a peer sees every message or is closed, never a hole.
    pub overflow: Overflow,
    /// A peer that acknowledges too little of what is waiting for it is cut off; this is how often
    /// it is looked at, so that it has between one and two of these times. 0 means never. Default
    /// 30,000.
    pub write_timeout_ms: u32,
    /// What a peer that is behind must acknowledge in bytes per second, on average between two
    /// looks, to count as one that reads; 0 means that any progress does. It bounds how long a
    /// full write buffer can be held. Default 1,024, far below what the slowest mobile networks
    /// carry: 4 MiB are held for 70 minutes at most.
    pub write_rate_bytes_min: u32,

    /// Most connections of a shard; a further one is accepted and closed at once. Default
    /// 65,536: address space is set aside for that many, memory only for those there are.
    pub connections_max: usize,
    /// Most topics one connection may be subscribed to; more are refused. Default 256.
    pub subscriptions_max: usize,
    /// Longest topic name in bytes; a longer one is refused. Default 256.
    pub topic_bytes_max: usize,

    /// Entries of the ring by which a shard publishes to the others. A shard that falls a
    /// whole ring behind loses it all, counted in
    /// [`Metrics::publishes_lost`](crate::Metrics::publishes_lost). Default 32,768: a shard
    /// that the scheduler keeps waiting for 100 ms still loses nothing of 300,000 publishes a
    /// second. Memory: 56 bytes each, where there is more than one shard.
    pub broadcast_entries: usize,
    /// Bytes such a ring may hold that not every shard has read; beyond it the shards behind
    /// lose what they have not read, as above. Default 64 MiB: a thousand full ticks of input.
    pub broadcast_bytes_max: usize,
    /// Commands of other threads a shard's queue can hold; then `Handle` methods answer
    /// [`HandleError::Busy`](crate::HandleError::Busy). Default 1,024.
    pub command_entries: usize,

    /// An address in use is tried for that long before starting fails. Default 3,000: after
    /// SIGKILL the kernel tears rings and connections down in the background, and with 10,000
    /// connections the port stays taken for 300 ms.
    pub bind_timeout_ms: u32,

    /// How long the whole server may take to end after [`Handle::stop`](crate::Handle::stop):
    /// connections that are left are then cut off, also those that still make progress
    /// ([`close_timeout_ms`](Self::close_timeout_ms) ends the others sooner). Default 10,000.
    pub drain_timeout_ms: u32,

    /// Submission entries of a shard's ring. Default 1,024: the sends of a full tick and as
    /// many again. Locked memory: 64 bytes each.
    pub submission_entries: u32,
    /// Completion entries. Default 4,096, four times the above: multishot operations
    /// complete without being submitted. Locked memory: 16 bytes each.
    pub completion_entries: u32,
    /// Size of a receive buffer. Default 64 KiB: what one segment on loopback holds at most, so
    /// that most messages lie in one piece; of a buffer only the pages that were written take
    /// memory.
    pub receive_buffer_bytes: usize,
    /// Receive buffers in use at first. Default 64: three times what the kernel fills in one
    /// pass, small enough to stay in the cache.
    pub receive_buffers_min: usize,
    /// Receive buffers in use at most, a power of two up to 32,768. Default 256 (16 MiB
    /// of address space): a tick rarely has more than twenty in use.
    pub receive_buffers_max: usize,
}

/// What happens when a message does not fit into a connection's write buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The connection is closed with 1013 (RFC 6455 §7.4.1, IANA registry: try again later).
    Close,
    /// The message is not queued, the connection stays. Whoever sends sees it in the answer
    /// of `send`; a publish is counted in `Metrics::messages_dropped` only.
    Drop,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_timeout_ms: 10_000,
            head_bytes_max: 16_384,
            headers_max: 100,
            target_bytes_max: 8_192,
            message_bytes_max: 1 << 20,
            fragment_charge_bytes: 128,
            message_timeout_ms: 60_000,
            idle_timeout_ms: 120_000,
            ping_interval_ms: 30_000,
            pong_timeout_ms: 20_000,
            control_frames_per_second_max: 100,
            control_frames_burst_max: 500,
            close_timeout_ms: 5_000,
            drain_bytes_max: 1 << 20,
            write_bytes_mark: 64 << 10,
            write_bytes_max: 4 << 20,
            forward_bytes_min: 4 << 10,
            overflow: Overflow::Close,
            write_timeout_ms: 30_000,
            write_rate_bytes_min: 1_024,
            connections_max: 65_536,
            subscriptions_max: 256,
            topic_bytes_max: 256,
            broadcast_entries: 32_768,
            broadcast_bytes_max: 64 << 20,
            command_entries: 1_024,
            bind_timeout_ms: 3_000,
            drain_timeout_ms: 10_000,
            submission_entries: 1_024,
            completion_entries: 4_096,
            receive_buffer_bytes: 64 << 10,
            receive_buffers_min: 64,
            receive_buffers_max: 256,
        }
    }
}

impl Config {
    /// Says what cannot work together, before a thread is started.
    pub(crate) fn check(&self) -> Result<(), SetupError> {
        let rules = [
            (self.handshake_timeout_ms > 0, "handshake_timeout_ms must be above 0"),
            (self.close_timeout_ms > 0, "close_timeout_ms must be above 0"),
            (
                self.ping_interval_ms == 0 || self.pong_timeout_ms > 0,
                "pong_timeout_ms must be above 0 where pings are sent",
            ),
            (self.head_bytes_max >= 256, "head_bytes_max must be at least 256"),
            ((1..=128).contains(&self.headers_max), "headers_max must be between 1 and 128"),
            (
                self.message_bytes_max > 0 && self.message_bytes_max <= MESSAGE_BYTES_CEILING,
                "message_bytes_max must be between 1 and 1 GiB",
            ),
            (
                self.write_bytes_mark <= self.write_bytes_max,
                "write_bytes_mark must not be above write_bytes_max",
            ),
            (
                self.write_bytes_max <= MESSAGE_BYTES_CEILING,
                "write_bytes_max must be at most 1 GiB",
            ),
            (
                (1..=crate::driver::SLOTS_MAX - SURPLUS_MAX).contains(&self.connections_max),
                "connections_max must be between 1 and 2^28 - 8",
            ),
            (
                (1..=ENTRIES_CEILING).contains(&self.broadcast_entries),
                "broadcast_entries must be between 1 and 2^24",
            ),
            (
                (1..=ENTRIES_CEILING).contains(&self.command_entries),
                "command_entries must be between 1 and 2^24",
            ),
            (
                (1..=65_535).contains(&self.control_frames_burst_max),
                "control_frames_burst_max must be between 1 and 65,535",
            ),
            (
                (1..=32_768).contains(&self.submission_entries),
                "submission_entries must be between 1 and 32,768",
            ),
            (
                self.completion_entries >= self.submission_entries.saturating_mul(2),
                "completion_entries must be at least twice submission_entries",
            ),
            (
                self.timeouts_ms().into_iter().all(|ms| ms <= TIMEOUT_MS_CEILING),
                "a timeout must be at most 2^31 - 1 ms, 24 days; 0 is never",
            ),
            (
                (512..=1 << 20).contains(&self.receive_buffer_bytes),
                "receive_buffer_bytes must be between 512 and 1 MiB",
            ),
            (
                self.receive_buffers_max.is_power_of_two() && self.receive_buffers_max <= 32_768,
                "receive_buffers_max must be a power of two up to 32,768",
            ),
            (self.receive_buffers_min > 0, "receive_buffers_min must be above 0"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(SetupError::Config { rule }),
            None => Ok(()),
        }
    }

    fn timeouts_ms(&self) -> [u32; 10] {
        [
            self.handshake_timeout_ms,
            self.message_timeout_ms,
            self.idle_timeout_ms,
            self.ping_interval_ms,
            self.pong_timeout_ms,
            self.close_timeout_ms,
            self.write_timeout_ms,
            self.bind_timeout_ms,
            self.drain_timeout_ms,
            self.ping_interval_ms.saturating_add(self.pong_timeout_ms),
        ]
    }

    pub(crate) fn ring(&self) -> RingConfig {
        RingConfig {
            submission_entries: self.submission_entries,
            completion_entries: self.completion_entries,
            receive_buffer_bytes: self.receive_buffer_bytes,
            receive_buffers_min: self.receive_buffers_min,
            receive_buffers_max: self.receive_buffers_max,
        }
    }

    pub(crate) fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            head_bytes_max: self.head_bytes_max,
            headers_max: self.headers_max,
            target_bytes_max: self.target_bytes_max,
        }
    }

    pub(crate) fn incoming_limits(&self) -> IncomingLimits {
        IncomingLimits {
            message_bytes_max: self.message_bytes_max,
            fragment_charge_bytes: self.fragment_charge_bytes,
        }
    }
}

/// What one tick of a shard does at most, so that timers, broadcasts and other connections get
/// their turn under any flood. Not to be configured: the simulator draws smaller ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TickLimits {
    /// Sends that are queued. They complete with the enter that submits them: as many as a tick
    /// takes completions, and an eighth of the default completion queue, so that connections that
    /// receive are served between the sends of a publish to many thousands.
    pub(crate) sends_max: usize,
    /// Connections that are ended, or looked at because a deadline has come. Each costs a few
    /// microseconds, so that this many delay nobody else by more than a few milliseconds.
    pub(crate) endings_max: usize,
    /// From how many bytes that are still to come of a frame on they are received straight into
    /// the message. Changing the receive costs two operations, some 2 µs together; copying 32 KiB
    /// that are not in the cache any more costs as much.
    pub(crate) long_bytes_min: usize,
    /// Entries taken from one broadcast ring, and commands from the mailbox: as many as a full
    /// batch of completions may bring, so that neither side starves the other.
    pub(crate) taken_max: usize,
}

impl TickLimits {
    pub(crate) const DEFAULT: Self =
        Self { sends_max: 512, endings_max: 256, long_bytes_min: 32 << 10, taken_max: 512 };
}

/// Offsets into a write buffer and a run are 32 bits wide; a quarter of that leaves room
/// for headers and for what one tick can add.
const MESSAGE_BYTES_CEILING: usize = 1 << 30;

/// A ring or queue of more entries is a slip of the pen: 2^24 take 800 MB.
const ENTRIES_CEILING: usize = 1 << 24;

/// Times are compared by their low 32 bits, which wrap after 49 days.
const TIMEOUT_MS_CEILING: u32 = i32::MAX as u32;

/// Connections beyond `connections_max` or the descriptors that a shard answers at a time: a few
/// checks of health and metrics at one moment, while an upgrade takes a round trip to refuse.
pub(crate) const SURPLUS_MAX: usize = 8;

/// After that long such a connection is cut off, answered or not: its place is wanted.
pub(crate) const SURPLUS_TIMEOUT_MS: u64 = 2_000;

/// Connections that came in one burst with the one that took the last place; more are closed.
pub(crate) const SURPLUS_WAITING_MAX: usize = 64;

/// When an upgrade that was refused for want of room may be tried again, in seconds.
pub(crate) const RETRY_AFTER_S: &str = "5";

/// Descriptors of the process left to the application, beside those for surplus connections:
/// files, databases, logs.
pub(crate) const DESCRIPTORS_RESERVED: usize = 32;

/// How long to leave the backlog alone when descriptors or memory are short, unless one of our
/// own connections ends first.
pub(crate) const ACCEPT_BACK_OFF_MS: u64 = 100;

/// A warning whose cause clients can bring about is logged that often at most.
pub(crate) const WARNING_INTERVAL_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_together() {
        Config::default().check().unwrap();
    }

    #[test]
    fn what_cannot_work_is_said_before_a_thread_starts() {
        let broken = [
            Config { handshake_timeout_ms: 0, ..Config::default() },
            Config { pong_timeout_ms: 0, ..Config::default() },
            Config { message_bytes_max: 0, ..Config::default() },
            Config { write_bytes_mark: 16 << 20, ..Config::default() },
            Config { connections_max: 0, ..Config::default() },
            Config { completion_entries: 1_024, ..Config::default() },
            Config { receive_buffers_max: 1_000, ..Config::default() },
            Config { connections_max: usize::MAX, ..Config::default() },
            Config { broadcast_entries: usize::MAX, ..Config::default() },
            Config { command_entries: usize::MAX, ..Config::default() },
            Config { idle_timeout_ms: u32::MAX, ..Config::default() },
            Config { ping_interval_ms: 1 << 30, pong_timeout_ms: 1 << 30, ..Config::default() },
        ];
        for config in broken {
            assert!(matches!(config.check(), Err(SetupError::Config { .. })), "{config:?}");
        }
    }
}

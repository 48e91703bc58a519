//! The settings of a server and the limits that come with them: unit, default, and the reason for
//! the default. Which settings contradict each other is in `config/check.rs`. Fixed sizes of single
//! mechanisms (pools, batches) stand beside those mechanisms; `docs/operations.md` lists the ones
//! that bound what a peer can take.

use ringwire_proto::{HeadLimits, IncomingLimits};

use crate::sys::RingConfig;

mod check;

/// Makes the fields, the methods that set them and the defaults from one list. The text of a
/// setting is that of its method, because that is what an application types.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr,)*) => {
        /// The settings of a server. Each applies per shard or per connection, as stated.
        ///
        /// Each has a method, which says what it is for and why its default is what it is, and a
        /// field of the same name, to read it. Later versions may add settings.
        ///
        /// A timeout of 0 disables the limit where its text says so. The clock of a shard stands
        /// still while the shard does (a process that was stopped, a callback that did not return
        /// for a second). Before a deadline ends a connection, the shard hands out all completions
        /// that had arrived and reads the input that the kernel holds for this connection.
        ///
        /// *Cut off* means that the connection ends without a Close frame and `on_close` gets
        /// 1006.
        ///
        /// ```
        /// use ringwire::Config;
        ///
        /// let config = Config::new().message_bytes_max(64 * 1024).idle_timeout_ms(300_000);
        /// assert_eq!(config.message_bytes_max, 65_536);
        /// assert_eq!(config.ping_interval_ms, 30_000);
        /// ```
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        #[must_use = "settings do nothing until a server has them"]
        pub struct Config {
            $(
                #[doc = concat!(
                    "Set by [`", stringify!($name), "()`](method@Self::", stringify!($name), ")."
                )]
                pub $name: $type,
            )*
        }

        impl Config {
            /// The defaults.
            pub const fn new() -> Self {
                Self { $($name: $default,)* }
            }

            $(
                $(#[$doc])*
                pub const fn $name(mut self, $name: $type) -> Self {
                    self.$name = $name;
                    self
                }
            )*
        }
    };
}

settings! {
    /// Time for the whole opening handshake, else 408. Single bytes do not extend it. A client
    /// that has sent nothing is closed without a response. Default 10,000: a handshake is one
    /// round trip, and a slow network needs seconds, not minutes.
    handshake_timeout_ms: u32 = 10_000,
    /// Largest request head, else 431. Default 16,384: two lines as long as nginx and Apache
    /// accept them (8 KiB each), such as Cookie and Authorization. Node has the same limit for
    /// the whole head. A single field may use all of it.
    head_bytes_max: usize = 16_384,
    /// Most header fields in a request, up to 128, else 431. Default 100, Apache's limit.
    headers_max: usize = 100,
    /// Longest request target, else 414. Default 8,192: nginx's limit for the request line, so
    /// that every target nginx accepts fits. RFC 9112 §3 recommends at least 8,000.
    target_bytes_max: usize = 8_192,

    /// Largest message, in one frame or in fragments, else close code 1009. Default 1 MiB: the
    /// limit of NATS and Socket.IO, and four times what chat and telemetry need.
    message_bytes_max: usize = 1 << 20,
    /// Charge for each fragment beside its bytes, so that empty fragments are not free; 1009 when
    /// bytes and charges exceed twice the message limit and 64 charges. Default 128: what parsing
    /// a fragment costs is in the order of copying that many bytes.
    fragment_charge_bytes: usize = 128,
    /// Time for a message from its first bytes to its last, else 1008; 0 disables the limit.
    /// Default 60,000: 1 MiB takes that long at 140 kbit/s.
    message_timeout_ms: u32 = 60_000,

    /// A handshake or a request that a callback has taken a [`Ticket`](crate::Ticket) for gets 503
    /// if it is not answered within this time; 0 disables the limit. Default 10,000: far above a
    /// slow look-up, and less than a browser waits.
    ticket_timeout_ms: u32 = 10_000,
    /// Input that is kept, unparsed, while a ticket is out or a response is on its way, whether it
    /// came with the request or behind it; a peer that sends more is cut off, and counted in
    /// [`Metrics::violations`](crate::Metrics::violations). A WebSocket client sends nothing before
    /// the answer (RFC 6455 §4.1),
    /// and few HTTP clients send a request before the answer to the one before. Default 65,536: one
    /// receive buffer.
    early_bytes_max: usize = 64 << 10,
    /// Body of a request, else 413. Default 1 MiB, as for a message.
    body_bytes_max: usize = 1 << 20,
    /// Time for the body of a request from the end of its head on, else 408; 0 disables the limit.
    /// Default 30,000: 1 MiB over a slow line.
    body_timeout_ms: u32 = 30_000,
    /// Time between two requests of a connection, after which it is closed; 0 disables the limit.
    /// Default 75,000: longer than the 60 s after which common proxies close theirs, so that they do
    /// not use one that is being closed.
    keep_alive_timeout_ms: u32 = 75_000,
    /// A connection that sends nothing for this long is closed with 1001; 0 disables the limit.
    /// Default 120,000. Pings find a dead peer sooner.
    idle_timeout_ms: u32 = 120_000,
    /// A connection that has been silent for this long is sent a ping; 0 disables pings. Each
    /// ping comes after between 75 % and 100 % of this time, so that connections opened together
    /// are not pinged together. Default 30,000: half of the 60 s after which common proxies and
    /// NATs forget a connection.
    ping_interval_ms: u32 = 30_000,
    /// A connection that sends nothing for this long after a ping is closed with 1011. A peer
    /// that acknowledges data at [`write_rate_bytes_min`](Self::write_rate_bytes_min) gets more
    /// time, since the ping waits behind that data. Default 20,000: longer than a phone needs to
    /// change networks.
    pong_timeout_ms: u32 = 20_000,
    /// Control frames that a peer may send per second on average, else 1008; 0 disables the
    /// limit. Pongs that answer our pings do not count. Default 100: browsers send none on their
    /// own, and a peer that measures latency sends a few.
    control_frames_per_second_max: u32 = 100,
    /// Control frames that a peer may send in one burst, 1 to 65,535. Default 500: a peer that
    /// sends ten per second has that many waiting after a network stall of almost a minute.
    control_frames_burst_max: u32 = 500,
    /// A closing connection, or one whose request was refused, is cut off after this long without
    /// progress. The peer makes progress when it acknowledges earlier data at
    /// [`write_rate_bytes_min`](Self::write_rate_bytes_min). Default 5,000: one round trip for
    /// the peer's Close frame and one for its FIN.
    close_timeout_ms: u32 = 5_000,
    /// Input that is read and discarded after the peer's last meaningful byte: behind its Close
    /// frame, a violation or a refused request. A peer that sends more is cut off. Default 1 MiB:
    /// what a peer may have had in flight.
    drain_bytes_max: usize = 1 << 20,

    /// High-water mark. Above this many unsent bytes `send` returns
    /// [`Backpressure`](crate::SendStatus::Backpressure); `on_drain` follows once at most half of
    /// the mark is left. Default 64 KiB, uWebSockets' limit.
    write_bytes_mark: usize = 64 << 10,
    /// Most unsent bytes of a connection. A message that does not fit is not queued: see
    /// [`overflow`](Self::overflow). An empty write buffer accepts one message of any size, or
    /// everything that one tick publishes to the connection's topics. Default 4 MiB: four of the
    /// largest messages, so that a subscriber that reads survives several large publishes at one
    /// moment. Use at least twice [`message_bytes_max`](Self::message_bytes_max).
    write_bytes_max: usize = 4 << 20,
    /// A received message of at least this size is not copied when the handler sends it back with
    /// `conn.send(message)`: its receive buffer is sent instead. At most a quarter of the receive
    /// buffers are used that way at once. Default 4,096: copying less costs little beside a send.
    forward_bytes_min: usize = 4 << 10,
    /// What happens to a slow consumer whose write buffer is full. Default [`Overflow::Close`]: a
    /// peer gets every message or is closed.
    overflow: Overflow = Overflow::Close,
    /// How often a connection with unsent bytes is checked for progress. A peer that acknowledged
    /// less than [`write_rate_bytes_min`](Self::write_rate_bytes_min) since the last check is cut
    /// off, so a peer that stops reading lasts one to two of these times. 0 disables the check.
    /// Default 30,000.
    write_timeout_ms: u32 = 30_000,
    /// Bytes per second that a slow peer must acknowledge on average; with 0, more than a control
    /// frame (127 bytes) per check suffices. It bounds how long a full write buffer can be held.
    /// Default 1,024, far below what the slowest mobile networks carry: 4 MiB are held for 70
    /// minutes at most.
    write_rate_bytes_min: u32 = 1_024,

    /// Most connections of a shard. Beyond it an upgrade gets 503 with `Retry-After`. Default
    /// 65,536: address space is reserved for all, memory is used only for those that exist.
    connections_max: usize = 65_536,
    /// Most topics per connection; `subscribe` returns `false` beyond it. Default 256.
    subscriptions_max: usize = 256,
    /// Longest topic name in bytes; `subscribe` returns `false` beyond it. Default 256.
    topic_bytes_max: usize = 256,

    /// Publishes of one shard that can wait for the other shards, rounded up to a power of two. A
    /// shard that falls further behind skips them all; they are counted in
    /// [`Metrics::publishes_lost`](crate::Metrics::publishes_lost), and its subscribers are closed
    /// with 1013 or told by [`on_gap`](crate::Handler::on_gap). Default 32,768: a shard that is
    /// not scheduled for 100 ms loses nothing of 300,000 publishes per second. Memory: 56 bytes
    /// each, if there is more than one shard.
    broadcast_entries: usize = 32_768,
    /// Bytes of the publishes that wait for the other shards. Beyond it the slowest shards skip
    /// what they have not read, as above. Default 64 MiB: a thousand full ticks of input.
    broadcast_bytes_max: usize = 64 << 20,
    /// Commands that can wait for a shard. Beyond it the methods of `Handle` return
    /// [`HandleError::Busy`](crate::HandleError::Busy), or wait
    /// ([`Handle::waiting`](crate::Handle::waiting)). As many can callbacks leave for their own
    /// shard. Default 65,536: an application that publishes to each of some ten thousand rooms in
    /// one loop finds room for all of it. A command takes memory only while it waits.
    command_entries: usize = 65_536,
    /// Bytes of the messages in those commands, and of the lists of connections that
    /// [`send_many`](crate::Context::send_many) sends one to; an empty queue takes one message of any
    /// size. Default 64 MiB, as for [`broadcast_bytes_max`](Self::broadcast_bytes_max).
    command_bytes_max: usize = 64 << 20,
    /// Timers that the application can have set on a shard
    /// ([`Context::set_timer`](crate::Context::set_timer)). Default 65,536: one for each connection
    /// that [`connections_max`](Self::connections_max) allows by default.
    timers_max: usize = 65_536,

    /// How long `start` retries an address in use. Default 3,000: after SIGKILL the kernel closes
    /// rings and connections in the background, and with 10,000 connections the port stays taken
    /// for 300 ms.
    bind_timeout_ms: u32 = 3_000,

    /// Total time of a graceful shutdown after [`Handle::stop`](crate::Handle::stop). Connections
    /// that are left are then cut off, even if they make progress; those without progress end
    /// after [`close_timeout_ms`](Self::close_timeout_ms). Default 10,000.
    drain_timeout_ms: u32 = 10_000,

    /// Submission entries of a shard's io_uring, unused on epoll. Default 1,024: the sends of a
    /// full tick twice. Locked memory: 64 bytes each.
    submission_entries: u32 = 1_024,
    /// Completion entries of a shard's io_uring, at least twice the submission entries, unused on
    /// epoll. Default 4,096, four times as many: multishot operations complete without being
    /// submitted. Locked memory: 16 bytes each.
    completion_entries: u32 = 4_096,
    /// Size of a receive buffer. Default 64 KiB: the most that one segment on loopback holds, so
    /// that most messages arrive in one piece. Only the pages that were written take memory.
    receive_buffer_bytes: usize = 64 << 10,
    /// Receive buffers in use at first on io_uring. On epoll, those whose pages a quiet server
    /// keeps. Default 64: three times what the kernel fills in one pass, and few enough to stay in
    /// the cache.
    receive_buffers_min: usize = 64,
    /// Most receive buffers in use, a power of two up to 32,768. Default 256 (16 MiB of address
    /// space): a tick rarely uses more than twenty.
    receive_buffers_max: usize = 256,
}

impl Default for Config {
    /// [`Config::new`].
    fn default() -> Self {
        Self::new()
    }
}

/// What happens when a message does not fit into a connection's write buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The connection is closed with 1013 (try again later; IANA registry, RFC 6455 §7.4.1).
    Close,
    /// The message is not queued and the connection stays open. `send` returns
    /// [`Dropped`](crate::SendStatus::Dropped). Each dropped message is counted in
    /// [`Metrics::messages_dropped`](crate::Metrics::messages_dropped), publishes included.
    Drop,
}

impl Config {
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

/// The most that one tick of a shard does, so that timers, publishes and other connections get
/// their turn under any load. Not configurable; the simulator uses smaller values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TickLimits {
    /// Sends queued. On io_uring they complete in the enter that submits them. 512: as many as a
    /// tick takes completions, and an eighth of the default completion queue, so that input is
    /// served between the sends of a publish to many thousands.
    pub(crate) sends_max: usize,
    /// Connections ended, and deadlines checked. 256: each costs a few microseconds, so all of
    /// them delay other connections by a few milliseconds at most.
    pub(crate) endings_max: usize,
    /// Bytes still to come of a frame from which on they are received straight into the message.
    /// 32 KiB: changing the receive costs two operations, some 2 µs together, and copying 32 KiB
    /// that have left the cache costs as much.
    pub(crate) long_bytes_min: usize,
    /// Publishes taken from one other shard, and commands from other threads. 512: as many as a
    /// tick takes completions, so that neither side starves the other.
    pub(crate) taken_max: usize,
}

impl TickLimits {
    pub(crate) const DEFAULT: Self =
        Self { sends_max: 512, endings_max: 256, long_bytes_min: 32 << 10, taken_max: 512 };
}

/// Offsets into a write buffer and into the bytes of a tick are 32 bits wide. A quarter of that
/// leaves room for headers and for what one tick can add.
const MESSAGE_BYTES_CEILING: usize = 1 << 30;

/// A queue with more entries is most likely a typing error: 2^24 entries take 800 MB.
const ENTRIES_CEILING: usize = 1 << 24;

/// Times are compared by their low 32 bits, which wrap around after 49 days.
const TIMEOUT_MS_CEILING: u32 = i32::MAX as u32;

/// Connections beyond `connections_max` or the descriptor limit that a shard serves at once. 8: a
/// few health checks and metrics requests at one moment; refusing an upgrade takes a round trip.
pub(crate) const SURPLUS_MAX: usize = 8;

/// Such a connection is cut off after this time, answered or not: others wait for its place.
pub(crate) const SURPLUS_TIMEOUT_MS: u64 = 2_000;

/// Connections kept that were accepted in one burst with the one that took the last place.
pub(crate) const SURPLUS_WAITING_MAX: usize = 64;

/// `Retry-After` of an upgrade that is refused at these limits, in seconds.
pub(crate) const RETRY_AFTER_S: &str = "5";

/// Descriptors that connections do not use: the application's files, databases and logs.
pub(crate) const DESCRIPTORS_RESERVED: usize = 32;

/// Pause of an accept when descriptors or memory are short, or until a connection ends.
pub(crate) const ACCEPT_BACK_OFF_MS: u64 = 100;

/// Least time between two warnings of one kind whose cause clients can bring about.
pub(crate) const WARNING_INTERVAL_MS: u64 = 60_000;

//! What all connections of a shard share and a callback may reach: settings, clock, topics,
//! timers, pools, and the lists of connections the shard must look at.
//! It never holds a connection, so it can be lent together with one.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use ringwire_proto::frame_header_bytes;
use ringwire_proto::{CloseCode, HeadLimits, IncomingLimits, Message, Opcode, append_frame};

use crate::config::Config;
use crate::driver::{Key, Socket};
use crate::forward::Forward;
use crate::metrics::Metrics;
use crate::shard::Surplus;
use crate::timer_wheel::TimerWheel;
use crate::topic::{Log, Moved, Topics};
use crate::write_buffer::BufferPool;

/// A frame on its way to the other shards, encoded once and shared by reference count.
#[derive(Clone)]
pub(crate) struct Publication {
    pub(crate) topic: Arc<str>,
    pub(crate) frame: Bytes,
}

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) head_limits: HeadLimits,
    pub(crate) incoming_limits: IncomingLimits,
    pub(crate) shard: usize,
    /// Tells this server's connections from those of other servers.
    pub(crate) server: u32,
    /// Connections beyond the limits, which get an answer and end.
    pub(crate) surplus: Vec<Surplus>,
    /// Whether there is another shard to publish to.
    pub(crate) is_one_of_many: bool,
    /// The driver's clock at the start of this tick.
    pub(crate) now_ms: u64,
    pub(crate) peer_addr: fn(&Socket) -> Option<SocketAddr>,
    pub(crate) timers: TimerWheel,
    pub(crate) pool: BufferPool,
    pub(crate) forward: Forward,
    pub(crate) topics: Topics,
    pub(crate) log: Log,
    /// For the other shards, in order; handed over when the tick ends.
    pub(crate) outbox: VecDeque<Publication>,
    pub(crate) outbox_bytes: usize,
    /// Connections with something to send or to end.
    pub(crate) dirty: Vec<Key>,
    /// Connections to fail as soon as no callback runs.
    pub(crate) failing: Vec<(Key, CloseCode, &'static str)>,
    /// Subscribers whose place in a topic's list has changed.
    pub(crate) moved: Vec<Moved>,
    pub(crate) metrics: Metrics,
}

/// What an entry of the broadcast ring takes; `docs/memory.md` says so.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Option<Publication>>() == 48);

impl Core {
    /// How long ago `then_ms`, a stored time, was. Right for 49 days, which no deadline
    /// reaches: each is looked at more often than once a minute.
    #[inline]
    pub(crate) fn elapsed_ms(&self, then_ms: u32) -> u32 {
        (self.now_ms as u32).wrapping_sub(then_ms)
    }

    /// Publishes a message of this shard to every subscriber everywhere.
    pub(crate) fn publish(&mut self, topic: &str, message: Message<'_>) {
        self.metrics.publishes += 1;
        let opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
        let payload = message.payload();
        if !self.is_one_of_many {
            let bytes = frame_header_bytes(payload.len()) + payload.len();
            return self.publish_here(topic, bytes, |out| append_frame(out, opcode, payload));
        }
        let mut frame = Vec::with_capacity(frame_header_bytes(payload.len()) + payload.len());
        append_frame(&mut frame, opcode, payload);
        let topic = self.topics.name(topic);
        self.publish_everywhere(Publication { topic, frame: frame.into() });
    }

    /// Publishes an encoded frame of a foreign thread to every subscriber everywhere.
    pub(crate) fn publish_frame(&mut self, topic: Arc<str>, frame: Bytes) {
        self.metrics.publishes += 1;
        self.publish_everywhere(Publication { topic, frame });
    }

    /// A frame another shard has published.
    pub(crate) fn publish_from_afar(&mut self, publication: &Publication) {
        let frame = &publication.frame;
        self.publish_here(&publication.topic, frame.len(), |out| out.extend_from_slice(frame));
    }

    fn publish_everywhere(&mut self, publication: Publication) {
        self.publish_from_afar(&publication);
        if !self.is_one_of_many {
            return;
        }
        let bytes = publication.frame.len();
        let has_room = self.outbox.len() < self.config.broadcast_entries
            && self.outbox_bytes + bytes <= self.config.broadcast_bytes_max;
        if has_room || self.outbox.is_empty() {
            self.outbox_bytes += bytes;
            self.outbox.push_back(publication);
        } else {
            self.metrics.publishes_lost += 1;
        }
    }

    fn publish_here(&mut self, topic: &str, bytes: usize, append: impl FnOnce(&mut Vec<u8>)) {
        let Some(topic) = self.topics.find(topic) else {
            return;
        };
        if self.log.has_room(bytes) {
            self.log.append(topic, append);
        } else {
            self.metrics.publishes_lost += 1;
        }
    }
}

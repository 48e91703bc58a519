//! The state that all connections of a shard share and that a callback needs: settings, clock,
//! topics, timers, pools, and the lists of connections to flush or to fail. It holds no connection,
//! so it can be borrowed together with one.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ringwire_proto::frame_header_bytes;
use ringwire_proto::{HeadLimits, IncomingLimits, Message, append_frame};

use super::date::Date;
use super::guard::guard;
use super::warned::Warned;
use crate::config::{Config, TickLimits};
use crate::connection::ending::Ending;
use crate::connection::forward::Forward;
use crate::connection::write_buffer::BufferPool;
use crate::driver::Key;
use crate::fanout::publish_log::PublishLog;
use crate::fanout::topic::{Moved, Topics};
use crate::message::encode;
use crate::metrics::Metrics;
use crate::shard::timer_wheel::TimerWheel;

/// What goes to the other shards.
#[derive(Clone)]
pub(crate) enum Publication {
    /// A frame, encoded once and shared by reference count.
    Frame { topic: Arc<str>, frame: Bytes },
    /// So many frames could not be handed over at this place. `surplus` is how many more than one
    /// each the gaps up to this one stand for, in sum; set when it is handed over.
    Gap { publishes: u64, surplus: u64 },
}

impl Publication {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Frame { frame, .. } => frame.len(),
            Self::Gap { .. } => 0,
        }
    }
}

/// A connection in a slot beyond the limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surplus {
    pub(crate) key: Key,
    pub(crate) until_ms: u64,
}

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) tick_limits: TickLimits,
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
    /// The time by which everything that had completed has been looked at: deadlines are judged
    /// by it, so that nobody is ended for silence while his bytes wait in a queue of ours.
    pub(crate) judged_ms: u64,
    /// What responses say of the time.
    pub(crate) date: Date,
    pub(super) panic_warned: Warned,
    /// Nothing has happened since memory was last given back that took much of it.
    pub(crate) is_quiet: bool,
    pub(crate) timers: TimerWheel,
    pub(crate) pool: BufferPool,
    pub(crate) forward: Forward,
    pub(crate) topics: Topics,
    pub(crate) log: PublishLog,
    /// Of the ticket that was made last.
    pub(crate) ticket_serial: u32,
    /// The server has been told to stop.
    pub(crate) is_draining: bool,
    /// For the other shards, in order; handed over when the tick ends.
    pub(crate) outbox: VecDeque<Publication>,
    pub(crate) outbox_bytes: usize,
    /// Of the last gap that was handed over.
    pub(crate) gap_surplus: u64,
    /// Publishes that did not fit into this tick's log; its subscribers are told when it ends.
    pub(crate) publishes_unlogged: u64,
    /// Connections with something to send or to end.
    pub(crate) dirty: VecDeque<Key>,
    /// Connections to fail as soon as no callback runs.
    pub(crate) failing: VecDeque<(Key, Ending)>,
    /// Subscribers whose place in a topic's list has changed.
    pub(crate) moved: Vec<Moved>,
    pub(crate) metrics: Metrics,
}

/// What an entry of the broadcast ring takes; `docs/memory.md` says so.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Option<Publication>>() == 56);

impl Core {
    /// A callback, or the drop of a state, has panicked.
    #[cold]
    pub(crate) fn note_panic(&mut self) {
        self.metrics.panics += 1;
        if self.panic_warned.is_due(self.now_ms) {
            tracing::error!(
                shard = self.shard,
                "a callback panicked (its message went to the panic hook): a bug of the \
                 application; `panics` counts them"
            );
        }
    }

    /// How long ago `then_ms`, a stored time, was as far as deadlines go; 0 for what is still to
    /// come. Right for 24 days, which no deadline reaches: each connection is looked at more often
    /// than once an hour.
    #[inline]
    pub(crate) fn elapsed_ms(&self, then_ms: u32) -> u32 {
        let elapsed_ms = (self.judged_ms as u32).wrapping_sub(then_ms) as i32;
        u32::try_from(elapsed_ms).unwrap_or(0)
    }

    /// Publishes a message of this shard to every subscriber everywhere.
    pub(crate) fn publish(&mut self, topic: &str, message: Message<'_>) {
        self.metrics.publishes += 1;
        if !self.is_one_of_many {
            let payload = message.payload();
            let bytes = frame_header_bytes(payload.len()) + payload.len();
            return self.publish_here(topic, bytes, |out| {
                append_frame(out, message.opcode(), payload);
            });
        }
        let topic = self.topics.name(topic);
        self.publish_everywhere(topic, encode(message).into());
    }

    /// Publishes an encoded frame of a foreign thread to every subscriber everywhere.
    pub(crate) fn publish_frame(&mut self, topic: Arc<str>, frame: Bytes) {
        self.metrics.publishes += 1;
        self.publish_everywhere(topic, frame);
    }

    /// A frame another shard has published.
    pub(crate) fn publish_from_afar(&mut self, topic: &str, frame: &[u8]) {
        self.publish_here(topic, frame.len(), |out| out.extend_from_slice(frame));
    }

    fn publish_everywhere(&mut self, topic: Arc<str>, frame: Bytes) {
        self.publish_from_afar(&topic, &frame);
        if !self.is_one_of_many {
            return;
        }
        let bytes = frame.len();
        let has_room = self.outbox.len() < self.config.broadcast_entries
            && self.outbox_bytes + bytes <= self.config.broadcast_bytes_max;
        if has_room || self.outbox.is_empty() {
            self.outbox_bytes += bytes;
            self.outbox.push_back(Publication::Frame { topic, frame });
            return;
        }
        // The other shards learn of it, and count it, at this place in the order of publishes.
        match self.outbox.back_mut() {
            Some(Publication::Gap { publishes, .. }) => *publishes += 1,
            _ => self.outbox.push_back(Publication::Gap { publishes: 1, surplus: 0 }),
        }
    }

    fn publish_here(&mut self, topic: &str, bytes: usize, append: impl FnOnce(&mut Vec<u8>)) {
        let Some(topic) = self.topics.find(topic) else {
            return;
        };
        if self.log.has_room(bytes) {
            self.log.append(topic, bytes, append);
        } else {
            self.metrics.publishes_lost += 1;
            self.publishes_unlogged += 1;
        }
    }
}

/// Drops what the application has given, which is its code, too.
#[cold]
pub(crate) fn drop_guarded<S>(core: &mut Core, state: S) {
    if guard(|| drop(state)).is_none() {
        core.note_panic();
    }
}

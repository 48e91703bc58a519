//! One connection: its stages, what it has to send, its limits and its deadlines; and the slab of all
//! connections of a shard.

mod closing;
pub(crate) mod connections;
pub(crate) mod deadlines;
pub(crate) mod ending;
pub(crate) mod forward;
pub(crate) mod in_time;
mod outbox;
mod progress;
pub(crate) mod slot;
mod subscribing;
pub(crate) mod tally;
pub(crate) mod write_buffer;

//! What a shard's handler is made with.

use crate::handle::Handle;

/// What a shard's handler is made with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShardStart<C = ()> {
    /// The number of the shard, from 0.
    pub index: usize,
    /// How many shards the server has.
    pub shards: usize,
    /// Reaches the server, also before it accepts connections: what is queued is carried out when
    /// the shard runs.
    pub handle: Handle<C>,
}

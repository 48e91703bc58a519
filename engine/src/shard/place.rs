//! What a ticket stands for.

use crate::driver::Key;

/// Whose ticket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) server: u32,
    pub(crate) shard: usize,
    pub(crate) key: Key,
    /// Tells the tickets of one connection apart.
    pub(crate) serial: u32,
}

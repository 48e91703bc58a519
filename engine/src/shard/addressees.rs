//! The connections of other shards that get one message: their shards get commands that share its
//! frame.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::config::TickLimits;
use crate::connection::conn_id::ConnId;
use crate::connection::send_status::{SendCounts, SendStatus};
use crate::driver::Key;
use crate::error::HandleError;
use crate::shard::mailbox::Command;

/// Connections that one command names: as many as a tick takes commands, so that a long list does not
/// make a tick long.
const KEYS_MAX: usize = TickLimits::DEFAULT.taken_max;

#[derive(Default)]
pub(crate) struct Addressees {
    by_shard: BTreeMap<u16, Vec<Key>>,
}

impl Addressees {
    pub(crate) fn add(&mut self, id: ConnId) {
        self.by_shard.entry(id.shard).or_default().push(id.key);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_shard.is_empty()
    }

    /// Leaves the frame for all of them, through `tell`, and counts what came of it.
    pub(crate) fn send<C>(
        self,
        frame: &Bytes,
        counts: &mut SendCounts,
        mut tell: impl FnMut(u16, Command<C>) -> Result<(), HandleError>,
    ) {
        for (shard, keys) in self.by_shard {
            for keys in keys.chunks(KEYS_MAX) {
                let told =
                    tell(shard, Command::SendMany { keys: keys.into(), frame: frame.clone() });
                counts.add(SendStatus::of_command(told), keys.len());
            }
        }
    }
}

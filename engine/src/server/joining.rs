//! The queues by which the shards of a server reach each other and other threads reach them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::config::Config;
use crate::error::StartError;
use crate::server::descriptors::Descriptors;
use crate::server::driver_choice::DriverKind;
use crate::shard::core::Publication;
use crate::shard::links::Links;
use crate::shard::mailbox::Mailbox;
use crate::sys::{Publisher, Reader, Waker, broadcast_ring};

pub(crate) fn make_mailboxes<C>(
    shards: usize,
    config: &Config,
) -> Result<Arc<[Mailbox<C>]>, StartError> {
    (0..shards)
        .map(|_| Ok(Mailbox::new(config, Waker::new()?)))
        .collect::<Result<_, _>>()
        .map_err(|source| StartError::Machine { step: "eventfd", source })
}

/// A ring from each shard to all others.
pub(crate) fn join_shards<C>(mailboxes: &Arc<[Mailbox<C>]>, config: &Config) -> Vec<Links<C>> {
    type Ends = (Publisher<Publication>, Vec<Reader<Publication>>);
    let shards = mailboxes.len();
    let server = next_server();
    let descriptors = Arc::new(Descriptors::new(usize::MAX / 2));
    // A lone shard publishes to nobody: its ring takes no memory to speak of.
    let entries = if shards == 1 { 1 } else { config.broadcast_entries };
    let bytes_max = config.broadcast_bytes_max;
    let mut ends: Vec<Ends> =
        (0..shards).map(|_| broadcast_ring(entries, bytes_max, shards - 1)).collect();
    let readers: Vec<Vec<_>> = (0..shards)
        .map(|shard| {
            let others = ends.iter_mut().enumerate().filter(|(other, _)| *other != shard);
            others.filter_map(|(_, (_, readers))| readers.pop()).collect()
        })
        .collect();
    let publishers = ends.into_iter().map(|(publisher, _)| publisher);
    let parts = publishers.zip(readers).enumerate();
    parts
        .map(|(shard, (publisher, readers))| Links {
            shard,
            server,
            driver: DriverKind::IoUring,
            descriptors: Arc::clone(&descriptors),
            mailboxes: Arc::clone(mailboxes),
            publisher,
            readers,
        })
        .collect()
}

/// A number no other server of this process has.
fn next_server() -> u32 {
    static SERVERS: AtomicU32 = AtomicU32::new(1);
    SERVERS.fetch_add(1, Ordering::Relaxed)
}

//! How a shard is joined to the others: mailboxes of all, and the broadcast rings between them.

use std::sync::Arc;

use super::core::Publication;
use super::mailbox::Mailbox;
use crate::server::descriptors::Descriptors;
use crate::server::driver_choice::DriverKind;
use crate::sys::{Publisher, Reader};

/// How a shard is joined to the others.
pub(crate) struct Links<C> {
    /// This shard's index.
    pub(crate) shard: usize,
    /// Tells this server's connections from those of other servers.
    pub(crate) server: u32,
    /// What the server runs on.
    pub(crate) driver: DriverKind,
    /// Of all shards together.
    pub(crate) descriptors: Arc<Descriptors>,
    /// Of every shard, by index.
    pub(crate) mailboxes: Arc<[Mailbox<C>]>,
    pub(crate) publisher: Publisher<Publication>,
    /// One for each other shard's publisher.
    pub(crate) readers: Vec<Reader<Publication>>,
}

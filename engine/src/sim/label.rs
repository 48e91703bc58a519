//! The label at the start of each message of the simulated handlers: its sender, its number, and
//! its recipients.

use std::fmt;

/// Number of a client in its world.
pub(super) type ClientNumber = usize;

/// Whose messages stay in order: a shard's publishes, or what other threads send one way (to
/// one topic, or to single connections).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sender {
    pub(super) shard: usize,
    pub(super) way: String,
}

/// No shard: another thread.
pub(super) const FOREIGN: usize = usize::MAX;

/// Shard, way, number and receiver, each followed by a space.
pub(super) struct Label<'a> {
    pub(super) sender: Sender,
    pub(super) number: u64,
    pub(super) to: To<'a>,
}

/// Whom a message is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum To<'a> {
    Topic(&'a str),
    Client(ClientNumber),
}

impl<'a> Label<'a> {
    /// `None` for what a client said itself and gets back.
    pub(super) fn of(payload: &'a str) -> Option<Self> {
        let mut words = payload.split(' ');
        let shard = words.next()?.parse().ok()?;
        let way = words.next()?.to_owned();
        let number = words.next()?.parse().ok()?;
        let to = words.next()?;
        let to = match to.strip_prefix('@') {
            Some(client) => To::Client(client.parse().ok()?),
            None => To::Topic(to),
        };
        Some(Self { sender: Sender { shard, way }, number, to })
    }
}

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sender: Sender { shard, way }, number, to } = self;
        match to {
            To::Topic(topic) => write!(f, "{shard} {way} {number} {topic} "),
            To::Client(client) => write!(f, "{shard} {way} {number} @{client} "),
        }
    }
}

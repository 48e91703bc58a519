//! What a worker is told and what it tells: the lines of JSON between the processes of one
//! load. Nothing here does anything.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::latency::Latency;
use crate::mix::Mix;

/// A line from the coordinator to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Open connections, beside those there are.
    Connect {
        /// To what.
        target: Target,
        /// How many.
        connections: usize,
        /// Whether each echoes a message before the next is opened.
        greet: bool,
    },
    /// Do something to the server for a time.
    Do {
        /// What.
        work: Work,
        /// For how long.
        seconds: f64,
    },
}

/// A line from a worker to the coordinator, one for each [`Command`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The connections are open.
    Connected,
    /// The time is over and nothing is under way any more.
    Done(Box<Tally>),
    /// It did not work; the worker ends.
    Failed(String),
}

/// Whom to connect to, and what is said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Where the server listens.
    pub addr: SocketAddr,
    /// The address connections come from, if it matters.
    pub source: Option<IpAddr>,
    /// What the server speaks.
    pub dialect: Dialect,
    /// The sizes of the messages.
    pub mix: Mix,
}

/// What to do to a server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// Echoes, closed loop: each answer is followed by the next message at once.
    Echo {
        /// Messages in flight on each connection.
        in_flight: usize,
    },
    /// Echoes, open loop: message n is due at n / rate, answers or not.
    Rate {
        /// Messages per second of all workers together.
        per_second: f64,
        /// How many workers share the messages.
        workers: usize,
        /// Which of them this one is, from 0.
        worker: usize,
    },
    /// The first connection publishes, and every connection receives.
    Broadcast {
        /// Publishes in flight.
        in_flight: usize,
    },
    /// Connections that are opened, upgraded, echo one message and are reset.
    Churn {
        /// Connections at a time.
        at_once: usize,
    },
}

/// What a worker did and saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// What came back within the time: echoes, deliveries, or connections that are over.
    pub within: u64,
    /// As above, with what came back behind the time: what the server's CPU time is for.
    pub overall: u64,
    /// Messages sent; connections, if there is a new one for each.
    pub sent: u64,
    /// From when a message was sent, or was due, to when it came back.
    pub latency: Latency,
    /// From when a message was due to when it was sent; open loop only.
    pub lateness: Latency,
}

impl Tally {
    /// Counts `count` more of what came back.
    pub fn count(&mut self, count: usize, is_within: bool) {
        self.overall += count as u64;
        self.within += if is_within { count as u64 } else { 0 };
    }

    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Self) {
        self.within += other.within;
        self.overall += other.overall;
        self.sent += other.sent;
        self.latency.merge(&other.latency);
        self.lateness.merge(&other.lateness);
    }
}

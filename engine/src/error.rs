//! Errors of starting a server, of a server that runs, and of calls. Faults of peers are not errors
//! here: they become close codes and HTTP statuses.

use std::fmt;

pub use start::StartError;
pub(crate) use start::io_uring_disabled;

mod start;

/// The reason why a running server ended without having been stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// A shard's thread panicked, and the other shards were stopped in order. It is a bug of the
    /// application if the `Drop` of its handler panicked, and else of the engine, or the kernel is
    /// out of memory. (A panic of a callback ends only its connection.) The panic hook got the
    /// message (by default it is on standard error): mend its cause, and start the server again.
    ShardPanicked {
        /// The shard's number.
        shard: usize,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShardPanicked { shard } => write!(f, "shard {shard} panicked"),
        }
    }
}

impl std::error::Error for RunError {}

/// The reason why [`Builder::run`](crate::Builder::run) returned an error: the server cannot start,
/// or has failed while it ran.
///
/// `Debug` writes the text of `Display`, because that is what a `main` shows that returns the error:
///
/// ```text
/// Error: cannot listen on 127.0.0.1:9001: another process or server does; stop it (`ss -ltnp` …
/// ```
#[non_exhaustive]
pub enum ServerError {
    /// It did not start.
    Start(StartError),
    /// It started, and failed later.
    Run(RunError),
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Run(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(error) => error.source(),
            Self::Run(error) => error.source(),
        }
    }
}

impl From<StartError> for ServerError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl From<RunError> for ServerError {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

/// The reason why a call on a [`Handle`](crate::Handle) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// The shard's command queue is full. Nothing was queued; retry later.
    Busy,
    /// The server has stopped.
    Stopped,
    /// The id belongs to a connection of another server.
    OtherServer,
    /// A callback would wait for a shard, which could last for ever. Nothing was queued.
    OnShard,
    /// What was to be adopted is no stream socket, TCP's or Unix's. It was closed.
    NoStream,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the shard's command queue is full",
            Self::Stopped => "the server has stopped",
            Self::OtherServer => "the id is that of another server's connection",
            Self::OnShard => "a callback must not wait for a shard",
            Self::NoStream => "the descriptor is no stream socket",
        })
    }
}

impl std::error::Error for HandleError {}

/// The reason why a connection is not subscribed to a topic. The limits are the application's own
/// ([`Config`](crate::Config)); a topic that a peer has chosen should be checked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The connection has [`subscriptions_max`](crate::Config::subscriptions_max) topics already.
    TooMany,
    /// The name is longer than [`topic_bytes_max`](crate::Config::topic_bytes_max).
    TooLong,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "the connection has as many topics as subscriptions_max allows",
            Self::TooLong => "the topic's name is longer than topic_bytes_max",
        })
    }
}

impl std::error::Error for SubscribeError {}

/// A shard has as many timers as [`timers_max`](crate::Config::timers_max) allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTimers;

impl fmt::Display for TooManyTimers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the shard has as many timers as timers_max allows")
    }
}

impl std::error::Error for TooManyTimers {}

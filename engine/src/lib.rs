//! A WebSocket engine for Linux, on io_uring or epoll: one thread per core, and a few callbacks for
//! the application.
//!
//! # The model
//!
//! - A [`Server`] runs one **shard** per core. A shard is a thread with its own listener, its own
//!   driver (an io_uring, or an epoll instance where io_uring is barred: [`DriverChoice`]), its own
//!   connections and its own [`Handler`] value. Shards share only bounded queues,
//!   so a handler needs no lock and need not be `Send`.
//! - Each callback about a connection gets a [`Conn`], the connection's state and, for input, a
//!   [`Message`]. The message's bytes usually lie in the buffer that the kernel filled. They are
//!   valid until the callback returns. Every callback reaches the rest of the shard through a
//!   [`Context`]: other connections, topics, timers, commands.
//! - A shard works in **ticks**. Everything that callbacks send goes out at the end of the tick:
//!   on io_uring one system call submits the sends of all connections and waits for more input.
//! - Write buffers are bounded. [`Conn::send`] returns whether a message was queued.
//! - Connections subscribe to **topics**. A publish reaches every subscriber on every shard; its
//!   frame is encoded once.
//! - Browser pages of other origins are refused unless [`Upgrade::allow_origin`] allows them.
//! - Other threads use a [`Handle`], and a [`Ticket`] for handshakes that take time.
//!
//! `docs/guide.md` in the repository leads through all of it.
//!
//! ```no_run
//! use ringwire::{Conn, Context, Handler, Message, Offer, Request, Server, ServerError, Upgrade};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type State = ();
//!     type Command = ();
//!
//!     fn on_upgrade(
//!         &mut self,
//!         _cx: &mut Context<'_, Self>,
//!         _request: &Request<'_>,
//!         _offer: &Offer<'_>,
//!     ) -> Upgrade<()> {
//!         Upgrade::accept(())
//!     }
//!
//!     fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
//!         conn.send(message);
//!     }
//! }
//!
//! fn main() -> Result<(), ServerError> {
//!     Server::builder().listen("127.0.0.1:9001").run(|_shard| Echo)
//! }
//! ```
//!
//! # What it does not do
//!
//! It has no TLS (use a proxy in front), no compression and no HTTP/2. Bodies of plain requests and
//! of their responses are whole: there are no streams.
//!
//! # Features
//!
//! `testing` is a shard in memory, for tests of handlers. `driver`, `sim` and `bench` are for the
//! tools of the repository and promise no stability.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide.md")]
struct Guide;

#[cfg(feature = "bench")]
pub mod bench;
mod config;
mod conn;
mod connection;
mod context;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(not(feature = "driver"))]
#[allow(unreachable_pub, dead_code)]
mod driver;
mod error;
mod fanout;
mod handle;
mod handler;
mod message;
mod metrics;
mod protocol;
mod router;
mod server;
mod shard;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(all(test, not(feature = "sim")))]
#[allow(unreachable_pub)]
mod sim;
mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod ticket;
mod transport;

pub use config::{Config, Overflow};
pub use conn::{Conn, ConnId, InvalidConnId, SendCounts, SendStatus};
pub use context::Context;
pub use error::{HandleError, RunError, ServerError, StartError, SubscribeError, TooManyTimers};
pub use handle::{Handle, Waiting};
pub use handler::{Gap, Handler, Reply, Upgrade};
pub use message::AsMessage;
pub use metrics::Metrics;
pub use ringwire_proto::{
    CloseCode, InvalidHeader, Message, Method, Offer, Request, Response, accept_for_key,
    is_same_origin, is_serialised_origin,
};
pub use router::{Match, RouteError, Router};
pub use server::driver_choice::{DriverChoice, DriverKind, InvalidDriver};
pub use server::listen_addr::ListenAddr;
pub use server::pin::Pin;
pub use server::shard_start::ShardStart;
pub use server::{Builder, Running, Server};
pub use shard::app_timers::TimerId;
pub use ticket::Ticket;

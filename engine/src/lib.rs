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
//! use ringwire::{Conn, Context, Handler, Message, Offer, Request, Server, SetupError, Upgrade};
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
//! fn main() -> Result<(), SetupError> {
//!     Server::builder().listen("127.0.0.1:9001").run(|_shard| Echo)
//! }
//! ```
//!
//! # What it does not do
//!
//! It has no TLS (use a proxy in front), no compression and no HTTP/2. Plain HTTP is one request
//! without a body per connection.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../docs/guide.md")]
struct Guide;

mod app_timers;
#[cfg(feature = "bench")]
pub mod bench;
mod config;
mod conn;
mod connections;
mod context;
mod cpu_quota;
mod descriptors;
#[cfg(feature = "driver")]
pub mod driver;
// Parts of the seam are there for tools only.
#[cfg(not(feature = "driver"))]
#[allow(unreachable_pub, dead_code)]
mod driver;
mod driver_choice;
mod error;
mod forward;
mod handle;
mod handler;
mod in_time;
mod listen_addr;
mod listeners;
mod mailbox;
mod metrics;
mod pin;
mod publish_log;
mod router;
mod server;
mod shard;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(all(test, not(feature = "sim")))]
#[allow(unreachable_pub)]
mod sim;
mod sleep_flag;
mod slot;
mod starting;
mod sync;
mod sys;
mod tally;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod ticket;
mod timer_wheel;
mod topic;
mod write_buffer;

pub use app_timers::TimerId;
pub use config::{Config, Overflow};
pub use conn::{Conn, ConnId, InvalidConnId, SendStatus};
pub use context::Context;
pub use driver_choice::{DriverChoice, DriverKind, InvalidDriver};
pub use error::{HandleError, SetupError};
pub use handle::{Handle, Waiting};
pub use handler::{Gap, Handler, Reply, Upgrade};
pub use listen_addr::ListenAddr;
pub use metrics::Metrics;
pub use pin::Pin;
pub use ringwire_proto::{
    CloseCode, InvalidHeader, Message, Method, Offer, Request, Response, is_same_origin,
    is_serialised_origin,
};
pub use router::{Match, RouteError, Router};
pub use server::{Builder, Running, Server, ShardStart};
pub use ticket::Ticket;

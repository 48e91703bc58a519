//! A WebSocket engine for Linux, on io_uring or epoll: one thread per core, and a few callbacks for
//! the application.
//!
//! # The model
//!
//! - A [`Server`] runs one **shard** per core. A shard is a thread with its own listener, its own
//!   driver (an io_uring, or an epoll instance where io_uring is barred: [`DriverChoice`]), its own
//!   connections and its own [`Handler`] value. Shards share only bounded queues,
//!   so a handler needs no lock and need not be `Send`.
//! - Each callback gets a [`Conn`] and, for input, a [`Message`]. The message's bytes usually lie
//!   in the buffer that the kernel filled. They are valid until the callback returns.
//! - A shard works in **ticks**. Everything that callbacks send goes out at the end of the tick:
//!   on io_uring one system call submits the sends of all connections and waits for more input.
//! - Write buffers are bounded. [`Conn::send`] returns whether a message was queued.
//! - Connections subscribe to **topics**. A publish reaches every subscriber on every shard; its
//!   frame is encoded once.
//! - Browser pages of other origins are refused unless [`Upgrade::allow_origin`] allows them.
//! - Other threads use a [`Handle`].
//!
//! ```no_run
//! use ringwire::{Conn, Handler, Message, Server, SetupError};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type State = ();
//!
//!     fn on_message(&mut self, conn: &mut Conn<'_, Self::State>, message: Message<'_>) {
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

#[cfg(feature = "bench")]
pub mod bench;
mod config;
mod conn;
mod connections;
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
mod mailbox;
mod metrics;
mod pin;
mod publish_log;
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
mod timer_wheel;
mod topic;
mod write_buffer;

pub use config::{Config, Overflow};
pub use conn::{Conn, ConnId, InvalidConnId, SendStatus};
pub use driver_choice::{DriverChoice, DriverKind, InvalidDriver};
pub use error::{HandleError, SetupError};
pub use handle::Handle;
pub use handler::{Gap, Handler, Upgrade};
pub use metrics::Metrics;
pub use pin::Pin;
pub use ringwire_proto::{
    CloseCode, InvalidHeader, Message, Method, Offer, Request, Response, is_same_origin,
    is_serialised_origin,
};
pub use server::{Builder, Running, Server};

//! A WebSocket engine for Linux: a thread per core, io_uring underneath, a few callbacks on
//! top.
//!
//! # The model in ten lines
//!
//! - A [`Server`] runs one **shard** per core: a thread with its own listener, its own
//!   io_uring, its own connections and its own [`Handler`] value. Shards share nothing but
//!   bounded queues, so a handler needs no lock and need not be `Send`.
//! - A handler is lent a [`Conn`] and a [`Message`] in each callback. The message's bytes lie
//!   where the kernel put them; they are gone when the callback returns.
//! - Whatever a callback sends goes out when the **tick** ends: one system call submits all
//!   sends of all connections and waits for the next input.
//! - Write buffers are bounded: [`Conn::send`] says what became of a message.
//! - Connections subscribe to **topics**; a publish reaches every subscriber on every shard,
//!   its frame encoded once.
//! - Pages of other sites are refused, until [`Upgrade::allow_origin`] names them.
//! - Other threads have a [`Handle`].
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
//! No TLS (put a proxy in front), no HTTP beyond one request without a body, no
//! compression, no HTTP/2, no fallback for kernels without io_uring: starting says so.

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
mod error;
mod forward;
mod handle;
mod handler;
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
mod timer_wheel;
mod topic;
mod write_buffer;

pub use config::{Config, Overflow};
pub use conn::{Conn, ConnId, InvalidConnId, SendStatus};
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

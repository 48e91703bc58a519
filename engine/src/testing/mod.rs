//! One shard in memory, for tests of handlers: no sockets, no threads, and a clock in the test's
//! hand. The shard and the protocol are those that serve; only the kernel is missing.
//!
//! ```
//! use ringwire::testing::{Received, TestShard};
//! # use ringwire::{Conn, Context, Handler, Message, Offer, Request, Upgrade};
//! # struct Echo;
//! # impl Handler for Echo {
//! #     type State = ();
//! #     type Command = ();
//! #     fn on_upgrade(&mut self, _: &mut Context<'_, Self>, _: &Request<'_>, _: &Offer<'_>) -> Upgrade<()> {
//! #         Upgrade::accept(())
//! #     }
//! #     fn on_message(&mut self, conn: &mut Conn<'_, Self>, _: &mut (), message: Message<'_>) {
//! #         conn.send(message);
//! #     }
//! # }
//!
//! let mut shard = TestShard::new(|_start| Echo);
//! let mut client = shard.connect("/", &[]).expect("it lets everybody in");
//! client.send("hello");
//! shard.run();
//! assert_eq!(client.received(), [Received::Text("hello".into())]);
//! ```
//!
//! It exists with the feature `testing`, which belongs among the dev-dependencies.

mod client;
mod driver;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use client::{Received, TestClient, TestResponse};
use driver::{TestDriver, World};

use crate::config::Config;
use crate::driver::Wait;
use crate::handle::Handle;
use crate::handler::Handler;
use crate::server::joining::{join_shards, make_mailboxes};
use crate::server::shard_start::ShardStart;
use crate::shard::Shard;

/// A server of one shard, which does nothing by itself: [`run`](Self::run) and
/// [`advance`](Self::advance) let it work.
pub struct TestShard<H: Handler> {
    shard: Shard<H, TestDriver>,
    world: Rc<World>,
    handle: Handle<H::Command>,
}

impl<H: Handler> TestShard<H> {
    /// Starts a shard with the default settings. `on_start` has run when this returns.
    #[must_use]
    pub fn new(make: impl FnOnce(ShardStart<H::Command>) -> H) -> Self {
        Self::with_config(Config::new(), make)
    }

    /// Starts a shard with these settings.
    ///
    /// # Panics
    ///
    /// If the settings contradict themselves.
    #[must_use]
    pub fn with_config(config: Config, make: impl FnOnce(ShardStart<H::Command>) -> H) -> Self {
        config.check().expect("settings that a server starts with");
        let mailboxes = make_mailboxes(1, &config).expect("a descriptor for an eventfd");
        let links = join_shards(&mailboxes, &config).pop().expect("links for each shard");
        let handle = Handle::new(Arc::clone(&mailboxes), links.server);
        let world = Rc::new(World::default());
        let driver = TestDriver::new(Rc::clone(&world), config.receive_buffer_bytes);
        let handler = make(ShardStart { index: 0, shards: 1, handle: handle.clone() });
        let mut shard = Shard::new(driver, handler, &config, links);
        shard.start();
        let mut this = Self { shard, world, handle };
        this.run();
        this
    }

    /// Reaches the shard as other threads do. What it asks for is done by the next
    /// [`run`](Self::run). A socket that [`Handle::adopt`] hands over is a real one, which no shard in
    /// memory serves: its connection is opened and closed. After [`Handle::stop`], once every client has left, the shard ends with
    /// a `run`, and the handle says so.
    #[must_use]
    pub fn handle(&self) -> Handle<H::Command> {
        self.handle.clone()
    }

    /// Lets the shard work until it waits for input or for time to pass.
    pub fn run(&mut self) {
        self.advance(Duration::ZERO);
    }

    /// Lets so much time pass, and the shard work meanwhile: deadlines come and timers fire in
    /// their order.
    ///
    /// # Panics
    ///
    /// If the shard is never done: two handlers that answer each other, for example.
    pub fn advance(&mut self, time: Duration) {
        let time_ms = u64::try_from(time.as_millis()).expect("less than a million years");
        self.world.begin(time_ms);
        for _ in 0..TICKS_MAX {
            if self.shard.is_finished() {
                return self.shard.finish();
            }
            self.shard.tick();
            if self.world.is_over() && !self.shard.is_finished() {
                return;
            }
        }
        panic!("the shard is not done after {TICKS_MAX} ticks");
    }

    /// Opens a WebSocket: sends the handshake for `target` (`/ws?room=a`) and lets the shard
    /// answer.
    ///
    /// # Errors
    ///
    /// The response with which it was refused.
    ///
    /// # Panics
    ///
    /// If there is no answer yet, because the handler has taken a ticket:
    /// [`begin`](Self::begin) is for those.
    pub fn connect(
        &mut self,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<TestClient, TestResponse> {
        let mut client = self.begin(target, headers);
        self.run();
        assert!(client.is_answered(), "the handshake is not answered yet");
        client.response().map_or(Ok(client), Err)
    }

    /// Sends a handshake, and leaves it to the next [`run`](Self::run) to be answered.
    ///
    /// # Panics
    ///
    /// If target or headers cannot be sent.
    #[must_use]
    pub fn begin(&mut self, target: &str, headers: &[(&str, &str)]) -> TestClient {
        TestClient::begin(self.world.connect(), target, headers)
    }

    /// Sends a plain HTTP request, such as `GET` for `/health`, and returns the answer.
    ///
    /// # Panics
    ///
    /// If there is no answer yet.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> TestResponse {
        let wire = self.world.connect();
        client::write_request(&wire, method, target, headers);
        self.run();
        client::read_response(&wire).expect("an answer")
    }
}

/// Ticks of one call of `advance`: far more than any test's handlers need.
const TICKS_MAX: usize = 1_000_000;

impl<H: Handler> Drop for TestShard<H> {
    /// Stops the shard in order, so that `on_stop` and every `on_close` run.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.handle.stop();
        self.world.hang_up();
        self.run();
        let wait = self.shard.how_long_to_wait();
        debug_assert!(self.shard.is_finished() || wait != Wait::No);
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod findings;
#[cfg(test)]
mod tests;

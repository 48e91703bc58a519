//! The loop of one core: a table of calls. Nothing here parses, encodes or decides a policy;
//! each line of a tick is a file in `shard/`.
//!
//! ```text
//! tick: submit and wait ─► completions ─► due timers ─► broadcasts ─► commands
//!         ▲                                                              │
//!         └── re-arm receives ◄── one send per dirty connection ◄── publishes of the tick
//! ```

mod accept;
mod closing;
mod core;
mod deadlines;
mod fanout;
#[cfg(any(test, feature = "sim"))]
mod inspect;
mod opening;
mod receive;
mod send;
mod surplus;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use self::accept::{Accepting, Warned};
pub(crate) use self::core::{Core, Publication};
pub(crate) use self::surplus::Surplus;
use crate::config::{Config, SURPLUS_MAX};
use crate::connections::Connections;
use crate::descriptors::Descriptors;
use crate::driver::{Completion, Driver, Key, Socket, Wait};
use crate::forward::Forward;
use crate::handler::Handler;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::sys::{Publisher, Reader};
use crate::timer_wheel::TimerWheel;
use crate::topic::{Log, Topics};
use crate::write_buffer::BufferPool;

/// How a shard is joined to the others.
pub(crate) struct Links {
    /// This shard's index.
    pub(crate) shard: usize,
    /// Tells this server's connections from those of other servers.
    pub(crate) server: u32,
    /// Of all shards together.
    pub(crate) descriptors: Arc<Descriptors>,
    /// Of every shard, by index.
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) publisher: Publisher<Publication>,
    /// One for each other shard's publisher.
    pub(crate) readers: Vec<Reader<Publication>>,
}

pub(crate) struct Shard<H: Handler, D: Driver> {
    driver: D,
    handler: H,
    connections: Connections<H::State>,
    core: Core,
    links: Links,
    /// By listener.
    accepting: Vec<Accepting>,
    /// Accepted beyond the limits, and not yet in a slot.
    waiting: VecDeque<Socket>,
    exhaustion_warned: Warned,
    accept_error_warned: Warned,
    surplus_warned: Warned,
    /// Set when the server is to stop: by then connections are cut off.
    drain_until_ms: Option<u64>,
    /// Connections whose receive has ended and must be armed again.
    rearm: Vec<Key>,
    completions: Vec<Completion>,
    publications: Vec<Publication>,
}

impl<H: Handler, D: Driver> Shard<H, D> {
    pub(crate) fn new(driver: D, handler: H, config: &Config, links: Links) -> Self {
        let now_ms = driver.now_ms();
        let core = Core {
            config: config.clone(),
            head_limits: config.head_limits(),
            incoming_limits: config.incoming_limits(),
            shard: links.shard,
            server: links.server,
            surplus: Vec::new(),
            is_one_of_many: !links.readers.is_empty(),
            now_ms,
            peer_addr: D::peer_addr,
            timers: TimerWheel::new(now_ms, config.connections_max + SURPLUS_MAX),
            pool: BufferPool::new(),
            forward: Forward::new(config),
            topics: Topics::default(),
            log: Log::default(),
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            dirty: Vec::new(),
            failing: Vec::new(),
            moved: Vec::new(),
            metrics: Metrics::default(),
        };
        let listeners = driver.listeners();
        Self {
            driver,
            handler,
            connections: Connections::new(config.connections_max + SURPLUS_MAX),
            core,
            links,
            accepting: vec![Accepting::Armed; listeners],
            waiting: VecDeque::new(),
            exhaustion_warned: Warned::default(),
            accept_error_warned: Warned::default(),
            surplus_warned: Warned::default(),
            drain_until_ms: None,
            rearm: Vec::new(),
            completions: Vec::new(),
            publications: Vec::new(),
        }
    }

    /// Serves until the server is stopped and every connection is gone; after [`start`].
    ///
    /// [`start`]: Self::start
    pub(crate) fn run(&mut self) {
        while !self.is_finished() {
            self.tick();
        }
        self.finish();
    }

    pub(crate) fn start(&mut self) {
        for listener in 0..self.accepting.len() {
            self.driver.arm_accept(listener);
        }
    }

    /// Submits what is queued, without waiting.
    pub(crate) fn submit(&mut self) {
        self.driver.tick(Wait::No, &mut self.completions);
    }

    pub(crate) fn tick(&mut self) {
        self.wait();
        self.dispatch();
        self.fire_deadlines();
        self.take_broadcasts();
        self.take_commands();
        self.fail_failing();
        self.hand_out_publishes();
        self.flush_dirty();
        self.recycle_sent();
        self.rearm_receives();
        self.resume_accepting();
        self.core.metrics.completions_overflowed = self.driver.overflows();
        self.mailbox().metrics.store(&self.core.metrics);
    }

    fn wait(&mut self) {
        let wait = self.how_long_to_wait();
        self.driver.tick(wait, &mut self.completions);
        self.mailbox().sleep.lower();
        self.core.now_ms = self.driver.now_ms();
        self.core.timers.skip_idle_time(self.core.now_ms);
    }

    /// Announces the sleep before it looks for work a last time (see `sleep_flag.rs`).
    pub(crate) fn how_long_to_wait(&self) -> Wait {
        if self.has_work_left() {
            return Wait::No;
        }
        self.mailbox().sleep.raise();
        if self.has_mail() {
            return Wait::No;
        }
        match self.next_deadline_in_ms() {
            Some(ms) => Wait::Millis(ms),
            None => Wait::Forever,
        }
    }

    fn has_work_left(&self) -> bool {
        let core = &self.core;
        !(core.outbox.is_empty()
            && core.failing.is_empty()
            && core.dirty.is_empty()
            && core.log.is_empty())
    }

    fn has_mail(&self) -> bool {
        self.mailbox().has_commands()
            || self.links.readers.iter().any(Reader::is_behind)
            || (self.mailbox().is_stopping() && self.drain_until_ms.is_none())
    }

    fn dispatch(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            match completion {
                Completion::Received { key, result, more } => self.on_received(key, result, more),
                Completion::Sent { key, result, outbound } => self.on_sent(key, result, outbound),
                Completion::Accepted { listener, result, more } => {
                    self.on_accepted(listener, result, more);
                }
                Completion::Woken => {}
            }
        }
        self.completions = completions;
    }

    fn mailbox(&self) -> &Mailbox {
        &self.links.mailboxes[self.links.shard]
    }

    /// Nothing is left to serve, and the accept has ended too.
    pub(crate) fn is_finished(&self) -> bool {
        self.drain_until_ms.is_some() && self.connections.len() == 0 && self.is_accepting_over()
    }

    /// Submits what the last tick queued (closed sockets, wakes).
    fn finish(&mut self) {
        self.submit();
        self.mailbox().end();
        self.mailbox().metrics.store(&self.core.metrics);
    }

    /// Tells subscribers their new places after a callback has left topics.
    #[inline]
    fn note_moved(&mut self) {
        if !self.core.moved.is_empty() {
            self.note_moved_now();
        }
    }

    #[cold]
    fn note_moved_now(&mut self) {
        for moved in self.core.moved.drain(..) {
            let session = &mut self.connections.tenant_mut(moved.slot).session;
            let subscriptions = session.subscriptions.as_mut();
            moved.note(subscriptions.expect("a topic lists only its subscribers"));
        }
    }
}

/// Runs a callback; `None` if it panicked. The message went to the panic hook. What the
/// handler holds may be half changed then, which is for the handler to care about: the
/// engine's own state is not lent out in pieces a panic could tear.
#[inline]
fn guard<R>(callback: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(callback)).ok()
}

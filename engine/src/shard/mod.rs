//! The loop of one shard. Each step of a tick is in a file of `shard/`; this file only calls them
//! in order, and keeps the clock by which deadlines are judged.
//!
//! ```text
//! tick: submit and wait ─► completions ─► deadlines ─► broadcasts ─► commands
//!         ▲                                                              │
//!         └── re-arm receives ◄── one send per dirty connection ◄── publishes of the tick
//! ```

mod accept;
mod accepting;
pub(crate) mod addressees;
mod adopt;
pub(crate) mod app_timers;
mod clock;
mod closing;
mod commands;
pub(crate) mod core;
mod date;
mod deadlines;
pub(crate) mod desk;
mod fanout;
pub(crate) mod guard;
#[cfg(any(test, feature = "sim"))]
mod inspect;
pub(crate) mod lent;
pub(crate) mod links;
pub(crate) mod mailbox;
mod receive;
mod requests;
mod send;
pub(crate) mod sleep_flag;
mod surplus;
mod tickets;
pub(crate) mod timer_wheel;
mod warned;

use std::collections::VecDeque;

use self::accepting::Accepting;
use self::clock::{Clock, Judging};
use self::core::{Core, Publication};
use self::date::Date;
use self::desk::Desk;
use self::links::Links;
use self::mailbox::Mailbox;
use self::timer_wheel::TimerWheel;
use self::warned::Warned;
use crate::config::{Config, SURPLUS_MAX, TickLimits};
use crate::connection::connections::Connections;
use crate::connection::forward::Forward;
use crate::connection::write_buffer::BufferPool;
use crate::driver::{Completion, Driver, Key, Wait};
use crate::fanout::publish_log::{Deliveries, PublishLog};
use crate::fanout::topic::Topics;
use crate::handler::Handler;
use crate::metrics::Metrics;
use crate::sys::Reader;

pub(crate) struct Shard<H: Handler, D: Driver> {
    driver: D,
    handler: H,
    connections: Connections<H::State, D::Socket>,
    core: Core,
    desk: Desk<H::Command>,
    links: Links<H::Command>,
    /// By listener.
    accepting: Vec<Accepting>,
    /// Accepted beyond the limits, and not yet in a slot.
    waiting: VecDeque<D::Socket>,
    exhaustion_warned: Warned,
    accept_error_warned: Warned,
    surplus_warned: Warned,
    gap_warned: Warned,
    /// Set when the server is to stop: by then connections are cut off.
    drain_until_ms: Option<u64>,
    /// When it stops, and when they are cut off: the next slot to look at; beyond all slots when
    /// none is left.
    close_from: u32,
    cut_off_from: u32,
    /// More deadlines have come than one tick looks at.
    has_deadlines_left: bool,
    /// When memory that a crowd has left is given back; `None` while nothing is there to be.
    trim_at_ms: Option<u64>,
    /// What has been freed since the allocator was last asked to give it back.
    freed_bytes: usize,
    clock: Clock,
    judging: Judging,
    deliveries: Deliveries,
    /// Connections whose receive has ended and must be armed again.
    rearm: Vec<Key>,
    completions: Vec<Completion<D::Socket>>,
    publications: Vec<Publication>,
}

impl<H: Handler, D: Driver> Shard<H, D> {
    pub(crate) fn new(driver: D, handler: H, config: &Config, links: Links<H::Command>) -> Self {
        let now_ms = driver.now_ms();
        let core = Core {
            config: config.clone(),
            tick_limits: TickLimits::DEFAULT,
            head_limits: config.head_limits(),
            incoming_limits: config.incoming_limits(),
            shard: links.shard,
            server: links.server,
            surplus: Vec::new(),
            is_one_of_many: !links.readers.is_empty(),
            now_ms,
            judged_ms: now_ms,
            date: Date::new(D::system_time(), now_ms),
            panic_warned: Warned::default(),
            is_quiet: true,
            timers: TimerWheel::new(now_ms, config.connections_max + SURPLUS_MAX),
            pool: BufferPool::new(),
            forward: Forward::new(config),
            topics: Topics::default(),
            log: PublishLog::default(),
            ticket_serial: 0,
            is_draining: false,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            gap_surplus: 0,
            publishes_unlogged: 0,
            dirty: VecDeque::new(),
            failing: VecDeque::new(),
            moved: Vec::new(),
            metrics: Metrics::default(),
        };
        let listeners = driver.listeners();
        Self {
            driver,
            handler,
            connections: Connections::new(config.connections_max + SURPLUS_MAX),
            core,
            desk: Desk::new(config, &links),
            links,
            accepting: vec![Accepting::Armed; listeners],
            waiting: VecDeque::new(),
            exhaustion_warned: Warned::default(),
            accept_error_warned: Warned::default(),
            surplus_warned: Warned::default(),
            gap_warned: Warned::default(),
            drain_until_ms: None,
            close_from: 0,
            cut_off_from: 0,
            has_deadlines_left: false,
            trim_at_ms: None,
            freed_bytes: 0,
            clock: Clock::new(now_ms),
            judging: Judging::new(now_ms),
            deliveries: Deliveries::default(),
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
        self.call_shard(|handler, cx| handler.on_start(cx));
        self.start_accepting();
    }

    /// Submits what is queued, without waiting.
    pub(crate) fn submit(&mut self) {
        self.driver.tick(Wait::No, &mut self.completions);
    }

    pub(crate) fn tick(&mut self) {
        let wait = self.how_long_to_wait();
        self.tick_after(wait);
    }

    /// A tick that begins with this wait.
    pub(crate) fn tick_after(&mut self, wait: Wait) {
        self.wait(wait);
        self.dispatch();
        self.note_what_was_judged();
        self.fire_deadlines();
        self.take_broadcasts();
        self.take_commands();
        self.fire_timers();
        self.fail_failing();
        self.hand_out_publishes();
        // What a peer has an answer to is counted: on epoll the answer is out with the send.
        self.mailbox().metrics.store(&self.core.metrics);
        self.flush_dirty();
        self.recycle_sent();
        self.rearm_receives();
        self.resume_accepting();
        self.trim();
        self.core.metrics.completions_overflowed = self.driver.overflows();
        self.mailbox().metrics.store(&self.core.metrics);
        self.clock.end_tick(self.driver.now_ms());
    }

    fn wait(&mut self, wait: Wait) {
        self.driver.tick(wait, &mut self.completions);
        self.mailbox().sleep.lower();
        self.core.now_ms = self.clock.begin_tick(wait, self.driver.now_ms());
        self.core.date.look(self.core.now_ms, D::system_time);
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
        // Those that the first submission has brought: who connected before the start.
        !(self.completions.is_empty()
            && core.outbox.is_empty()
            && !self.has_deadlines_left
            && !self.is_ending_more()
            && core.failing.is_empty()
            && core.dirty.is_empty()
            && core.log.is_empty()
            && self.desk.own() == 0
            && !self.desk.has_answers()
            && !self.desk.timers.is_due(core.now_ms))
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
                Completion::Filled { key, result, buffer } => self.on_filled(key, result, buffer),
                Completion::Sent { key, result, outbound } => self.on_sent(key, result, outbound),
                Completion::Accepted { listener, result, more } => {
                    self.on_accepted(listener, result, more);
                }
                Completion::Woken => {}
            }
        }
        self.completions = completions;
    }

    /// Deadlines are judged by the time at which everything that had completed by then has been
    /// handed out, however many ticks that took.
    fn note_what_was_judged(&mut self) {
        self.core.judged_ms = self.judging.judged_ms(self.core.now_ms, &self.driver);
    }

    /// Gives memory back, some time after it was last in use.
    fn trim(&mut self) {
        let now_ms = self.core.now_ms;
        match self.trim_at_ms {
            Some(at_ms) if at_ms <= now_ms => {
                let is_quiet = self.is_quiet();
                self.driver.trim();
                self.core.pool.trim();
                self.core.dirty.shrink_to(SPARE_ENTRIES);
                self.core.failing.shrink_to(SPARE_ENTRIES);
                self.freed_bytes += self.core.pool.take_freed_bytes();
                if is_quiet || self.freed_bytes >= GIVE_BACK_BYTES_MIN {
                    self.driver.give_back_freed();
                    self.freed_bytes = 0;
                }
                self.core.is_quiet = true;
                self.trim_at_ms = (!is_quiet).then_some(now_ms + TRIM_INTERVAL_MS);
            }
            None if !self.is_quiet() => self.trim_at_ms = Some(now_ms + TRIM_INTERVAL_MS),
            _ => {}
        }
    }

    /// Whether nothing has taken much memory, or freed it, since it was last given back.
    fn is_quiet(&self) -> bool {
        self.core.is_quiet && self.core.pool.freed_bytes() == 0
    }

    fn mailbox(&self) -> &Mailbox<H::Command> {
        &self.links.mailboxes[self.links.shard]
    }

    /// Nothing is left to serve, and the accept has ended too.
    pub(crate) fn is_finished(&self) -> bool {
        self.drain_until_ms.is_some() && self.connections.len() == 0 && self.is_accepting_over()
    }

    /// Submits what the last tick queued (closed sockets, wakes).
    pub(crate) fn finish(&mut self) {
        self.submit();
        let lost = self.desk.lose();
        self.core.metrics.commands_lost += lost.commands;
        self.core.metrics.panics += lost.panics;
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
            let session = &mut self.connections.tenant_mut(moved.slot).slot.session;
            let subscriptions = session.subscriptions.as_mut();
            moved.note(subscriptions.expect("a topic lists only its subscribers"));
        }
    }
}

/// How often memory is given back, while there is any to give: often enough that a crowd that has
/// left is not paid for ten seconds later, seldom enough that a busy server does not notice.
const TRIM_INTERVAL_MS: u64 = 2_000;
/// A shard that is never quiet has the allocator give back what is free each time that it has freed
/// so much, about what its own pools keep.
const GIVE_BACK_BYTES_MIN: usize = 16 << 20;
/// Entries that a list keeps room for.
const SPARE_ENTRIES: usize = 1_024;

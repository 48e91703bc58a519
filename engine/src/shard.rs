//! The loop of one shard. Each step of a tick is in a file of `shard/`; this file only calls them
//! in order, and keeps the clock by which deadlines are judged.
//!
//! ```text
//! tick: submit and wait ─► completions ─► deadlines ─► broadcasts ─► commands
//!         ▲                                                              │
//!         └── re-arm receives ◄── one send per dirty connection ◄── publishes of the tick
//! ```

mod accept;
mod adopt;
mod closing;
mod commands;
mod core;
mod date;
mod deadlines;
mod desk;
mod fanout;
mod http;
#[cfg(any(test, feature = "sim"))]
mod inspect;
mod lent;
mod opening;
mod receive;
mod send;
mod surplus;
mod tickets;
mod warned;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use self::accept::Accepting;
pub(crate) use self::core::{Core, Publication};
use self::date::Date;
pub(crate) use self::desk::Desk;
pub(crate) use self::surplus::Surplus;
use self::warned::Warned;
use crate::config::{Config, SURPLUS_MAX, TickLimits};
use crate::connections::Connections;
use crate::descriptors::Descriptors;
use crate::driver::{Completion, Driver, Key, Mark, Socket, Wait};
use crate::driver_choice::DriverKind;
use crate::forward::Forward;
use crate::handler::Handler;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::publish_log::{Deliveries, PublishLog};
use crate::sys::{Publisher, Reader};
use crate::timer_wheel::TimerWheel;
use crate::topic::Topics;
use crate::write_buffer::BufferPool;

/// How a shard is joined to the others.
pub(crate) struct Links<C> {
    /// This shard's index.
    pub(crate) shard: usize,
    /// Tells this server's connections from those of other servers.
    pub(crate) server: u32,
    /// What the server runs on.
    pub(crate) driver: DriverKind,
    /// Of all shards together.
    pub(crate) descriptors: Arc<Descriptors>,
    /// Of every shard, by index.
    pub(crate) mailboxes: Arc<[Mailbox<C>]>,
    pub(crate) publisher: Publisher<Publication>,
    /// One for each other shard's publisher.
    pub(crate) readers: Vec<Reader<Publication>>,
}

pub(crate) struct Shard<H: Handler, D: Driver> {
    driver: D,
    handler: H,
    connections: Connections<H::State>,
    core: Core,
    desk: Desk<H::Command>,
    links: Links<H::Command>,
    /// By listener.
    accepting: Vec<Accepting>,
    /// Accepted beyond the limits, and not yet in a slot.
    waiting: VecDeque<Socket>,
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
    completions: Vec<Completion>,
    publications: Vec<Publication>,
}

impl<H: Handler, D: Driver> Shard<H, D> {
    pub(crate) fn new(driver: D, handler: H, config: &Config, links: Links<H::Command>) -> Self {
        let now_ms = driver.now_ms();
        let judging = Judging { judged_ms: now_ms, ..Judging::default() };
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
            date: Date::new(D::system_time),
            peer_addr: D::peer_addr,
            unacknowledged_bytes: D::unacknowledged_bytes,
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
            clock: Clock { began_ms: now_ms, ended_ms: now_ms, stalled_ms: 0 },
            judging,
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
        for listener in 0..self.accepting.len() {
            self.driver.arm_accept(listener);
        }
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
    fn finish(&mut self) {
        self.submit();
        self.mailbox().end();
        self.desk.end();
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

/// How often memory is given back, while there is any to give: often enough that a crowd that has
/// left is not paid for ten seconds later, seldom enough that a busy server does not notice.
const TRIM_INTERVAL_MS: u64 = 2_000;
/// A shard that is never quiet has the allocator give back what is free each time that it has freed
/// so much, about what its own pools keep.
const GIVE_BACK_BYTES_MIN: usize = 16 << 20;
/// Entries that a list keeps room for.
const SPARE_ENTRIES: usize = 1_024;

/// The shard's clock, which stands still while the shard does: a process that was stopped, a
/// machine that was moved, a callback that did not return. Peers cannot be heard meanwhile, and
/// such a time is nobody's silence.
struct Clock {
    /// When the last tick began and ended, by the driver's clock.
    began_ms: u64,
    ended_ms: u64,
    /// How long the shard has stood still in all.
    stalled_ms: u64,
}

/// A tick later than this is a stall. Far above what a busy scheduler makes of a tick, and well
/// below any deadline.
const STALL_MS_MIN: u64 = 1_000;

impl Clock {
    fn end_tick(&mut self, driver_ms: u64) {
        self.ended_ms = driver_ms;
    }

    /// The time now that this wait is over.
    fn begin_tick(&mut self, wait: Wait, driver_ms: u64) -> u64 {
        let worked_ms = self.ended_ms.saturating_sub(self.began_ms);
        let waited_ms = driver_ms.saturating_sub(self.ended_ms);
        let late_ms = match wait {
            Wait::No => waited_ms,
            Wait::Millis(ms) => waited_ms.saturating_sub(u64::from(ms)),
            // Without any deadline there is nothing to be late for.
            Wait::Forever => 0,
        };
        self.began_ms = driver_ms;
        if worked_ms + late_ms >= STALL_MS_MIN {
            // All of the wait: nobody knows when in it the stall began, and a peer whose
            // acknowledgements could not arrive is given the time again.
            self.stalled_ms += worked_ms + waited_ms;
        }
        driver_ms - self.stalled_ms
    }
}

/// How far the completions have been handed out.
#[derive(Default)]
struct Judging {
    judged_ms: u64,
    /// When everything before the mark has been handed out, that is everything that had completed
    /// by then.
    next: Option<(Mark, u64)>,
}

impl Judging {
    fn judged_ms(&mut self, now_ms: u64, driver: &impl Driver) -> u64 {
        if driver.completions_waiting() == 0 {
            (self.judged_ms, self.next) = (now_ms, None);
            return now_ms;
        }
        if let Some((mark, then_ms)) = self.next {
            if !driver.has_handed_out(mark) {
                return self.judged_ms;
            }
            self.judged_ms = then_ms;
        }
        self.next = Some((driver.mark(), now_ms));
        self.judged_ms
    }
}

/// Runs a callback; `None` if it panicked. The message went to the panic hook. What the
/// handler holds may be half changed then, which is for the handler to care about: the
/// engine's own state is not lent out in pieces a panic could tear.
#[inline]
fn guard<R>(callback: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(callback)).ok()
}

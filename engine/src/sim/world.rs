//! One world: its shards and clients, the order in which they are stepped, and the checks.

mod limits;
mod outside;
mod rest;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use self::limits::{IDLE_TIMEOUT_MS, draw_config};
use self::outside::Sender;
use super::client::{Client, Manners};
use super::dice::Dice;
use super::driver::{Order, SimDriver};
use super::habits::Habits;
use super::kernel::Kernel;
use super::model::errands::Errand;
use super::model::{Model, ModelHandler, SharedModel};
use super::wire::{Faults, SharedWire};
use crate::config::TickLimits;
use crate::driver::Wait;
use crate::handle::Handle;
use crate::server::joining::{join_shards, make_mailboxes};
use crate::shard::Shard;
use crate::shard::mailbox::Mailbox;

/// What happened in a run, for reports and to see that something did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Steps taken.
    pub steps: u64,
    /// Connections opened.
    pub opens: u64,
    /// Messages handlers were called with.
    pub heard: u64,
    /// Messages clients received.
    pub delivered: u64,
    /// Requests that clients have an answer to, upgrades included.
    pub answered: u64,
    /// Commands carried out.
    pub obeyed: u64,
    /// Times that a timer of the application has fired.
    pub fired: u64,
    /// Faults that struck.
    pub faults: u64,
}

impl Outcome {
    /// Adds another run's numbers.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.opens += other.opens;
        self.heard += other.heard;
        self.delivered += other.delivered;
        self.answered += other.answered;
        self.obeyed += other.obeyed;
        self.fired += other.fired;
        self.faults += other.faults;
    }
}

/// Whether a shard waits, and until when.
#[derive(Clone, Copy)]
enum Sleep {
    Awake,
    /// Done with its tick and about to look whether it may wait: others act meanwhile.
    Deciding,
    Until(u64),
}

pub(super) struct World {
    dice: Dice,
    kernel: Rc<Kernel>,
    model: SharedModel,
    shards: Vec<Shard<ModelHandler, SimDriver>>,
    sleeps: Vec<Sleep>,
    /// What each shard that sleeps has asked for.
    waits: Vec<Wait>,
    mailboxes: Arc<[Mailbox<Errand>]>,
    handle: Handle<Errand>,
    /// Tasks of other threads that wait.
    senders: Vec<Sender>,
    clients: Vec<Client>,
    wires: Vec<SharedWire>,
    clients_max: usize,
    limits: TickLimits,
    steps: u64,
    /// Commands that were left when their shard ended.
    lost_min: u64,
    /// A shard that is not scheduled until then.
    stuck: Option<(usize, u64)>,
}

/// A clock that jumps further than any deadline of a run.
const JUMP_MS: u64 = 9_000;
/// A machine that was stopped. Longer than the longest wait by more than what a shard takes for a
/// stall: one that is over before the wait is cannot be told from silence.
const STAND_STILL_MS: u64 = 9_000;
/// Below the shortest deadline of a run (1,000 ms) by what a frame may take on its way to a client.
const DEADLINE_MS_MIN: u64 = 700;

impl World {
    pub(super) fn new(dice: Dice) -> Self {
        let shards = *dice.pick(&[1, 1, 1, 2, 2, 3]);
        let config = draw_config(&dice);
        // Near the wrap-around of the 32-bit times in some runs.
        let now_ms = *dice.pick(&[1_000, u64::from(u32::MAX) - 3_000]);
        let kernel = Rc::new(Kernel::new(now_ms, Faults::draw(&dice), shards));
        let model = Model::new(config.clone(), Habits::draw(&dice), shards);
        let model = Rc::new(RefCell::new(model));
        let mailboxes = make_mailboxes(shards, &config).expect("an eventfd");
        model.borrow_mut().mailboxes = Some(Arc::clone(&mailboxes));
        let links = join_shards(&mailboxes, &config);
        let limits = TickLimits {
            sends_max: *dice.pick(&[2, 512]),
            endings_max: *dice.pick(&[1, 256]),
            taken_max: *dice.pick(&[3, 512]),
            long_bytes_min: *dice.pick(&[1, 100, 10_000]),
        };
        let server = links[0].server;
        let order = *dice.pick(&[Order::IoUring, Order::Epoll]);
        let shards: Vec<_> = links
            .into_iter()
            .map(|links| {
                let kernel = Rc::clone(&kernel);
                let driver = SimDriver::new(kernel, dice.clone(), links.shard, limits, order);
                let handler = ModelHandler {
                    model: Rc::clone(&model),
                    shard: links.shard,
                    dice: dice.clone(),
                    is_obeying_own: false,
                };
                let mut shard = Shard::new(driver, handler, &config, links);
                shard.set_tick_limits(limits);
                shard.start();
                shard
            })
            .collect();
        let clients_max = dice.between(1, 10);
        Self {
            sleeps: vec![Sleep::Awake; shards.len()],
            waits: vec![Wait::No; shards.len()],
            handle: Handle::new(Arc::clone(&mailboxes), server),
            dice,
            kernel,
            model,
            shards,
            mailboxes,
            senders: Vec::new(),
            clients: Vec::new(),
            wires: Vec::new(),
            clients_max,
            limits,
            steps: 0,
            lost_min: 0,
            stuck: None,
        }
    }

    pub(super) fn run(mut self) -> Outcome {
        let steps = self.dice.between(100, 1_500);
        for _ in 0..steps {
            self.step();
        }
        self.settle();
        self.end();
        let model = self.model.borrow();
        Outcome {
            steps: self.steps,
            opens: model.opens,
            heard: model.heard,
            delivered: model.delivered,
            answered: model.requests.answered,
            obeyed: model.errands.obeyed,
            fired: model.clocks.fired,
            faults: self.kernel.strikes.get(),
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        match self.dice.below(100) {
            0..=4 if self.clients.len() < self.clients_max => self.connect(),
            0..=46 => self.step_client(),
            47..=91 => self.step_shard(),
            92..=95 => self.pass_time(self.dice.between(1, 15) as u64),
            96 | 97 => self.go_outside(),
            _ => self.misfortune(),
        }
        self.go_on_sending();
        self.check();
    }

    fn connect(&mut self) {
        let hostile = self.kernel.faults.borrow().hostile;
        let manners = match () {
            () if self.dice.chance(hostile) => Manners::Hostile,
            () if self.dice.chance(hostile) => Manners::Slow,
            () => Manners::Polite,
        };
        let number = self.clients.len();
        let (client, wire) = Client::new(number, &self.dice, &self.kernel, &self.model, manners);
        let number = self.clients.len();
        let is_hostile = manners == Manners::Hostile;
        self.model.borrow_mut().tenants.entry(number).or_default().is_hostile = is_hostile;
        self.clients.push(client);
        self.wires.push(Rc::clone(&wire));
        let shard = self.dice.below(self.shards.len());
        self.kernel.backlogs.borrow_mut()[shard].push_back(wire);
    }

    fn step_client(&mut self) {
        let reset = self.kernel.faults.borrow().reset;
        if !self.clients.is_empty() {
            let client = self.dice.below(self.clients.len());
            self.clients[client].step(reset);
        }
    }

    fn step_shard(&mut self) {
        let shard = self.dice.below(self.shards.len());
        match self.stuck {
            Some((stuck, until)) if stuck == shard && self.steps < until => {}
            _ => {
                self.tick(shard);
            }
        }
    }

    /// Ticks a shard unless it sleeps and nothing would wake it.
    fn tick(&mut self, shard: usize) {
        if self.model.borrow().ended[shard] {
            return;
        }
        let mut wait = Wait::No;
        let now_ms = self.kernel.now_ms.get();
        let is_runnable = match self.sleeps[shard] {
            Sleep::Awake => true,
            Sleep::Deciding => return self.decide(shard),
            Sleep::Until(until_ms) => {
                wait = self.waits[shard];
                until_ms <= now_ms
                    || self.kernel.woken.borrow()[shard]
                    || self.shards[shard].driver().is_ready()
                    || self.dice.chance(self.kernel.faults.borrow().spurious)
            }
        };
        if !is_runnable {
            return;
        }
        self.model.borrow_mut().begin_tick();
        let served_before = self.shards[shard].served();
        self.shards[shard].tick_after(wait);
        self.note_wakes();
        self.shards[shard].check_tick(&served_before);
        self.check_shares(shard);
        self.sleeps[shard] = Sleep::Deciding;
    }

    /// A tick did no more than its share of anything, and what was due that the share left room for.
    fn check_shares(&self, shard: usize) {
        let TickLimits { endings_max, taken_max, .. } = self.limits;
        let (now_ms, has_left) = self.shards[shard].now_and_left();
        let mut model = self.model.borrow_mut();
        let Model { failures, cut_offs, .. } = *model;
        assert!(failures <= endings_max, "{failures} connections failed in one tick");
        assert!(cut_offs <= endings_max, "{cut_offs} connections cut off in one tick");
        let (boxed, own) = (model.errands.boxed_in_tick, model.errands.own_in_tick);
        assert!(boxed <= taken_max && own <= taken_max, "{boxed} and {own} commands in one tick");
        let fired = model.clocks.fired_in_tick;
        assert!(fired <= taken_max, "{fired} timers in one tick");
        let is_overdue = model.clocks.next_ms(shard).is_some_and(|at_ms| at_ms <= now_ms);
        assert!(!is_overdue || fired == taken_max, "shard {shard}: a timer is overdue");
        model.now_ms[shard] = now_ms;
        if !has_left {
            model.requests.note_taken(shard, now_ms);
        }
    }

    /// A shard falls asleep, or finds that it must not.
    fn decide(&mut self, shard: usize) {
        let wait = self.shards[shard].how_long_to_wait();
        if wait != Wait::No {
            self.shards[shard].check_wait();
            self.check_wait(shard, wait);
            self.shards[shard].driver_mut().submit();
        }
        self.waits[shard] = wait;
        self.sleeps[shard] = match wait {
            Wait::No => Sleep::Awake,
            Wait::Millis(ms) => Sleep::Until(self.kernel.now_ms.get() + u64::from(ms)),
            Wait::Forever => Sleep::Until(u64::MAX),
        };
    }

    /// A shard that waits wakes up for its first timer, and leaves nothing undone before it.
    fn check_wait(&self, shard: usize, wait: Wait) {
        let model = self.model.borrow();
        let (now_ms, has_left) = self.shards[shard].now_and_left();
        let left = model.errands.left(shard);
        assert!(!has_left && left == 0, "shard {shard} waits, commands {left}, others {has_left}");
        let Some(at_ms) = model.clocks.next_ms(shard) else { return };
        let is_in_time = match wait {
            Wait::No => true,
            Wait::Millis(ms) => at_ms > now_ms && now_ms + u64::from(ms) <= at_ms + 1,
            Wait::Forever => false,
        };
        assert!(is_in_time, "shard {shard} waits {wait:?} from {now_ms}, timer at {at_ms}");
    }

    fn pass_time(&mut self, ms: u64) {
        let before_ms = self.kernel.now_ms.get();
        self.kernel.now_ms.set(before_ms + ms);
        for client in &mut self.clients {
            client.note_time(before_ms, DEADLINE_MS_MIN);
        }
    }

    /// A machine was stopped: the time that its clock has moved is nobody's.
    fn stand_still(&mut self, ms: u64) {
        self.kernel.now_ms.set(self.kernel.now_ms.get() + ms);
        self.clients.iter_mut().for_each(|client| client.skip_time(ms));
    }

    fn misfortune(&mut self) {
        let faults = self.kernel.faults.borrow().clone();
        if self.dice.chance(faults.clock_jump) {
            match self.dice.below(2) {
                // Everything stands still but the clock: a machine that was stopped.
                0 => self.stand_still(STAND_STILL_MS),
                _ => self.wait_long(),
            }
        }
        if self.dice.chance(faults.stuck_shard) {
            let until = self.steps + self.dice.between(20, 300) as u64;
            self.stuck = Some((self.dice.below(self.shards.len()), until));
        }
    }

    /// Nobody does anything for long but those who read without a pause, and now and then some
    /// speak. Every shard wakes up when it should.
    fn wait_long(&mut self) {
        const STEP_MS: u64 = 50;
        for _ in 0..JUMP_MS / STEP_MS {
            self.pass_time(STEP_MS);
            self.clients.iter_mut().for_each(Client::go_on_reading);
            if self.dice.chance(15) {
                for client in &mut self.clients {
                    if self.dice.chance(40) {
                        client.speak_up();
                    }
                }
            }
            for shard in 0..self.shards.len() {
                self.tick(shard);
                self.tick(shard);
            }
            // Before anybody answers what is judged.
            self.check();
        }
    }

    /// The rules that hold after every step.
    fn check(&mut self) {
        for (shard, sockets) in self.shards.iter().zip(&*self.kernel.sockets.borrow()) {
            shard.check(*sockets);
        }
        let mut model = self.model.borrow_mut();
        assert!(model.violations.is_empty(), "{:?}", model.violations);
        for (number, reason) in std::mem::take(&mut model.timed_out) {
            self.check_timed_out(number, &reason);
        }
        let lost = self.publishes_lost();
        // One more would be the engine's own, caught with the handler's.
        let panics: u64 = self.shards.iter().map(|shard| shard.metrics().panics).sum();
        assert_eq!(panics, model.panics, "callbacks that panicked");
        assert!(model.gap_publishes_max <= lost, "publishes lost and not counted");
        let refused = self.handle.metrics().commands_refused;
        assert_eq!(refused, model.errands.refused, "commands refused");
        model.has_dropped |= self.shards.iter().any(|shard| {
            shard.metrics().messages_dropped > 0 || shard.metrics().publishes_lost > 0
        });
    }

    fn publishes_lost(&self) -> u64 {
        self.shards.iter().map(|shard| shard.metrics().publishes_lost).sum()
    }

    /// A deadline has ended a connection: the client must have left something undone, and nothing
    /// may be unread that had come before the server looked.
    fn check_timed_out(&self, number: usize, reason: &str) {
        let wire = self.wires[number].borrow();
        let oldest_ms = wire.arrivals.front().map(|(arrived_ms, _)| *arrived_ms);
        let is_unread = oldest_ms
            .is_some_and(|oldest_ms| wire.asked_ms.is_none_or(|asked_ms| oldest_ms < asked_ms));
        // Other deadlines do not begin anew with what has come; the server asks once.
        let counts = matches!(reason, "ping timeout" | "idle timeout") || wire.asked_ms.is_none();
        let is_unread = is_unread && counts;
        assert!(!is_unread, "client {number}: {reason}, and its bytes were unread");
        let client = &self.clients[number];
        let is_late = client.may_time_out(reason, IDLE_TIMEOUT_MS);
        assert!(is_late, "client {number}: {reason}, and it had done all it had to");
    }
}

//! What the simulator looks at between two ticks: the rules of the engine, asserted.
//! Never compiled into a server.

use ringwire_proto::http::CONTINUE;

use super::Shard;
use super::core::Publication;
use super::core::Surplus;
use crate::config::{SURPLUS_MAX, SURPLUS_WAITING_MAX, TickLimits};
use crate::connection::connections::Tenant;
use crate::connection::deadlines::request_timeout_ms;
use crate::connection::slot::{Marks, PeerSide, Pending, Receiving, Session, Stage, Told};
use crate::driver::{Driver, Key};
use crate::handler::Handler;
use crate::metrics::Metrics;
use crate::sim::Outstanding;

impl<H: Handler, D: Driver + Outstanding> Shard<H, D> {
    pub(crate) fn driver(&self) -> &D {
        &self.driver
    }

    pub(crate) fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    pub(crate) fn set_tick_limits(&mut self, limits: TickLimits) {
        self.core.tick_limits = limits;
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    fn sessions(&self) -> impl Iterator<Item = &Session<H::State>> {
        self.connections.tenants().map(|tenant| &tenant.slot.session)
    }

    /// A publish is lost, of which the next tick tells the subscribers.
    #[cfg(test)]
    pub(crate) fn lose_publish(&mut self) {
        self.core.publishes_unlogged += 1;
    }

    /// The shard's clock, and whether a command or an answer waits for it.
    pub(crate) fn now_and_left(&self) -> (u64, bool) {
        let has_own = self.desk.has_answers() || self.desk.own() > 0;
        (self.core.now_ms, self.mailbox().has_commands() || has_own)
    }

    /// What `run` does when everybody is gone.
    pub(crate) fn end(&mut self) {
        self.finish();
    }

    /// The rules that hold between two ticks.
    pub(crate) fn check(&self, open_sockets: usize) {
        let (slots, waiting) = (self.connections.len(), self.waiting.len());
        assert_eq!(slots + waiting, open_sockets, "a slot for each socket, or it waits for one");
        assert_eq!(self.core.metrics.connections_now, slots as u64);
        assert_eq!(self.core.metrics.completions_overflowed, self.driver.overflows());
        let metrics = &self.core.metrics;
        // A connection is refused or breaks a rule once: what comes behind that is dropped.
        let faults = metrics.handshakes_refused + metrics.violations;
        let connections = metrics.connections_accepted + metrics.connections_refused;
        assert!(faults <= connections, "{faults} faults");
        let config = &self.core.config;
        let surplus = self.core.surplus.len();
        assert!(slots - surplus <= config.connections_max, "{slots} connections");
        assert!(surplus <= SURPLUS_MAX && waiting <= SURPLUS_WAITING_MAX);
        assert!(waiting == 0 || surplus == SURPLUS_MAX, "there is a place for those who wait");
        let is_listed = |surplus: &Surplus| self.connections.has(surplus.key);
        assert!(self.core.surplus.iter().all(is_listed), "a surplus connection is one");
        // A publish that finds the outbox empty always fits.
        let outbox = self.core.outbox.len();
        // And behind each that waits, word of those that did not fit.
        assert!(outbox <= config.broadcast_entries + 1, "{outbox} publishes wait");
        let bytes: usize = self.core.outbox.iter().map(Publication::bytes).sum();
        assert_eq!(self.core.outbox_bytes, bytes);
        assert!(outbox <= 2 || bytes <= config.broadcast_bytes_max, "{bytes} bytes of publishes");
        assert!(self.core.log.is_empty(), "a publish was not handed out");
        assert!(self.core.moved.is_empty(), "a subscriber was not told its place");
        assert!(self.rearm.is_empty(), "a receive was not armed again");
        let buffers_out = self.core.forward.buffers_out();
        assert_eq!(self.driver.leases(), buffers_out, "a receive buffer is where it belongs");
        for tenant in self.connections.tenants() {
            self.check_session(tenant);
        }
        self.core.topics.check(|slot, topic, index| {
            let session = self.connections.session(slot);
            let subscriptions = session.subscriptions.as_ref().expect("listed, so subscribed");
            assert_eq!(subscriptions.index_of(topic), Some(index), "its place in the list");
        });
    }

    fn check_session(&self, tenant: &Tenant<H::State, D::Socket>) {
        let session = &tenant.slot.session;
        let (receives, sends) = self.driver.outstanding(&tenant.socket);
        assert_eq!(session.receiving != Receiving::No, receives, "the flag of the receive");
        assert_eq!(session.sending, sends, "the flag of the send");
        let config = &self.core.config;
        let unsent = session.writes.unsent_bytes();
        // Alone, a message of any size is queued, and what one tick publishes; handlers here
        // send no more than they may receive. A control frame may go over the limit by what one
        // takes, and there are at most our Close and, below the mark, pings and pongs.
        let alone_bytes = self.core.log.tick_bytes_max.max(config.message_bytes_max + 14);
        assert!(unsent <= config.write_bytes_max.max(alone_bytes) + 300, "{unsent} unsent");
        if unsent == 0 && !session.sending {
            assert!(session.writes.owns_nothing(), "an idle connection owns a write buffer");
        }
        if let (Stage::Open, Some(Pending::Pong(payload))) =
            (session.stage, session.pending.as_deref())
        {
            let is_full = unsent > 0 && unsent + 2 + payload.len() > config.write_bytes_max;
            assert!(is_full, "a pong waits, and there is room for it");
        }
        let awaiting = match session.pending.as_deref() {
            Some(Pending::Awaiting(awaiting)) => Some(awaiting),
            _ => None,
        };
        let is_awaiting = session.stage == Stage::Awaiting;
        assert!(!is_awaiting || awaiting.is_some(), "awaits an answer to nothing");
        let early_bytes = match session.pending.as_deref() {
            Some(Pending::Early(early)) => early.len(),
            _ => awaiting.map_or(0, |awaiting| awaiting.early.len()),
        };
        assert!(early_bytes <= config.early_bytes_max, "{early_bytes} early bytes");
        let topics = session.subscriptions.as_ref().map_or(0, |held| held.len());
        assert!(topics <= config.subscriptions_max, "{topics} subscriptions");
        if session.stage == Stage::Dying {
            assert!(session.told != Told::Open, "dying and not told");
            assert!(
                receives || sends || session.marks.contains(Marks::DIRTY),
                "dying and never freed"
            );
            return;
        }
        let is_stopping = self.drain_until_ms.is_some() && session.key.slot < self.close_from;
        assert!(!is_served(session.stage) || !is_stopping, "served while the server stops");
        self.check_request(session);
        assert!(
            receives || session.peer_side == PeerSide::Ended,
            "nothing will be received any more"
        );
        assert!(self.core.timers.is_scheduled(session.key.slot), "no deadline");
        self.check_schedule(session);
        if !session.sending && session.writes.is_waiting() {
            assert!(session.marks.contains(Marks::DIRTY), "bytes that nobody will send");
        }
        if session.stage != Stage::Open {
            assert!(session.subscriptions.is_none(), "closing and subscribed");
        }
        if session.peer_side == PeerSide::Done {
            let dropped = session.tally.dropped_bytes();
            assert!(dropped <= config.drain_bytes_max, "{dropped} bytes dropped and not cut off");
        }
        let (unsent_shared, kept) = session.writes.shared_bytes();
        assert!(kept <= 8 * unsent_shared + 8_192, "{kept} bytes kept for {unsent_shared}");
    }

    /// One request after the other: the next one is looked at when the response is out, and nothing
    /// is kept that no longer belongs to one.
    fn check_request(&self, session: &Session<H::State>) {
        let unsent = session.writes.unsent_bytes();
        let is_out = unsent == 0 && !session.sending;
        match session.stage {
            Stage::Idle => assert!(is_out && session.pending.is_none(), "idle, and not done"),
            Stage::Opening | Stage::Awaiting => {
                assert!(
                    unsent <= CONTINUE.len(),
                    "a request, and {unsent} bytes before its answer"
                );
            }
            Stage::Answering => assert!(!is_out, "the response is out, and nobody goes on"),
            Stage::Open => assert_eq!(session.peer_side, PeerSide::Open, "open behind the FIN"),
            Stage::Closing | Stage::Draining | Stage::Dying => {}
        }
        if let Some(Pending::Body(body)) = session.pending.as_deref() {
            let bytes = body.bytes.len();
            assert!(bytes <= self.core.config.body_bytes_max, "{bytes} bytes of a body");
        }
    }

    /// A handshake and an end are looked at when they are due and not later. Says nothing of one that
    /// has been put off, to be looked at again at once.
    fn check_schedule(&self, session: &Session<H::State>) {
        let config = &self.core.config;
        let timeout_ms = match session.stage {
            Stage::Opening => request_timeout_ms(session, &self.core),
            Stage::Idle => config.keep_alive_timeout_ms,
            Stage::Awaiting => config.ticket_timeout_ms,
            Stage::Closing | Stage::Draining => config.close_timeout_ms,
            Stage::Answering | Stage::Open | Stage::Dying => return,
        };
        let now_ms = self.core.now_ms;
        let elapsed_ms = (now_ms as u32).wrapping_sub(session.since_ms);
        let due_ms = (now_ms - u64::from(elapsed_ms) + u64::from(timeout_ms)).max(now_ms);
        let at_ms = self.core.timers.scheduled_ms(session.key.slot).expect("checked just before");
        assert!(at_ms <= due_ms + 128, "due at {due_ms}, to be looked at at {at_ms}");
    }

    /// The connections that nothing but a share of a tick ends while the server stops.
    pub(crate) fn served(&self) -> Vec<Key> {
        let served = |session: &&Session<_>| matches!(session.stage, Stage::Opening | Stage::Open);
        self.sessions().filter(served).map(|session| session.key).collect()
    }

    /// The rules that hold right after a tick: it did no more than its share, and nothing is overdue.
    pub(crate) fn check_tick(&self, served_before: &[Key]) {
        let endings_max = self.core.tick_limits.endings_max;
        let looks = self.driver.looks();
        assert!(looks <= endings_max, "{looks} deadlines in one tick");
        // Deadlines, failures, and the share of a server that stops or has drained for too long;
        // and each completion may tell of an end.
        let ends_max = 3 * endings_max + self.driver.handed_out();
        let (shut_downs, surplus) = (self.driver.shut_downs(), self.core.surplus.len());
        assert!(shut_downs <= ends_max + surplus, "{shut_downs} cut off in one tick");
        // Otherwise there may be commands of another thread as well.
        if self.drain_until_ms.is_some() {
            let served = self.served();
            let closed = served_before.iter().filter(|key| !served.contains(key)).count();
            assert!(closed <= ends_max + surplus, "{closed} closed in one tick");
        }
        let is_judged = self.core.judged_ms == self.core.now_ms;
        assert!(is_judged || self.driver.completions_waiting() > 0, "all is looked at, not judged");
        // The two clocks are one as long as the shard has never stood still.
        let waiting_ms = self.driver.waiting_since_ms().filter(|_| self.clock.stalled_ms == 0);
        let is_looked_at = waiting_ms.is_none_or(|since_ms| self.core.judged_ms <= since_ms);
        assert!(is_looked_at, "judged at {}, {waiting_ms:?} waits", self.core.judged_ms);
        self.check_deadlines();
    }

    /// The rule that holds when the shard is about to wait: it has ended whom it had to.
    pub(crate) fn check_wait(&self) {
        let Some(until_ms) = self.drain_until_ms else { return };
        let is_over = until_ms <= self.core.now_ms;
        for session in self.sessions() {
            assert!(
                !is_served(session.stage),
                "a connection is served, and the server waits and stops"
            );
            let is_dying = session.stage == Stage::Dying;
            assert!(is_dying || !is_over, "a connection is left, and the drain is over");
        }
    }

    /// Nothing is overdue. Says when, not what then; it shares nothing with `deadlines.rs` but the
    /// fields.
    fn check_deadlines(&self) {
        if self.has_deadlines_left {
            return; // the next tick has its share of them
        }
        for session in self.sessions() {
            self.check_overdue(session);
        }
    }

    fn check_overdue(&self, session: &Session<H::State>) {
        // Two buckets of the timer wheel, and two steps of the clock: larger ones while a world ends.
        let late_ms = 128 + if self.drain_until_ms.is_some() { 200 } else { 100 };
        let config = &self.core.config;
        let now_ms = self.core.judged_ms as u32;
        if session.in_time.is_asked() {
            return; // what had come in time is being read, and then it is looked at again
        }
        let check = |what: &str, timeout_ms: u32, since_ms: u32| {
            let waited_ms = (now_ms.wrapping_sub(since_ms) as i32).max(0) as u32;
            let is_overdue = timeout_ms > 0 && waited_ms > timeout_ms + late_ms;
            assert!(!is_overdue, "{what}: {waited_ms} ms, and {timeout_ms} are allowed");
        };
        match session.stage {
            Stage::Dying => {}
            Stage::Opening => {
                check("request", request_timeout_ms(session, &self.core), session.since_ms);
            }
            Stage::Idle => check("next request", config.keep_alive_timeout_ms, session.since_ms),
            Stage::Answering => check("write", 4 * config.write_timeout_ms, session.progress_ms),
            Stage::Awaiting => check("ticket", config.ticket_timeout_ms, session.since_ms),
            Stage::Closing | Stage::Draining => {
                check("close", config.close_timeout_ms, session.since_ms);
            }
            Stage::Open => {
                check("idle", config.idle_timeout_ms, session.heard_ms);
                if session.mid_message {
                    check("message", config.message_timeout_ms, session.since_ms);
                }
                if session.sending {
                    // A stalled send is looked for once per timeout. Before one is ended, what had
                    // come is read, which takes up to two timeouts more with buffers as small as here.
                    check("write", 4 * config.write_timeout_ms, session.progress_ms);
                }
                if !session.marks.contains(Marks::PINGED) {
                    check("ping", config.ping_interval_ms, session.heard_ms);
                } else {
                    let pong_ms = config.pong_timeout_ms + config.ping_interval_ms;
                    check("pong", pong_ms, session.pinged_ms);
                }
            }
        }
    }

    /// The rules that hold when everybody is gone.
    pub(crate) fn check_end(&mut self) {
        assert!(self.is_finished(), "the shard has not ended: {}", self.what_is_left());
        self.check(0);
        self.core.topics.check_empty();
        assert!(self.core.timers.is_empty(), "a deadline of nobody");
        assert!(self.core.failing.is_empty(), "a connection to fail that is gone");
    }

    /// For whoever asks why it has not ended.
    fn what_is_left(&self) -> String {
        let tenants = self.connections.tenants();
        let describe = |tenant: &Tenant<H::State, D::Socket>| {
            let Session { stage, receiving, sending, marks, .. } = &tenant.slot.session;
            let socket = &tenant.socket;
            format!("{stage:?} receiving {receiving:?} sending {sending} {marks:?} {socket:?}")
        };
        let sessions: Vec<String> = tenants.map(describe).collect();
        format!(
            "drain until {:?}, now {}, judged {}, {sessions:?}, accepting {:?}, {} completions wait",
            self.drain_until_ms,
            self.core.now_ms,
            self.core.judged_ms,
            self.accepting,
            self.driver.completions_waiting(),
        )
    }
}

/// Neither closed nor about to be.
fn is_served(stage: Stage) -> bool {
    match stage {
        Stage::Opening | Stage::Awaiting | Stage::Answering | Stage::Idle | Stage::Open => true,
        Stage::Closing | Stage::Draining | Stage::Dying => false,
    }
}

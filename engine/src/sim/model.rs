//! What ought to happen, kept beside what does: a handler that notes everything it is told
//! and everything it queues, and the check of everything that arrives.

mod clocks;
mod deeds;
pub(super) mod errands;
mod handler;
pub(super) mod tickets;
mod words;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use ringwire_proto::CloseCode;

use self::clocks::Clocks;
use self::errands::{Errand, Errands};
use self::tickets::{Held, Requests};
use super::habits::Habits;
use super::label::{ClientNumber, FOREIGN, Label, Sender, To};
use crate::config::{Config, Overflow};
use crate::conn::ConnId;
use crate::shard::mailbox::Mailbox;

/// What is to become of a message from afar.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    MustCome,
    /// It may have been lost with what its client was told of.
    InGap,
    /// It may come or not: its client has left the topic.
    Free,
}

/// One connection as the handler knows it.
#[derive(Default)]
pub(super) struct Tenant {
    shard: usize,
    pub(super) id: Option<ConnId>,
    pub(super) is_hostile: bool,
    /// Told of the open and not of the close.
    pub(super) is_open: bool,
    was_opened: bool,
    was_closed: bool,
    /// The handler has called `close`.
    is_closing: bool,
    /// Another thread has.
    pub(super) may_be_closing: bool,
    /// A callback of its own shard has cut it off, or any has.
    is_terminated: bool,
    pub(super) may_be_terminated: bool,
    owes_drain: bool,
    /// Something may be queued for it whose sender is not told how full it is: a publish, or
    /// what another thread sends.
    pub(super) may_fill_unseen: bool,
    /// The last message of the client, which numbers them from 1.
    heard: u64,
    topics: BTreeSet<char>,
    /// Those it has ever had: what was published before it left may still arrive.
    topics_ever: BTreeSet<char>,
    /// A publish or another thread's message may have closed it for a full write buffer, or one
    /// of its handler's has.
    may_have_overflowed: bool,
    /// What was queued for it on its own shard, in order.
    due: VecDeque<String>,
    /// What other shards have published to its topics and other threads to it or them, by
    /// [`Sender`].
    due_from_afar: BTreeMap<Sender, VecDeque<(String, Fate)>>,
    /// Messages from afar that have not come and were in a gap it was told of.
    missed_in_gaps: u64,
    /// The number of the newest message seen of each.
    seen_from_afar: BTreeMap<Sender, u64>,
}

impl Tenant {
    fn is_meant(&self, own: ClientNumber, to: To<'_>) -> bool {
        match to {
            To::Client(client) => client == own,
            To::Topic(topic) => self.topics_ever.iter().any(|&ever| topic.chars().eq([ever])),
        }
    }

    /// Told of the open, and nobody has ended it.
    fn is_served(&self) -> bool {
        self.is_open && !self.is_closing && !self.may_be_terminated
    }

    /// What has not come from afar, of those with such a fate.
    fn left_from_afar(&self, fate: Fate) -> impl Iterator<Item = &String> {
        let left = self.due_from_afar.values().flatten();
        left.filter(move |(_, its_fate)| *its_fate == fate).map(|(payload, _)| payload)
    }

    /// Something may be queued for it whose sender is not told whether there was room.
    pub(super) fn note_unseen(&mut self) {
        self.may_fill_unseen = true;
        self.may_have_overflowed = true;
    }
}

/// Which client a connection belongs to.
pub(super) struct State {
    client: ClientNumber,
    /// Counts the states there are.
    _live: Arc<()>,
}

pub(super) struct Model {
    pub(super) config: Config,
    pub(super) habits: Habits,
    pub(super) mailboxes: Option<Arc<[Mailbox<Errand>]>>,
    pub(super) errands: Errands,
    pub(super) clocks: Clocks,
    pub(super) requests: Requests,
    /// Tickets that nobody has answered yet.
    pub(super) held: Vec<Held>,
    /// By shard: calls of `on_start` and `on_stop`, whether it has ended, and its clock.
    pub(super) starts: Vec<u32>,
    pub(super) stops: Vec<u32>,
    pub(super) ended: Vec<bool>,
    pub(super) now_ms: Vec<u64>,
    /// Ticks of any shard so far.
    pub(super) tick: u64,
    /// Callbacks do only what they must.
    pub(super) is_quiet: bool,
    pub(super) live: Arc<()>,
    pub(super) tenants: BTreeMap<ClientNumber, Tenant>,
    /// Messages that were due and have not come, where the run drops instead of closing.
    pub(super) missed: u64,
    /// Messages whose `send` said so.
    pub(super) sends_dropped: u64,
    /// Connections that deadlines have ended since this was looked at last, with the reason.
    pub(super) timed_out: Vec<(ClientNumber, String)>,
    /// The most publishes that a connection was told to have missed at once.
    pub(super) gap_publishes_max: u64,
    /// Connections failed in the tick under way for what they would have missed.
    pub(super) failures: usize,
    /// Connections cut off in it because the drain was over.
    pub(super) cut_offs: usize,
    /// Callbacks that were told to panic.
    pub(super) panics: u64,
    /// Some message did not fit into some write buffer.
    pub(super) has_dropped: bool,
    /// The server stops: it closes whom it likes.
    pub(super) is_stopping: bool,
    pub(super) overflow_closes: bool,
    pub(super) published: u64,
    pub(super) opens: u64,
    pub(super) closes: u64,
    pub(super) heard: u64,
    pub(super) delivered: u64,
    /// Rules broken inside callbacks, where a panic would be the handler's.
    pub(super) violations: Vec<String>,
}

pub(super) use handler::ModelHandler;

pub(super) type SharedModel = Rc<RefCell<Model>>;

impl Model {
    pub(super) fn new(config: Config, habits: Habits, shards: usize) -> Self {
        Self {
            overflow_closes: config.overflow == Overflow::Close,
            config,
            habits,
            mailboxes: None,
            errands: Errands::new(shards),
            clocks: Clocks::new(shards),
            requests: Requests::default(),
            held: Vec::new(),
            starts: vec![0; shards],
            stops: vec![0; shards],
            ended: vec![false; shards],
            now_ms: vec![0; shards],
            tick: 0,
            is_quiet: false,
            live: Arc::default(),
            tenants: BTreeMap::new(),
            missed: 0,
            sends_dropped: 0,
            timed_out: Vec::new(),
            gap_publishes_max: 0,
            failures: 0,
            cut_offs: 0,
            panics: 0,
            has_dropped: false,
            is_stopping: false,
            published: 0,
            opens: 0,
            closes: 0,
            heard: 0,
            delivered: 0,
            violations: Vec::new(),
        }
    }

    /// Whether a connection may be closing or about to be cut off, and its handler not told: by
    /// another thread or shard, or because the server stops.
    fn may_be_closing(&self, tenant: &Tenant) -> bool {
        let Tenant { may_be_closing, is_terminated, may_be_terminated, .. } = *tenant;
        may_be_closing || self.stops[tenant.shard] > 0 || (may_be_terminated && !is_terminated)
    }

    /// A shard is about to tick.
    pub(super) fn begin_tick(&mut self) {
        self.tick += 1;
        (self.failures, self.cut_offs) = (0, 0);
        (self.errands.boxed_in_tick, self.errands.own_in_tick) = (0, 0);
        self.clocks.fired_in_tick = 0;
    }

    fn violate(&mut self, what: String) {
        self.violations.push(what);
    }

    /// The next payload, labelled; longer by `pad`.
    fn payload(&mut self, shard: usize, way: &str, to: To<'_>, pad: usize) -> String {
        self.published += 1;
        let sender = Sender { shard, way: way.to_owned() };
        let mut payload = Label { sender, number: self.published, to }.to_string();
        payload.extend(std::iter::repeat_n('x', pad));
        payload
    }

    fn note_publish(
        &mut self,
        shard: usize,
        topic: char,
        payload: &str,
        but: Option<ClientNumber>,
    ) {
        trace!("shard {shard}: publish to {topic} of {payload:.20}, not to {but:?}");
        for (&client, tenant) in &mut self.tenants {
            if !tenant.topics.contains(&topic) || Some(client) == but {
                continue;
            }
            if tenant.shard == shard {
                tenant.due.push_back(payload.to_owned());
            } else {
                let sender = Sender { shard, way: "publish".to_owned() };
                let due = tenant.due_from_afar.entry(sender).or_default();
                due.push_back((payload.to_owned(), Fate::MustCome));
            }
        }
    }

    /// Whether a frame was queued exactly if there was room for it: behind others only within the
    /// limit, alone always.
    fn check_unsent(
        &mut self,
        client: ClientNumber,
        unsent: usize,
        is_queued: bool,
        frame_bytes: usize,
    ) {
        let (write_bytes_max, overflow_closes) =
            (self.config.write_bytes_max, self.overflow_closes);
        let tenant = self.tenants.entry(client).or_default();
        let is_right = if is_queued {
            unsent == frame_bytes || unsent <= write_bytes_max
        } else {
            let may_be_closing = tenant.is_closing
                || tenant.may_be_terminated
                || (overflow_closes && tenant.may_have_overflowed);
            may_be_closing || (unsent > 0 && unsent + frame_bytes > write_bytes_max)
        };
        tenant.may_have_overflowed |= !is_queued;
        if !is_right {
            self.violate(format!(
                "client {client}: {frame_bytes} bytes, queued {is_queued}, {unsent} unsent"
            ));
        }
    }

    /// What another thread is about to publish. Nobody knows on which shard, or when, but what
    /// goes to one topic stays in order.
    pub(super) fn foreign_publish(&mut self, topic: &str) -> String {
        self.payload(FOREIGN, topic, To::Topic(topic), 4)
    }

    /// What another thread is about to send to one connection.
    pub(super) fn foreign_message(&mut self, to: ClientNumber) -> String {
        self.payload(FOREIGN, "direct", To::Client(to), 4)
    }

    /// A shard has taken it: whoever it is for must get it, unless he leaves or is left before.
    pub(super) fn note_foreign(&mut self, payload: &str) {
        let label = Label::of(payload).expect("one of the model's own");
        for (&client, tenant) in &mut self.tenants {
            let is_meant = match label.to {
                To::Client(to) => to == client && tenant.is_served(),
                To::Topic(topic) => tenant.topics.iter().any(|&now| topic.chars().eq([now])),
            };
            if is_meant {
                let due = tenant.due_from_afar.entry(label.sender.clone()).or_default();
                due.push_back((payload.to_owned(), Fate::MustCome));
            }
        }
    }

    /// A client has received a message: is it the one that was next?
    pub(super) fn delivered(&mut self, client: ClientNumber, payload: &str) {
        self.delivered += 1;
        trace!("client {client} receives {payload:.20}");
        let may_lose = !self.overflow_closes;
        let tenant = self.tenants.get_mut(&client).expect("messages follow an open");
        let from_afar = Label::of(payload).filter(|label| label.sender.shard != tenant.shard);
        let Some(Label { sender, number, to }) = from_afar else {
            while let Some(due) = tenant.due.pop_front() {
                if due == payload {
                    return;
                }
                assert!(may_lose, "client {client}: {due:.40} is missing before {payload:.40}");
                self.missed += 1;
            }
            panic!("client {client}: {payload:.40} was not queued, or came twice");
        };
        assert!(tenant.is_meant(client, to), "client {client}: {payload:.40} is not for it");
        let seen = tenant.seen_from_afar.insert(sender.clone(), number);
        assert!(seen < Some(number), "client {client}: {payload:.40} out of its sender's order");
        let due = tenant.due_from_afar.entry(sender).or_default();
        if let Some(at) = due.iter().position(|(due, _)| due == payload) {
            for (missing, fate) in due.drain(..=at).take(at) {
                let must_come = fate == Fate::MustCome;
                assert!(!must_come || may_lose, "client {client}: {missing:.40} is missing");
                self.missed += u64::from(must_come);
                tenant.missed_in_gaps += u64::from(fate == Fate::InGap);
            }
        }
    }

    /// A client has received a Close frame: whatever its shard had queued before must be there.
    pub(super) fn closed(&self, client: ClientNumber, code: CloseCode) {
        let tenant = &self.tenants[&client];
        // It may have been about to be closed for a full write buffer, and what did not fit was
        // due as well. Whoever then closes it in the handler closes it with 1013 all the same.
        let may_have_overflowed =
            self.has_dropped && tenant.may_have_overflowed && !tenant.is_closing;
        let is_excused = !self.overflow_closes
            || self.is_stopping
            || tenant.may_be_closing
            || tenant.may_be_terminated
            || may_have_overflowed
            || code == CloseCode::TRY_AGAIN_LATER;
        if !is_excused {
            let missing = tenant.due.front();
            assert_eq!(missing, None, "client {client}: missing before the Close {code}");
        }
    }

    /// Whether a client's handler still waits to be told that there is room again.
    pub(super) fn owes_drain(&self, client: ClientNumber) -> bool {
        self.tenants.get(&client).is_some_and(|tenant| tenant.owes_drain)
    }

    /// Whether a callback has cut a client off, or has asked for it.
    pub(super) fn is_terminated(&self, client: ClientNumber) -> bool {
        self.tenants.get(&client).is_some_and(|tenant| tenant.may_be_terminated)
    }

    /// Another thread has asked for it.
    pub(super) fn note_terminating(&mut self, client: ClientNumber) {
        self.tenants.get_mut(&client).expect("named just before").may_be_terminated = true;
    }

    /// A client that was cut off and is still there.
    pub(super) fn terminated_and_open(&self) -> Option<ClientNumber> {
        let mut tenants = self.tenants.iter();
        tenants.find_map(|(&client, tenant)| {
            (tenant.is_open && tenant.may_be_terminated).then_some(client)
        })
    }

    /// Whether a client has a connection that is open, and not about to be closed.
    pub(super) fn serves(&self, client: ClientNumber) -> bool {
        self.tenants.get(&client).is_some_and(Tenant::is_served)
    }

    /// How many messages were missed by clients that have received others behind them.
    pub(super) fn missed_before_others(&self) -> u64 {
        self.missed
    }

    /// How many messages a client has missed that is still served: they were dropped for a full
    /// write buffer, each of them counted, or lost with a gap, which it was told.
    pub(super) fn missed(&self, client: ClientNumber) -> u64 {
        let Some(tenant) = self.tenants.get(&client) else { return 0 };
        (tenant.due.len() + tenant.left_from_afar(Fate::MustCome).count()) as u64
    }

    /// How many messages a client has missed in the gaps that it was told of.
    pub(super) fn missed_in_gaps(&self, client: ClientNumber) -> u64 {
        let Some(tenant) = self.tenants.get(&client) else { return 0 };
        tenant.missed_in_gaps + tenant.left_from_afar(Fate::InGap).count() as u64
    }

    /// What was queued for a client and has not arrived.
    pub(super) fn missing(&self, client: ClientNumber) -> Option<String> {
        let tenant = self.tenants.get(&client)?;
        if !self.overflow_closes {
            return None;
        }
        tenant.due.iter().chain(tenant.left_from_afar(Fate::MustCome)).next().cloned()
    }
}

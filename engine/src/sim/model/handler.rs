//! The handler of the simulated shards: its callbacks, which note in the model what they are told.

use ringwire_proto::{CloseCode, Message, Method, Offer, Request, Response};

use super::errands::{Deed, Errand};
use super::tickets::{Held, RequestId, Will, numbered};
use super::{Fate, SharedModel, State};
use crate::conn::{Conn, SendStatus};
use crate::context::Context;
use crate::handler::{Gap, Handler, Reply, Upgrade};
use crate::shard::app_timers::TimerId;
use crate::sim::dice::Dice;

/// The handler of every simulated shard.
pub(in crate::sim) struct ModelHandler {
    pub(in crate::sim) model: SharedModel,
    pub(in crate::sim) shard: usize,
    pub(in crate::sim) dice: Dice,
    /// A command of the shard to itself is being carried out.
    pub(in crate::sim) is_obeying_own: bool,
}

impl Handler for ModelHandler {
    type State = State;
    type Command = Errand;

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        {
            let mut model = self.model.borrow_mut();
            model.starts[self.shard] += 1;
            model.now_ms[self.shard] = cx.now_ms();
        }
        self.act_sometimes(cx, None);
    }

    fn on_stop(&mut self, cx: &mut Context<'_, Self>) {
        // Before it counts as stopped: what is sent here still goes out.
        self.act_sometimes(cx, None);
        let mut model = self.model.borrow_mut();
        model.stops[self.shard] += 1;
        if !model.is_stopping {
            model.violate(format!("shard {}: stops, and nobody said so", self.shard));
        }
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<State> {
        let Some(id) = id_of(request.path()) else {
            return Upgrade::refuse(Response::new(404));
        };
        self.act_sometimes(cx, None);
        let will = self.hear(id, request.body());
        let state = self.model.borrow().state_for(id.0);
        match will {
            Will::Now => self.model.borrow_mut().requests.note_answered(id, 101),
            Will::Both => {
                let held = Held::new(cx.ticket(), id, true).void();
                let mut model = self.model.borrow_mut();
                model.requests.note_answered(id, 101);
                model.held.push(held);
            }
            Will::Later => {
                let ticket = self.take_ticket(cx, id, true);
                let later = Upgrade::later(&ticket);
                self.model.borrow_mut().held.push(Held::new(ticket, id, true));
                return later;
            }
            Will::Panic => self.panic_about(id),
        }
        Upgrade::accept(state)
    }

    fn on_request(&mut self, cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        let Some(id) = request.path().strip_prefix("/q").and_then(id_of) else {
            return Response::new(404).into();
        };
        self.act_sometimes(cx, None);
        if request.method() == Method::Options {
            self.model.borrow_mut().violate(format!("{id:?}: OPTIONS is the engine's"));
        }
        match self.hear(id, request.body()) {
            Will::Now => self.model.borrow_mut().requests.note_answered(id, 200),
            Will::Both => {
                let held = Held::new(cx.ticket(), id, false).void();
                let mut model = self.model.borrow_mut();
                model.requests.note_answered(id, 200);
                model.held.push(held);
            }
            Will::Later => {
                let ticket = self.take_ticket(cx, id, false);
                let later = Reply::later(&ticket);
                self.model.borrow_mut().held.push(Held::new(ticket, id, false));
                return later;
            }
            Will::Panic => self.panic_about(id),
        }
        let body = vec![b'.'; *self.dice.pick(&[0, 7, 300, 1_200])];
        numbered(200, id.1).body("text/plain", body).into()
    }

    fn on_command(&mut self, cx: &mut Context<'_, Self>, errand: Errand) {
        let Errand { number, deed } = errand;
        trace!("shard {}: carries out command {number}", self.shard);
        {
            let mut model = self.model.borrow_mut();
            let (tick, own) = (model.tick, model.errands.own_in_tick);
            let taken = model.errands.take(self.shard, number, tick);
            model.expect_right(taken);
            self.is_obeying_own = model.errands.own_in_tick > own;
        }
        match deed {
            Deed::Nothing => {}
            Deed::Act => self.act(cx, None),
            Deed::Answer(held) => self.answer(cx, &mut self.model.borrow_mut(), held),
            Deed::Panic => {
                self.is_obeying_own = false;
                self.panic();
            }
        }
        self.is_obeying_own = false;
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, timer: TimerId) {
        trace!("shard {}: {timer:?} fires at {}", self.shard, cx.now_ms());
        {
            let mut model = self.model.borrow_mut();
            let fired = model.clocks.fire(self.shard, timer, cx.now_ms());
            model.expect_right(fired);
        }
        if self.dice.chance(15) {
            self.cancel_timer(cx, Some(timer));
        }
        self.act_sometimes(cx, None);
        if self.dice.chance(1) {
            self.panic();
        }
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, state: &mut State) {
        let client = state.client;
        let mut model = self.model.borrow_mut();
        trace!("shard {}: client {client} opens as {}", self.shard, conn.id());
        model.opens += 1;
        let shard = self.shard;
        let tenant = model.tenants.entry(client).or_default();
        let is_first = !std::mem::replace(&mut tenant.was_opened, true);
        (tenant.shard, tenant.id, tenant.is_open) = (shard, Some(conn.id()), true);
        if !is_first {
            model.violate(format!("client {client} was opened twice"));
        }
        drop(model);
        self.act_sometimes(conn, Some(client));
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, state: &mut State, message: Message<'_>) {
        let client = state.client;
        let text = match message {
            Message::Text(text) => text.to_owned(),
            Message::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        };
        let mut words = text.splitn(3, ' ');
        let number = words.next().and_then(|word| word.parse::<u64>().ok());
        let (Some(number), Some(commands)) = (number, words.next()) else {
            return; // a hostile client's
        };
        trace!("shard {}: client {client} says {text:.40}", self.shard);
        self.note_message(client, number);
        let mut commands = commands.chars();
        while let Some(command) = commands.next() {
            if command == 'r' {
                self.send(conn, client, message, text.clone());
            } else {
                self.obey(conn, client, command, &mut commands);
            }
        }
        self.pass_on(conn, message, &text);
        self.act_sometimes(conn, Some(client));
    }

    fn on_pong(&mut self, conn: &mut Conn<'_, Self>, state: &mut State, _payload: &[u8]) {
        self.act_sometimes(conn, Some(state.client));
    }

    fn on_drain(&mut self, conn: &mut Conn<'_, Self>, state: &mut State) {
        let client = state.client;
        let mut model = self.model.borrow_mut();
        let tenant = model.tenants.entry(client).or_default();
        let owed = std::mem::take(&mut tenant.owes_drain);
        if !owed && !tenant.may_fill_unseen {
            model.violate(format!("client {client}: a drain that was not owed"));
        }
        drop(model);
        self.act_sometimes(conn, Some(client));
    }

    fn on_gap(&mut self, conn: &mut Conn<'_, Self>, state: &mut State, gap: Gap) {
        let client = state.client;
        trace!("shard {}: client {client} is told of {gap:?}", self.shard);
        let mut model = self.model.borrow_mut();
        if model.overflow_closes || gap.publishes == 0 {
            model.violate(format!("client {client}: a gap that was none of its business"));
        }
        model.gap_publishes_max = model.gap_publishes_max.max(gap.publishes);
        // Whatever other shards have published so far may be what is missing.
        let tenant = model.tenants.entry(client).or_default();
        let from_afar = tenant.due_from_afar.iter_mut();
        let published = from_afar.filter(|(sender, _)| sender.way != "direct");
        for (_, fate) in published.flat_map(|(_, due)| due) {
            if *fate == Fate::MustCome {
                *fate = Fate::InGap;
            }
        }
        drop(model);
        self.act_sometimes(conn, Some(client));
    }

    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        state: &mut State,
        code: CloseCode,
        reason: &str,
    ) {
        let client = state.client;
        trace!("shard {}: client {client} closes with {code} {reason}", self.shard);
        assert_eq!(conn.send("too late"), SendStatus::Dropped);
        {
            let mut model = self.model.borrow_mut();
            model.closes += 1;
            if code == CloseCode::TRY_AGAIN_LATER && !reason.is_empty() {
                model.failures += 1;
            }
            let is_cut_off = code == CloseCode::ABNORMAL && reason == "server stops";
            model.cut_offs += usize::from(is_cut_off);
            if reason == "publishes lost" {
                model.gap_publishes_max = model.gap_publishes_max.max(1);
            }
            if reason.ends_with("timeout") {
                model.timed_out.push((client, reason.to_owned()));
            }
            let tenant = model.tenants.entry(client).or_default();
            let was_closed = std::mem::replace(&mut tenant.was_closed, true);
            tenant.is_open = false;
            tenant.topics.clear();
            if was_closed {
                model.violate(format!("client {client} was closed twice"));
            }
            if reason == "server stops" && model.stops[self.shard] != 1 {
                model.violate(format!("client {client} is told of a stop before its handler"));
            }
        }
        self.publish(conn, 'a', 3, None);
        self.act_sometimes(conn, Some(client));
    }
}

/// The request that a path names.
fn id_of(path: &str) -> Option<RequestId> {
    let (client, number) = path.strip_prefix('/')?.split_once('/')?;
    Some((client.parse().ok()?, number.parse().ok()?))
}

impl ModelHandler {
    /// What to do with a request, if it is one that was to come now.
    fn hear(&mut self, id: RequestId, body: &[u8]) -> Will {
        trace!("shard {}: hears {id:?}", self.shard);
        let mut model = self.model.borrow_mut();
        let is_hostile = model.tenants.get(&id.0).is_some_and(|tenant| tenant.is_hostile);
        match model.requests.hear(id, body) {
            Ok(will) => will,
            // Its bytes may be anybody's garbage.
            Err(_) if is_hostile => Will::Now,
            Err(what) => {
                model.violate(what);
                Will::Now
            }
        }
    }

    /// The ticket that a request waits for; perhaps after one that has no effect.
    fn take_ticket(
        &mut self,
        cx: &mut Context<'_, Self>,
        id: RequestId,
        is_handshake: bool,
    ) -> crate::ticket::Ticket<Self> {
        if self.dice.chance(10) {
            let held = Held::new(cx.ticket(), id, is_handshake).void();
            self.model.borrow_mut().held.push(held);
        }
        let mut model = self.model.borrow_mut();
        model.requests.note_waiting(id, self.shard, cx.now_ms());
        cx.ticket()
    }

    fn panic_about(&self, id: RequestId) -> ! {
        self.model.borrow_mut().requests.note_answered(id, 500);
        self.panic()
    }

    /// Without the panic hook: it would print.
    pub(super) fn panic(&self) -> ! {
        self.model.borrow_mut().panics += 1;
        std::panic::resume_unwind(Box::new("told to"))
    }
}

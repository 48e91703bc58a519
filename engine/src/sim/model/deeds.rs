//! What the handler of the simulated shards does beyond the connection that a callback is about.

use std::time::Duration;

use ringwire_proto::{CloseCode, Message, frame_header_bytes};

use super::errands::Deed;
use super::{Model, ModelHandler, State, Tenant};
use crate::config::Overflow;
use crate::conn::{ConnId, SendStatus};
use crate::context::Context;
use crate::error::HandleError;
use crate::handler::Upgrade;
use crate::sim::label::{ClientNumber, To};

impl ModelHandler {
    /// Now and then something beside what the callback is for. `current` is whom the callback is
    /// about.
    pub(super) fn act_sometimes(
        &mut self,
        cx: &mut Context<'_, Self>,
        current: Option<ClientNumber>,
    ) {
        let percent = {
            let model = self.model.borrow();
            if model.is_quiet { 0 } else { model.habits.deeds }
        };
        if self.dice.chance(percent) {
            for _ in 0..self.dice.between(1, 2) {
                self.act(cx, current);
            }
        }
    }

    pub(super) fn act(&mut self, cx: &mut Context<'_, Self>, current: Option<ClientNumber>) {
        match self.dice.below(16) {
            0..=3 => self.send_to_somebody(cx),
            4 if self.dice.chance(20) => self.close_somebody(cx),
            5 if self.dice.chance(20) => self.terminate_somebody(cx),
            4..=6 => self.look_at_somebody(cx, current),
            7 | 8 => self.set_timer(cx),
            9 => self.cancel_timer(cx, None),
            10..=12 => self.tell_somebody(cx),
            13 | 14 => self.answer_somebody(cx),
            _ => {
                let topic = *self.dice.pick(&['a', 'b', 'c']);
                self.publish_all(cx, topic, 4);
            }
        }
    }

    /// A client that has or had a connection, and its id.
    fn somebody(&self) -> Option<(ClientNumber, ConnId)> {
        let model = self.model.borrow();
        let named = model.tenants.iter().filter_map(|(&to, tenant)| Some((to, tenant.id?)));
        let named: Vec<_> = named.collect();
        (!named.is_empty()).then(|| *self.dice.pick(&named))
    }

    fn send_to_somebody(&mut self, cx: &mut Context<'_, Self>) {
        let Some((to, id)) = self.somebody() else { return };
        let pad = *self.dice.pick(&[0, 5, 400]);
        let is_here = id.shard() == self.shard;
        let way = if is_here { "server" } else { "direct" };
        let payload = self.model.borrow_mut().payload(self.shard, way, To::Client(to), pad);
        let frame_bytes = frame_header_bytes(payload.len()) + payload.len();
        let has_room = is_here || self.model.borrow().has_room(id.shard(), frame_bytes);
        let status = cx.send_to(id, Message::Text(&payload));
        trace!("shard {}: {payload:.20} to client {to}: {status:?}", self.shard);
        if is_here {
            self.note_sent(unsent_bytes(cx, id), to, status, payload);
        } else {
            self.model.borrow_mut().note_told(to, id.shard(), status, has_room, &payload);
        }
    }

    /// Sends a received message to somebody of this shard, perhaps back to its client.
    pub(super) fn pass_on(&mut self, cx: &mut Context<'_, Self>, message: Message<'_>, text: &str) {
        let percent = {
            let model = self.model.borrow();
            if model.is_quiet || !message.is_text() { 0 } else { model.habits.deeds / 5 }
        };
        let somebody = if self.dice.chance(percent) { self.somebody() } else { None };
        let Some((to, id)) = somebody.filter(|(_, id)| id.shard() == self.shard) else { return };
        let status = cx.send_to(id, message);
        trace!("shard {}: passes {text:.20} on to client {to}: {status:?}", self.shard);
        self.note_sent(unsent_bytes(cx, id), to, status, text.to_owned());
    }

    /// A message to a connection of this shard, which has so many bytes unsent.
    fn note_sent(
        &mut self,
        unsent_bytes: Option<usize>,
        to: ClientNumber,
        status: SendStatus,
        payload: String,
    ) {
        let is_queued = matches!(status, SendStatus::Queued | SendStatus::Backpressure);
        let frame_bytes = frame_header_bytes(payload.len()) + payload.len();
        let mut model = self.model.borrow_mut();
        let tenant = &model.tenants[&to];
        let Tenant { is_open, is_closing, is_terminated, .. } = *tenant;
        let may_be_closing = model.may_be_closing(tenant);
        let is_taken = is_open && !is_closing && !is_terminated;
        if (is_queued && !is_taken) || (status == SendStatus::Gone && is_open) {
            model.violate(format!("client {to}: {status:?}, open {is_open}, taken {is_taken}"));
        }
        if is_taken
            && !may_be_closing
            && let Some(unsent_bytes) = unsent_bytes
        {
            model.check_unsent(to, unsent_bytes, is_queued, frame_bytes);
        }
        let tenant = model.tenants.get_mut(&to).expect("looked up just before");
        if is_queued {
            tenant.due.push_back(payload);
            tenant.owes_drain |= status == SendStatus::Backpressure;
        } else if is_taken && !may_be_closing {
            model.sends_dropped += 1;
        }
    }

    fn close_somebody(&mut self, cx: &mut Context<'_, Self>) {
        let Some((to, id)) = self.somebody() else { return };
        trace!("shard {}: closes client {to}", self.shard);
        let has_room = self.model.borrow().has_room(id.shard(), 0);
        let closed = cx.close_other(id, CloseCode::NORMAL, "by another");
        let mut model = self.model.borrow_mut();
        let is_here = id.shard() == self.shard;
        model.note_pushed(id.shard(), is_here || has_room, closed);
        let tenant = model.tenants.get_mut(&to).expect("named just before");
        if !is_here {
            tenant.may_be_closing = true;
        } else if tenant.is_open {
            tenant.is_closing = true;
            tenant.topics.clear();
        }
    }

    fn terminate_somebody(&mut self, cx: &mut Context<'_, Self>) {
        let Some((to, id)) = self.somebody() else { return };
        trace!("shard {}: terminates client {to}", self.shard);
        let has_room = self.model.borrow().has_room(id.shard(), 0);
        let terminated = cx.terminate_other(id);
        let mut model = self.model.borrow_mut();
        let is_here = id.shard() == self.shard;
        model.note_pushed(id.shard(), is_here || has_room, terminated);
        let tenant = model.tenants.get_mut(&to).expect("named just before");
        tenant.is_terminated |= is_here;
        tenant.may_be_terminated |= terminated.is_ok();
    }

    /// Whether another connection's state is what it should be.
    fn look_at_somebody(&mut self, cx: &mut Context<'_, Self>, current: Option<ClientNumber>) {
        let Some((client, id)) = self.somebody() else { return };
        let is_open = cx.is_open(id);
        let found = cx.state_of(id).map(|state| state.client);
        let mut model = self.model.borrow_mut();
        let is_here = id.shard() == self.shard;
        let tenant = &model.tenants[&client];
        let is_known = !model.may_be_closing(tenant);
        let should_be_open = is_here && tenant.is_open && !tenant.is_closing;
        let should_be_found = should_be_open && current != Some(client);
        let is_found_right = found == should_be_found.then_some(client);
        // One that ends when no callback runs any more is not open, and still has its state.
        let may_be_failing = tenant.may_be_terminated || model.config.overflow == Overflow::Close;
        let is_open_right = is_open == should_be_open || (!is_open && may_be_failing);
        let is_right = is_open_right && is_found_right;
        if if is_known { !is_right } else { !should_be_open && is_open } {
            model.violate(format!("client {client}: open {is_open}, state of {found:?}"));
        }
    }

    fn set_timer(&mut self, cx: &mut Context<'_, Self>) {
        let delay_ms = *self.dice.pick(&[0, 1, 7, 40, 300, 2_000]);
        let period_ms = self.dice.chance(40).then(|| *self.dice.pick(&[3, 20, 150, 1_000]));
        let timer = match period_ms {
            Some(period_ms) => cx.set_interval(Duration::from_millis(period_ms)),
            None => cx.set_timer(Duration::from_millis(delay_ms)),
        };
        trace!("shard {}: {timer:?} in {delay_ms} or each {period_ms:?}", self.shard);
        let mut model = self.model.borrow_mut();
        let is_full = model.clocks.count(self.shard) >= model.config.timers_max;
        if timer.is_err() != is_full {
            model.violate(format!("shard {}: {timer:?}, full {is_full}", self.shard));
        }
        let Ok(timer) = timer else { return };
        let due_ms = cx.now_ms() + period_ms.unwrap_or(delay_ms.max(1));
        let noted = model.clocks.set(self.shard, timer, due_ms, period_ms);
        model.expect_right(noted);
    }

    /// Takes a timer back: this one, or any, perhaps one that has fired.
    pub(super) fn cancel_timer(
        &mut self,
        cx: &mut Context<'_, Self>,
        timer: Option<crate::shard::app_timers::TimerId>,
    ) {
        let picked = self.model.borrow().clocks.pick(self.shard, &self.dice);
        let Some(timer) = timer.or(picked) else { return };
        let cancelled = cx.cancel_timer(timer);
        trace!("shard {}: {timer:?} is cancelled: {cancelled}", self.shard);
        let mut model = self.model.borrow_mut();
        if model.clocks.cancel(self.shard, timer) != cancelled {
            model.violate(format!("shard {}: {timer:?} cancelled {cancelled}", self.shard));
        }
    }

    /// Gives a command to a shard.
    fn tell_somebody(&mut self, cx: &mut Context<'_, Self>) {
        let shard = self.dice.below(cx.shards());
        // A callback may use a handle as well: what is left for its own shard comes through the queue.
        let is_own = shard == self.shard && self.dice.chance(80);
        let (errand, has_room) = {
            let mut model = self.model.borrow_mut();
            let deed = model.make_deed(&self.dice);
            let has_room = if is_own {
                model.errands.own(shard) < model.config.command_entries
            } else {
                model.has_room(shard, 0)
            };
            (model.errands.make(deed), has_room)
        };
        let (number, ticket) = (errand.number, errand.ticket());
        let told = if shard != self.shard || is_own {
            cx.command(shard, errand)
        } else {
            cx.handle().command(shard, errand)
        };
        trace!("shard {}: command {number} for shard {shard}: {told:?}", self.shard);
        let mut model = self.model.borrow_mut();
        model.note_pushed(shard, has_room, told);
        match told {
            Ok(()) if is_own => {
                let tick = self.is_obeying_own.then_some(model.tick);
                model.errands.note_own(shard, number, tick);
            }
            Ok(()) => model.errands.note_boxed(shard, number),
            Err(_) => model.note_ticket_dropped(ticket),
        }
    }

    /// Answers a ticket: one of this shard perhaps with a state that need not be sent.
    fn answer_somebody(&mut self, cx: &mut Context<'_, Self>) {
        let mut model = self.model.borrow_mut();
        let Some(held) = model.pick_held(&self.dice) else { return };
        self.answer(cx, &mut model, held);
    }

    pub(super) fn answer(
        &self,
        cx: &mut Context<'_, Self>,
        model: &mut Model,
        held: super::tickets::Held,
    ) {
        let state = model.state_for(held.client());
        trace!("shard {}: answers the ticket of {:?}", self.shard, held.id());
        if held.shard() == self.shard && self.dice.chance(50) {
            let ticket = held.redeem(&mut model.requests);
            cx.answer(ticket, Upgrade::accept(state));
        } else {
            held.answer(&mut model.requests, state, &self.dice);
        }
    }

    pub(super) fn publish_all(&mut self, cx: &mut Context<'_, Self>, topic: char, pad: usize) {
        let mut model = self.model.borrow_mut();
        let mut name = [0; 4];
        let name = &*topic.encode_utf8(&mut name);
        let payload = model.payload(self.shard, "publish", To::Topic(name), pad);
        model.note_publish(self.shard, topic, &payload, None);
        cx.publish_all(name, payload.as_str());
    }
}

/// What a connection of this shard has to send.
fn unsent_bytes(cx: &mut Context<'_, ModelHandler>, id: ConnId) -> Option<usize> {
    match &cx.current {
        Some(session) if session.key == id.key => Some(session.writes.unsent_bytes()),
        _ => cx.others.get(id.key).map(|slot| slot.session.writes.unsent_bytes()),
    }
}

impl Model {
    pub(in crate::sim) fn state_for(&self, client: ClientNumber) -> State {
        State { client, _live: self.live.clone() }
    }

    /// What a command is to do.
    pub(in crate::sim) fn make_deed(&mut self, dice: &crate::sim::dice::Dice) -> Deed {
        match dice.below(20) {
            0..=9 => Deed::Nothing,
            10 if dice.chance(20) => Deed::Panic,
            10..=14 => self.pick_held(dice).map_or(Deed::Nothing, Deed::Answer),
            _ => Deed::Act,
        }
    }

    pub(in crate::sim) fn pick_held(
        &mut self,
        dice: &crate::sim::dice::Dice,
    ) -> Option<super::tickets::Held> {
        let count = self.held.len();
        (count > 0).then(|| self.held.swap_remove(dice.below(count)))
    }

    /// A ticket was in a command that was dropped.
    pub(in crate::sim) fn note_ticket_dropped(
        &mut self,
        ticket: Option<(super::tickets::RequestId, bool)>,
    ) {
        if let Some((id, is_void)) = ticket {
            super::tickets::Held::note_dropped(id, is_void, &mut self.requests);
        }
    }

    /// Whether a shard's queue has room for one more command, of so many bytes.
    pub(in crate::sim) fn has_room(&self, shard: usize, bytes: usize) -> bool {
        let mailboxes = self.mailboxes.as_ref().expect("set before anything runs");
        let (entries, waiting_bytes) = mailboxes[shard].waiting_now();
        let has_bytes = bytes == 0
            || waiting_bytes == 0
            || waiting_bytes + bytes <= self.config.command_bytes_max;
        entries < self.config.command_entries && has_bytes
    }

    /// A command was taken exactly if there was room for it, or the shard has ended.
    pub(in crate::sim) fn note_pushed(
        &mut self,
        shard: usize,
        has_room: bool,
        pushed: Result<(), HandleError>,
    ) {
        let expected = match () {
            () if self.ended[shard] => Err(HandleError::Stopped),
            () if has_room => Ok(()),
            () => Err(HandleError::Busy),
        };
        self.errands.refused += u64::from(pushed.is_err());
        if pushed != expected {
            self.violate(format!("shard {shard}: {pushed:?}, and not {expected:?}"));
        }
    }

    /// A message for a connection of another shard.
    fn note_told(
        &mut self,
        to: ClientNumber,
        shard: usize,
        status: SendStatus,
        has_room: bool,
        payload: &str,
    ) {
        let pushed = match status {
            SendStatus::Queued => Ok(()),
            SendStatus::Dropped => Err(HandleError::Busy),
            SendStatus::Gone | SendStatus::Backpressure => Err(HandleError::Stopped),
        };
        self.note_pushed(shard, has_room, pushed);
        self.tenants.get_mut(&to).expect("named just before").note_unseen();
        if pushed.is_ok() {
            self.note_foreign(payload);
        }
    }

    pub(super) fn expect_right(&mut self, noted: Result<(), String>) {
        if let Err(what) = noted {
            self.violate(what);
        }
    }
}

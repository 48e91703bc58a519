//! The handler of the simulated shards: does what the clients' messages say, and notes in the model
//! what it is told and what it queues.

use ringwire_proto::{CloseCode, Message, Offer, Request, frame_header_bytes};

use super::{Fate, Model, SharedModel};
use crate::conn::{Conn, SendStatus};
use crate::context::Context;
use crate::handler::{Gap, Handler, Upgrade};
use crate::sim::label::{ClientNumber, FOREIGN, Label, To};

/// The handler of every simulated shard.
pub(in crate::sim) struct ModelHandler {
    pub(in crate::sim) model: SharedModel,
    pub(in crate::sim) shard: usize,
}

/// Which client a connection belongs to; `None` before the upgrade.
type State = Option<ClientNumber>;

impl Handler for ModelHandler {
    type State = State;
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<State> {
        match request.path()[1..].parse() {
            Ok(client) => Upgrade::accept(Some(client)),
            Err(_) => Upgrade::refuse(ringwire_proto::Response::new(404)),
        }
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, state: &mut State) {
        let client = state.expect("set by on_upgrade");
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
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, state: &mut State, message: Message<'_>) {
        let client = state.expect("set by on_upgrade");
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
    }

    fn on_drain(&mut self, _conn: &mut Conn<'_, Self>, state: &mut State) {
        let client = state.expect("set by on_upgrade");
        let mut model = self.model.borrow_mut();
        let tenant = model.tenants.entry(client).or_default();
        let owed = std::mem::take(&mut tenant.owes_drain);
        if !owed && !tenant.may_fill_unseen {
            model.violate(format!("client {client}: a drain that was not owed"));
        }
    }

    fn on_gap(&mut self, _conn: &mut Conn<'_, Self>, state: &mut State, gap: Gap) {
        let client = state.expect("set by on_upgrade");
        trace!("shard {}: client {client} is told of {gap:?}", self.shard);
        let mut model = self.model.borrow_mut();
        if model.overflow_closes || gap.publishes == 0 {
            model.violate(format!("client {client}: a gap that was none of its business"));
        }
        model.gap_publishes_max = model.gap_publishes_max.max(gap.publishes);
        // Whatever other shards have published so far may be what is missing.
        let tenant = model.tenants.entry(client).or_default();
        let from_afar = tenant.due_from_afar.iter_mut();
        let published =
            from_afar.filter(|(sender, _)| sender.way == "publish" || sender.shard == FOREIGN);
        for (_, fate) in published.flat_map(|(_, due)| due) {
            if *fate == Fate::MustCome {
                *fate = Fate::InGap;
            }
        }
    }

    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        state: &mut State,
        code: CloseCode,
        reason: &str,
    ) {
        let client = state.expect("set by on_upgrade");
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
        }
        self.publish(conn, 'a', 3, None);
    }
}

impl ModelHandler {
    fn note_message(&mut self, client: ClientNumber, number: u64) {
        let mut model = self.model.borrow_mut();
        model.heard += 1;
        let tenant = model.tenants.entry(client).or_default();
        let before = std::mem::replace(&mut tenant.heard, number);
        let is_open = tenant.is_open && !tenant.is_closing;
        // A hostile client's garbage may swallow its own messages.
        let is_next = before + 1 == number || tenant.is_hostile;
        if !is_next || !is_open {
            model.violate(format!(
                "client {client}: message {number} after {before}, open {is_open}"
            ));
        }
    }

    fn obey(
        &mut self,
        conn: &mut Conn<'_, Self>,
        client: ClientNumber,
        command: char,
        commands: &mut std::str::Chars<'_>,
    ) {
        match command {
            'e' => self.send_new(conn, client, 5),
            'b' => self.send_new(conn, client, 700),
            'p' => self.publish(conn, commands.next().unwrap_or('a'), 8, None),
            'L' => self.publish(conn, commands.next().unwrap_or('a'), 4_200, None),
            'P' => self.publish(conn, commands.next().unwrap_or('a'), 600, None),
            'o' => self.publish(conn, commands.next().unwrap_or('a'), 8, Some(client)),
            's' => {
                let topic = commands.next().unwrap_or('a');
                let mut name = [0; 4];
                let name = topic.encode_utf8(&mut name);
                let subscribed = conn.subscribe(name);
                assert!(subscribed.is_ok() || !conn.is_subscribed(name));
                if conn.is_subscribed(name) {
                    let mut model = self.model.borrow_mut();
                    let tenant = model.tenants.entry(client).or_default();
                    tenant.note_unseen();
                    tenant.topics.insert(topic);
                    tenant.topics_ever.insert(topic);
                }
            }
            'u' => {
                let topic = commands.next().unwrap_or('a');
                conn.unsubscribe(topic.encode_utf8(&mut [0; 4]));
                let mut model = self.model.borrow_mut();
                let tenant = model.tenants.entry(client).or_default();
                if tenant.topics.remove(&topic) {
                    // What others have published to it may come or not, from now on.
                    let name = topic.to_string();
                    for (payload, fate) in tenant.due_from_afar.values_mut().flatten() {
                        let to = Label::of(payload).map(|label| label.to);
                        if to == Some(To::Topic(&name)) {
                            *fate = Fate::Free;
                        }
                    }
                }
            }
            'c' => {
                conn.close(CloseCode::NORMAL, "told to");
                let mut model = self.model.borrow_mut();
                let tenant = model.tenants.entry(client).or_default();
                tenant.is_closing = true;
                tenant.topics.clear();
            }
            'g' => {
                let status = conn.ping(b"sim");
                self.check_unsent(conn, client, status != SendStatus::Dropped, 2 + 3);
                let mut model = self.model.borrow_mut();
                let tenant = model.tenants.entry(client).or_default();
                tenant.owes_drain |= status == SendStatus::Backpressure;
            }
            // Without the panic hook: it would print.
            '!' => {
                self.model.borrow_mut().panics += 1;
                std::panic::resume_unwind(Box::new("told to"))
            }
            _ => {}
        }
    }

    fn send_new(&mut self, conn: &mut Conn<'_, Self>, client: ClientNumber, pad: usize) {
        let to = To::Client(client);
        let payload = self.model.borrow_mut().payload(self.shard, "server", to, pad);
        self.send(conn, client, Message::Text(&payload), payload.clone());
    }

    fn send(
        &mut self,
        conn: &mut Conn<'_, Self>,
        client: ClientNumber,
        message: Message<'_>,
        payload: String,
    ) {
        // Both ways, since they differ in who owns the frame.
        let is_shared = payload.bytes().map(usize::from).sum::<usize>() % 2 == 0;
        let status = if is_shared { send_shared(conn, message) } else { conn.send(message) };
        trace!("shard {}: {payload:.20} to client {client}: {status:?}", self.shard);
        let frame_bytes = frame_header_bytes(payload.len()) + payload.len();
        let is_queued = status != SendStatus::Dropped;
        self.check_unsent(conn, client, is_queued, frame_bytes);
        let mut model = self.model.borrow_mut();
        let tenant = model.tenants.entry(client).or_default();
        if is_queued {
            tenant.due.push_back(payload);
        } else if tenant.is_open && !tenant.is_closing {
            model.sends_dropped += 1;
            return;
        }
        tenant.owes_drain |= status == SendStatus::Backpressure;
    }

    /// Whether a frame was queued exactly if there was room for it: behind others only within the
    /// limit, alone always.
    fn check_unsent(
        &mut self,
        conn: &Conn<'_, Self>,
        client: ClientNumber,
        is_queued: bool,
        frame_bytes: usize,
    ) {
        let unsent = conn.buffered_bytes();
        let mut model = self.model.borrow_mut();
        let Model { write_bytes_max, overflow_closes, .. } = *model;
        let tenant = model.tenants.entry(client).or_default();
        let is_right = if is_queued {
            unsent == frame_bytes || unsent <= write_bytes_max
        } else {
            let may_be_closing =
                tenant.is_closing || (overflow_closes && tenant.may_have_overflowed);
            may_be_closing || (unsent > 0 && unsent + frame_bytes > write_bytes_max)
        };
        tenant.may_have_overflowed |= !is_queued;
        if !is_right {
            model.violate(format!(
                "client {client}: {frame_bytes} bytes, queued {is_queued}, {unsent} unsent"
            ));
        }
    }

    fn publish(
        &mut self,
        conn: &mut Conn<'_, Self>,
        topic: char,
        pad: usize,
        but: Option<ClientNumber>,
    ) {
        let mut model = self.model.borrow_mut();
        let mut name = [0; 4];
        let name = &*topic.encode_utf8(&mut name);
        let payload = model.payload(self.shard, "publish", To::Topic(name), pad);
        model.note_publish(self.shard, topic, &payload, but);
        if but.is_some() {
            conn.publish(name, payload.as_str());
        } else {
            conn.publish_all(name, payload.as_str());
        }
    }
}

/// As [`Conn::send`], through a list of connections.
fn send_shared(conn: &mut Conn<'_, ModelHandler>, message: Message<'_>) -> SendStatus {
    let id = conn.id();
    let counts = conn.send_many([id], message);
    match (counts.queued, counts.backpressure, counts.dropped, counts.gone) {
        (1, 0, 0, 0) => SendStatus::Queued,
        (0, 1, 0, 0) => SendStatus::Backpressure,
        (0, 0, 1, 0) => SendStatus::Dropped,
        _ => panic!("one connection, one outcome: {counts:?}"),
    }
}

//! What a client's message makes the handler of the simulated shards do.

use ringwire_proto::{CloseCode, Message, frame_header_bytes};

use super::{Fate, ModelHandler};
use crate::conn::{Conn, SendStatus};
use crate::sim::label::{ClientNumber, Label, To};

impl ModelHandler {
    pub(super) fn note_message(&mut self, client: ClientNumber, number: u64) {
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

    pub(super) fn obey(
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
                let mut model = self.model.borrow_mut();
                model.check_unsent(client, conn.buffered_bytes(), status.is_queued(), 2 + 3);
                let tenant = model.tenants.entry(client).or_default();
                tenant.owes_drain |= status == SendStatus::Backpressure;
            }
            '!' => self.panic(),
            _ => {}
        }
    }

    fn send_new(&mut self, conn: &mut Conn<'_, Self>, client: ClientNumber, pad: usize) {
        let to = To::Client(client);
        let payload = self.model.borrow_mut().payload(self.shard, "server", to, pad);
        self.send(conn, client, Message::Text(&payload), payload.clone());
    }

    pub(super) fn send(
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
        let mut model = self.model.borrow_mut();
        model.check_unsent(client, conn.buffered_bytes(), is_queued, frame_bytes);
        let tenant = model.tenants.entry(client).or_default();
        if is_queued {
            tenant.due.push_back(payload);
        } else if tenant.is_open && !tenant.is_closing && !tenant.may_be_terminated {
            model.sends_dropped += 1;
            return;
        }
        tenant.owes_drain |= status == SendStatus::Backpressure;
    }

    pub(super) fn publish(
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

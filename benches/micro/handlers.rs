//! The two handlers that are measured with a shard around them.

use ringwire::{Conn, Handler, Message, Offer, Request, Upgrade};

/// Sends every message back.
pub(crate) struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_upgrade(&mut self, _request: &Request<'_>, _offer: &Offer<'_>) -> Upgrade<()> {
        Upgrade::accept(()).protocol("chat")
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

/// Publishes every message to all others.
pub(crate) struct Publish;

const TOPIC: &str = "all";

impl Handler for Publish {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        assert!(conn.subscribe(TOPIC));
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.publish(TOPIC, message);
    }
}

//! The two handlers that are measured with a shard around them.

use ringwire::{Conn, Context, Handler, Message, Offer, Request, Upgrade};

/// Sends every message back.
pub(crate) struct Echo;

impl Handler for Echo {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        Upgrade::accept(()).protocol("chat")
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        conn.send(message);
    }
}

/// Publishes every message to all others.
pub(crate) struct Publish;

const TOPIC: &str = "all";

impl Handler for Publish {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        Upgrade::accept(())
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        conn.subscribe(TOPIC).unwrap();
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        conn.publish(TOPIC, message);
    }
}

//! Publishes every message to every connection on every shard, the sender's own included.
//! One topic, no names, no history.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use ringwire::{Conn, Context, Handler, Message, Offer, Request, Upgrade};
use ringwire_examples::{AllowedOrigin, Options, parse, serve};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const EVERYONE: &str = "everyone";

struct Broadcast {
    origins: Vec<AllowedOrigin>,
}

impl Handler for Broadcast {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        AllowedOrigin::allow(&self.origins, Upgrade::accept(()))
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        conn.subscribe(EVERYONE).expect("one topic is within the limits");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        conn.publish_all(EVERYONE, message);
    }
}

fn main() -> ExitCode {
    let options: Options = parse("Publishes every message to everyone", "127.0.0.1:9002");
    let origins = options.allow_origin.clone();
    serve(&options, move |_shard| Broadcast { origins: origins.clone() })
}

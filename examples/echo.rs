//! Sends every message back to where it came from: text as text, binary as binary.
//! It never looks at what is in them.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use ringwire::{Conn, Context, Handler, Message, Offer, Request, Upgrade};
use ringwire_examples::{AllowedOrigin, Options, parse, serve};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

struct Echo {
    origins: Vec<AllowedOrigin>,
}

impl Handler for Echo {
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

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        conn.send(message);
    }
}

fn main() -> ExitCode {
    let options: Options = parse("Echoes every message to its sender", "127.0.0.1:9001");
    let origins = options.allow_origin.clone();
    serve(&options, move |_shard| Echo { origins: origins.clone() })
}

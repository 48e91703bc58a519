//! Sends every message back to where it came from: text as text, binary as binary.
//! It never looks at what is in them.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use ringwire::{Conn, Handler, Message};
use ringwire_examples::{Options, parse, serve};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

fn main() -> ExitCode {
    let options: Options = parse("Echoes every message to its sender", "127.0.0.1:9001");
    serve(&options, |_shard| Echo)
}

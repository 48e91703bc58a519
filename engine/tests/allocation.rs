//! No allocation on the path of a message: counted, not believed. The only test in its
//! binary, because the allocator counts for the whole process.

mod harness;

use std::io::{Read, Write};

use harness::{TestServer, text};
use ringwire::{Config, Conn, Context, Handler, Message, Offer, Request, Upgrade};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Echoes, or publishes where the text asks for it.
struct EchoOrPublish;

impl Handler for EchoOrPublish {
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
        conn.subscribe("everybody");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        match message {
            Message::Text(text) if text.starts_with("publish") => {
                conn.publish_all("everybody", text);
            }
            message => {
                conn.send(message);
            }
        }
    }
}

/// Sends each message and reads its echo, without allocating on this side either.
fn converse(clients: &mut [harness::RawClient], request: &[u8], answer: &mut [u8], rounds: usize) {
    for _ in 0..rounds {
        for client in &mut *clients {
            client.stream.write_all(request).unwrap();
        }
        for client in &mut *clients {
            client.stream.read_exact(answer).unwrap();
        }
    }
}

/// A list may still grow once, when more happens in one tick than ever before (ten clients
/// are seldom all heard at once). It is not one per message, or per tick: there are thousands.
const GROWTH_MAX: u64 = 10;

#[test]
fn a_message_costs_no_allocation() {
    let profiler = dhat::Profiler::builder().testing().build();
    let server = TestServer::start(1, Config::new(), |_| EchoOrPublish);
    let mut clients: Vec<_> = (0..10).map(|_| server.open()).collect();
    for length in [5, 600, 3_000] {
        let request = text(&"e".repeat(length));
        let mut answer = vec![0; length + if length > 125 { 4 } else { 2 }];
        // Pools and lists grow to what this load needs; after that nothing does.
        converse(&mut clients, &request, &mut answer, 200);
        let before = dhat::HeapStats::get().total_blocks;
        converse(&mut clients, &request, &mut answer, 1_000);
        let allocations = dhat::HeapStats::get().total_blocks - before;
        assert!(allocations <= GROWTH_MAX, "{allocations} for 10,000 echoes of {length} bytes");
    }
    // On one shard a publish costs none either. Every client gets each of the ten.
    let request = text("publish!");
    let mut answer = vec![0; 10 * (2 + 8)];
    converse(&mut clients, &request, &mut answer, 200);
    let before = dhat::HeapStats::get().total_blocks;
    converse(&mut clients, &request, &mut answer, 1_000);
    let allocations = dhat::HeapStats::get().total_blocks - before;
    assert!(allocations <= GROWTH_MAX, "{allocations} for 10,000 publishes to 10 subscribers");
    drop((clients, server));
    drop(profiler);
}

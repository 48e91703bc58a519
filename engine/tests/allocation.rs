//! No allocation on the path of a message: counted, not believed. The only test in its
//! binary, because the allocator counts for the whole process.

mod harness;

use std::io::{Read, Write};

use harness::{TestServer, text};
use ringwire::{Config, Conn, ConnId, Context, Handler, Message, Offer, Request, Upgrade};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Echoes, or publishes where the text asks for it, or answers all listeners at once.
#[derive(Default)]
struct EchoOrPublish {
    listeners: Vec<ConnId>,
}

/// Connections that get one message together, and how much longer it is than what they have sent.
const LISTENERS: usize = 10;
const REPEATS: usize = 100;

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
        conn.subscribe("everybody").unwrap();
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        match message {
            Message::Text(text) if text.starts_with("publish") => {
                conn.publish_all("everybody", text);
            }
            Message::Binary(bytes) => {
                self.listeners.push(conn.id());
                if self.listeners.len() == LISTENERS {
                    let counts = conn.send_many(self.listeners.drain(..), bytes.repeat(REPEATS));
                    assert_eq!(counts.dropped + counts.gone, 0);
                }
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
    let server = TestServer::start(1, Config::new(), |_| EchoOrPublish::default());
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
    // A long message to many is in memory twice, as a payload and as a frame, and not once for each.
    let request = harness::binary(&[7; 10_000]);
    let mut answer = vec![0; 10 + 10_000 * REPEATS];
    let before = dhat::HeapStats::get().total_bytes;
    converse(&mut clients, &request, &mut answer, 1);
    let allocated_bytes = dhat::HeapStats::get().total_bytes - before;
    let message_bytes = (10_000 * REPEATS) as u64;
    assert!(allocated_bytes < 3 * message_bytes, "{allocated_bytes} for {message_bytes}");
    drop((clients, server));
    drop(profiler);
}

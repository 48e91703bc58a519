//! The operations whose instructions `.ci/instructions` counts, each as often as it is asked to.
//!
//! Never counts anything itself: the script runs it twice under valgrind, and the difference is
//! that of the repetitions alone, without the preparations. Without arguments it does every
//! operation once and prints its name.

mod handlers;
mod traffic;

use std::hint::black_box;

use handlers::{Echo, Publish};
use ringwire::bench::LoneShard;
use ringwire_proto::{
    Event, HeadLimits, HeadScan, Header, Incoming, IncomingLimits, Message, Outgoing, Request,
    Role, accept_response, mask,
};

/// A name, and what to do so many times.
type Operation = (&'static str, fn(u64));

const OPERATIONS: [Operation; 7] = [
    ("header_parse", header_parse),
    ("message_64_bytes_parse", message_parse),
    ("unmask_4096_bytes", unmask),
    ("frame_64_bytes_encode", encode),
    ("handshake_accept", handshake),
    ("echo_64_bytes_whole_shard", echo),
    ("publish_64_bytes_to_1000_whole_shard", publish),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Anything else is meant for criterion, which `cargo bench` runs with the same arguments.
    if let [name, times] = arguments.as_slice()
        && let Some((_, operation)) = OPERATIONS.iter().find(|(known, _)| known == name)
    {
        return operation(times.parse().expect("how many times"));
    }
    for (name, operation) in OPERATIONS {
        operation(1);
        println!("{name}");
    }
}

fn header_parse(times: u64) {
    let input = traffic::messages(1, 64);
    for _ in 0..times {
        let decoded = Header::decode(black_box(&input));
        let Ok(Some((header, header_bytes))) = decoded else { panic!("a whole header") };
        assert_eq!((header.payload_bytes, header_bytes), (64, 6));
    }
}

fn message_parse(times: u64) {
    // Unmasking masks again the next time: the length stays, and that is what is checked.
    let mut input = traffic::messages(1, 64);
    let mut incoming = Incoming::new(Role::Server);
    let limits = IncomingLimits::default();
    for _ in 0..times {
        let mut events = incoming.receive(black_box(&mut input), &limits);
        let Some(Ok(Event::Message(message))) = events.next() else { panic!("one message") };
        assert_eq!(black_box(message.payload()).len(), 64);
        assert_eq!(events.next(), None);
    }
}

fn unmask(times: u64) {
    let plain = traffic::payload(4_096);
    let mut payload = plain.clone();
    for _ in 0..times {
        mask::unmask(black_box(&mut payload), black_box(traffic::KEY));
    }
    assert_eq!(payload == plain, times.is_multiple_of(2));
}

fn encode(times: u64) {
    let payload = traffic::payload(64);
    let mut out = Vec::new();
    for _ in 0..times {
        out.clear();
        Outgoing::server().message(&mut out, Message::Binary(black_box(&payload)));
        assert_eq!(black_box(&out).len(), 66);
    }
}

fn handshake(times: u64) {
    let head = traffic::request_head();
    let limits = HeadLimits::default();
    let mut out = Vec::new();
    for _ in 0..times {
        out.clear();
        let head_bytes = HeadScan::new().scan(black_box(&head), &limits);
        assert_eq!(head_bytes, Ok(Some(head.len())));
        let request = Request::parse(&head, &limits).expect("a good head");
        let offer = request.upgrade().expect("a good offer").expect("it asks for a WebSocket");
        accept_response(&mut out, &offer, Some("chat"), &[]).expect("it was offered");
        assert!(black_box(&out).ends_with(b"\r\n\r\n"));
    }
}

fn echo(times: u64) {
    let input = traffic::messages(1, 64);
    let mut shard = LoneShard::new(Echo, 1, &traffic::request_head());
    let before = shard.sent_bytes();
    for _ in 0..times {
        shard.receive(0, &input);
        shard.tick();
    }
    let echo_bytes = traffic::echoes(1, 64).len() as u64;
    assert_eq!(shard.sent_bytes() - before, times * echo_bytes);
}

fn publish(times: u64) {
    const SUBSCRIBERS: usize = 1_000;
    let input = traffic::messages(1, 64);
    let mut shard = LoneShard::new(Publish, 1 + SUBSCRIBERS, &traffic::request_head());
    let before = shard.sent_bytes();
    for _ in 0..times {
        shard.receive(0, &input);
        shard.tick();
        shard.settle();
    }
    assert_eq!(shard.sent_bytes() - before, times * 66 * SUBSCRIBERS as u64);
}

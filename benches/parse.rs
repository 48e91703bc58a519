//! What the parser costs: small masked frames one behind the other, a large one, and unmasking
//! beside a plain copy of the same bytes. Each checks what it measures.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringwire_proto::{Event, Incoming, IncomingLimits, Message, Outgoing, Role, mask};

const KEY: [u8; 4] = [0x12, 0x9B, 0x5E, 0xC4];

/// Masked binary messages of so many bytes, as a client sends them.
fn input(messages: usize, payload_bytes: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload_bytes).map(|index| index as u8).collect();
    let mut input = Vec::new();
    let mut outgoing = Outgoing::client(|| KEY);
    for _ in 0..messages {
        assert!(outgoing.message(&mut input, Message::Binary(&payload)));
    }
    input
}

/// Parses everything; how many messages there were, and their bytes.
fn parse(input: &mut [u8]) -> (usize, usize) {
    let mut incoming = Incoming::new(Role::Server);
    let limits = IncomingLimits::default();
    let mut events = incoming.receive(input, &limits);
    let (mut messages, mut bytes) = (0, 0);
    while let Some(event) = events.next() {
        let Ok(Event::Message(message)) = event else { panic!("only messages were sent") };
        messages += 1;
        bytes += black_box(message.payload()).len();
    }
    (messages, bytes)
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (messages, payload_bytes) in [(100, 16), (100, 64), (100, 512), (1, 60_000)] {
        let input = input(messages, payload_bytes);
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(format!("{messages} x {payload_bytes} B"), |bencher| {
            bencher.iter_batched_ref(
                || input.clone(),
                |input| assert_eq!(parse(input), (messages, messages * payload_bytes)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn unmasking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for bytes in [64, 4_096, 65_536] {
        let mut payload = vec![0x5A; bytes];
        let mut copy = vec![0; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("unmask {bytes} B"), |bencher| {
            bencher.iter(|| mask::unmask(black_box(&mut payload), black_box(KEY)));
        });
        group.bench_function(format!("copy {bytes} B"), |bencher| {
            bencher.iter(|| copy.copy_from_slice(black_box(&payload)));
        });
        // An even number of unmaskings would leave it as it was, an odd one masked.
        let first = payload[0];
        assert!(first == 0x5A || first == 0x5A ^ KEY[0]);
        assert_eq!(copy, payload);
    }
    group.finish();
}

criterion_group!(benches, parsing, unmasking);
criterion_main!(benches);

//! Checking texts: whole ones, and ones that come in pieces. The same bytes as a binary message
//! show what of it is not the check.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use ringwire_proto::{Event, Incoming, IncomingLimits, Opcode, Outgoing, Role};

use crate::traffic::KEY;

const TEXT_BYTES: usize = 16 << 10;

/// One masked message.
fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut input = Vec::new();
    assert!(Outgoing::client(|| KEY).frame(&mut input, true, opcode, payload));
    input
}

/// Receives it in pieces of so many bytes; the bytes of the message.
fn receive(input: &mut [u8], piece_bytes: usize) -> usize {
    let mut incoming = Incoming::new(Role::Server);
    let limits = IncomingLimits::default();
    let mut bytes = 0;
    for piece in input.chunks_mut(piece_bytes) {
        let mut events = incoming.receive(piece, &limits);
        while let Some(event) = events.next() {
            let Ok(Event::Message(message)) = event else { panic!("only a message was sent") };
            bytes += black_box(message.payload()).len();
        }
    }
    bytes
}

pub(crate) fn texts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("utf8");
    group.throughput(Throughput::Bytes(TEXT_BYTES as u64));
    // 16 bytes each, so that no character is cut; the second has characters of one to four bytes.
    let contents = [("ascii", "0123456789abcdef"), ("mixed", "aé世🦀 bäö")];
    for (content, repeated) in contents {
        let text = repeated.repeat(TEXT_BYTES / 16);
        for (name, opcode, piece_bytes) in [
            ("binary", Opcode::Binary, usize::MAX),
            ("whole", Opcode::Text, usize::MAX),
            ("pieces of 1,000 B", Opcode::Text, 1_000),
            ("pieces of 1,000 B, binary", Opcode::Binary, 1_000),
        ] {
            let input = frame(opcode, text.as_bytes());
            group.bench_function(format!("{content}, {name}"), |bencher| {
                bencher.iter_batched_ref(
                    || input.clone(),
                    |input| assert_eq!(receive(input, piece_bytes), TEXT_BYTES),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

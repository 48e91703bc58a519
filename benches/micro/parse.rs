//! What the parser costs: headers alone, messages of one size, and traffic as servers see it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use ringwire_proto::{Event, Header, Incoming, IncomingLimits, Opcode, Outgoing, Role};

use crate::traffic::{self, KEY};

const HEADERS: usize = 1_000;

/// Headers one behind the other, without their payloads.
fn headers_alone(payload_bytes: impl Fn(usize) -> u64) -> Vec<u8> {
    let mut input = Vec::new();
    for index in 0..HEADERS {
        let payload_bytes = payload_bytes(index);
        let header =
            Header { fin: true, rsv: 0, opcode: Opcode::Binary, mask: Some(KEY), payload_bytes };
        header.append(&mut input);
    }
    input
}

/// Decodes them all; the sum of the lengths they tell.
fn decode_headers(mut input: &[u8]) -> u64 {
    let mut payload_bytes = 0;
    while let Ok(Some((header, header_bytes))) = Header::decode(input) {
        payload_bytes += header.payload_bytes;
        input = &input[header_bytes..];
    }
    payload_bytes
}

/// A length that takes two bytes, fourteen or four, in no order a processor could learn.
fn length_of_any_kind(index: usize) -> u64 {
    [20, 500, 100_000][fastrand::Rng::with_seed(index as u64).usize(..3)]
}

/// A name, and the payload length that each header tells.
type HeaderKind = (&'static str, fn(usize) -> u64);

pub(crate) fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("header");
    group.throughput(Throughput::Elements(HEADERS as u64));
    let kinds: [HeaderKind; 4] = [
        ("7 bits of length", |_| 20),
        ("16 bits of length", |_| 500),
        ("64 bits of length", |_| 100_000),
        ("mixed", length_of_any_kind),
    ];
    for (name, payload_bytes) in kinds {
        let input = headers_alone(payload_bytes);
        let sum: u64 = (0..HEADERS).map(payload_bytes).sum();
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(decode_headers(black_box(&input)), sum));
        });
    }
    group.finish();
}

/// What was heard.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    messages: usize,
    pings: usize,
    bytes: usize,
}

/// As large as the receive buffers of a server are by default.
const PIECE_BYTES: usize = 16 << 10;

fn parse(input: &mut [u8]) -> Heard {
    let mut incoming = Incoming::new(Role::Server);
    let limits = IncomingLimits::default();
    let mut heard = Heard::default();
    for piece in input.chunks_mut(PIECE_BYTES) {
        let mut events = incoming.receive(piece, &limits);
        while let Some(event) = events.next() {
            match event {
                Ok(Event::Message(message)) => {
                    heard.messages += 1;
                    heard.bytes += black_box(message.payload()).len();
                }
                Ok(Event::Ping(_)) => heard.pings += 1,
                other => panic!("nobody has sent this: {other:?}"),
            }
        }
    }
    heard
}

pub(crate) fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (messages, payload_bytes) in [(100, 16), (100, 64), (100, 512), (1, 60_000)] {
        let input = traffic::messages(messages, payload_bytes);
        let heard = Heard { messages, pings: 0, bytes: messages * payload_bytes };
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(format!("{messages} x {payload_bytes} B"), |bencher| {
            bencher.iter_batched_ref(
                || input.clone(),
                |input| assert_eq!(parse(input), heard),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Of 100 messages 60 have up to 125 bytes, 35 up to 2,000 and 5 up to 50,000; every second one is
/// text, every twentieth comes in three fragments, and behind every fiftieth is a ping.
fn mixed_traffic() -> (Vec<u8>, Heard) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut outgoing = Outgoing::client(|| KEY);
    let (mut input, mut heard) = (Vec::new(), Heard::default());
    for index in 0..1_000 {
        let payload_bytes = match index % 20 {
            0 => random.usize(2_000..50_000),
            1..8 => random.usize(126..2_000),
            _ => random.usize(3..126),
        };
        let payload = "naïve, 世界! ".repeat(payload_bytes.div_ceil(16)).into_bytes();
        let opcode = if random.bool() { Opcode::Text } else { Opcode::Binary };
        if index % 20 == 7 {
            let (front, rest) = payload.split_at(payload.len() / 3);
            let (middle, back) = rest.split_at(rest.len() / 2);
            outgoing.frame(&mut input, false, opcode, front);
            outgoing.frame(&mut input, false, Opcode::Continuation, middle);
            outgoing.frame(&mut input, true, Opcode::Continuation, back);
        } else {
            outgoing.frame(&mut input, true, opcode, &payload);
        }
        heard.messages += 1;
        heard.bytes += payload.len();
        if index % 50 == 0 {
            outgoing.ping(&mut input, b"still there?").expect("a short payload");
            heard.pings += 1;
        }
    }
    (input, heard)
}

pub(crate) fn mixed(criterion: &mut Criterion) {
    let (input, heard) = mixed_traffic();
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Bytes(input.len() as u64));
    group.bench_function("mixed traffic", |bencher| {
        bencher.iter_batched_ref(
            || input.clone(),
            |input| assert_eq!(parse(input), heard),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

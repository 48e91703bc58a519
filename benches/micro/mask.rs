//! Unmasking in place, beside fastwebsockets' and beside copying as many bytes to another buffer.

use std::hint::black_box;
use std::ops::Range;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use ringwire_proto::mask;

use crate::traffic::{self, KEY};

/// Each length twice where it is worth seeing: at the start of a cache line and 3 bytes behind it.
/// Payloads begin anywhere: a header has 6, 8 or 14 bytes.
const CASES: [(usize, usize); 10] = [
    (1, 0),
    (16, 0),
    (64, 0),
    (64, 3),
    (512, 0),
    (4 << 10, 0),
    (4 << 10, 3),
    (16 << 10, 0),
    (64 << 10, 0),
    (64 << 10, 3),
];

pub(crate) fn unmask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for (bytes, offset) in CASES {
        let case = format!("{bytes} B + {offset}");
        group.throughput(Throughput::Bytes(bytes as u64));
        in_place(&mut group, "ringwire", &case, (bytes, offset), mask::unmask);
        in_place(&mut group, "fastwebsockets", &case, (bytes, offset), fastwebsockets::unmask);
        copy(&mut group, &case, (bytes, offset));
    }
    group.finish();
}

fn in_place(
    group: &mut BenchmarkGroup<'_, WallTime>,
    whose: &str,
    case: &str,
    (bytes, offset): (usize, usize),
    unmask: impl Fn(&mut [u8], [u8; 4]),
) {
    let plain = traffic::payload(bytes);
    let masked: Vec<u8> = plain.iter().zip(KEY.iter().cycle()).map(|(a, b)| a ^ b).collect();
    let (mut room, place) = room(bytes, offset);
    let payload = &mut room[place];
    payload.copy_from_slice(&masked);
    unmask(payload, KEY);
    assert_eq!(payload, plain);
    group.bench_function(BenchmarkId::new(whose, case), |bencher| {
        bencher.iter(|| unmask(black_box(payload), black_box(KEY)));
    });
    // Masked or not, by how often it was done; never anything else.
    assert!(payload == plain || payload == masked);
}

fn copy(group: &mut BenchmarkGroup<'_, WallTime>, case: &str, (bytes, offset): (usize, usize)) {
    let (mut from_room, from) = room(bytes, offset);
    let (mut to_room, to) = room(bytes, offset);
    from_room[from.clone()].copy_from_slice(&traffic::payload(bytes));
    let (from, to) = (&from_room[from], &mut to_room[to]);
    to.copy_from_slice(from);
    group.bench_function(BenchmarkId::new("copy", case), |bencher| {
        bencher.iter(|| black_box(&mut *to).copy_from_slice(black_box(from)));
    });
    assert_eq!(from, to);
}

/// Memory with a place for `bytes` bytes that begins `offset` bytes behind a cache line's start.
fn room(bytes: usize, offset: usize) -> (Vec<u8>, Range<usize>) {
    const LINE_BYTES: usize = 64;
    let room = vec![0; bytes + offset + LINE_BYTES];
    let start = room.as_ptr().align_offset(LINE_BYTES) + offset;
    (room, start..start + bytes)
}

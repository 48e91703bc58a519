//! Parts of the engine alone, and a whole shard without a kernel.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BatchSize, Criterion, Throughput};
use ringwire::bench::{LoneShard, Timers, Writes, ring_of_numbers};

use crate::handlers::{Echo, Publish};
use crate::traffic;

pub(crate) fn write_buffer(criterion: &mut Criterion) {
    const FRAMES: usize = 16;
    let frame = traffic::payload(66);
    let mut writes = Writes::default();
    let mut group = criterion.benchmark_group("write buffer");
    group.throughput(Throughput::Elements(FRAMES as u64));
    // A kernel that takes all at once, and one that takes half.
    for (name, bytes_max) in [("16 frames, 1 send", usize::MAX), ("16 frames, 2 sends", 600)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for _ in 0..FRAMES {
                    writes.append(black_box(&frame));
                }
                assert_eq!(writes.send_all(bytes_max), FRAMES * frame.len());
            });
        });
    }
    group.finish();
}

pub(crate) fn timer_wheel(criterion: &mut Criterion) {
    const SLOTS: u32 = 10_000;
    let mut random = fastrand::Rng::with_seed(1);
    let deadlines: Vec<u64> = (0..SLOTS).map(|_| random.u64(1..60_000)).collect();
    let filled = || {
        let mut timers = Timers::new(0, SLOTS as usize);
        for (slot, &at_ms) in (0..).zip(&deadlines) {
            timers.schedule(slot, at_ms);
        }
        timers
    };
    let mut group = criterion.benchmark_group("timer wheel, 10,000 slots");
    group.throughput(Throughput::Elements(u64::from(SLOTS)));
    group.bench_function("schedule", |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut timers = filled();
            assert_eq!(timers.pop_due(0), None);
            timers
        });
    });
    group.bench_function("remove", |bencher| {
        bencher.iter_batched_ref(
            filled,
            |timers| {
                (0..SLOTS).for_each(|slot| timers.remove(slot));
                assert_eq!(timers.pop_due(u64::MAX), None);
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("move", |bencher| {
        let mut timers = filled();
        let mut later_ms = 0;
        bencher.iter(|| {
            later_ms = (later_ms + 640) % 5_000;
            for (slot, &at_ms) in (0..).zip(&deadlines) {
                timers.schedule(slot, at_ms + later_ms);
            }
            assert_eq!(timers.pop_due(0), None);
        });
    });
    // A minute in ticks of 10 ms, in which all of them fire.
    group.bench_function("advance", |bencher| {
        bencher.iter_batched_ref(
            filled,
            |timers| {
                let ticks_ms = (0..=60_100).step_by(10);
                let fired: usize =
                    ticks_ms.map(|ms| std::iter::from_fn(|| timers.pop_due(ms)).count()).sum();
                assert_eq!(fired, SLOTS as usize);
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// A shard's ring has 1,024 entries by default.
const RING_ENTRIES: usize = 1_024;
const NUMBERS: u64 = 100_000;

/// Sends numbers from this thread to another, never so fast that one is lost.
fn pass_numbers() {
    let (mut writing, mut reading) = ring_of_numbers(RING_ENTRIES);
    let passed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut next, mut numbers) = (0, Vec::with_capacity(RING_ENTRIES));
            while next < NUMBERS {
                assert_eq!(reading.read(RING_ENTRIES, &mut numbers), 0, "numbers were lost");
                for number in numbers.drain(..) {
                    assert_eq!(number, next);
                    next += 1;
                }
                passed.store(next, Ordering::Release);
            }
        });
        for number in 0..NUMBERS {
            while number - passed.load(Ordering::Acquire) >= RING_ENTRIES as u64 {
                std::thread::yield_now();
            }
            assert!(writing.publish(number));
        }
    });
    assert_eq!(passed.into_inner(), NUMBERS);
}

pub(crate) fn broadcast_ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast ring");
    group.throughput(Throughput::Elements(NUMBERS));
    group.sample_size(20);
    group.bench_function("from thread to thread", |bencher| bencher.iter(pass_numbers));
    group.finish();
}

pub(crate) fn echo(criterion: &mut Criterion) {
    const CONNECTIONS: usize = 100;
    let mut group = criterion.benchmark_group("echo without a kernel");
    for (messages, payload_bytes) in [(1, 64), (16, 64), (1, 4_096)] {
        let input = traffic::messages(messages, payload_bytes);
        let mut shard = LoneShard::new(Echo, CONNECTIONS, &traffic::request_head());
        let before = shard.sent_bytes();
        let mut rounds = 0;
        group.throughput(Throughput::Elements((CONNECTIONS * messages) as u64));
        group.bench_function(
            format!("{CONNECTIONS} x {messages} x {payload_bytes} B"),
            |bencher| {
                bencher.iter(|| {
                    (0..CONNECTIONS).for_each(|connection| shard.receive(connection, &input));
                    shard.tick();
                    rounds += 1;
                });
            },
        );
        let echoes = traffic::echoes(CONNECTIONS * messages, payload_bytes);
        assert_eq!(shard.sent_bytes() - before, rounds * echoes.len() as u64);
        (0..CONNECTIONS).for_each(|connection| shard.receive(connection, &input));
        assert_eq!(shard.tick_and_listen(), echoes);
    }
    group.finish();
}

pub(crate) fn publish(criterion: &mut Criterion) {
    const SUBSCRIBERS: usize = 1_000;
    let mut shard = LoneShard::new(Publish, 1 + SUBSCRIBERS, &traffic::request_head());
    let mut group = criterion.benchmark_group("publish without a kernel");
    group.throughput(Throughput::Elements(SUBSCRIBERS as u64));
    for publishes in [1, 16] {
        let input = traffic::messages(publishes, 64);
        let before = shard.sent_bytes();
        let mut rounds = 0;
        group.bench_function(format!("{publishes} x 64 B to {SUBSCRIBERS}"), |bencher| {
            bencher.iter(|| {
                shard.receive(0, &input);
                shard.tick();
                shard.settle();
                rounds += 1;
            });
        });
        let all_bytes = rounds * SUBSCRIBERS * publishes * 66;
        assert_eq!(shard.sent_bytes() - before, all_bytes as u64);
        shard.receive(0, &input);
        assert_eq!(shard.tick_and_listen(), traffic::echoes(publishes * SUBSCRIBERS, 64));
        shard.settle();
    }
    group.finish();
}

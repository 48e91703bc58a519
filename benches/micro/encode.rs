//! Frames written behind one another, as a server does.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ringwire_proto::{Message, Outgoing, frame_header_bytes};

use crate::traffic;

const FRAMES: usize = 100;

pub(crate) fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(FRAMES as u64));
    for payload_bytes in [16, 64, 512, 4_096] {
        let payload = traffic::payload(payload_bytes);
        let mut out = Vec::new();
        let mut outgoing = Outgoing::server();
        let all_bytes = FRAMES * (frame_header_bytes(payload_bytes) + payload_bytes);
        group.bench_function(format!("{FRAMES} x {payload_bytes} B"), |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..FRAMES {
                    outgoing.message(&mut out, Message::Binary(black_box(&payload)));
                }
                assert_eq!(out.len(), all_bytes);
            });
        });
        // Empty if this bench is filtered out.
        assert!(out.is_empty() || out.ends_with(&payload));
    }
    group.finish();
}

//! A browser's request read, checked and answered.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ringwire_proto::{HeadLimits, HeadScan, Request, accept_response, check_response};

use crate::traffic;

/// Appends the answer to the request `head` starts with.
fn answer(head: &[u8], limits: &HeadLimits, out: &mut Vec<u8>) {
    let head_bytes = HeadScan::new().scan(head, limits).expect("a good head");
    let request = Request::parse(&head[..head_bytes.expect("a whole head")], limits);
    let request = request.expect("a good head");
    let offer = request.upgrade().expect("a good offer").expect("it asks for a WebSocket");
    accept_response(out, &offer, Some("chat"), &[]).expect("it was offered");
}

pub(crate) fn accept(criterion: &mut Criterion) {
    let head = traffic::request_head();
    let limits = HeadLimits::default();
    let mut out = Vec::new();
    answer(&head, &limits, &mut out);
    assert_eq!(check_response(&out, traffic::NONCE, &["chat"]), Ok(Some("chat")));
    let answer_bytes = out.len();
    let mut group = criterion.benchmark_group("handshake");
    group.throughput(Throughput::Elements(1));
    group.bench_function("read and accept", |bencher| {
        bencher.iter(|| {
            out.clear();
            answer(black_box(&head), &limits, &mut out);
            assert_eq!(out.len(), answer_bytes);
        });
    });
    group.finish();
}

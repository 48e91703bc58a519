//! What single operations cost, without a kernel under them: `cargo bench -p ringwire-bench`.
//!
//! Never says how fast a server is; that is `ringwire-compare`'s part. Every bench checks the
//! result of what it measures.

#![allow(missing_docs)] // criterion's macros write public functions

mod encode;
mod engine;
mod handlers;
mod handshake;
mod mask;
mod parse;
mod traffic;
mod utf8;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// About a second for each bench, so that all of them take two to three minutes. On a quiet
/// machine medians repeat within a few per cent; for more, `-- --measurement-time 5`.
fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(50)
}

criterion_group! {
    name = benches;
    config = short();
    targets = parse::headers, parse::messages, parse::mixed, mask::unmask, utf8::texts,
        handshake::accept, encode::frames, engine::write_buffer, engine::timer_wheel,
        engine::broadcast_ring, engine::echo, engine::publish
}
criterion_main!(benches);

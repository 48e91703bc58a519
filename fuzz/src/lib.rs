//! The fuzz targets and the seeds of their corpora.
//!
//! Never a check of what one crate can check alone: such bodies are in `ringwire_proto::fuzz` and
//! `ringwire::sim`. Only the comparison with other implementations is here, behind the feature
//! `differential`, so that nobody else builds them.
//!
//! To fuzz, from the root of the repository (any of [`TARGETS`] in place of `frame`):
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --features libfuzzer,differential frame
//! ```
//!
//! It adds what it finds to `fuzz/corpus/frame`, where only the seeds are tracked. An input that
//! fails becomes one, in [`seeds`], under a name that says what it is. `cargo test -p ringwire-fuzz`
//! replays everything in the corpora, with `--features differential` that target's too. After a
//! change of [`seeds`]:
//!
//! ```text
//! RINGWIRE_WRITE_SEEDS=1 cargo test -p ringwire-fuzz
//! ```

#[cfg(feature = "differential")]
mod differential;
mod seeds;

#[cfg(feature = "differential")]
pub use differential::{DIVERGENCES, Divergence, Peer, differential};
pub use seeds::{Seed, seeds};

/// The body of a fuzz target.
pub type Body = fn(&[u8]);

/// Every target: its name and its body.
pub const TARGETS: &[(&str, Body)] = &[
    ("frame", ringwire_proto::fuzz::frame),
    ("cuts", ringwire_proto::fuzz::cuts),
    ("handshake", ringwire_proto::fuzz::handshake),
    ("http_body", ringwire_proto::fuzz::http_body),
    ("close_payload", ringwire_proto::fuzz::close_payload),
    ("mask", ringwire_proto::fuzz::mask),
    ("shard", shard),
    #[cfg(feature = "differential")]
    ("differential", differential),
];

/// Shard: a world of shards and clients in which the input makes every choice.
pub fn shard(data: &[u8]) {
    // What happened is for reports; a broken rule has panicked.
    let _ = ringwire::sim::run_input(data);
}

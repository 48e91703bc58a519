//! The fuzz targets and the seeds of their corpora.
//!
//! Never a check of its own: the bodies are in `ringwire_proto::fuzz`.
//!
//! To fuzz, from the root of the repository (any of [`TARGETS`] in place of `frame`):
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --features libfuzzer frame
//! ```
//!
//! It adds what it finds to `fuzz/corpus/frame`, where only the seeds are tracked. An input that
//! fails becomes one, in [`seeds`], under a name that says what it is. `cargo test -p ringwire-fuzz`
//! replays everything in the corpora. After a change of [`seeds`]:
//!
//! ```text
//! RINGWIRE_WRITE_SEEDS=1 cargo test -p ringwire-fuzz
//! ```

mod seeds;

pub use seeds::{Seed, seeds};

/// The body of a fuzz target.
pub type Body = fn(&[u8]);

/// Every target: its name and its body.
pub const TARGETS: [(&str, Body); 5] = [
    ("frame", ringwire_proto::fuzz::frame),
    ("cuts", ringwire_proto::fuzz::cuts),
    ("handshake", ringwire_proto::fuzz::handshake),
    ("close_payload", ringwire_proto::fuzz::close_payload),
    ("mask", ringwire_proto::fuzz::mask),
];

//! Where a stream is cut makes no difference.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringwire_proto::fuzz::cuts(data));

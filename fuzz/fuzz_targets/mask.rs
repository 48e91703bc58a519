//! Masking is what the naive loop does.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringwire_proto::fuzz::mask(data));

//! No request head makes the parser panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringwire_proto::fuzz::handshake(data));

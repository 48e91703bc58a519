//! What is heard of a stream of frames is what the naive decoder hears.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringwire_proto::fuzz::frame(data));

//! What is heard of a stream of frames is what two other implementations hear.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringwire_fuzz::differential(data));

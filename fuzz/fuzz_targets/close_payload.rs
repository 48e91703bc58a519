//! A Close payload that is accepted can be sent.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringwire_proto::fuzz::close_payload(data));

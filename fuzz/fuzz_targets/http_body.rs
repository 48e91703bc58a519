//! Requests with bodies are read as the naive twin reads them, in any cuts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringwire_proto::fuzz::http_body(data));

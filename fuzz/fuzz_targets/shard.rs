//! No choice of kernel, clients and clock makes a shard break a rule.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringwire_fuzz::shard(data));

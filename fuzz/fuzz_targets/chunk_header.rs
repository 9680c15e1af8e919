//! `meridian_lsm::fuzzing::chunk_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_lsm::fuzzing::chunk_header(bytes));

//! `meridian_lsm::fuzzing::blob`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_lsm::fuzzing::blob(bytes));

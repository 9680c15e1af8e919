//! `meridian_lsm::fuzzing::repaired`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_lsm::fuzzing::repaired(bytes));

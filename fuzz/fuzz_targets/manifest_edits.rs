//! `meridian_lsm::fuzzing::manifest_edits`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_lsm::fuzzing::manifest_edits(bytes));

//! `meridian_lsm::fuzzing::backup_list`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_lsm::fuzzing::backup_list(bytes));

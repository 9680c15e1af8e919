//! Bit rot, cut and missing files: every answer is an error that names a file, or correct; never a
//! wrong or a missing value.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::oracle::{State, read_all, trees, write_history};
use common::{DIR, open_small};
use meridian_lsm::Error;
use meridian_vfs::{CrashChoice, Fs, MemFs};

/// A database with tables on several levels, deletes, operands, and a log of several segments.
fn build(cleanly: bool) -> (MemFs, State) {
    let fs = MemFs::new();
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    let (db, _) = open_small(&disk).unwrap();
    let state = write_history(&db);
    if cleanly {
        db.close().unwrap();
    }
    (fs, state)
}

fn files(fs: &MemFs) -> Vec<PathBuf> {
    let names = fs.list(Path::new(DIR)).unwrap();
    let files: Vec<_> = names.iter().map(|name| Path::new(DIR).join(name)).collect();
    let count =
        |end: &str| files.iter().filter(|file| file.to_string_lossy().ends_with(end)).count();
    assert!(count(".sst") >= 3 && count(".log") >= 2 && count("MANIFEST") == 1, "{files:?}");
    files
}

/// Opens and reads everything; says what the damage led to.
fn outcome(disk: &MemFs, state: &State, what: &str) -> &'static str {
    let disk: Arc<dyn Fs> = Arc::new(disk.clone());
    let named = |cause: &Error| {
        let Error::Corruption { file, .. } = cause else { panic!("{what}: {cause}") };
        assert!(file.starts_with(DIR), "{what}: {cause}");
        "error"
    };
    let (db, _) = match open_small(&disk) {
        Ok(opened) => opened,
        Err(cause) => return named(&cause),
    };
    match read_all(&db, &db.snapshot()) {
        Ok(found) => assert_eq!(&found, state, "{what}"),
        Err(cause) => return named(&cause),
    }
    for (tree, key) in state.keys() {
        match trees(&db)[*tree].get_latest(key) {
            Ok(found) => {
                assert_eq!(found.as_deref(), state.get(&(*tree, key.clone())).map(|v| &**v))
            }
            Err(cause) => return named(&cause),
        }
    }
    match db.verify() {
        Ok(()) => "correct",
        Err(cause) => named(&cause),
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_harmless() {
    let (fs, state) = build(true);
    let (mut errors, mut correct) = (0, 0);
    for file in files(&fs) {
        let bytes = meridian_vfs::read_all(&fs, &file).unwrap().len() as u64;
        for byte in (0..bytes).step_by(if bytes > 2000 { 7 } else { 1 }) {
            let damaged = fs.crash_clone(CrashChoice::KeepEverything);
            damaged.flip_bit(&file, byte * 8 + byte % 8).unwrap();
            match outcome(&damaged, &state, &format!("{} byte {byte}", file.display())) {
                "error" => errors += 1,
                _ => correct += 1,
            }
        }
    }
    // Nearly everything is covered by a checksum that is looked at when the database opens or
    // reads; what is not must still be found by `verify`.
    assert!(errors > 10 * correct, "{errors} errors, {correct} correct");
}

#[test]
fn a_cut_file_is_an_error_or_harmless() {
    let (fs, state) = build(true);
    for file in files(&fs) {
        let bytes = meridian_vfs::read_all(&fs, &file).unwrap().len();
        for len in (0..bytes).step_by(37) {
            let damaged = fs.crash_clone(CrashChoice::KeepEverything);
            damaged.truncate(&file, len).unwrap();
            outcome(&damaged, &state, &format!("{} cut to {len}", file.display()));
        }
    }
}

#[test]
fn a_missing_file_is_an_error() {
    let (fs, state) = build(true);
    for file in files(&fs).iter().filter(|file| !file.ends_with("LOCK") && !file.ends_with("TREES"))
    {
        let damaged = fs.crash_clone(CrashChoice::KeepEverything);
        damaged.remove(file).unwrap();
        let what = format!("without {}", file.display());
        assert_eq!(outcome(&damaged, &state, &what), "error", "{what}");
    }
}

/// Without a clean close only the last chunk of the log has no witness: damage to it looks like a
/// torn tail, and is said to be one. Everything before is as safe as after a clean close.
#[test]
fn after_a_crash_only_the_last_chunk_can_be_taken_for_torn() {
    let (fs, state) = build(false);
    let last = files(&fs).into_iter().rfind(|file| file.extension().is_some_and(|e| e == "log"));
    let last = last.unwrap();
    // Behind it is room that holds nothing.
    let bytes = meridian_vfs::read_all(&fs, &last).unwrap();
    let bytes = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let mut torn = 0;
    for byte in 0..bytes {
        let damaged = fs.crash_clone(CrashChoice::KeepEverything);
        damaged.flip_bit(&last, byte * 8).unwrap();
        let disk: Arc<dyn Fs> = Arc::new(damaged);
        match open_small(&disk) {
            Err(Error::Corruption { file, .. }) => assert_eq!(file, last),
            Err(other) => panic!("{other}"),
            Ok((db, recovery)) => {
                assert!(recovery.torn_tail_bytes > 0 && recovery.torn_file.as_ref() == Some(&last));
                assert_ne!(read_all(&db, &db.snapshot()).unwrap(), state);
                torn += 1;
            }
        }
    }
    assert!(torn > 0);
}

#[test]
fn files_of_a_lost_manifest_are_not_taken_for_a_new_database() {
    let (fs, _) = build(true);
    let disk: Arc<dyn Fs> = Arc::new(fs.clone());
    fs.remove(&Path::new(DIR).join("MANIFEST")).unwrap();
    assert!(matches!(open_small(&disk), Err(Error::Corruption { .. })));
    // And nothing was removed meanwhile.
    assert!(fs.list(Path::new(DIR)).unwrap().len() > 4);
}

//! The same contract for every file system, and what only `MemFs` and `FaultFs` promise.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;

use crate::{CrashChoice, Fault, FaultFs, FaultRule, Fs, MemFs, Op, StdFs, SyncMoment, read_all};

fn contract(fs: &dyn Fs, root: &Path) {
    let dir = root.join("data");
    fs.create_dir_all(&dir).unwrap();
    let (a, b) = (dir.join("a"), dir.join("b"));
    let file = fs.create(&a).unwrap();
    file.append(b"hello ").unwrap();
    file.append(b"world").unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(&dir).unwrap();
    assert_eq!(file.len().unwrap(), 11);
    let mut buf = [0; 8];
    assert_eq!(fs.open(&a).unwrap().read_at(6, &mut buf).unwrap(), 5);
    assert_eq!(&buf[..5], b"world");
    assert_eq!(file.read_at(100, &mut buf).unwrap(), 0);
    assert!(fs.open(&a).unwrap().append(b"x").is_err());
    fs.open_append(&a).unwrap().append(b"!").unwrap();
    fs.hard_link(&a, &b).unwrap();
    assert_eq!(read_all(fs, &b).unwrap(), b"hello world!");
    room(fs, &dir.join("room"));
    assert_eq!(fs.list(&dir).unwrap(), [Path::new("a"), Path::new("b")]);
    fs.remove(&a).unwrap();
    assert!(!fs.exists(&a).unwrap());
    fs.rename(&b, &a).unwrap();
    assert_eq!(read_all(fs, &a).unwrap(), b"hello world!");
    let missing = fs.open(&b).unwrap_err();
    assert_eq!(
        (missing.kind(), missing.path(), missing.op()),
        (ErrorKind::NotFound, &*b, Op::Open)
    );
    fs.create(&a).unwrap();
    assert!(read_all(fs, &a).unwrap().is_empty());
    let lock = dir.join("LOCK");
    let held = fs.lock(&lock).unwrap();
    assert_eq!(fs.lock(&lock).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(held);
    fs.lock(&lock).unwrap();
}

fn room(fs: &dyn Fs, path: &Path) {
    let file = fs.create(path).unwrap();
    file.append(b"ab").unwrap();
    file.reserve(4).unwrap();
    assert_eq!(read_all(fs, path).unwrap(), b"ab\0\0\0\0");
    file.append(b"cd").unwrap();
    assert_eq!(read_all(fs, path).unwrap(), b"abcd\0\0");
    file.append(b"efgh").unwrap();
    assert_eq!(read_all(fs, path).unwrap(), b"abcdefgh");
    file.reserve(100).unwrap();
    assert_eq!(file.len().unwrap(), 108);
    file.reserve(0).unwrap();
    assert_eq!(read_all(fs, path).unwrap(), b"abcdefgh");
    fs.remove(path).unwrap();
}

#[test]
fn room_that_was_synced_is_there_after_a_cut() {
    let fs = MemFs::new();
    let (dir, path) = (Path::new("/d"), Path::new("/d/a"));
    fs.create_dir_all(dir).unwrap();
    let file = fs.create(path).unwrap();
    fs.sync_dir(dir).unwrap();
    file.append(b"ab").unwrap();
    file.reserve(4).unwrap();
    file.sync_data().unwrap();
    file.append(b"cd").unwrap();
    let after = fs.crash_clone(CrashChoice::LoseUnsynced);
    assert_eq!(read_all(&after, path).unwrap(), b"ab\0\0\0\0");
    let after = fs.crash_clone(CrashChoice::KeepEverything);
    assert_eq!(read_all(&after, path).unwrap(), b"abcd\0\0");
}

#[test]
fn every_file_system_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract(&StdFs, dir.path());
    contract(&MemFs::new(), Path::new("/m"));
    contract(&FaultFs::new(Arc::new(MemFs::new())), Path::new("/f"));
}

#[test]
fn a_cut_takes_what_was_not_synced() {
    let fs = MemFs::new();
    let dir = Path::new("/d");
    fs.create_dir_all(dir).unwrap();
    let file = fs.create(&dir.join("f")).unwrap();
    file.append(b"kept").unwrap();
    file.sync_data().unwrap();
    // The bytes are durable, the name is not.
    assert!(!fs.crash_clone(CrashChoice::LoseUnsynced).exists(&dir.join("f")).unwrap());
    fs.sync_dir(dir).unwrap();
    file.append(b" lost").unwrap();
    fs.rename(&dir.join("f"), &dir.join("g")).unwrap();
    let after = fs.crash_clone(CrashChoice::LoseUnsynced);
    assert_eq!(read_all(&after, &dir.join("f")).unwrap(), b"kept");
    assert!(!after.exists(&dir.join("g")).unwrap());
    let all = fs.crash_clone(CrashChoice::KeepEverything);
    assert_eq!(read_all(&all, &dir.join("g")).unwrap(), b"kept lost");
}

#[test]
fn hooks_see_both_sides_of_a_sync() {
    let fs = MemFs::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    fs.create_dir_all(Path::new("/d")).unwrap();
    let file = fs.create(Path::new("/d/f")).unwrap();
    fs.sync_dir(Path::new("/d")).unwrap();
    fs.set_sync_hook(move |fs, point| {
        let clone = fs.crash_clone(CrashChoice::LoseUnsynced);
        let len = read_all(&clone, Path::new("/d/f")).unwrap().len();
        log.lock().push((point.number, point.moment, len));
    });
    file.append(b"abc").unwrap();
    file.sync_data().unwrap();
    assert_eq!(*seen.lock(), [(2, SyncMoment::Before, 0), (2, SyncMoment::After, 3)]);
    fs.clear_sync_hook();
    file.sync_data().unwrap();
    assert_eq!((seen.lock().len(), fs.sync_points()), (2, 3));
}

#[test]
fn faults_hit_the_call_they_name() {
    let fs = FaultFs::new(Arc::new(MemFs::new()));
    let rule = |op, nth, fault| FaultRule { op, path: "wal".into(), nth, sticky: false, fault };
    fs.inject(rule(Op::Sync, 2, Fault::Error(ErrorKind::Other)));
    fs.inject(rule(Op::Append, 2, Fault::PartialAppend(1)));
    fs.inject(rule(Op::Read, 1, Fault::FlipBit(0)));
    fs.inject(rule(Op::Read, 2, Fault::ShortRead(1)));
    let other = fs.create(Path::new("/sst")).unwrap();
    let wal = fs.create(Path::new("/wal")).unwrap();
    for _ in 0..3 {
        other.sync_data().unwrap();
        other.append(b"x").unwrap();
    }
    wal.sync_data().unwrap();
    assert!(wal.sync_data().is_err());
    wal.sync_data().unwrap();
    wal.append(b"aa").unwrap();
    assert!(wal.append(b"bb").unwrap_err().is_disk_full());
    let mut buf = [0; 3];
    assert_eq!(wal.read_at(0, &mut buf).unwrap(), 3);
    assert_eq!(&buf, b"`ab");
    assert_eq!(wal.read_at(0, &mut buf).unwrap(), 1);
    fs.heal();
    assert_eq!(read_all(&fs, Path::new("/wal")).unwrap(), b"aab");
}

proptest! {
    #[test]
    fn a_torn_file_begins_with_what_was_synced(
        synced in proptest::collection::vec(1..=255u8, 0..2000),
        tail in proptest::collection::vec(1..=255u8, 0..2000),
        seed: u64,
    ) {
        let fs = MemFs::new();
        let path = Path::new("/d/f");
        fs.create_dir_all(Path::new("/d")).unwrap();
        let file = fs.create(path).unwrap();
        file.append(&synced).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir(Path::new("/d")).unwrap();
        file.append(&tail).unwrap();
        let left = read_all(&fs.crash_clone(CrashChoice::Torn(seed)), path).unwrap();
        prop_assert!(left.len() <= synced.len() + tail.len());
        prop_assert_eq!(&left[..synced.len()], &*synced);
        for (at, byte) in left[synced.len()..].iter().enumerate() {
            prop_assert!(*byte == 0 || *byte == tail[at]);
        }
    }
}

//! The same contract for every file system, and what only `MemFs` and `FaultFs` promise.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
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

/// Every file, as whoever reads them all sees it.
fn contents(fs: &MemFs) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |(path, len): (PathBuf, u64)| {
        let bytes = read_all(fs, &path).unwrap();
        assert_eq!(bytes.len() as u64, len);
        (path, bytes)
    };
    fs.files().into_iter().map(read).collect()
}

#[test]
fn a_fork_goes_its_own_way() {
    let fs = MemFs::new();
    let (dir, a, b) = (Path::new("/d"), Path::new("/d/a"), Path::new("/d/b"));
    fs.create_dir_all(dir).unwrap();
    let file = fs.create(a).unwrap();
    file.append(b"kept").unwrap();
    file.sync_data().unwrap();
    fs.hard_link(a, b).unwrap();
    fs.sync_dir(dir).unwrap();
    file.append(b" at risk").unwrap();
    let _held = fs.lock(&dir.join("LOCK")).unwrap();

    let fork = fs.fork();
    assert_eq!(contents(&fork), contents(&fs));
    assert_eq!(fork.sync_points(), fs.sync_points());
    let _free = fork.lock(&dir.join("LOCK")).unwrap();
    let after = fork.crash_clone(CrashChoice::LoseUnsynced);
    assert_eq!(read_all(&after, a).unwrap(), b"kept");
    let there = fork.open_append(b).unwrap();
    there.append(b", there").unwrap();
    there.sync_data().unwrap();
    assert_eq!(read_all(&fork, a).unwrap(), b"kept at risk, there", "two names of one file");
    let after = fork.crash_clone(CrashChoice::LoseUnsynced);
    assert_eq!(read_all(&after, a).unwrap(), b"kept at risk, there");

    file.append(b", here").unwrap();
    assert_eq!(read_all(&fs, a).unwrap(), b"kept at risk, here");
    let after = fs.crash_clone(CrashChoice::LoseUnsynced);
    assert_eq!(read_all(&after, a).unwrap(), b"kept");
}

#[test]
fn a_full_disk_takes_what_fits_and_all_of_it_when_it_has_room_again() {
    let fs = MemFs::new();
    let (a, b, second) = (Path::new("/d/a"), Path::new("/d/b"), Path::new("/d/second"));
    fs.create_dir_all(Path::new("/d")).unwrap();
    let (first, other) = (fs.create(a).unwrap(), fs.create(b).unwrap());
    first.append(b"123456").unwrap();
    fs.hard_link(a, second).unwrap();
    fs.set_quota(Some(10));
    assert_eq!((fs.used(), fs.quota()), (6, Some(10)), "a file with two names is there once");
    other.reserve(3).unwrap();
    assert!(first.append(b"xyz").unwrap_err().is_disk_full());
    assert_eq!(read_all(&fs, a).unwrap(), b"123456x");
    assert!(other.reserve(4).unwrap_err().is_disk_full());
    other.append(b"roo").unwrap();
    assert_eq!(read_all(&fs, b).unwrap(), b"roo", "its room was its own, and still is");
    let after = fs.crash_clone(CrashChoice::KeepEverything);
    assert!(after.open_append(b).unwrap().append(b"z").unwrap_err().is_disk_full());

    fs.set_quota(Some(5));
    assert!(other.append(b"m").unwrap_err().is_disk_full(), "more is used than is allowed");
    fs.remove(a).unwrap();
    assert!(other.append(b"m").unwrap_err().is_disk_full(), "the other name is there");
    fs.remove(second).unwrap();
    assert_eq!(fs.used(), 3);
    other.append(b"m").unwrap();
    assert!(first.append(b"!!!!!!").unwrap_err().is_disk_full(), "it grows beyond what is left");
    fs.set_quota(None);
    other.append(b" for all").unwrap();
    assert_eq!(read_all(&fs, b).unwrap(), b"room for all");
}

#[test]
fn who_has_no_power_does_nothing_more() {
    for (at, kept) in [(SyncMoment::Before, &b""[..]), (SyncMoment::After, b"abc")] {
        let fs = MemFs::new();
        let (dir, path) = (Path::new("/d"), Path::new("/d/f"));
        fs.create_dir_all(dir).unwrap();
        let file = fs.create(path).unwrap();
        fs.sync_dir(dir).unwrap();
        file.append(b"abc").unwrap();
        fs.set_sync_hook(move |fs, point| {
            if point.moment == at {
                fs.cut_power();
            }
        });
        assert!(file.sync_data().is_err(), "nobody is told of the sync");
        assert!(file.append(b"d").is_err() && file.reserve(1).is_err() && file.len().is_err());
        assert!(file.read_at(0, &mut [0]).is_err() && file.sync_data().is_err());
        assert!(fs.create(path).is_err() && fs.open(path).is_err());
        assert!(fs.open_append(path).is_err() && fs.rename(path, dir).is_err());
        assert!(fs.remove(path).is_err() && fs.list(dir).is_err() && fs.sync_dir(dir).is_err());
        assert!(fs.create_dir_all(dir).is_err() && fs.hard_link(path, dir).is_err());
        assert!(fs.exists(path).is_err() && fs.lock(path).is_err());
        let after = fs.crash_clone(CrashChoice::LoseUnsynced);
        assert_eq!(read_all(&after, path).unwrap(), kept);
    }
}

/// What somebody does with a disk.
#[derive(Clone, Debug)]
enum Act {
    Create(u8),
    Append(u8, Vec<u8>),
    Reserve(u8, u8),
    Rename(u8, u8),
    Remove(u8),
    Link(u8, u8),
    Sync(u8),
    SyncDir,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let file = 0..4u8;
    let bytes = proptest::collection::vec(1..=255u8, 0..40);
    let act = prop_oneof![
        file.clone().prop_map(Act::Create),
        (file.clone(), bytes).prop_map(|(file, bytes)| Act::Append(file, bytes)),
        (file.clone(), 0..40u8).prop_map(|(file, room)| Act::Reserve(file, room)),
        (file.clone(), file.clone()).prop_map(|(from, to)| Act::Rename(from, to)),
        file.clone().prop_map(Act::Remove),
        (file.clone(), file.clone()).prop_map(|(from, to)| Act::Link(from, to)),
        file.prop_map(Act::Sync),
        Just(Act::SyncDir),
    ];
    proptest::collection::vec(act, 0..40)
}

/// Does what can be done.
fn act(fs: &MemFs, acts: &[Act]) {
    let path = |file: &u8| PathBuf::from(format!("/d/{file}"));
    fs.create_dir_all(Path::new("/d")).unwrap();
    for act in acts {
        let _there_or_not = match act {
            Act::Create(file) => fs.create(&path(file)).map(drop),
            Act::Append(file, bytes) => {
                fs.open_append(&path(file)).and_then(|file| file.append(bytes))
            }
            Act::Reserve(file, room) => {
                fs.open_append(&path(file)).and_then(|file| file.reserve(u64::from(*room)))
            }
            Act::Rename(from, to) => fs.rename(&path(from), &path(to)),
            Act::Remove(file) => fs.remove(&path(file)),
            Act::Link(from, to) => fs.hard_link(&path(from), &path(to)),
            Act::Sync(file) => fs.open(&path(file)).and_then(|file| file.sync_data()),
            Act::SyncDir => fs.sync_dir(Path::new("/d")),
        };
    }
}

proptest! {
    #[test]
    fn a_fork_has_everything_at_risk_that_was(
        before in acts(),
        after in acts(),
        seed: u64,
    ) {
        let fs = MemFs::new();
        act(&fs, &before);
        let fork = fs.fork();
        // The same happens to both, and then to one of them only.
        act(&fs, &after);
        act(&fork, &after);
        prop_assert_eq!(contents(&fork), contents(&fs));
        let was = contents(&fs);
        for choice in
            [CrashChoice::LoseUnsynced, CrashChoice::KeepEverything, CrashChoice::Torn(seed)]
        {
            let (left, there) = (fs.crash_clone(choice), fork.crash_clone(choice));
            prop_assert_eq!(contents(&left), contents(&there), "{:?}", choice);
        }
        act(&fork, &before);
        prop_assert_eq!(contents(&fs), was);
    }
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

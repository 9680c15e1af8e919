//! The log in the hands of a driver: a write is visible at once, in the file when it is written, and
//! settled when it is synced; nothing waits, and a killed process writes nothing more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::open_with;
use meridian_lsm::{
    Commit, Db, DbOptions, Error, LogDriver, SyncPolicy, WAL_BUFFER_BYTES, Workers, WriteBatch,
};
use meridian_vfs::{CrashChoice, Fault, FaultFs, FaultRule, Fs, MemFs, Op};
use parking_lot::Mutex;

fn options(sync: SyncPolicy) -> DbOptions {
    DbOptions { sync, flush_on_close: false, ..DbOptions::default() }
}

fn driven(fs: &Arc<dyn Fs>, sync: SyncPolicy) -> (Db, LogDriver) {
    let (db, _) = open_with(fs, options(sync), &["t"]);
    let driver = db.log_driver().unwrap();
    (db, driver)
}

fn write(db: &Db, key: &str) -> Result<Commit, Error> {
    let mut batch = WriteBatch::new();
    batch.put(&db.tree("t").unwrap(), key, "value");
    db.write(batch)
}

fn has(db: &Db, key: &str) -> bool {
    db.tree("t").unwrap().get_latest(key.as_bytes()).unwrap().is_some()
}

/// Whether the key is there after a power cut.
fn survives(fs: &MemFs, choice: CrashChoice, key: &str) -> bool {
    let left: Arc<dyn Fs> = Arc::new(fs.crash_clone(choice));
    has(&open_with(&left, options(SyncPolicy::Always), &["t"]).0, key)
}

type Told = Arc<Mutex<Vec<(u64, Option<Error>)>>>;

/// Notes what is told about a commit.
fn note(db: &Db, commit: &Commit, told: &Told) {
    let (seqno, told) = (commit.seqno(), told.clone());
    db.on_settled(commit, Box::new(move |outcome| told.lock().push((seqno, outcome.err()))));
}

#[test]
fn a_write_is_visible_then_written_then_settled() {
    let disk = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let (db, driver) = driven(&fs, SyncPolicy::Always);
    let syncs = disk.sync_points();
    let told = Told::default();
    let commits = ["a", "b"].map(|key| write(&db, key).unwrap());
    commits.iter().for_each(|commit| note(&db, commit, &told));

    assert!(has(&db, "a") && db.visible_seqno() >= commits[1].seqno());
    assert!(driver.pending() && driver.unsynced().is_none());
    assert!(!survives(&disk, CrashChoice::KeepEverything, "a"), "it is in the process only");

    driver.write().unwrap();
    assert!(!driver.pending());
    let unsynced = driver.unsynced().unwrap();
    assert_eq!((unsynced.batches, unsynced.bytes > 40), (2, true));
    assert!(survives(&disk, CrashChoice::KeepEverything, "b"));
    assert!(!survives(&disk, CrashChoice::LoseUnsynced, "a"));
    assert!(!db.is_settled(&commits[0]) && db.durable_seqno() < commits[0].first_seqno());
    assert!(matches!(db.wait(&commits[0]), Err(Error::WouldWait)));
    assert!(told.lock().is_empty());
    assert_eq!(disk.sync_points(), syncs, "nobody synced behind the driver's back");

    driver.sync().unwrap();
    assert_eq!(disk.sync_points(), syncs + 1);
    assert!(commits.iter().all(|commit| db.is_settled(commit)));
    db.wait(&commits[1]).unwrap();
    let seqnos: Vec<u64> = told.lock().iter().map(|(seqno, _)| *seqno).collect();
    assert_eq!(seqnos, commits.map(|commit| commit.seqno()));
    assert!(told.lock().iter().all(|(_, error)| error.is_none()));
    assert!(survives(&disk, CrashChoice::LoseUnsynced, "b"));
    assert_eq!((driver.pending(), driver.unsynced()), (false, None));
    note(&db, &commits[0], &told);
    assert_eq!(told.lock().len(), 3, "what is settled is told at once");
}

#[test]
fn where_nobody_waits_for_a_sync_nothing_is_refused() {
    for sync in [SyncPolicy::default(), SyncPolicy::Os] {
        let disk = MemFs::new();
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let (db, driver) = driven(&fs, sync);
        assert_eq!(driver.policy(), sync);
        let syncs = disk.sync_points();
        // More than what `Every` syncs after, where writers write themselves.
        for number in 0..2000 {
            let commit = write(&db, &number.to_string()).unwrap();
            db.wait(&commit).unwrap();
        }
        assert!(driver.pending());
        driver.write().unwrap();
        assert_eq!(driver.unsynced().unwrap().batches, 2000);
        assert_eq!(disk.sync_points(), syncs);
        driver.sync().unwrap();
        assert!(survives(&disk, CrashChoice::LoseUnsynced, "1999"));
    }
}

#[test]
fn one_keeps_the_log_and_who_dies_writes_nothing() {
    let disk = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let (db, driver) = driven(&fs, SyncPolicy::Always);
    assert!(db.log_driver().is_none());
    let workers = Workers::start(&db, 1).unwrap();
    let commit = write(&db, "a").unwrap();
    let told = Told::default();
    note(&db, &commit, &told);
    assert!(driver.pending() && !db.is_settled(&commit), "the workers leave the log alone");
    drop(workers);
    assert!(driver.pending() && told.lock().is_empty());

    drop(driver);
    assert!(told.lock().is_empty());
    assert!(!survives(&disk, CrashChoice::KeepEverything, "a"));
    // Whoever goes on without one writes for itself, and what was queued before.
    let later = write(&db, "b").unwrap();
    assert!(survives(&disk, CrashChoice::KeepEverything, "a"));
    db.wait(&later).unwrap();
    assert_eq!(told.lock().len(), 1);
    assert!(survives(&disk, CrashChoice::LoseUnsynced, "b"));
    let driver = db.log_driver().unwrap();
    write(&db, "c").unwrap();
    db.close().unwrap();
    assert!(survives(&disk, CrashChoice::LoseUnsynced, "c"), "a tidy close writes all");
    assert!(matches!(driver.sync(), Err(Error::Closed)));
}

#[test]
fn what_is_queued_is_bounded() {
    let fs: Arc<dyn Fs> = Arc::new(MemFs::new());
    let (db, driver) = driven(&fs, SyncPolicy::default());
    let tree = db.tree("t").unwrap();
    let value = vec![b'v'; 1 << 20];
    let put = |number: usize| {
        let mut batch = WriteBatch::new();
        batch.put(&tree, number.to_be_bytes(), &value);
        db.write(batch)
    };
    let most = WAL_BUFFER_BYTES / value.len();
    for number in 0..most {
        put(number).unwrap();
    }
    assert!(matches!(put(most), Err(Error::WouldWait)));
    assert!(tree.get_latest(&most.to_be_bytes()).unwrap().is_none(), "it was not written");
    driver.write().unwrap();
    put(most).unwrap();
}

#[test]
fn a_full_disk_is_tried_again_when_the_driver_is_called_again() {
    let disk = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let (db, driver) = driven(&fs, SyncPolicy::Always);
    disk.set_quota(Some(disk.used()));
    let commit = write(&db, "a").unwrap();
    let told = Told::default();
    note(&db, &commit, &told);
    assert!(matches!(driver.sync(), Err(Error::Full { .. })));
    assert!(matches!(told.lock()[..], [(_, Some(Error::Full { .. }))]));
    assert!(driver.pending(), "it goes to the disk when there is room");
    assert!(matches!(write(&db, "b"), Err(Error::Full { .. })));
    assert!(matches!(driver.write(), Err(Error::Full { .. })));

    disk.set_quota(None);
    assert!(matches!(write(&db, "b"), Err(Error::Full { .. })), "nobody has tried yet");
    driver.write().unwrap();
    write(&db, "b").unwrap();
    driver.sync().unwrap();
    assert!(db.is_settled(&commit));
    for key in ["a", "b"] {
        assert!(survives(&disk, CrashChoice::LoseUnsynced, key));
    }
}

#[test]
fn a_sync_that_fails_is_told_to_all_who_wait() {
    let faults = FaultFs::new(Arc::new(MemFs::new()));
    let fs: Arc<dyn Fs> = Arc::new(faults.clone());
    let (db, driver) = driven(&fs, SyncPolicy::Always);
    let commit = write(&db, "a").unwrap();
    let (told, called) = (Told::default(), Arc::new(AtomicUsize::new(0)));
    note(&db, &commit, &told);
    let counted = called.clone();
    let count = move |_told: Result<(), Error>| {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    db.on_settled(&commit, Box::new(count));
    let fault = Fault::Error(std::io::ErrorKind::Other);
    faults.inject(FaultRule { op: Op::Sync, path: String::new(), nth: 1, sticky: true, fault });
    assert!(driver.sync().is_err());
    assert!(matches!(told.lock()[..], [(_, Some(Error::Poisoned { .. }))]));
    assert_eq!(called.load(Ordering::SeqCst), 1);
    assert!(matches!(write(&db, "b"), Err(Error::Poisoned { .. })));
    assert!(driver.sync().is_err() && driver.write().is_err());
}
